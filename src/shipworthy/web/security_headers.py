"""The guard that adds the headers by which browsers are careful, to every answer that lacks them.

By itself it adds only what breaks no page; what may, waits for a setting. What the application has
set stays. Not here: the Content-Security-Policy (`csp`).
"""

from typing import Annotated, Final, Literal, NamedTuple, final

from shipworthy.events import Event, Label, emit, event
from shipworthy.web.below import is_below, paths_of
from shipworthy.web.browser_settings import HeadersSettings
from shipworthy.web.content import Content, kind_of
from shipworthy.web.line import Call, Headers, Message

_Headers = tuple[tuple[bytes, bytes], ...]

NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
NO_STORE: Final = (b"cache-control", b"no-store")
_OPENERS: Final = {"same-origin-allow-popups", "same-origin"}
_FRAMES: Final = {"same-origin": b"SAMEORIGIN", "none": b"DENY"}
_RESOURCES: Final = {"same-site", "same-origin"}
_SECURE: Final = frozenset({"https", "wss"})
# By these a browser refuses an answer that another page wants to use.
_REFUSALS: Final = frozenset({b"x-content-type-options", b"cross-origin-resource-policy"})
# What a browser will run or apply, by what it says itself and, on plain http, by the name.
_RUN: Final = frozenset(
    {b"script", b"style", b"worker", b"sharedworker", b"serviceworker", b"xslt"}
)
_RUN_NAMES: Final = (".js", ".mjs", ".cjs", ".css", ".wasm")
# An application sends a few types; who makes others pays for each.
_TYPES_MAX: Final = 100
# Of so many routes it is said, once each.
_SAID_MAX: Final = 100


@event()
class HeadersMissing(Event):
    """Answers lack headers that make browsers careful, and they were not added; `why` says why.

    It is said once for each kind of content, or route.
    """

    content: Annotated[str, Label]
    headers: str
    route: str
    why: str


class _Ready(NamedTuple):
    """What answers of one kind get, made once: by http, by https, and the names of both.

    `may_run` says that a browser may take such content for a script, where nobody forbids it.
    """

    content: Content
    plain: _Headers
    secure: _Headers
    names: frozenset[bytes]
    may_run: bool


@final
class SecurityHeaders:
    """Add to each answer what its kind of content needs and the application has not set.

    Websockets that are accepted get none: there is no content. Safe in any thread.
    """

    def __init__(self, settings: HeadersSettings, *, mode: Literal["report", "enforce"]) -> None:
        self._enforces = mode == "enforce"
        self._no_store = settings.no_store
        self._kinds = {kind: _ready(kind, settings) for kind in Content}
        # By the Content-Type as it is written, so that what is ready is found by one look.
        self._ready: dict[bytes, _Ready] = {}
        names = {name for ready in self._kinds.values() for name in ready.names}
        self._lengths = frozenset(map(len, (*names, NO_STORE[0])))
        self._said: set[tuple[str, str]] = set()

    def starting(self, call: Call, message: Message) -> None:
        """Add what is missing; in mode report, say once what it is."""
        if call.status == 101:
            return
        headers = message.get("headers", ())
        names: set[bytes] | tuple[()] = ()
        kind = b""
        for name, value in headers:
            # The length first: it is cheap and tells nearly all others apart.
            length = len(name)
            if length == 12 and name.lower() == b"content-type":
                kind = value
            elif length in self._lengths:
                names = {*names, name.lower()}
        ready = self._ready.get(kind) or self._learn(kind)
        scope = call.scope
        ours = ready.secure if scope.get("scheme") in _SECURE else ready.plain
        if names and not ready.names.isdisjoint(names):
            ours = tuple(header for header in ours if header[0] not in names)
        if ready.may_run and _is_run(call):
            ours = self._without_refusals(call, ready.content, ours)
        if self._no_store and NO_STORE[0] not in names and self._is_kept_back(call):
            ours = (*ours, NO_STORE)
        if not ours:
            return
        if self._enforces:
            message["headers"] = [*headers, *ours]
        else:
            self._say(call, ready.content.value, ready.content, ours, "headers.mode is report")

    def _learn(self, value: bytes) -> "_Ready":
        ready = self._kinds[kind_of(value)]
        if len(self._ready) < _TYPES_MAX:
            self._ready[value] = ready
        return ready

    def _is_kept_back(self, call: Call) -> bool:
        return any(is_below(path, self._no_store) for path in paths_of(call.scope))

    def _without_refusals(self, call: Call, kind: Content, ours: _Headers) -> _Headers:
        """Leave out what would make the browser refuse what it runs today."""
        kept = tuple(header for header in ours if header[0] not in _REFUSALS)
        if len(kept) < len(ours):
            left = tuple(header for header in ours if header[0] in _REFUSALS)
            why = "it is used as a script or style sheet, and its Content-Type says otherwise"
            self._say(call, f"run {call.route()}", kind, left, why)
        return kept

    def _say(
        self,
        call: Call,
        about: str,
        kind: Content,
        headers: _Headers,
        why: str,
    ) -> None:
        key = about, why
        if key in self._said or len(self._said) >= _SAID_MAX:
            return
        self._said.add(key)
        names = ", ".join(name.decode() for name, _ in headers)
        emit(HeadersMissing, content=kind.value, headers=names, route=call.route(), why=why)


def _is_run(call: Call) -> bool:
    """Whether a browser will run or apply the answer, by its own word or by the path's name.

    Under a wrong type it does so only where nobody forbids it to guess.
    """
    run = call.headers.get(b"sec-fetch-dest") in _RUN
    return run or call.scope["path"].endswith(_RUN_NAMES)


def _ready(kind: Content, settings: HeadersSettings) -> _Ready:
    # What has no type is guessed by everybody, and would not be shown any more.
    headers: Headers = [] if kind is Content.NONE else [NOSNIFF]
    if kind in {Content.PAGE, Content.DATA} and settings.resources in _RESOURCES:
        headers.append((b"cross-origin-resource-policy", settings.resources.encode()))
    if kind is Content.PAGE:
        if settings.referrer:
            headers.append((b"referrer-policy", settings.referrer.encode()))
        if settings.frames in _FRAMES:
            headers.append((b"x-frame-options", _FRAMES[settings.frames]))
        if settings.opener in _OPENERS:
            headers.append((b"cross-origin-opener-policy", settings.opener.encode()))
        if settings.permissions:
            headers.append((b"permissions-policy", settings.permissions.encode()))
    secure = list(headers)
    if settings.hsts_seconds:
        value = f"max-age={settings.hsts_seconds:.0f}"
        value += "; includeSubDomains" if settings.hsts_subdomains else ""
        secure.append((b"strict-transport-security", value.encode()))
    return _Ready(
        content=kind,
        plain=tuple(headers),
        secure=tuple(secure),
        names=frozenset(name for name, _ in secure),
        may_run=kind in {Content.PAGE, Content.DATA, Content.OTHER},
    )
