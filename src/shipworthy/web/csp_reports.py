"""What reports of browsers say, and what is remembered of them: they come from anybody. Pure.

Anybody can send a report, so nothing of one is kept as it came: a directive is one we know, a
source is an origin in the one way to write it or a word of a few, a page is the template of a
route. What is kept has a bound, and where it is met the rarest goes, so a flood of different lies
pushes out its own.

Not here: what a policy would become (`csp_policy`), and how fast reports are taken (`csp`).
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple, final
from urllib.parse import urlsplit

from shipworthy.web.csp_policy import DIRECTIVES, EVAL, FRAMED, INLINE, OWN, Sighting
from shipworthy.web.csrf import normal_origin

# One request holds one report in the old form, and in the new one what a browser had gathered.
REPORTS_MAX: Final = 20
CLIENTS_TOLD_APART: Final = 8
_WORDS: Final = {
    "inline": INLINE,
    "eval": EVAL,
    "wasm-eval": EVAL,
    "data": "data:",
    "blob": "blob:",
    "filesystem": "filesystem:",
    "mediastream": "mediastream:",
}
_SCHEMES: Final = frozenset({"data:", "blob:", "filesystem:", "mediastream:"})
_WEBSOCKET: Final = {"ws": "http", "wss": "https"}
_TEXT_CHARACTERS: Final = 2048

# What became of a report: it named something new, or known; a browser's own extension or the page
# itself, which says nothing of the service; or it could not be one.
Outcome = Literal["new", "known", "noise", "unreadable"]


class Violation(NamedTuple):
    """What one report says: what was loaded by which rule, and the path of the page."""

    directive: str
    source: str
    path: str


def read_reports(document: Any, *, own: str) -> Iterator[Violation | Outcome]:
    """Return what a body of reports says, in either of the two forms; `own` is our origin.

    The form of `report-uri` is one object, that of `report-to` a list with reports of other kinds
    among them.
    """
    if isinstance(document, list):
        for one in document[:REPORTS_MAX]:
            body = one.get("body") if isinstance(one, Mapping) else None
            if not isinstance(body, Mapping) or one.get("type") != "csp-violation":
                yield "unreadable"
                continue
            yield _violation(
                body.get("effectiveDirective"), body.get("blockedURL"), body.get("documentURL"), own
            )
        return
    body = document.get("csp-report") if isinstance(document, Mapping) else None
    if not isinstance(body, Mapping):
        yield "unreadable"
        return
    directive = body.get("effective-directive") or body.get("violated-directive")
    yield _violation(directive, body.get("blocked-uri"), body.get("document-uri"), own)


def _violation(directive: Any, blocked: Any, page: Any, own: str) -> Violation | Outcome:
    if not all(
        isinstance(text, str) and len(text) <= _TEXT_CHARACTERS
        for text in (directive, blocked, page)
    ):
        return "unreadable"
    # The old form has the whole directive, its sources included.
    name = directive.partition(" ")[0].lower()
    origin, path = _parts(page)
    if name not in DIRECTIVES or not origin:
        return "unreadable"
    source, host = _source(blocked), _host(own)
    if _host(origin) != host or not source:
        return "noise"  # a page of somebody else, whose policy is not ours, or its own extension
    if _host(source) == host:
        source = FRAMED if name == "frame-ancestors" else OWN
    return Violation(name, source, path)


def _source(blocked: str) -> str:
    """Return the source in the one way to write it, '' for what is none of a page."""
    word = _WORDS.get(blocked.lower().rstrip(":"))
    if word is not None:
        return word
    scheme = f"{blocked.partition(':')[0].lower()}:"
    return scheme if scheme in _SCHEMES else _parts(blocked)[0]


def _host(origin: str) -> str:
    """Return host and port: behind a proxy the page may be https, and we asked by http."""
    return origin.partition("://")[2]


def _parts(url: str) -> tuple[str, str]:
    """Return origin and path of an address, '' twice for what is none on the web."""
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets that hold no address
        return "", ""
    scheme = parts.scheme.lower()
    origin = normal_origin(f"{_WEBSOCKET.get(scheme, scheme)}://{parts.netloc}")
    if scheme in _WEBSOCKET and origin:
        origin = f"{scheme}{origin[origin.index(':') :]}"
    return (origin, parts.path or "/") if origin else ("", "")


class _Kept:
    """One thing that is remembered: how often it was reported, and by how many clients."""

    __slots__ = ("clients", "reports")

    def __init__(self) -> None:
        self.reports = 0
        self.clients: set[int] = set()


@final
class Learned:
    """What reports have named so far, at most `kept` things; belongs to one event loop.

    `route_of` returns the template of the route that a path has. `forgotten` counts what had to
    make room for others.
    """

    def __init__(self, *, kept: int, route_of: Callable[[str], str]) -> None:
        self._kept_max = kept
        self._route_of = route_of
        self._seen: dict[tuple[str, str, str], _Kept] = {}
        self.forgotten = 0

    def learn(self, violation: Violation, client: int) -> Outcome:
        """Remember what one report says; `client` is a number by which its sender is known."""
        key = violation.directive, violation.source, self._route_of(violation.path)
        found = self._seen.get(key)
        outcome: Outcome = "known"
        if found is None:
            outcome = "new"
            if len(self._seen) >= self._kept_max:
                self._make_room()
            found = self._seen[key] = _Kept()
        found.reports += 1
        if len(found.clients) < CLIENTS_TOLD_APART:
            found.clients.add(client)
        return outcome

    def _make_room(self) -> None:
        # Of those that are as rare, the oldest: what a service really does is seen again.
        rarest = min(self._seen, key=lambda key: self._seen[key].reports)
        del self._seen[rarest]
        self.forgotten += 1

    def sightings(self) -> list[Sighting]:
        """Return what was named, the most frequent first."""
        found = [
            Sighting(
                directive=directive,
                source=source,
                route=route,
                reports=kept.reports,
                clients=len(kept.clients),
            )
            for (directive, source, route), kept in self._seen.items()
        ]
        return sorted(found, key=lambda one: -one.reports)


def together(told: Iterator[Sighting]) -> list[Sighting]:
    """Return as one what several workers saw; the same client may have met more than one."""
    found: dict[tuple[str, str, str], Sighting] = {}
    for one in told:
        key = one.directive, one.source, one.route
        known = found.get(key)
        if known is not None:
            one = Sighting(  # noqa: PLW2901 - the same, of more workers
                directive=one.directive,
                source=one.source,
                route=one.route,
                reports=known.reports + one.reports,
                clients=max(known.clients, one.clients),
            )
        found[key] = one
    return sorted(found.values(), key=lambda one: -one.reports)
