"""What a Content-Security-Policy says, and which one the reports of browsers speak for. Pure.

A proposal adds to the policy in force the origins that reports name, and nothing that would undo
it: no 'unsafe-inline', no 'unsafe-eval', no data: for scripts. Of those it says what to do instead.

Not here: how reports are read and remembered (`csp_reports`), and the guard (`csp`).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

NONCE_MARK: Final = "{nonce}"
# Everything of the own origin, and of scripts and styles in the page those that carry the nonce.
DEFAULT_POLICY: Final = (
    "default-src 'self'; script-src 'self' {nonce}; style-src 'self' {nonce}; "
    "img-src 'self' data:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'self'"
)
# An answer that is no page has nothing to load, and nobody shows it in a frame.
DATA_POLICY: Final = "default-src 'none'; frame-ancestors 'none'"

# Directives that name sources, as a report says them; those of elements and attributes fall back.
_SOURCED: Final = {
    "base-uri": "base-uri",
    "child-src": "child-src",
    "connect-src": "connect-src",
    "default-src": "default-src",
    "font-src": "font-src",
    "form-action": "form-action",
    "frame-ancestors": "frame-ancestors",
    "frame-src": "frame-src",
    "img-src": "img-src",
    "manifest-src": "manifest-src",
    "media-src": "media-src",
    "object-src": "object-src",
    "script-src": "script-src",
    "script-src-attr": "script-src",
    "script-src-elem": "script-src",
    "style-src": "style-src",
    "style-src-attr": "style-src",
    "style-src-elem": "style-src",
    "worker-src": "worker-src",
}
DIRECTIVES: Final = frozenset(_SOURCED)
_OTHERS: Final = frozenset(
    {
        "block-all-mixed-content", "report-to", "report-uri", "require-trusted-types-for",
        "sandbox", "trusted-types", "upgrade-insecure-requests",
    }
)  # fmt: skip
# Which directives are asked where one is not in the policy, and it is not default-src alone.
_INSTEAD: Final[Mapping[str, tuple[str, ...]]] = {
    "base-uri": (),
    "form-action": (),
    "frame-ancestors": (),
    "frame-src": ("child-src", "default-src"),
    "worker-src": ("child-src", "script-src", "default-src"),
}
_RUNS_CODE: Final = frozenset({"script-src", "object-src", "base-uri", "default-src", "worker-src"})
_TEXT: Final = re.compile(r"[\x20-\x2b\x2d-\x7e]*")
# What a browser writes where it names no origin.
INLINE: Final = "inline"
EVAL: Final = "eval"
# Our own origin, as a policy says it.
OWN: Final = "'self'"
# Chromium says that a page is shown in a frame, and keeps to itself whose.
FRAMED: Final = "frame"
_ADVICE: Final = {
    (INLINE, "script-src"): "scripts stand in the page: give their elements the nonce of "
    "csp_nonce(), or move them, and what stands in attributes such as onclick, into a file",
    (INLINE, "style-src"): "styles stand in the page: give their elements the nonce of "
    "csp_nonce(), or move them, and what stands in style attributes, into a file",
    (EVAL, ""): "text is run as a script (eval, new Function): look for a build without that; "
    "'unsafe-eval' would allow it to everybody who can put a text there",
    (FRAMED, ""): "pages are shown in frames of others, and browsers do not say whose: name those "
    "that may in frame-ancestors",
    ("scheme", ""): "scripts come from data: or blob:, where anybody can put them: serve them as "
    "files",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One thing that reports name: what was loaded, by which rule, and how often.

    `directive` is of `DIRECTIVES`. `source` is an origin, `'self'`, `inline`, `eval`, `frame`, or a
    scheme with its colon. `route` is the template of the page. `clients` says how many different
    ones reported it, of which only so many are told apart: 900 reports of one may be a lie.
    """

    directive: str
    source: str
    route: str
    reports: int
    clients: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A policy that would let through what was reported, and what it would still forbid."""

    policy: str
    added: tuple[str, ...]
    advice: tuple[str, ...]


def policy_faults(policy: str) -> Iterator[str]:
    """Return what is wrong with a policy, a sentence each."""
    if not _TEXT.fullmatch(policy):
        yield "a policy is printable ASCII on one line, without commas: those part two policies"
        return
    names = [part.split()[0].lower() for part in policy.split(";") if part.strip()]
    if not names:
        yield "there is no directive in it; to have no policy, set csp.mode to off"
    for name in names:
        if name in {"report-uri", "report-to"}:
            yield f"leave {name} out: where reports go is csp.report_path"
        elif name not in DIRECTIVES and name not in _OTHERS:
            yield f"'{name}' is no directive of a policy"
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"'{name}' is there {names.count(name)} times, and only the first counts"
    if "'nonce-" in policy:
        yield f"a nonce that stays is none: write {NONCE_MARK}, each answer gets its own"


def propose(policy: str, seen: Iterable[Sighting]) -> Proposal:
    """Return what `policy` would become if all that was seen were meant. It is never applied."""
    said = directives_of(policy)
    wanted: dict[str, set[str]] = {}
    advice: dict[str, int] = {}
    for sighting in seen:
        directive = _SOURCED[sighting.directive]
        told = _told_instead(sighting.source, directive)
        if told:
            advice[told] = advice.get(told, 0) + sighting.reports
        else:
            wanted.setdefault(directive, set()).add(sighting.source)
    added = []
    for directive in sorted(wanted):
        before = _asked(directive, said)
        new = sorted(source for source in wanted[directive] if source not in before)
        if new:
            said[directive] = [*(one for one in before if one != "'none'"), *new]
            added += [f"{directive} {source}" for source in new]
    return Proposal(
        policy="; ".join(" ".join((name, *sources)) for name, sources in said.items()),
        added=tuple(added),
        advice=tuple(f"{count} reports: {told}" for told, count in sorted(advice.items())),
    )


def directives_of(policy: str) -> dict[str, list[str]]:
    """Return the directives of a policy with their sources, in their order."""
    found: dict[str, list[str]] = {}
    for part in policy.split(";"):
        words = part.split()
        if words:
            found.setdefault(words[0].lower(), words[1:])
    return found


def _asked(directive: str, said: Mapping[str, list[str]]) -> list[str]:
    """Return the sources that hold for `directive` so far, from wherever it takes them."""
    for name in (directive, *_INSTEAD.get(directive, ("default-src",))):
        if name in said:
            return said[name]
    return []


def _told_instead(source: str, directive: str) -> str:
    if source == INLINE:
        return _ADVICE.get((INLINE, directive), _ADVICE[INLINE, "script-src"])
    if source in {EVAL, FRAMED}:
        return _ADVICE[source, ""]
    if source.endswith(":") and directive in _RUNS_CODE:
        return _ADVICE["scheme", ""]
    return ""
