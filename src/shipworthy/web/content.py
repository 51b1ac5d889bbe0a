"""What kind of content an answer has, as far as browsers treat it differently. Pure."""

from collections.abc import Iterable
from enum import Enum
from typing import Final


class Content(Enum):
    """The kinds: none at all, a page, data, what runs or styles a page, and the rest."""

    NONE = "none"
    PAGE = "page"
    DATA = "data"
    PART = "part"
    OTHER = "other"


_PAGES: Final = frozenset({b"text/html", b"application/xhtml+xml"})
_PARTS: Final = frozenset(
    {
        b"text/css", b"text/javascript", b"application/javascript", b"application/ecmascript",
        b"application/x-javascript", b"text/ecmascript", b"application/wasm",
    }
)  # fmt: skip
# An application sends a few types; who makes others pays for each.
_KNOWN_MAX: Final = 100
_known: dict[bytes, Content] = {}


def content_of(headers: Iterable[tuple[bytes, bytes]]) -> Content:
    """Return what the answer with these headers holds."""
    for name, value in headers:
        # The length first: it is cheap and tells nearly all others apart.
        if len(name) == 12 and name.lower() == b"content-type":
            return _known.get(value) or kind_of(value)
    return Content.NONE


def kind_of(value: bytes) -> Content:
    """Return what a `Content-Type` says."""
    kind = value.partition(b";")[0].strip().lower()
    if kind in _PAGES:
        found = Content.PAGE
    elif kind.endswith((b"/json", b"+json")):
        found = Content.DATA
    elif kind in _PARTS:
        found = Content.PART
    else:
        found = Content.OTHER if kind else Content.NONE
    if len(_known) < _KNOWN_MAX:
        _known[value] = found
    return found
