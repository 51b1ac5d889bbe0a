"""Whether a path is one that a setting names: itself, or all below it."""

from collections.abc import Iterable, Iterator
from typing import Final

from shipworthy.web.line import Scope

# A proxy or a router may make another path of these than we read.
_BENT: Final = ("//", "/./", "/../", "\\")


def is_below(path: str, patterns: Iterable[str]) -> bool:
    """Whether `path` is one of `patterns`; `/orders/*` is all below `/orders/`."""
    return any(
        path == pattern or (pattern.endswith("/*") and path.startswith(pattern[:-1]))
        for pattern in patterns
    )


def paths_of(scope: Scope) -> Iterator[str]:
    """Return the path of a request as its client says it, and as the application is mounted."""
    path, root = scope["path"], scope.get("root_path", "")
    yield path
    if root and path.startswith(f"{root}/"):
        yield path[len(root) :]


def is_straight(path: str) -> bool:
    """Whether every program reads `path` as the same: nothing in it is to be taken out."""
    return not any(bent in path for bent in _BENT) and not path.endswith(("/..", "/."))
