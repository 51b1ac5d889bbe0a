"""Requests over plain http: a page moves to https, anything else is refused and not redirected.

A browser that is sent on has lost nothing but the first request. A program that is sent on has sent
its token in the clear, goes on doing so, and nobody notices (OWASP ASVS 5.0, 4.1.2).

Not here: what the scheme of a request is (`forwarded`), and how browsers are kept from asking again
over http.
"""

from functools import partial
from typing import Final, Literal, final
from urllib.parse import quote

from shipworthy.errors import RequestInvalid
from shipworthy.web.authority import host_of
from shipworthy.web.blocked import Blocked
from shipworthy.web.client import scheme_named
from shipworthy.web.forwarded import CLIENT
from shipworthy.web.host import HostRule, host_refused
from shipworthy.web.host_settings import HostSettings
from shipworthy.web.line import Call, Receive, Scope, Send

HTTPS_RULES: Final = ("plain", "page", "host", "loop")
# What may stand in a path or a query as it is; the rest is written in hexadecimal.
_AS_IT_IS: Final = "/%:@!$&'()*+,;=-._~"


@final
class HttpsNeeded(RequestInvalid):
    """A request that is no page's came over plain http: 403, and nothing of it was done."""

    status = 403
    told = True

    def __init__(self) -> None:
        super().__init__(
            "this service is served over https alone; nothing was done, and what the request held "
            "was sent in the clear"
        )


@final
class HttpsLoop(RequestInvalid):
    """A proxy says that its client used https, and is not believed: sent on, it would come again.

    403, because the settings must change before this can be told from a client that says so itself.
    """

    status = 403
    told = True

    def __init__(self) -> None:
        super().__init__(
            "the request came over http and says that it came over https; if a proxy says so, the "
            "service must be told to believe it (section [client] of its settings)"
        )


@final
class HttpsGuard:
    """Send pages that are asked for over http to https, and refuse all else, websockets among it.

    With mode report it tells of both and lets them pass. Probes pass.
    """

    def __init__(
        self, mode: Literal["report", "enforce"], hosts: HostSettings, blocked: Blocked
    ) -> None:
        self._mode: Literal["report", "enforce"] = mode
        self._wrong_host = HostRule(hosts).wrong
        self._blocked = blocked
        for rule in HTTPS_RULES if mode == "enforce" else ("plain", "page", "loop"):
            # A page that is sent on is not turned away.
            if rule != "page" or mode == "report":
                blocked.expect("https", rule, mode)

    def enter(self, call: Call) -> None:
        """Let a request over https pass."""
        if call.probe or call.scope["scheme"] in ("https", "wss"):
            return
        if _claims_https(call):
            self._tell(call, "loop", "what says that it came over https is not believed")
            if self._mode == "enforce":
                raise HttpsLoop
        elif not _is_page(call):
            self._tell(call, "plain", "it came over http")
            if self._mode == "enforce":
                raise HttpsNeeded
        elif self._mode == "report":
            self._tell(call, "page", "it came over http")
        else:
            self._send_on(call)

    def _send_on(self, call: Call) -> None:
        rule = self._wrong_host(call)
        host = host_of(call.headers.get(b"host", b""))
        if rule or host is None:
            # Whoever chooses the host would choose where the answer leads.
            self._tell(call, "host", f"nobody can be sent on: its Host is {rule or 'missing'}")
            raise host_refused(rule)
        call.app = partial(_redirect, _location(call.scope, host))

    def _tell(self, call: Call, rule: str, because: str) -> None:
        self._blocked.tell(
            "https",
            rule,
            self._mode,
            because,
            client=call.record.client,
            route=call.route(),
        )


def _is_page(call: Call) -> bool:
    """Whether a person asked: for a page, and without a body."""
    return call.scope.get("method") in ("GET", "HEAD") and b"text/html" in call.headers.get(
        b"accept", b""
    )


def _claims_https(call: Call) -> bool:
    """Whether a header says https that nobody believed."""
    believed = call.scope.get(CLIENT)
    if believed is not None and believed.scheme:
        return False
    said = call.headers.get(b"x-forwarded-proto", b"").rpartition(b",")[2]
    return scheme_named(said) == "https" or b"proto=https" in call.headers.get(b"forwarded", b"")


def _location(scope: Scope, host: str) -> bytes:
    raw = scope.get("raw_path")
    target = quote(raw, safe=_AS_IT_IS) if raw else quote(scope["path"])
    query: bytes = scope.get("query_string", b"")
    if query:
        target += "?" + quote(query, safe=f"{_AS_IT_IS}?")
    return f"https://{host}{target}".encode()


async def _redirect(location: bytes, _scope: Scope, _receive: Receive, send: Send) -> None:
    # Not to be kept: with a proxy that does not say https it would lead round for ever, and go on
    # after that was put right.
    headers = [(b"location", location), (b"content-length", b"0"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 308, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
