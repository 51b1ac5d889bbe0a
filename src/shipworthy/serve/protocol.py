"""uvicorn's HTTP protocol, taught to leave: answer, then close; never cut who may be asking.

The methods overridden and the attributes read (`cycle.keep_alive`, `cycle.response_complete`,
`server_state`) are uvicorn's internals; `tests/serve/test_engine.py` is the contract that a new
uvicorn must pass before the pinned range is widened.
"""

import asyncio
import math
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any
from weakref import WeakKeyDictionary

from typing_extensions import override
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from shipworthy.context import RequestRecord
from shipworthy.events import Event, Severity, emit, event
from shipworthy.web import new_ids, problem

# The most that one read from a socket brings (asyncio's; uvloop's is smaller).
RECEIVED_AT_ONCE = 256 * 1024
LINGER_SECONDS = 1.0


@event(severity=Severity.WARNING)
class RequestUnreadable(Event):
    """A client sent what is no HTTP request, or a head that is too large."""

    request_id: str
    client: str
    status: int


class HeadTooLarge(Exception):
    """Stops the parser; never leaves the connection."""


def unreadable(status: int, detail: str, request_id: str) -> bytes:
    """Return a whole answer to a request of which nothing can be known."""
    body = problem(status, detail, record=RequestRecord(request_id, request_id, "", ""))
    phrase = HTTPStatus(status).phrase
    return (
        f"HTTP/1.1 {status} {phrase}\r\ncontent-type: application/problem+json\r\n"
        f"content-length: {len(body)}\r\nx-request-id: {request_id}\r\nconnection: close\r\n\r\n"
    ).encode() + body


class Connections(ServerState):
    """The connections of one worker: what they are doing, and whether the worker is leaving."""

    def __init__(self, *, head_bytes: int, connections_max: int = 0) -> None:
        super().__init__()
        self.connections_max = connections_max
        self.leaving = False
        self.last_request_at = 0.0
        self.head_bytes = head_bytes
        self.shaking = 0  # TLS handshakes of connections that were taken over from the kernel
        # When connections were accepted whose TLS handshake is not over. Of one that fails nobody
        # tells us, but then nothing else refers to it.
        self.accepted: WeakKeyDictionary[LeavingHttpProtocol, float] = WeakKeyDictionary()

    def census(self, *, fresh_since: float = math.inf, shaking_since: float = math.inf) -> "Census":
        """Count the open connections by what they are doing; takes microseconds per connection.

        A TLS handshake counts as asking when it began after `shaking_since`.
        """
        idle = fresh = busy = upgraded = 0
        asking = self.shaking + sum(at > shaking_since for at in self.accepted.values())
        for connection in self.connections:
            if not isinstance(connection, LeavingHttpProtocol):
                upgraded += 1
            elif connection.answering:
                busy += 1
            elif connection.asking:
                asking += 1
            elif connection.idle_since > fresh_since:
                fresh += 1
            else:
                idle += 1
        return Census(idle=idle, fresh=fresh, asking=asking, busy=busy, upgraded=upgraded)

    def make_room(self, newest: "LeavingHttpProtocol") -> None:
        """Close a connection when `newest` is one too many: who asks comes before who is quiet."""
        if not self.connections_max:
            return
        there = [c for c in self.connections if not c.transport.is_closing()]
        if len(there) <= self.connections_max:
            return
        quiet = [
            connection
            for connection in there
            if isinstance(connection, LeavingHttpProtocol)
            and connection is not newest
            and not connection.answering
        ]
        longest = min(quiet, key=lambda connection: connection.quiet_since, default=newest)
        longest.transport.abort()


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """Open connections by what they do.

    Idle ones ask nothing, those of them that were answered a moment ago are `fresh`: their client
    may be asking again just now. `asking` is one in the middle of a request head or of its TLS
    handshake, `busy` one that is being answered, also while its next head comes in already,
    `upgraded` a websocket.
    """

    idle: int
    fresh: int
    asking: int
    busy: int
    upgraded: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.idle + self.fresh + self.asking + self.busy + self.upgraded


class _Lingering:
    """Stands in for the transport towards one answer: to close is to linger."""

    def __init__(self, connection: "LeavingHttpProtocol") -> None:
        self._connection = connection

    def write(self, data: bytes) -> None:
        self._connection.transport.write(data)

    def is_closing(self) -> bool:
        return self._connection.transport.is_closing()

    def close(self) -> None:
        self._connection.linger()


class _HearingOut(asyncio.Protocol):
    """Stands between a websocket that says its close and its transport: to close is to linger.

    What the client still sends is thrown away.
    """

    def __init__(self, websocket: Any) -> None:
        self._websocket = websocket
        self._transport: asyncio.Transport = websocket.transport
        self._linger: asyncio.TimerHandle | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def close(self) -> None:
        # Asked for by the shutdown, and again when the application has returned.
        if self._linger is not None or self._transport.is_closing():
            return
        self._linger = asyncio.get_running_loop().call_later(LINGER_SECONDS, self.end)
        self._transport.set_protocol(self)
        if not self._transport.is_reading():
            self._transport.resume_reading()
        self._transport.write_eof()

    def end(self) -> None:
        self._transport.close()

    @override
    def pause_writing(self) -> None:
        self._websocket.pause_writing()

    @override
    def resume_writing(self) -> None:
        self._websocket.resume_writing()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self._linger is not None:
            self._linger.cancel()
        self._websocket.connection_lost(exc)


def close_websocket(websocket: Any) -> None:
    """Tell a websocket of uvicorn to come back elsewhere (1012), and hear its client out.

    uvicorn closes as soon as it has said so. What the client has sent meanwhile would reset the
    connection, and one that is just writing loses the close with it and sees 1006: 3 of 200 that
    talked every millisecond, on one machine. So our half is closed, and the rest when the client
    has closed its own, or `LINGER_SECONDS` later. TLS ends with a handshake of its own.
    """
    transport: asyncio.Transport = websocket.transport
    if isinstance(transport, _HearingOut) or transport.is_closing():
        return
    if transport.can_write_eof():
        websocket.transport = _HearingOut(websocket)
    websocket.shutdown()


def end_connection(connection: Any) -> None:
    """Close a connection, whoever is being heard out on it."""
    transport = connection.transport
    (transport.end if isinstance(transport, _HearingOut) else transport.close)()


class _Answered:
    """Stands in for the transport towards an answer that is complete: there is nothing to close."""

    def is_closing(self) -> bool:
        # No 100 Continue after the answer.
        return True

    def close(self) -> None:
        pass


_ANSWERED = _Answered()


class LeavingHttpProtocol(HttpToolsProtocol):
    """An HTTP/1.1 connection that, once the worker leaves, ends with its next answer.

    While leaving, an answer carries `Connection: close` and the connection ends after it, so a
    client learns in HTTP that it must come back elsewhere. An idle connection is not cut at once:
    a request may be on its way, and a cut would lose it.
    """

    server_state: Connections

    def __init__(
        self,
        config: Config,
        server_state: Connections,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.asking = False
        self.asking_since = 0.0
        self.idle_since = self.loop.time()
        self._head_bytes = 0
        self._received_bytes = 0
        self._refused = False

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # Over TLS, this is when the handshake is over.
        self.server_state.accepted.pop(self, None)
        super().connection_made(transport)
        self.server_state.make_room(self)

    @property
    def quiet_since(self) -> float:
        """Since when nothing whole was heard on a connection that is not being answered."""
        return self.asking_since if self.asking else self.idle_since

    @property
    def answering(self) -> bool:
        """Whether an answer is being made on this connection."""
        # uvicorn types it as always there; before the first request it is None.
        cycle: RequestResponseCycle | None = self.cycle
        return (cycle is not None and not cycle.response_complete) or self.unsent or self._refused

    @property
    def unsent(self) -> bool:
        """Whether bytes of an answer still wait for a client that reads slowly."""
        return self.transport.get_write_buffer_size() > 0

    @override
    def on_message_begin(self) -> None:
        self.asking = True
        self.asking_since = self.loop.time()
        self._head_bytes = 0
        super().on_message_begin()

    @override
    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def _count(self, head_bytes: int) -> None:
        self._head_bytes += head_bytes
        if self._head_bytes > self.server_state.head_bytes:
            # Ends the parsing; uvicorn then calls send_400_response.
            raise HeadTooLarge

    @override
    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        super().data_received(data)
        # A header that never ends reaches no callback of the parser.
        if self.asking and not self.transport.is_closing():
            self._received_bytes += len(data)
            if self._received_bytes > self.server_state.head_bytes + RECEIVED_AT_ONCE:
                self._head_bytes = self._received_bytes
                self.send_400_response("")

    @override
    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be parsed, and a head that is too large, in our words; then close."""
        limit = self.server_state.head_bytes
        if self._head_bytes > limit:
            status, detail = 431, f"the head of a request may have {limit} bytes"
        else:
            status, detail = 400, "this is no HTTP request"
        self.asking = False
        request_id, _ = new_ids()
        client = self.client[0] if self.client else ""
        emit(RequestUnreadable, request_id=request_id, client=client, status=status)
        self.transport.write(unreadable(status, detail, request_id))
        self.linger()

    def linger(self) -> None:
        """Close after the answer, though the request has not ended.

        Closed at once, what the client still sends would reset the connection and with it the
        answer that it has not read (RFC 9112, 9.6): so it is read and thrown away for a moment.
        """
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def linger_after_answer(self) -> None:
        """Let the answer that is being made end with `linger` if its request has not ended."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and cycle.more_body and not cycle.response_complete:
            cycle.transport = _Lingering(self)  # type: ignore[assignment]  # all that is used of it

    @override
    def on_response_complete(self) -> None:
        self.idle_since = self.loop.time()
        super().on_response_complete()

    @override
    def on_headers_complete(self) -> None:
        self.asking = False
        self._received_bytes = 0
        self.server_state.last_request_at = self.asking_since
        super().on_headers_complete()
        cycle: RequestResponseCycle | None = self.cycle  # None when the first one is a websocket
        if cycle is not None:
            cycle.on_response = partial(self._on_answered, cycle)
        if self.server_state.leaving:
            self.leave()

    def _on_answered(self, cycle: RequestResponseCycle) -> None:
        """Keep what a whole answer has promised, whatever the application raises after it.

        uvicorn closes the connection then, which was to stay: of our own problem answers, too, and
        when a background task fails. A request that is on its way, or begun, would be lost.
        """
        cycle.transport = _ANSWERED  # type: ignore[assignment]  # nothing else of it is used
        self.on_response_complete()

    def leave(self) -> None:
        """Close after the answer that is being made, if there is one; wait for one otherwise."""
        # Only while its head is not sent: one that has promised keep-alive must keep it.
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_started:
            cycle.keep_alive = False

    def cut_if_idle(self, fresh_since: float) -> None:
        """Close a connection that asks nothing and was not answered since `fresh_since`."""
        if not self.asking and not self.answering and self.idle_since <= fresh_since:
            self.transport.close()

    def cut_if_asking_since(self, instant: float) -> None:
        """Close a connection whose request head began before `instant` and never ended.

        Not while the request before it is being answered: that answer ends the connection itself.
        """
        if self.asking and not self.answering and self.asking_since <= instant:
            self.transport.close()
