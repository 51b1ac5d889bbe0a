"""Which requests go before others when not all can be served: by method and path. Pure."""

import re
from collections.abc import Sequence
from typing import Final, Literal, final

Rank = Literal["critical", "default", "sheddable"]

# In the order in which they are served.
RANKS: Final[tuple[Rank, ...]] = ("critical", "default", "sheddable")
_PATTERN: Final = re.compile(r"(?:([A-Z]+) )?(/[^\s?#]*)")
_PARTS: Final = re.compile(r"\{[^{}/]*\}|/\*\Z|\*")


def is_pattern(text: str) -> bool:
    """Say whether this names requests: a path, and before it a method if only that is meant."""
    return _PATTERN.fullmatch(text) is not None


@final
class Ranks:
    """Tell the rank of a request from its method and path.

    In a pattern `{name}` is one segment, `*` any text within one, and `/*` at the end all below.
    What two lists name is of the first.
    """

    def __init__(self, *, critical: Sequence[str] = (), sheddable: Sequence[str] = ()) -> None:
        self._critical = _any_of(critical)
        self._sheddable = _any_of(sheddable)

    def of(self, method: str, path: str) -> Rank:
        """Return the rank of a request."""
        asked = f"{method} {path}"
        if self._critical is not None and self._critical.fullmatch(asked):
            return "critical"
        if self._sheddable is not None and self._sheddable.fullmatch(asked):
            return "sheddable"
        return "default"


def _any_of(patterns: Sequence[str]) -> re.Pattern[str] | None:
    if not patterns:
        return None
    return re.compile("|".join(_regex(pattern) for pattern in patterns), re.DOTALL)


def _regex(pattern: str) -> str:
    found = _PATTERN.fullmatch(pattern)
    if found is None:
        raise ValueError(f"'{pattern}' is no path; begin it with a slash, or a method before it")
    method, path = found.groups()
    text, end = "", 0
    for part in _PARTS.finditer(path):
        text += re.escape(path[end : part.start()])
        text += {"/*": "/.*", "*": "[^/]*"}.get(part[0], "[^/]+")
        end = part.end()
    return f"(?:{method or '[A-Z]+'} {text}{re.escape(path[end:])})"
