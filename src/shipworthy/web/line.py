"""The line: one ASGI class that runs the guards around an application.

It wraps send and receive once and gathers the request's headers once, however many guards there
are; what a guard costs is a function call.
"""

import asyncio
import contextlib
import traceback
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, final

from shipworthy.context import RequestRecord
from shipworthy.web.answers import is_refusal

if TYPE_CHECKING:
    from contextvars import Token

    from shipworthy.web.body import BodyReader
    from shipworthy.web.streams import EventStream

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

# What no route serves: one value, so that no client can make more of them.
UNMATCHED = "_unmatched"

# What an answer may be written anew for: a page of the framework, and what it repeats of the input.
HELD: Final = frozenset({422, 500})
# For how long, and up to how much, a body is taken and thrown away that is refused: who still sends
# it when the connection ends may lose the answer (RFC 9112, 9.6).
REFUSED_SECONDS: Final = 1.0
REFUSED_BYTES: Final = 16 * 1024 * 1024

# Stands in a call until `Correlation` has made the record of its request.
_NOBODY = RequestRecord(request_id="", correlation_id="", trace_id="", span_id="")


class Answers(Protocol):
    """What the line asks of `Problems`: the one place that answers when an application did not."""

    holds: bool

    def hold(self, call: "Call", message: Message) -> Awaitable[None]:
        """Take a message of an answer that may have to be replaced."""
        ...

    async def finish(self, call: "Call") -> None:
        """The application returned without ending its answer."""
        ...

    async def answer(self, call: "Call", error: BaseException) -> None:
        """The application, or a guard, raised."""
        ...


@final
class Call:
    """One HTTP request or websocket on its way through the line; belongs to one task.

    `app` is who will be asked: a guard may put another in its place. `status` is 0 until the
    answer has started, `first_at` when the first part of one that comes in parts was handed over, 0
    for any other, `ended` is set when its last byte is handed to the server, `gone` when the
    client left before that: as soon as the application hears of it, else at the end. `head` is that
    of the answer, once there is one; `stream` what is known of an answer that comes in parts.
    `heard` is set when the application has met the end of a call that was ended in its place, see
    `hang_up`. `reader` is what looks at its body, once there is some of it. `keyed` is set while
    the call holds an Idempotency-Key of its own.
    """

    __slots__ = (
        "_line",
        "_receive",
        "_send",
        "app",
        "ended",
        "first_at",
        "gone",
        "head",
        "headers",
        "heard",
        "held",
        "kept",
        "keyed",
        "messages",
        "over",
        "probe",
        "reader",
        "received_bytes",
        "record",
        "scope",
        "sent_bytes",
        "stamp",
        "started",
        "status",
        "stream",
        "task",
        "token",
        "turned_away",
    )

    def __init__(self, line: "Line", scope: Scope, receive: Receive, send: Send) -> None:
        self._line = line
        self._receive = receive
        self._send = send
        self.scope = scope
        self.app = line.app
        # Of a repeated header this keeps the last; who must know looks into the scope again.
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.record = _NOBODY
        self.status = 0
        self.sent_bytes = 0
        self.received_bytes = 0
        self.first_at = 0.0
        self.ended = False
        self.gone = False
        self.probe = False
        self.keyed = False
        self.held: list[Message] | None = None
        # Called for each message of a websocket, received and sent, once a guard wants that.
        self.messages: tuple[Callable[[], None], Callable[[], None]] | None = None
        self.stream: EventStream | Literal[False] | None = None
        self.started = line.now()
        self.task: asyncio.Task[Any] | None = None
        self.head: Message
        self.heard: bool
        # `Correlation` sets these: the header with the id, and the way back out of the context.
        self.stamp: tuple[bytes, bytes]
        self.token: Token[RequestRecord | None]
        # `Traces` sets these: why the trace is kept, '' where it is not, and when the answer ended.
        self.kept: str
        self.over: float
        # The guard of bodies sets this.
        self.reader: BodyReader
        # Set by `turn_away`: what was refused.
        self.turned_away: Exception

    def route(self) -> str:
        """Return the template of the route that serves the call, as far as it is known by now."""
        record = self.record
        if record.route:
            return record.route
        found = self._line.route_of(self.scope)
        # Kept only once it is known: who asks early must not decide for those who ask late.
        if found != UNMATCHED:
            record.route = found
        return found

    async def receive(self) -> Message:
        """Give the application its next message, past the guards that look at it."""
        message = await self._receive()
        kind = message["type"]
        if kind == "http.request":
            for reading in self._line.reading:
                waiting: Awaitable[None] | None = reading(self, message)
                if waiting is not None:
                    await waiting
            self.received_bytes += len(message.get("body", b""))
        elif kind == "websocket.receive":
            if self.messages is not None:
                self.messages[0]()
        elif kind == "http.disconnect":
            self.heard = True
            if not self.ended:
                self.gone = True
        for received in self._line.received:
            received(self, message)
        return message

    # Not a coroutine function, so that the server's own coroutine is handed through: one frame
    # less for each message, and nothing to await when the message is passed on as it is.
    def send(self, message: Message) -> Awaitable[None]:
        """Take a message of the application's answer, past the guards, to the server."""
        kind = message["type"]
        if kind == "http.response.start":
            if message["status"] in HELD and self._line.answers.holds:
                return self._line.answers.hold(self, message)
            return self.start(message)
        if self.held is not None:
            return self._line.answers.hold(self, message)
        if kind == "http.response.body":
            return self.body(message)
        return self._send_rarer(kind, message)

    def _send_rarer(self, kind: str, message: Message) -> Awaitable[None]:
        if kind == "websocket.send":
            if self.messages is not None:
                self.messages[1]()
            return self._send(message)
        if kind == "websocket.accept":
            self.status = 101
            for accepted in self._line.accepted:
                accepted(self)
            return self.start(message)
        if kind == "websocket.http.response.start":
            return self.start(message)
        if kind == "websocket.close" and self.status == 0:
            return self._close_unaccepted(message)
        if kind == "http.response.pathsend":
            self.end()
        return self._send(message)

    def start(self, message: Message) -> Awaitable[None]:
        """Hand the head of an answer to the server, with what the guards add to it."""
        self.status = message.get("status", 101)
        self.head = message
        # Applications reuse messages and header lists, so neither is changed in place.
        message = {**message}
        for starting in self._line.starting:
            starting(self, message)
        return self._send(message)

    def body(self, message: Message) -> Awaitable[None]:
        """Hand a part of the body to the server; the last part ends the answer."""
        self.sent_bytes += len(message.get("body", b""))
        if not message.get("more_body", False):
            self.end()
            return self._send(message)
        if not self.first_at and self.sent_bytes:
            self.first_at = self._line.now()
        if self.stream is not False:  # which it is as soon as no guard wants its parts
            for part in self._line.part:
                waiting: Awaitable[None] | None = part(self, message)
                if waiting is not None:
                    return waiting
        return self._send(message)

    def pass_on(self, message: Message) -> Awaitable[None]:
        """Hand a message to the server as it is; for a guard that has taken it over."""
        return self._send(message)

    def hang_up(self) -> Send:
        """Serve the application no longer: towards it, as if its client had left.

        It receives `http.disconnect`, and what it sends raises an `OSError` (ASGI 2.4). Returns
        the server's `send`, by which the answer can still be ended.
        """
        self.end()
        self.gone = True
        self.heard = False
        send = self._send
        self._send, self._receive = self._send_to_nobody, _disconnected
        return send

    def take_back(self, message: Message) -> None:
        """Give the application `message` next, which it was given to when it waited no longer."""
        receive = self._receive

        async def again() -> Message:
            self._receive = receive
            return message

        self._receive = again

    async def turn_away(self, error: Exception, *, more: bool) -> None:
        """Refuse the call before its body has come, or while it does, and raise `error`.

        `more` says that some of it is still to come. Its client is answered at once, whatever the
        application makes of that: what it sends goes nowhere from then on. Where its answer has
        begun there is nothing but the exception.
        """
        receive, send = self._receive, self._send
        self._receive = _disconnected
        if not self.status:
            self.turned_away = error
            self._send = self._unfinished(send)
            await self._line.answers.answer(self, error)
            self._send = _send_nowhere
            try:
                # A client that waits to be asked for its body sends none.
                if more and (self.received_bytes or b"expect" not in self.headers):
                    await _throw_away(receive)
            finally:
                # A server may raise when its client has left.
                with contextlib.suppress(OSError):
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
        raise error

    def _unfinished(self, send: Send) -> Send:
        """Return a `send` for an answer after which the connection ends, but not at once."""
        closes = self.scope.get("http_version", "1.1") < "2"

        async def unfinished(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "more_body": True}
            elif closes:
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        return unfinished

    async def _send_to_nobody(self, _: Message) -> None:
        self.heard = True
        raise ConnectionResetError("the answer was ended: this process is leaving")

    def ended_in_sending(self, error: BaseException) -> bool:
        """Whether an `OSError` came out of the server's `send`: its client has left (ASGI 2.4).

        Told by the traceback, so that it costs nothing where nothing fails. A server whose `send`
        is no Python code is not known.
        """
        if isinstance(error, BaseExceptionGroup):
            return all(map(self.ended_in_sending, error.exceptions))
        code = getattr(self._send, "__code__", None)
        frames = traceback.walk_tb(error.__traceback__)
        return isinstance(error, OSError) and any(frame.f_code is code for frame, _ in frames)

    @property
    def left(self) -> bool:
        """Whether the server knows that the client has left.

        uvicorn drops in silence what is sent to one that has, so an application that does not
        listen for it never hears of it; whose `send` this is knows.
        """
        return bool(getattr(getattr(self._send, "__self__", None), "disconnected", False))

    def end(self) -> None:
        """State that the answer is over; guards are told once, however often this is said."""
        if not self.ended:
            self.ended = True
            self.look_for_client()
            for ended in self._line.ended:
                ended(self)

    def look_for_client(self) -> None:
        """Note that the client has left, where the server knows it and the application does not."""
        if self.left:
            self.gone = True

    def _close_unaccepted(self, message: Message) -> Awaitable[None]:
        """Refuse a handshake as the application asked, in words that can carry headers.

        A close before the handshake is a 403 on the wire, written by the server. Where the server
        lets us write it, ours says the same and has the request's id.
        """
        if self._writes_refusal():
            return self.refuse(403, [(b"content-length", b"0")], b"")
        self.status = 403
        return self._send(message)

    async def refuse(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer the call in place of the application, which must not have begun to."""
        if self.scope["type"] == "http":
            await self.start({"type": "http.response.start", "status": status, "headers": headers})
            if self.scope["method"] == "HEAD":
                body = b""
            await self.body({"type": "http.response.body", "body": body})
        elif self._writes_refusal():
            await self.start(
                {"type": "websocket.http.response.start", "status": status, "headers": headers}
            )
            await self.body({"type": "websocket.http.response.body", "body": body})
        elif status != 500:
            # Of an exception the server makes a 500 by itself.
            self.status = 403
            await self._send({"type": "websocket.close", "code": 1013, "reason": "try again later"})

    def _writes_refusal(self) -> bool:
        """Whether the answer to a websocket's handshake can be written by us.

        Not towards Starlette's test client: it shows an application's tests the code of a close
        before the handshake and the exception behind it, neither of which reaches a wire.
        """
        if "websocket.http.response" not in (self.scope.get("extensions") or ()):
            return False
        client = self.scope.get("client")
        return not client or client[0] != "testclient"


@final
class Line:
    """Guards around `app`, entered in the order given and left in reverse.

    A guard is an object with any of: `enter(call)`, before the application is asked, which may
    raise and may return an awaitable; `promised(call)`, likewise, when all have been entered, for a
    request with a Content-Length; `around(call, app)`, after that, which returns who is asked in
    the place of `app`: itself, or what calls it more than once or not at all;
    `reading(call, message)`, for each part of a request's body on its way from the server, which
    may raise and may return an awaitable; `received(call, message)`, for each message the
    application receives; `accepted(call)`, when it has accepted a websocket;
    `starting(call, message)`, which may put other headers in the place of `message["headers"]` but
    not change those, which are the application's;
    `part(call, message)`, for each part of the body that is not the last, which may return an
    awaitable that hands it on; `ended(call)`, once, when the last byte of the answer is handed
    over; and `leave(call)`, when the call is over with its background tasks.
    `ended` and `leave` also come to guards that the call never reached, and must not raise.
    """

    def __init__(
        self,
        app: App,
        guards: Sequence[object],
        *,
        answers: Answers,
        route_of: Callable[[Scope], str],
        now: Callable[[], float],
    ) -> None:
        self.app = app
        self.route_of = route_of
        self.now = now
        self.answers = answers
        self._enter = _hooks(guards, "enter")
        self._promised = _hooks(guards, "promised")
        self.reading = _hooks(guards, "reading")
        # The last guard's is next to the application.
        self._around = _hooks(guards[::-1], "around")
        self.received = _hooks(guards, "received")
        self.starting = _hooks(guards, "starting")
        self.accepted = _hooks(guards, "accepted")
        self.part = _hooks(guards, "part")
        self.ended = _hooks(guards[::-1], "ended")
        self._leave = _hooks(guards[::-1], "leave")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request or one websocket.

        What the application raises is raised again after it has been answered, so that servers
        and test clients see what they would see without the line. A refusal is not raised, unless
        the answer had begun: then it refuses nothing and is an exception like any other.
        """
        call = Call(self, scope, receive, send)
        try:
            for enter in self._enter:
                waiting = enter(call)
                if waiting is not None:
                    await waiting
            if b"content-length" in call.headers:
                await self._hear_promised(call)
            # Not kept in the call: it may hold the call, and a cycle for each request has its cost.
            app = call.app
            for around in self._around:
                app = around(call, app)
            await app(scope, call.receive, call.send)
            if not call.ended:
                await self.answers.finish(call)
        except BaseException as error:
            if not await self._refused(call, error):
                raise
        finally:
            if not call.ended:
                call.end()
            for leave in self._leave:
                leave(call)
            # The traceback in the error holds this frame: without this, a cycle for each failure.
            del call

    async def _hear_promised(self, call: Call) -> None:
        for promised in self._promised:
            waiting = promised(call)
            if waiting is not None:
                await waiting

    async def _refused(self, call: Call, error: BaseException) -> bool:
        """Answer a call that ended with `error`; say whether it was refused, so nothing failed."""
        if _comes_of(error, getattr(call, "turned_away", None)):
            return True
        refused = is_refusal(error) and not call.status
        await self.answers.answer(call, error)
        return refused


def _hooks(guards: Sequence[object], name: str) -> tuple[Callable[..., Any], ...]:
    found = (getattr(guard, name, None) for guard in guards)
    return tuple(hook for hook in found if hook is not None)


def nothing() -> Coroutine[Any, Any, None]:
    """Return something to await that does nothing."""
    return _nothing()


async def _nothing() -> None:
    return


async def _disconnected() -> Message:
    return {"type": "http.disconnect"}


async def _send_nowhere(_: Message) -> None:
    return


async def _throw_away(receive: Receive) -> None:
    """Take what a client still sends, for a moment, so that it comes to read its answer."""
    left_bytes = REFUSED_BYTES
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(REFUSED_SECONDS):
            while left_bytes > 0:
                message = await receive()
                left_bytes -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


def _comes_of(error: BaseException, refusal: Exception | None) -> bool:
    """Whether an application raised `error` only because it met `refusal`, which was answered."""
    if refusal is None or not isinstance(error, Exception):
        return False
    if isinstance(error, ExceptionGroup):
        return all(_comes_of(one, refusal) for one in error.exceptions)
    met: BaseException | None = error
    while met is not None and met is not refusal:
        met = met.__cause__ or met.__context__
    return met is refusal
