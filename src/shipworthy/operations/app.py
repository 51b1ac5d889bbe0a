"""The Starlette app of the operations port: a thin shell around `Door` and the endpoints."""

import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from math import ceil

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shipworthy.access import MOST_GUESSES, WINDOW_SECONDS, Guesses, LiveTokens
from shipworthy.clock import SYSTEM_CLOCK, Clock
from shipworthy.errors import Misuse, Rejected, ShipworthyError
from shipworthy.events import emit
from shipworthy.operations.access import Door, Refusal
from shipworthy.operations.actions import Action
from shipworthy.operations.endpoint import PROBLEM, Asked, Endpoint, told
from shipworthy.operations.facts import NameUnknown, Operated
from shipworthy.operations.needs import roles_for
from shipworthy.operations.occurrences import OperatorRefused
from shipworthy.operations.routes import own_endpoints
from shipworthy.operations.settings import OperationsSettings
from shipworthy.redact import redact
from shipworthy.settings import ShownValue
from shipworthy.web import network_of

_log = logging.getLogger("shipworthy.operations")

# Pages load our stylesheet and nothing else. Answers are of this moment: nobody may keep them.
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def operations_app(
    service: Operated,
    *,
    token: str,
    settings: OperationsSettings,
    values: Sequence[ShownValue],
    endpoints: Sequence[Endpoint] = (),
    actions: Sequence[Action] = (),
    tokens: LiveTokens | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> Starlette:
    """Return the app of the operations port of `service`.

    `token` opens `/api`; an empty one opens nothing; `tokens` open what their roles may. `values`
    are the settings in force, with their secrets already hidden. Rooms above hand in their own
    `endpoints`; a path and method declared twice is a `ValueError`. `actions` are what an operator
    may start here. Host names in the settings that are none raise `SettingsInvalid`.
    """
    door = Door(
        host=settings.host,
        allowed_hosts=settings.allowed_hosts,
        token=token,
        scrape_token=settings.scrape_token.reveal(),
        judge=tokens.judge if tokens is not None and tokens.follows else None,
    )
    guesses = Guesses()
    every = (*own_endpoints(service, values, actions), *endpoints)
    by_path: dict[str, dict[str, Endpoint]] = {}
    for endpoint in every:
        methods = by_path.setdefault(endpoint.path, {})
        if endpoint.method in methods:
            raise ValueError(f"{endpoint.method} {endpoint.path} is declared twice")
        methods[endpoint.method] = endpoint

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        # An unknown path tells a foreign host no more than a known one does.
        if (foreign := door.refuse_host(request.headers.getlist("host"))) is not None:
            return _refuse(request, "", foreign)
        headers = dict(error.headers or {})
        if "Allow" in headers:
            headers["Allow"] = ", ".join(sorted(headers["Allow"].split(", ")))
        detail = error.detail
        if error.status_code == HTTPStatus.NOT_FOUND:
            detail = "there is nothing at this path; / lists what there is"
        return _problem(request, error.status_code, detail, headers)

    app = Starlette(
        routes=[
            Route(path, _shell(door, methods, every, guesses, clock), methods=list(methods))
            for path, methods in by_path.items()
        ],
        middleware=[Middleware(_Seal)],
        exception_handlers={HTTPException: refused},
    )
    # `/api/` is not `/api`: a redirect would answer before the Host was looked at.
    app.router.redirect_slashes = False
    return app


def _shell(
    door: Door,
    methods: dict[str, Endpoint],
    every: tuple[Endpoint, ...],
    guesses: Guesses,
    clock: Clock,
) -> Callable[[Request], Awaitable[Response]]:
    roles = {method: roles_for(endpoint) for method, endpoint in methods.items()}

    async def answer(request: Request) -> Response:
        endpoint = methods["GET" if request.method == "HEAD" else request.method]
        decision = door.decide(
            endpoint.audience,
            method=request.method,
            hosts=request.headers.getlist("host"),
            origins=request.headers.getlist("origin"),
            authorizations=request.headers.getlist("authorization"),
            roles=roles[endpoint.method],
        )
        if isinstance(decision, Refusal) and decision.wrong_token:
            return _refuse_token(request, endpoint.path, decision, guesses, clock.now())
        if isinstance(decision, Refusal):
            return _refuse(request, endpoint.path, decision)
        asked = Asked(request=request, detailed=decision.detailed, endpoints=every, by=decision.by)
        try:
            return await endpoint.answer(asked)
        except HTTPException:
            raise
        except ShipworthyError as error:
            headers = {}
            if isinstance(error, Rejected):
                headers["Retry-After"] = str(ceil(error.retry_after_seconds))
            return _problem(request, _status_of(error), redact(str(error)), headers)
        except Exception:  # noqa: BLE001 - logged and answered; the port must outlive its answers
            _log.exception(
                "the operations port failed at %s %s, request %s",
                request.method,
                endpoint.path,
                request.state.request_id,
            )
            return _problem(request, 500, "the operations port failed; the log says why")

    return answer


def _status_of(error: ShipworthyError) -> int:
    match error:
        case Rejected():
            return error.status
        case NameUnknown():
            return 404
        case Misuse():
            return 422
        case _:
            return 409


def _refuse(request: Request, endpoint: str, refusal: Refusal) -> Response:
    _tell_refused(request, endpoint, refusal.status, refusal.detail)
    headers = {"WWW-Authenticate": refusal.challenge} if refusal.challenge else {}
    return _problem(request, refusal.status, refusal.detail, headers)


def _refuse_token(
    request: Request, endpoint: str, refusal: Refusal, guesses: Guesses, now: float
) -> Response:
    """Refuse a token that opens nothing; who sends many of them is told to wait, in fewer lines."""
    network = network_of(request.client.host if request.client else "")
    guess = guesses.refused(network, now)
    because = refusal.detail
    if guess.wait_seconds:
        because = (
            f"more than {MOST_GUESSES} tokens that open nothing came from {network} within "
            f"{WINDOW_SECONDS:g} s; one that is right passes at any time"
        )
        refusal = Refusal(429, because)
    if guess.held_back:
        because = f"{because} ({guess.held_back} more from {network} were not told of)"
    if guess.told:
        _tell_refused(request, endpoint, refusal.status, because)
    headers = {"Retry-After": str(guess.wait_seconds)} if guess.wait_seconds else {}
    if refusal.challenge:
        headers["WWW-Authenticate"] = refusal.challenge
    return _problem(request, refusal.status, refusal.detail, headers)


def _tell_refused(request: Request, endpoint: str, status: int, because: str) -> None:
    client = request.client.host if request.client else ""
    emit(OperatorRefused, endpoint=endpoint, status=status, client=client, because=because)


def _problem(
    request: Request, status: int, detail: str, headers: dict[str, str] | None = None
) -> Response:
    """Say what went wrong as RFC 9457 has it; the query is left out, it may hold anything."""
    response = told(
        {
            "type": "about:blank",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "detail": detail,
            "instance": request.scope["path"][:200].encode("utf-8", "replace").decode(),
            "request_id": request.state.request_id,
        },
        status=status,
        media=PROBLEM,
    )
    response.headers.update(headers or {})
    return response


class _Seal:
    """Gives every answer an id and the security headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = secrets.token_hex(16)
        scope.setdefault("state", {})["request_id"] = request_id

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers["x-request-id"] = request_id
            await send(message)

        await self.app(scope, receive, sealed)
