"""What a policy matches: a method and a path with wildcards. Pure.

    POST /login         that path, and POST
    /items/{id}         any method; {id} stands for one part of a path, whatever its name
    GET /search*        a star at the end stands for anything, also for nothing
    WS /chat            a websocket's handshake
    *                   every request

The template of a route and the path that was sent are both looked at: what either matches is
matched, so that a mounted application does not hide its paths. HEAD counts as GET. A slash at the
end and doubled slashes make no difference: some routers do not tell them apart either.
"""

import re
from typing import Final, NamedTuple, final

from shipworthy.errors import Misuse

WEBSOCKET: Final = "WS"
METHODS: Final = (
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", WEBSOCKET,
)  # fmt: skip
EVERYTHING: Final = "*"
_PARAMETER: Final = re.compile(r"\{[^/{}]*\}")
_SLASHES: Final = re.compile("//+")


@final
class Pattern(NamedTuple):
    """One line of what a policy matches; `method` is '' for any, `path` '*' for any."""

    text: str
    method: str
    path: str
    regex: re.Pattern[str]

    def matches(self, method: str, path: str) -> bool:
        """Say whether a method and a path, in its plain form, or a template are meant."""
        return (
            not self.method or self.method == ("GET" if method == "HEAD" else method)
        ) and self.regex.fullmatch(path) is not None

    def covers(self, other: "Pattern") -> bool:
        """Say whether everything that `other` matches is matched by this one.

        It may be True without being said: of two stars, none is looked into.
        """
        if self.method not in ("", other.method):
            return False
        if self.path in (EVERYTHING, other.path):
            return True
        return self.path.endswith("*") and other.path.startswith(self.path[:-1])


def pattern_of(text: str) -> Pattern:
    """Return the pattern; raises `Misuse` for one that could never match."""
    method, _, path = text.strip().rpartition(" ")
    method, path = method.strip(), path.strip()
    if method and method not in METHODS:
        raise Misuse(f"'{text}': '{method}' is no method; write one of {', '.join(METHODS)}")
    if path != EVERYTHING:
        _must_be_path(text, path)
        path = _PARAMETER.sub("{}", plain(path))
    return Pattern(text.strip(), "GET" if method == "HEAD" else method, path, _regex_of(path))


def plain(path: str) -> str:
    """Return a path in the one form in which it is compared."""
    if "//" in path:
        path = _SLASHES.sub("/", path)
    return path[:-1] if len(path) > 1 and path.endswith("/") else path


def _must_be_path(text: str, path: str) -> None:
    if not path.startswith("/"):
        raise Misuse(f"'{text}' has no path; write one that begins with a slash, or '*' for all")
    for sign in "?#%":
        if sign in path:
            raise Misuse(
                f"'{text}' can never match: paths are compared decoded and without their query; "
                f"leave out '{sign}' and what it stands for"
            )
    if "*" in path[:-1]:
        raise Misuse(f"'{text}': a star stands at the end only; {{name}} is one part of a path")
    if "{" in _PARAMETER.sub("", path) or "}" in _PARAMETER.sub("", path):
        raise Misuse(f"'{text}': a brace is not closed; {{name}} is one part of a path")


def _regex_of(path: str) -> re.Pattern[str]:
    if path == EVERYTHING:
        return re.compile(".*", re.DOTALL)
    begun = path.removesuffix("*")
    parts = (re.escape(part) for part in begun.split("{}"))
    return re.compile("[^/]+".join(parts) + (".*" if path.endswith("*") else ""), re.DOTALL)
