"""The guard against requests that a foreign page makes a browser send; the judge is `csrf`."""

import os
from collections.abc import Callable
from typing import Final, Literal, final

from shipworthy.context import current_request
from shipworthy.errors import Misuse, RequestInvalid
from shipworthy.web.answers import SAFE
from shipworthy.web.below import is_below, is_straight, paths_of
from shipworthy.web.blocked import Blocked
from shipworthy.web.browser_settings import CsrfSettings
from shipworthy.web.csrf import (
    SALT_BYTES,
    Claims,
    Doubt,
    cookie_of,
    is_ambient,
    is_explicit,
    judge_origin,
    normal_origin,
    token_fits,
    token_for,
)
from shipworthy.web.health import own_path
from shipworthy.web.line import UNMATCHED, Call, Scope

TOKEN_HEADER: Final = b"x-csrf-token"
_WHY: Final = {
    Doubt.CROSS_SITE: "a page of another site sent it",
    Doubt.SAME_SITE: "a page of another origin of the same site sent it",
    Doubt.FOREIGN_ORIGIN: "its Origin is not the one it was sent to",
    Doubt.NULL_ORIGIN: "its Origin is null: a sandboxed or local page, or one that hides itself",
    Doubt.FOREIGN_REFERER: "its Referer is of another origin than it was sent to",
    Doubt.NO_ORIGIN: "it holds a cookie, password or certificate and does not say where it is from",
}


@final
class CrossSiteRefused(RequestInvalid):
    """A request that changes something came from a page that is not the service's own."""

    status = 403
    told = True

    def __init__(self) -> None:
        super().__init__(
            "this request was not sent by a page of this service: send it from one, or with a "
            "token of your own (Authorization: Bearer) and without cookies"
        )


@final
class CsrfGuard:
    """Let requests and websockets that change something in only where their sender meant them.

    Safe methods pass at once, and probes. Safe in any thread.
    """

    def __init__(
        self,
        settings: CsrfSettings,
        blocked: Blocked,
        *,
        mode: Literal["report", "enforce"],
        route_of: Callable[[str], str],
    ) -> None:
        self._mode = mode
        self._route_of = route_of
        self._blocked = blocked
        self._trusted = frozenset(map(normal_origin, settings.trusted_origins))
        self._exempt = settings.exempt
        self._key_headers = frozenset(name.encode() for name in settings.key_headers)
        self._cookie = settings.session_cookie
        self._secret = settings.secret.reveal().encode()
        for doubt in Doubt:
            blocked.expect("csrf", doubt.value, mode)

    def enter(self, call: Call) -> None:
        """Judge the call, unless it changes nothing; raises `CrossSiteRefused` in mode enforce."""
        if self._secret:
            call.record.seal = self._seal
        # A websocket has no method, and is judged: browsers let any page open one.
        if call.scope.get("method") in SAFE or call.probe:
            return
        doubt = judge_origin(self._claims(call), self._trusted)
        if doubt is not None and not self._is_exempt(call.scope):
            # The application has not seen it, so only its table knows which route it is for.
            route = self._route_of(own_path(call.scope))
            self._blocked.tell(
                "csrf",
                doubt.value,
                self._mode,
                _because(call, doubt),
                client=call.record.client,
                route=route,
            )
            if self._mode == "enforce":
                call.record.route = "" if route == UNMATCHED else route
                raise CrossSiteRefused

    def _claims(self, call: Call) -> Claims:
        headers, scope = call.headers, call.scope
        ambient = is_ambient(headers) or _has_certificate(scope)
        return Claims(
            scheme=scope.get("scheme", "http"),
            host=headers.get(b"host", b"").decode("latin-1"),
            fetch_site=_text(headers.get(b"sec-fetch-site")),
            origin=_text(headers.get(b"origin")),
            referer=_text(headers.get(b"referer")),
            ambient=ambient,
            explicit=is_explicit(headers, self._key_headers),
            sealed=ambient and self._is_sealed(call),
        )

    def _is_sealed(self, call: Call) -> bool:
        if not self._secret or TOKEN_HEADER not in call.headers:
            return False
        session = cookie_of(call.headers.get(b"cookie", b""), self._cookie)
        token = call.headers[TOKEN_HEADER].decode("latin-1")
        return token_fits(token, session, secret=self._secret)

    def _is_exempt(self, scope: Scope) -> bool:
        return bool(self._exempt) and any(
            is_below(path, self._exempt) and is_straight(path) for path in paths_of(scope)
        )

    def _seal(self, session: str) -> str:
        return token_for(session, secret=self._secret, salt=os.urandom(SALT_BYTES))


def csrf_token(session: str) -> str:
    """Return a token for clients that say no origin, to be sent as `X-CSRF-Token`.

    `session` is the value of the cookie that `csrf.session_cookie` names. Each call returns another
    one, and each fits as long as that cookie stays. Raises `Misuse` outside of a request, and where
    no `csrf.secret` is set.
    """
    record = current_request()
    if record is None or record.seal is None:
        raise Misuse(
            "there is no request here, or no secret to make a token with: call csrf_token() while "
            "a request is served, and set csrf.secret and csrf.session_cookie"
        )
    if not session:
        raise Misuse("a token belongs to a session, and this one is empty: log the client in first")
    return record.seal(session)


def _because(call: Call, doubt: Doubt) -> str:
    said = [
        f"{name.decode()}: {call.headers[name].decode('latin-1')[:60]}"
        for name in (b"sec-fetch-site", b"origin", b"referer")
        if name in call.headers
    ]
    return f"{_WHY[doubt]} ({', '.join(said) or 'none of the headers that would'})"


def _has_certificate(scope: Scope) -> bool:
    """Whether the client has shown a certificate (ASGI's extension for TLS)."""
    tls = (scope.get("extensions") or {}).get("tls")
    return bool(tls and tls.get("client_cert_chain"))


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
