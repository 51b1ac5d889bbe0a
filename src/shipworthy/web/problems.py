"""What a client is told when an application raised or a guard refused: RFC 9457 problems.

The client learns that it failed and under which id; the log learns all, redacted. What the
application itself answers, 404, 405 and 422 among it, passes as it is.
"""

import asyncio
import contextlib
import traceback
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from math import ceil
from typing import Annotated, Literal, final

import orjson

from shipworthy.context import RequestRecord
from shipworthy.errors import Draining, Rejected
from shipworthy.events import Event, Label, Severity, emit, event
from shipworthy.web.line import Call, Headers, Message, nothing

Mode = Literal["off", "report", "enforce"]

# More than any framework's own page has when it does not say why.
PAGE_BYTES = 4096
# An event is one log line; of a longer stack the end is kept, where the error is.
STACK_CHARACTERS = 8192
# For the answer of a cancelled task, whose client may not be reading.
LAST_WORD_SECONDS = 1.0

_FAILED = "The service failed while it worked on this request; its log has the reason under the id."
_TRACEBACK = b"Traceback (most recent call last)"
_DEBUG_TITLES = (
    b"<title>Starlette Debugger</title>",
    b"<title>Litestar exception page</title>",
    b'<meta name="robots" content="NONE,NOARCHIVE">',  # Django
    b".traceback>div, .locals>div {",  # Quart
)
# What frameworks say by themselves: Starlette and Litestar, Flask and Quart, Django.
_OWN_BODIES = (
    b"Internal Server Error",
    b'{"status_code":500,"detail":"Internal Server Error"}',
)
_OWN_HEADS = (
    b"<!doctype html>\n<html lang=en>\n<title>500 Internal Server Error</title>",
    b'<!doctype html>\n<html lang="en">\n<head>\n  <title>Server Error (500)</title>',
)
_NO_LONGER_TRUE = (b"content-", b"etag", b"last-modified", b"transfer-encoding", b"cache-control")


@event(severity=Severity.ERROR)
class ExceptionUnhandled(Event):
    """The application raised and did not handle it."""

    error_type: Annotated[str, Label]
    route: Annotated[str, Label]
    answered: Annotated[str, Label]
    error: str
    stack: str


@event(severity=Severity.ERROR)
class AnswerMissing(Event):
    """The application returned without having ended its answer."""

    route: Annotated[str, Label]
    status: int
    sent_bytes: int


@event(severity=Severity.INFO)
class CallRefused(Event):
    """A call was refused before it was begun."""

    refusal: Annotated[str, Label]
    because: str


def problem(
    status: int, detail: str, *, record: RequestRecord, kind: str = "about:blank", title: str = ""
) -> bytes:
    """Return the body of a problem (RFC 9457); `detail` is for the client and tells no secret.

    `instance` is the path that was asked for. All of it is encoded as JSON here, so whatever a
    client put into its path stays inside a string.
    """
    document = {
        "type": kind,
        "title": title or HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": record.path.encode("utf-8", "replace").decode(),
        "request_id": record.request_id,
    }
    return orjson.dumps(document)


@final
class Problems:
    """Answer what the application left unanswered, and what a guard refused.

    For an exception a framework first sends a page of its own and then raises it again (Starlette,
    FastAPI) or reports it and returns (Flask, Quart, Django, Litestar, see `frameworks`). So the
    first part of a 500 is held back until it is known whose words it holds: what the application
    wrote passes, the framework's own page gives way to a problem, and so does, except in
    development, a page that shows a traceback.

    In the modes `report` and `off` no answer of the application is touched; an exception is
    logged in every mode, and a refusal answered. Safe for any number of tasks: it keeps no state.
    """

    def __init__(self, *, mode: Mode, development: bool, leaving: Callable[[], bool]) -> None:
        self.holds = mode == "enforce"
        self._development = development
        self._leaving = leaving

    def hold(self, call: Call, message: Message) -> Awaitable[None]:
        """Take a part of a 500, which may have to be replaced."""
        held = call.held
        if held is None:
            call.held = [message]
            return nothing()
        held.append(message)
        return self._look(call, held)

    async def finish(self, call: Call) -> None:
        """See to it that a call whose application has returned has an answer."""
        if call.held is not None:
            # A framework's own words after all, but nobody raised: the application chose them.
            await _release(call, call.held)
        if call.ended or call.gone:
            return
        is_http = call.scope["type"] == "http"
        if call.status and not is_http:
            return  # a websocket needs no last word: the server closes it
        emit(
            AnswerMissing,
            route=call.route(),
            status=call.status,
            sent_bytes=call.sent_bytes,
        )
        if self.holds and call.status == 0 and is_http:
            await self._fail(call)

    async def answer(self, call: Call, error: BaseException) -> None:
        """Answer a call that ended with `error`, if its answer has not begun, and log it."""
        if isinstance(error, Rejected):
            emit(CallRefused, refusal=type(error).__name__, because=str(error))
            await self._refuse(call, error)
        elif isinstance(error, asyncio.CancelledError):
            if self._leaving() and call.status == 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LAST_WORD_SECONDS):
                        await self._refuse(call, Draining())
        elif isinstance(error, Exception) and not call.gone:
            await self._answer_exception(call, error)

    async def _answer_exception(self, call: Call, error: Exception) -> None:
        if call.held is not None and not _is_own_page(call.held):
            await _release(call, call.held)
        if call.status and not call.ended:
            answered = "in part"
        elif call.status:
            answered = "by the application" if call.status == 500 else "before"
        elif self.holds:
            answered = "with a problem"
            await self._fail(call)
        else:
            answered = "by the server"
        _log(call, error, answered)

    async def _look(self, call: Call, held: list[Message]) -> None:
        """Decide by what there is of a 500 so far: replace it, pass it on, or wait for more."""
        body = _body(held)
        whole = not held[-1].get("more_body", False)
        error = call.record.error
        shows = not self._development and _shows_traceback(body)
        if shows and not whole:
            # That it shows one is all there is to remember of a page that will not be sent.
            held[1:] = [{"type": "http.response.body", "body": _TRACEBACK, "more_body": True}]
        elif shows or (whole and error is not None and _is_own_page(held)):
            await self._fail(call)
            if error is not None:
                _log(call, error, "with a problem")
        elif len(body) > PAGE_BYTES or (whole and not _is_own_page(held)):
            await _release(call, held)
            if error is not None:
                _log(call, error, "by the application")

    async def _fail(self, call: Call) -> None:
        await self._say(call, 500, problem(500, _FAILED, record=call.record), [])

    async def _refuse(self, call: Call, refusal: Rejected) -> None:
        if call.status:
            return  # the server ends a half answer, and that is all that can still be done
        kind = type(refusal).__name__.lower()
        body = problem(
            refusal.status,
            str(refusal),
            record=call.record,
            kind=f"urn:shipworthy:problem:{kind}",
        )
        seconds = b"%d" % ceil(refusal.retry_after_seconds)
        await self._say(call, refusal.status, body, [(b"retry-after", seconds)])

    async def _say(self, call: Call, status: int, body: bytes, more: Headers) -> None:
        """Send a problem in place of what may be held; keep what other middlewares had added."""
        kept: Headers = []
        if call.held is not None:
            kept = [
                (name, value)
                for name, value in call.held[0].get("headers", ())
                if not name.lower().startswith(_NO_LONGER_TRUE)
            ]
            call.held = None
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            *kept,
            *more,
        ]
        # A server may raise when its client has left; the error that is being answered counts.
        with contextlib.suppress(OSError):
            await call.refuse(status, headers, body)


async def _release(call: Call, held: list[Message]) -> None:
    call.held = None
    await call.start(held[0])
    for part in held[1:]:
        await call.send(part)


def _log(call: Call, error: BaseException, answered: str) -> None:
    trace = "".join(traceback.format_exception(error))
    emit(
        ExceptionUnhandled,
        error_type=type(error).__qualname__,
        route=call.route(),
        answered=answered,
        error=str(error)[:STACK_CHARACTERS],
        stack=trace[-STACK_CHARACTERS:],
    )


def _body(held: list[Message]) -> bytes:
    return b"".join(part.get("body", b"") for part in held[1:])


def _shows_traceback(body: bytes) -> bool:
    return _TRACEBACK in body or any(title in body[:PAGE_BYTES] for title in _DEBUG_TITLES)


def _is_own_page(held: list[Message]) -> bool:
    """Whether these are the words a framework says by itself for an exception nobody handled."""
    body = _body(held)
    return body in _OWN_BODIES or body.lstrip().startswith(_OWN_HEADS)
