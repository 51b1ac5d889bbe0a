"""uvicorn's HTTP protocol, taught to leave, and to end what a client only holds.

It answers, then closes, and never cuts who may be asking. What is refused is decided in `heads` and
`pace`; here stands who is asked, when, and what becomes of the connection.

The methods overridden and the attributes read (`cycle.keep_alive`, `cycle.response_complete`,
`server_state`) are uvicorn's internals; `tests/serve/test_engine.py` is the contract that a new
uvicorn must pass before the pinned range is widened.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from heapq import nsmallest
from http import HTTPStatus
from typing import Any, Final
from weakref import WeakKeyDictionary

from typing_extensions import override
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from shipworthy.context import RequestRecord
from shipworthy.serve.heads import HeadLimits, TurnedAway, handshake_refusal, target_refusal
from shipworthy.serve.pace import ConnectionPace, PaceRule
from shipworthy.serve.protocol_settings import ProtocolSettings
from shipworthy.serve.sockets import bytes_taken, is_local
from shipworthy.web import Blocked, network_of, new_ids, problem

# The most that one read from a socket brings (asyncio's; uvloop's is smaller).
RECEIVED_AT_ONCE = 256 * 1024
LINGER_SECONDS = 1.0


# What the size of a chunk and the two line ends around it may take without being counted.
CHUNK_FRAME_BYTES = 20
# How many requests may wait behind the one that is answered; who does that at all sends some ten.
PIPELINED_MAX = 100
# How often clients are looked at, where no deadline is shorter than some seconds.
LOOK_SECONDS = 1.0
# Of a full house this part is asked to leave at once, so that not each newcomer is a search.
_ROOM_PART = 64
# What the transport has handed on at the least when it says that there is room again.
_DRAINED_BYTES = 32 * 1024
# By what names they are counted; each is on the page of the guard.
RULES: Final = (
    "body-rate",
    "chunks",
    "connections",
    "connections-per-client",
    "framing",
    "head-bytes",
    "head-count",
    "header-deadline",
    "host",
    "pipeline",
    "unreadable",
    "url",
    "version",
    "write-stall",
)


class Refused(Exception):
    """Stops the parser; never leaves the connection."""

    def __init__(self, refusal: TurnedAway) -> None:
        super().__init__(refusal.rule)
        self.refusal = refusal


def refusing(refusal: TurnedAway, request_id: str) -> bytes:
    """Return a whole answer to a request that no application hears of."""
    record = RequestRecord(request_id, request_id, "", "")
    body = problem(refusal.status, refusal.detail, record=record)
    phrase = HTTPStatus(refusal.status).phrase
    return (
        f"HTTP/1.1 {refusal.status} {phrase}\r\ncontent-type: application/problem+json\r\n"
        f"content-length: {len(body)}\r\nx-request-id: {request_id}\r\nconnection: close\r\n\r\n"
    ).encode() + body


UNBOUNDED: Final = PaceRule(grace_seconds=math.inf, bytes_per_second=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionRules:
    """What clients may do on their connections; the defaults are those of the settings."""

    head: HeadLimits = field(default_factory=HeadLimits)
    header_seconds: float = 10.0
    body: PaceRule = field(
        default_factory=lambda: PaceRule(grace_seconds=10.0, bytes_per_second=500.0)
    )
    write: PaceRule = field(
        default_factory=lambda: PaceRule(grace_seconds=20.0, bytes_per_second=500.0)
    )
    connections_per_client: float = math.inf

    @classmethod
    def of(cls, settings: ProtocolSettings, *, head_bytes: int) -> "ConnectionRules":
        """Return what the settings say; switched off, no more than the largest head is left."""
        if settings.mode == "off":
            return cls(
                head=HeadLimits(
                    head_bytes=head_bytes, head_count=math.inf, url_bytes=math.inf, strict=False
                ),
                header_seconds=math.inf,
                body=UNBOUNDED,
                write=UNBOUNDED,
            )
        per_second = settings.bytes_per_second
        return cls(
            head=HeadLimits(
                head_bytes=head_bytes, head_count=settings.head_count, url_bytes=settings.url_bytes
            ),
            header_seconds=settings.header_seconds,
            body=PaceRule(grace_seconds=settings.body_grace_seconds, bytes_per_second=per_second),
            write=PaceRule(grace_seconds=settings.write_stall_seconds, bytes_per_second=per_second),
            connections_per_client=settings.connections_per_client or math.inf,
        )

    @property
    def look_seconds(self) -> float:
        """How often clients are looked at: often enough for the shortest deadline."""
        grace_seconds = min(self.header_seconds, self.body.grace_seconds, self.write.grace_seconds)
        return min(LOOK_SECONDS, grace_seconds / 4)


Told = Callable[[str, str, str], None]
Cancel = Callable[["asyncio.Task[Any]"], bool]


def telling(blocked: Blocked) -> Told:
    """Return what counts and states a refusal as those of other guards are."""
    for rule in RULES:
        blocked.expect("protocol", rule, "enforce")

    def told(rule: str, because: str, client: str) -> None:
        blocked.tell("protocol", rule, "enforce", because, client=client, route="")

    return told


def told_nobody(_rule: str, _because: str, _client: str) -> None:
    """Where nobody counts."""


def cancel_at_once(task: "asyncio.Task[Any]") -> bool:
    """Cancel, where nothing is known that must not be cut."""
    task.cancel()
    return True


class Connections(ServerState):
    """The connections of one worker: what they are doing, and whether the worker is leaving.

    `told` hears of each refusal: its rule, why, and the client. `cancel` ends the task of a request
    whose client is given up, and says False while it must not: it is asked again. `shared` says of
    an address that it stands for many clients.
    """

    def __init__(
        self,
        *,
        rules: ConnectionRules,
        keep_alive_seconds: float = 5.0,
        connections_max: int = 0,
        told: Told = told_nobody,
        cancel: Cancel = cancel_at_once,
        shared: Callable[[str], bool] = is_local,
    ) -> None:
        super().__init__()
        self.rules = rules
        self.keep_alive_seconds = keep_alive_seconds
        self.connections_max = connections_max
        self.told = told
        self.shared = shared
        self.leaving = False
        self.last_request_at = 0.0
        self.shaking = 0  # TLS handshakes of connections that were taken over from the kernel
        # When connections were accepted whose TLS handshake is not over. Of one that fails nobody
        # tells us, but then nothing else refers to it.
        self.accepted: WeakKeyDictionary[LeavingHttpProtocol, float] = WeakKeyDictionary()
        # How many each client has, where that is limited.
        self.clients: Counter[str] = Counter()
        self._cancel = cancel
        self._given_up: set[asyncio.Task[Any]] = set()

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

    def look(self, now: float) -> None:
        """End the connections whose clients have used up their time; a microsecond for each."""
        for connection in list(self.connections):
            if isinstance(connection, LeavingHttpProtocol):
                connection.look(now)
        self._given_up = {task for task in self._given_up if not self._cancel(task)}

    def give_up(self, task: "asyncio.Task[Any]") -> None:
        """Cancel the task of a request whose client is gone; later, where it must not be now."""
        if not task.done() and not self._cancel(task):
            self._given_up.add(task)

    def make_room(self, newest: "LeavingHttpProtocol") -> None:
        """Close connections when `newest` is one too many: who asks comes before who is quiet.

        After those who ask nothing come those who are behind their time with a body or an answer,
        the slowest first, and then those of whom that is not known yet. Whose answer is being made,
        and who keeps pace, stays.
        """
        if not self.connections_max or len(self.connections) <= self.connections_max:
            return
        there = [c for c in self.connections if not c.transport.is_closing()]
        too_many = len(there) - self.connections_max
        if too_many <= 0:
            return
        others = [
            (standing, number, connection)
            for number, connection in enumerate(there)
            if isinstance(connection, LeavingHttpProtocol)
            and connection is not newest
            and (standing := connection.standing) is not None
        ]
        for _, _, connection in nsmallest(too_many + self.connections_max // _ROOM_PART, others):
            connection.leave_room()
        if not others:
            newest.leave_room()


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
        # Whether the body of the last request has not ended; also once that is answered.
        self.receiving = False
        self._asked_bytes = 0
        self._received_bytes = 0
        # What came with a body and is none of it: chunk extensions and trailers.
        self._extra_bytes = 0
        self._refused = False
        # What there is to say once the answers before it are given; nothing is heard any more.
        self._last_word = b""
        self._stopped_by: TurnedAway | None = None
        # The last request that was handed to the application, with its task.
        self._answered_now: RequestResponseCycle | None = None
        self._task: asyncio.Task[Any] | None = None
        self._receiving_pace: ConnectionPace | None = None
        self._sending_pace: ConnectionPace | None = None
        self._unsent_bytes = 0
        self._drained_bytes = 0
        self._network = ""

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # Over TLS, this is when the handshake is over.
        state = self.server_state
        state.accepted.pop(self, None)
        super().connection_made(transport)
        state.make_room(self)
        if state.rules.connections_per_client < math.inf:
            self._count_client()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._network:
            clients = self.server_state.clients
            clients[self._network] -= 1
            if not clients[self._network]:
                del clients[self._network]

    def _count_client(self) -> None:
        state, address = self.server_state, self.client[0] if self.client else ""
        if not address or state.shared(address):
            return
        self._network = network_of(address)
        state.clients[self._network] += 1
        most = state.rules.connections_per_client
        if state.clients[self._network] > most:
            detail = f"an address may have {most} connections at a time"
            self.turn_away(TurnedAway("connections-per-client", 429, detail))

    @property
    def standing(self) -> tuple[int, float] | None:
        """Where it stands among those that make room, the lowest first; None for who need not."""
        if not self.answering:
            # Since when nothing whole was heard of it.
            return (0, self.asking_since if self.asking else self.idle_since)
        paces = [p for p in (self._receiving_pace, self._sending_pace) if p is not None]
        if not paces and (self.receiving or self.unsent):
            return (2, self.asking_since)  # it has not been looked at yet
        behind = [pace.left_seconds for pace in paces if pace.behind]
        return (1, min(behind)) if behind else None

    def leave_room(self) -> None:
        """End at once, for the sake of others."""
        if self.asking or self.answering:
            state = self.server_state
            self._tell("connections", f"there are {state.connections_max} connections already")
        self._abort()

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
        self._asked_bytes = 0
        super().on_message_begin()

    @override
    def on_body(self, body: bytes) -> None:
        self._extra_bytes -= len(body)
        super().on_body(body)

    def on_chunk_header(self) -> None:
        """Hear that the size of a chunk has been read, with what stands behind it."""
        self._extra_bytes -= CHUNK_FRAME_BYTES

    @override
    def on_message_complete(self) -> None:
        self.receiving = False
        self._receiving_pace = None
        super().on_message_complete()

    @override
    def data_received(self, data: bytes) -> None:
        if self._refused or self._last_word:
            return
        # Of what begins in the middle of this, a head or a body, the beginning is not counted.
        if self.asking:
            self._asked_bytes += len(data)
        elif self.receiving:
            self._received_bytes += len(data)
            self._extra_bytes += len(data)
        super().data_received(data)
        if self.asking:
            self._look_at_half_head()
        elif self.receiving:
            self._look_at_extras()

    def _look_at_half_head(self) -> None:
        # A header that never ends reaches no callback of the parser.
        rule = self.server_state.rules.head
        if self._asked_bytes > rule.head_bytes and not self.transport.is_closing():
            long = len(self.url) > rule.url_bytes
            self.turn_away(rule.too_long(self.url) if long else rule.too_large())

    def _look_at_extras(self) -> None:
        self._extra_bytes = max(0, self._extra_bytes)
        most = self.server_state.rules.head.head_bytes
        if self._extra_bytes > most and not self.transport.is_closing():
            detail = f"chunk extensions and trailers may have {most:,} bytes"
            self.turn_away(TurnedAway("chunks", 400, detail))

    @override
    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser could not read, and what stopped it, in our words."""
        self.turn_away(self._stopped_by or TurnedAway("unreadable", 400, "this is no HTTP request"))

    def turn_away(self, refusal: TurnedAway) -> None:
        """Refuse what is being received, and end the connection: with an answer, if one can be.

        One cannot where half of another is on its way, and must wait for those before it.
        """
        if self._refused or self._last_word or self.transport.is_closing():
            return
        cycle: RequestResponseCycle | None = self.cycle
        waiting = self.pipeline
        if self.receiving and cycle is not None and not cycle.response_complete:
            if waiting and waiting[0][0] is cycle:
                waiting.popleft()
                cycle = waiting[0][0] if waiting else self._answered_now
            elif cycle.response_started:
                self._tell(refusal.rule, refusal.detail)
                self._abort()
                return
            else:
                self._give_up(cycle)
                cycle = None
        self.asking = False
        request_id, _ = new_ids()
        self._tell(refusal.rule, f"{refusal.detail}; answered {refusal.status} to {request_id}")
        answer = refusing(refusal, request_id)
        if self.receiving and cycle is not None and cycle.response_complete:
            self.linger()  # its request was answered before it had come
        elif cycle is not None and not cycle.response_complete:
            self._last_word = answer
            self.flow.pause_reading()
        else:
            self.transport.write(answer)
            self.linger()

    def _tell(self, rule: str, because: str) -> None:
        self.server_state.told(rule, because, self.client[0] if self.client else "")

    def _give_up(self, cycle: RequestResponseCycle) -> None:
        """End the work for an answer that nobody will have: as if the client had left, and now."""
        cycle.disconnected = True
        cycle.message_event.set()
        self.flow.resume_writing()
        if self._task is not None:
            self.server_state.give_up(self._task)

    def _abort(self) -> None:
        """End the connection at once, and the work for it."""
        self.pipeline.clear()
        cycle: RequestResponseCycle | None = self._answered_now
        if cycle is not None and not cycle.response_complete:
            self._give_up(cycle)
        self.transport.abort()

    def look(self, now: float) -> None:
        """End the connection if its client has used up its time."""
        rules = self.server_state.rules
        unsent_bytes = self.transport.get_write_buffer_size()
        if unsent_bytes:
            if not self._takes(unsent_bytes, now, rules.write):
                self._tell(
                    "write-stall", f"{unsent_bytes:,} bytes of an answer wait for the client"
                )
                self._abort()
                return
        else:
            self._sending_pace = None
            self._unsent_bytes = 0
        if not (self._refused or self._last_word or self.transport.is_closing()):
            self._look_at_request(now, rules)

    def _look_at_request(self, now: float, rules: ConnectionRules) -> None:
        if self.asking:
            # Not while an answer is made: until it is given we may not be reading.
            since = max(self.asking_since, self.idle_since)
            if now - since > rules.header_seconds and not self.answering:
                detail = f"no head of a request within {rules.header_seconds:g} s"
                self.turn_away(TurnedAway("header-deadline", 408, detail))
        elif self.receiving:
            if not self._brings(now, rules.body):
                self._give_up_body(rules.body)
        elif not self.answering:
            # Who was answered has a timer of uvicorn's, which a line end between requests stops.
            seconds = rules.header_seconds
            if self._answered_now is not None:
                seconds = self.server_state.keep_alive_seconds + LOOK_SECONDS
            if now - self.idle_since > seconds:
                self.transport.close()

    def _give_up_body(self, rule: PaceRule) -> None:
        if self.cycle.response_complete:
            # Nobody waits for the rest: it was answered before it had come.
            self.linger()
        else:
            detail = f"the body came more slowly than {rule.bytes_per_second:g} bytes/s"
            self.turn_away(TurnedAway("body-rate", 408, detail))

    def _brings(self, now: float, rule: PaceRule) -> bool:
        """Whether the client brings its body as fast as it must, where we wait for it."""
        pace, cycle = self._receiving_pace, self.cycle
        if pace is None:
            self._receiving_pace = ConnectionPace(rule, now, self._received_bytes)
            return True
        waited_for = not self.flow.read_paused and not cycle.waiting_for_100_continue
        return pace.look(now, self._received_bytes, waited_for=waited_for)

    def _takes(self, unsent_bytes: int, now: float, rule: PaceRule) -> bool:
        """Whether the client takes its answer as fast as it must."""
        taken_bytes = bytes_taken(self.transport.get_extra_info("socket"))
        if taken_bytes is None:
            # What left the process is less than what the client has, and known.
            self._drained_bytes += max(0, self._unsent_bytes - unsent_bytes)
            taken_bytes, self._unsent_bytes = self._drained_bytes, unsent_bytes
        pace = self._sending_pace
        if pace is None:
            self._sending_pace = ConnectionPace(rule, now, taken_bytes)
            return True
        return pace.look(now, taken_bytes)

    @override
    def resume_writing(self) -> None:
        self._drained_bytes += _DRAINED_BYTES
        super().resume_writing()

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
        was_last = not self.pipeline
        super().on_response_complete()
        if self._last_word and was_last and not self.transport.is_closing():
            self.transport.write(self._last_word)
            self.linger()

    @override
    def on_headers_complete(self) -> None:
        refusal = self._judge()
        if refusal is not None:
            # Ends the parsing; uvicorn then calls send_400_response.
            self._stopped_by = refusal
            raise Refused(refusal)
        self.asking = False
        self.receiving = True
        self._extra_bytes = 0
        self.server_state.last_request_at = self.asking_since
        super().on_headers_complete()
        if not (self.parser.should_upgrade() and self._should_upgrade()):
            # Trailers come as headers do, and are none (RFC 9112, 7.1.2): they end up here.
            self.headers = []
        cycle: RequestResponseCycle | None = self.cycle  # None when the first one is a websocket
        if cycle is not None:
            cycle.on_response = partial(self._on_answered, cycle)
        if self.server_state.leaving:
            self.leave()

    def _judge(self) -> TurnedAway | None:
        """Return why the head that has been read is refused, if it is."""
        rule = self.server_state.rules.head
        url, headers = self.url, self.headers
        refusal = rule.refusal(self.parser.get_http_version(), url, headers)
        if refusal is not None or not rule.strict:
            return refusal
        if url[:1] != b"/" or b"#" in url:
            refusal = target_refusal(self.parser.get_method(), url, headers)
        elif len(self.pipeline) >= PIPELINED_MAX:
            refusal = TurnedAway("pipeline", 429, f"{PIPELINED_MAX} requests wait to be answered")
        elif self.parser.should_upgrade() and self._should_upgrade():
            refusal = handshake_refusal(headers)
        return refusal

    @override
    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        # As uvicorn does it, but for a setting that we have not, and the task is kept.
        task = self.loop.create_task(cycle.run_asgi(app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)
        self._task, self._answered_now = task, cycle

    @override
    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: any client could fill the log, and the request is answered as it is."""

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
