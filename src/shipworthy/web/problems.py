"""What a client is told when an application raised or a guard refused: RFC 9457 problems.

The client learns that it failed and under which id; the log learns all, redacted. What the
application itself answers, 404 and 405 among it, passes as it is; 422 does but for what it repeats
of the input (`echo`).
"""

import asyncio
import contextlib
import traceback
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated, Literal, final

import orjson

from shipworthy.context import RequestRecord
from shipworthy.errors import Draining
from shipworthy.events import Event, Label, Severity, emit, event
from shipworthy.web.answers import FAILED, INTERRUPTED, Explanation, answer_for, is_refusal
from shipworthy.web.echo import ECHO_BYTES, Echo, may_echo, without_echo
from shipworthy.web.line import Call, Headers, Message, nothing

Mode = Literal["off", "report", "enforce"]

# More than any framework's own page has when it does not say why.
PAGE_BYTES = 4096
# An event is one log line; of a longer stack the end is kept, where the error is.
STACK_CHARACTERS = 8192
# What frameworks and servers raise where the application reads from, or sends to, a client that
# has left. Each is its own class; an `OSError` without a number is a server's.
_GONE = frozenset({"ClientDisconnect", "ClientDisconnected", "RequestAborted"})
# For the answer of a cancelled task, whose client may not be reading.
LAST_WORD_SECONDS = 1.0

# What servers say, and what we say in their place where no answer of ours is wanted.
_PLAIN = b"Internal Server Error"
_TRACEBACK = b"Traceback (most recent call last)"
_DEBUG_TITLES = (
    b"<title>Starlette Debugger</title>",
    b"<title>Litestar exception page</title>",
    b'<meta name="robots" content="NONE,NOARCHIVE">',  # Django
    b".traceback>div, .locals>div {",  # Quart
)
# What frameworks say by themselves: Starlette and Litestar, Flask and Quart, Django.
_OWN_BODIES = (
    _PLAIN,
    b'{"status_code":500,"detail":"Internal Server Error"}',
)
_OWN_HEADS = (
    b"<!doctype html>\n<html lang=en>\n<title>500 Internal Server Error</title>",
    b'<!doctype html>\n<html lang="en">\n<head>\n  <title>Server Error (500)</title>',
)
# No JSON begins with it.
_OVERLONG = b"\0"
_TOO_LONG = Explanation(
    status=422,
    detail="What was sent is not valid, and the list of what is wrong is too long to be shown.",
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
    """A call was refused, by a guard or by something that the application needed for it."""

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


def _uncounted(_route: str, _error_type: str) -> None:
    """Where nobody counts."""


@final
class Problems:
    """Answer what the application left unanswered, and what a guard refused.

    For an exception a framework first sends a page of its own and then raises it again (Starlette,
    FastAPI) or reports it and returns (Flask, Quart, Django, Litestar, see `frameworks`). So the
    first part of a 500 is held back until it is known whose words it holds: what the application
    wrote passes, the framework's own page gives way to a problem, and so does, except in
    development, a page that shows a traceback. A 422 is held back too, until it is known what it
    repeats of the input: see `echo`.

    In the modes `report` and `off` no answer of the application is touched, and where there is
    none the client gets what the server would say, with its id; an exception is logged in every
    mode, and a refusal answered. `failed` hears the route and the class of each exception. Safe for
    any number of tasks: it keeps no state.
    """

    def __init__(
        self,
        *,
        mode: Mode,
        development: bool,
        leaving: Callable[[], bool],
        failed: Callable[[str, str], None] = _uncounted,
        echo: Echo = "secrets",
    ) -> None:
        self.holds = mode == "enforce"
        self._echo = echo
        self._failed = failed
        self._development = development
        self._leaving = leaving

    def hold(self, call: Call, message: Message) -> Awaitable[None]:
        """Take a part of a 500, or of a 422, which may have to be replaced."""
        held = call.held
        if call.ended:
            return nothing()  # it was answered in the application's place
        if held is None:
            if message["status"] == 422 and not self._may_echo(message):
                return call.start(message)
            call.held = [message]
            return nothing()
        held.append(message)
        if held[0]["status"] == 422:
            return self._look_for_echo(call, held)
        return self._look(call, held)

    def _may_echo(self, message: Message) -> bool:
        headers = {name.lower(): value for name, value in message.get("headers", ())}
        return self._echo != "show" and may_echo(headers)

    async def _look_for_echo(self, call: Call, held: list[Message]) -> None:
        """Write the answer anew, once it is whole, where it repeats what it may not."""
        body = _body(held)
        if len(body) > ECHO_BYTES or body.startswith(_OVERLONG):
            # That it is too long is all there is to remember of what will not be sent.
            held[1:] = [{**held[-1], "body": _OVERLONG}]
        if held[-1].get("more_body", False):
            return
        if _body(held) == _OVERLONG:
            await self._explain(call, _TOO_LONG)
            return
        written = without_echo(body, self._echo)
        if written is not None:
            held[:] = [_with_length(held[0], len(written)), {**held[-1], "body": written}]
        await _release(call, held)

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
        if call.status == 0 and is_http:
            await self._fail(call)

    async def answer(self, call: Call, error: BaseException) -> None:
        """Answer a call that ended with `error`, if its answer has not begun, and log it."""
        if is_refusal(error) and not call.status:
            if not getattr(error, "told", False):
                emit(CallRefused, refusal=type(error).__name__, because=str(error))
            await self._say_why(call, error)
        elif isinstance(error, asyncio.CancelledError) and _called_off():
            await self._answer_called_off(call, error)
        elif call.gone:
            if not _says_gone(error):
                self._log(call, error, _answered(call))
        elif call.ended_in_sending(error):
            call.gone = True
        elif not isinstance(error, GeneratorExit):  # in which nothing can be awaited
            await self._answer_exception(call, error)

    async def _answer_called_off(self, call: Call, error: BaseException) -> None:
        """Answer a call whose task was cancelled: by the drain, or by whoever stands around it."""
        if not self._leaving():
            # Who cancels has an answer of their own, or knows that nobody waits for one.
            call.look_for_client()
            if not call.gone:
                self._log(call, error, _answered(call))
        elif not call.status:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORD_SECONDS):
                    await self._interrupt(call)

    async def break_off(self, call: Call) -> None:
        """Answer a call whose application does not, though it was told to leave; hang up on it.

        Also for one whose COMMIT is under way: that it is not known whether it took effect is
        what there is to say. Does nothing to an answer that has begun, or a websocket.
        """
        if not call.status and call.scope["type"] == "http":
            await self._interrupt(call)
            call.hang_up()

    async def _answer_exception(self, call: Call, error: BaseException) -> None:
        if call.held is not None and not _is_own_page(call.held):
            await _release(call, call.held)
        answered = _answered(call)
        if not call.status:
            answered = "with a problem" if self.holds else "in plain words"
            await self._fail(call, error)
        self._log(call, error, answered)

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
            await self._fail(call, error)
            if error is not None:
                self._log(call, error, "with a problem")
        elif len(body) > PAGE_BYTES or not (
            _is_own_page(held) if whole else _begins_own_page(body, debug=not self._development)
        ):
            await _release(call, held)
            if error is not None:
                self._log(call, error, "by the application")

    def _log(self, call: Call, error: BaseException, answered: str) -> None:
        route, name = call.route(), type(error).__qualname__
        self._failed(route, name)
        emit(
            ExceptionUnhandled,
            error_type=name,
            route=route,
            answered=answered,
            error=str(error)[:STACK_CHARACTERS],
            stack="".join(traceback.format_exception(error))[-STACK_CHARACTERS:],
        )

    async def _fail(self, call: Call, error: BaseException | None = None) -> None:
        if self.holds:
            await self._say_why(call, error)
        else:
            with contextlib.suppress(OSError):
                await call.refuse(500, _plain_headers(call), _PLAIN)

    async def _interrupt(self, call: Call) -> None:
        if call.scope["type"] == "websocket":
            await self._say_why(call, Draining())  # no connection yet, so nothing took effect
            return
        await self._explain(call, INTERRUPTED)

    async def _say_why(self, call: Call, error: BaseException | None) -> None:
        await self._explain(call, FAILED if error is None else answer_for(error))

    async def _explain(self, call: Call, answer: Explanation) -> None:
        body = problem(answer.status, answer.detail, record=call.record, kind=answer.kind)
        await self._say(call, answer.status, body, *answer.retry_after)

    async def _say(self, call: Call, status: int, body: bytes, *more: tuple[bytes, bytes]) -> None:
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


def _with_length(head: Message, length: int) -> Message:
    kept = [
        (name, value)
        for name, value in head.get("headers", ())
        if name.lower() not in {b"content-length", b"content-encoding"}
    ]
    return {**head, "headers": [*kept, (b"content-length", b"%d" % length)]}


def _answered(call: Call) -> str:
    """Say how a call has been answered by the application so far."""
    if not call.status:
        return "not at all"
    if not call.ended:
        return "in part"
    return "by the application" if call.status == 500 else "before"


def _called_off() -> bool:
    """Whether this task was cancelled; a handler may also raise `CancelledError` by itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _says_gone(error: BaseException) -> bool:
    """Whether the error says no more than that the client has left."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(_says_gone, error.exceptions))
    if isinstance(error, OSError) and error.errno is None:
        return True
    lost = (BrokenPipeError, ConnectionResetError, ConnectionAbortedError, GeneratorExit)
    return isinstance(error, lost) or type(error).__name__ in _GONE


def _plain_headers(call: Call) -> Headers:
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(_PLAIN)),
    ]
    if call.scope.get("http_version", "1.1") < "2":
        headers.append((b"connection", b"close"))
    return headers


def _body(held: list[Message]) -> bytes:
    return b"".join(part.get("body", b"") for part in held[1:])


def _shows_traceback(body: bytes) -> bool:
    return _TRACEBACK in body or any(title in body[:PAGE_BYTES] for title in _DEBUG_TITLES)


def _begins_own_page(body: bytes, *, debug: bool) -> bool:
    """Whether what comes after `body` may make it a page a framework says by itself.

    With `debug` also a page that shows a traceback: those are HTML or begin with it.
    """
    begun = body.lstrip()
    if any(own.startswith(body) for own in _OWN_BODIES):
        return True
    heads = (*_OWN_HEADS, _TRACEBACK) if debug else _OWN_HEADS
    if any(head.startswith(begun) or begun.startswith(head) for head in heads):
        return True
    return debug and begun.startswith(b"<")


def _is_own_page(held: list[Message]) -> bool:
    """Whether these are the words a framework says by itself for an exception nobody handled."""
    body = _body(held)
    return body in _OWN_BODIES or body.lstrip().startswith(_OWN_HEADS)
