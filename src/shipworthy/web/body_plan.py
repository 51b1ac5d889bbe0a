"""What a request says of its body: how long, what kind, how it is compressed. Pure.

Where it says so twice, both hold: applications differ in which they believe.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Final, Literal, NamedTuple

from shipworthy.web.body_scan import BOUNDARY_BYTES, Finding

Kind = Literal["json", "form", "upload", "other"]
# More than this nobody does on purpose.
CODINGS_MAX: Final = 2

_BOUNDARY: Final = re.compile(rb';\s*boundary\s*=\s*("[^"]*"?|[^;]*)', re.IGNORECASE)
# A length of more digits than these is more than any limit.
_LENGTH_DIGITS: Final = 18


class BodyPlan(NamedTuple):
    """What is known of a body before it comes; `codings` are to be undone in their order."""

    kinds: frozenset[Kind]
    boundary: bytes
    codings: tuple[str, ...]
    finding: Finding | None


def plan_of(headers: Iterable[tuple[bytes, bytes]], known: Collection[str]) -> BodyPlan:
    """Return what the headers say, and what is wrong with it; `known` codings can be undone."""
    types: list[bytes] = []
    codings: list[str] = []
    for name, value in headers:
        if name == b"content-type":
            types.append(value)
        elif name == b"content-encoding":
            codings += value.decode("latin-1").lower().split(",")
    kinds = frozenset(map(kind_of_type, types)) or frozenset[Kind](("other",))
    boundary, wrong = b"", None
    if "upload" in kinds:
        boundary, wrong = _boundary([one for one in types if kind_of_type(one) == "upload"])
    undone = _undone([coding.strip() for coding in codings], known)
    if len(undone) > CODINGS_MAX:
        wrong = Finding(
            "codings",
            f"this body was compressed {len(undone)} times; {CODINGS_MAX} times at most",
        )
    return BodyPlan(kinds, boundary, undone, wrong)


def kind_of_type(content_type: bytes) -> Kind:
    """Return the kind of body that a Content-Type says."""
    media = content_type.split(b";", 1)[0].strip().lower()
    if media == b"application/json" or media.endswith(b"+json"):
        return "json"
    if media == b"application/x-www-form-urlencoded":
        return "form"
    return "upload" if media == b"multipart/form-data" else "other"


def promised_bytes(value: bytes) -> int:
    """Return how long a Content-Length says that a body is; 0 for what is no number."""
    value = value.strip()
    if not value.isdigit():
        return 0
    value = value.lstrip(b"0")
    return int(value[:_LENGTH_DIGITS] or b"0") if len(value) <= _LENGTH_DIGITS else 10**18


def _boundary(types: Sequence[bytes]) -> tuple[bytes, Finding | None]:
    """Return the boundary, or what keeps parsers from agreeing on one."""
    found = [match[1].strip() for one in types for match in _BOUNDARY.finditer(one)]
    if not found:
        return b"", None  # no parser finds one either
    boundary = found[0].strip(b'"').rstrip()
    wrong = None
    if len(found) > 1:
        wrong = Finding("boundary", f"this upload names {len(found)} boundaries")
    elif len(boundary) > BOUNDARY_BYTES:
        because = f"the boundary of this upload has over {BOUNDARY_BYTES} bytes (RFC 2046, 5.1.1)"
        wrong = Finding("boundary", because)
    elif not boundary or b'"' in boundary or b"\\" in boundary:
        wrong = Finding("boundary", "the boundary of this upload is none by RFC 2046, 5.1.1")
    return boundary, wrong


def _undone(codings: Sequence[str], known: Collection[str]) -> tuple[str, ...]:
    """Return what can be undone: from the outermost, which was done last, to the first unknown."""
    undone: list[str] = []
    for coding in reversed(codings):
        if coding in known:
            undone.append(coding)
        elif coding not in ("", "identity"):
            break
    return tuple(undone)
