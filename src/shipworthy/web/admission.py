"""Admission: while more requests come than can be served, those are that still can be in time.

The decisions are `admission`'s. As long as all is well a request passes at once and is only
counted. In an overload it waits here, as a coroutine that has no thread and whose body is not read:
so many are let in between two looks at the sockets as take 10 ms, which leaves a loop that computes
its turn to hear who else is there, and what could not be served in time is turned away at once.

Not here: how many requests may come from one client (rate limits), and connections that are kept
(`door`).
"""

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from typing import Annotated, Final, Literal, NamedTuple, final

from typing_extensions import override

from shipworthy.admission import (
    RANKS,
    SHARES,
    STRIDE_SECONDS,
    ConcurrencyLimit,
    OverloadBegan,
    OverloadEnded,
    Pressure,
    Rank,
    Ranks,
    Stride,
    Turn,
    Turns,
)
from shipworthy.context import current_deadline
from shipworthy.errors import Rejected
from shipworthy.events import Event, Label, Measure, Metric, OneOf, Severity, emit, event
from shipworthy.lifecycle import Check
from shipworthy.telemetry import Registry
from shipworthy.web.admission_settings import AdmissionSettings
from shipworthy.web.blocked import Blocked
from shipworthy.web.door import DoorGuard
from shipworthy.web.line import Call, Message
from shipworthy.web.streams import is_event_stream

Reason = Literal["crowded", "waited", "left", "streams"]
_REASONS: Final[tuple[Reason, ...]] = ("crowded", "waited", "left", "streams")

# How often it is looked how late the loop comes, while there are requests.
LOOK_SECONDS: Final = 0.05
# Servers take a round of the loop each to accept, to begin to read, to read and to begin; uvloop
# accepts one connection in a round. After so many without a request nobody is at the door.
_QUIET_ROUNDS: Final = 4
# How long the end of those inside is waited for before others are let in.
ROUND_SECONDS: Final = 0.1
# Looks without a request after which nobody looks any more.
_IDLE_LOOKS: Final = 20
# An answer whose parts come for so long is a stream, and a route that takes so long by itself waits
# for something that has nothing to do with us.
LONG_SECONDS: Final = 2.0

# How long they wait at a door without a bound of its own before that is an overload.
POOL_SECONDS: Final = 5.0

LIMIT: Final = Metric(
    "shipworthy_admission_limit",
    "gauge",
    "Requests that may be served at once during an overload; 0 while there is none.",
)
INSIDE: Final = Metric(
    "shipworthy_admission_inside", "gauge", "Requests that were let in, without streams."
)
WAITING: Final = Metric(
    "shipworthy_admission_waiting", "gauge", "Requests that wait for their turn."
)
STREAMS: Final = Metric(
    "shipworthy_admission_streams",
    "gauge",
    "Websockets, event streams, and requests that take long by themselves.",
)
OVERLOADED: Final = Metric(
    "shipworthy_admission_overloaded_seconds_total",
    "counter",
    "Seconds in which more requests came than could be served.",
)
SHED: Final = Metric(
    "shipworthy_admission_shed_total",
    "counter",
    "Requests that were turned away in an overload, and in mode report those that would have been.",
    {"class": OneOf(*RANKS), "reason": OneOf(*_REASONS)},
)


@event(severity=Severity.WARNING)
class ServiceOverloaded(Event):
    """More requests come than can be served in time, and the first was turned away.

    `why` is what comes late: loop is the event loop; pool are connections of a database, for which
    requests wait at the door.
    """

    mode: Annotated[str, Label]
    why: Annotated[str, Label]
    inside: int
    limit: int


@event(severity=Severity.INFO)
class ServiceRecovered(Event):
    """What comes is served in time again; `shed` is how many were turned away here."""

    why: Annotated[str, Label]
    overloaded_seconds: Annotated[float, Measure]
    shed: int


@final
class RequestShed(Rejected):
    """More came than can be served in time, so the request was not begun."""

    told = True

    @property
    @override
    def public_detail(self) -> str:
        return "the service has more work than it can take at the moment; send the request again"


class _Seat(NamedTuple):
    """Who waits; the bell is rung with the reason to refuse it, '' to let it in."""

    call: Call
    bell: "asyncio.Future[Reason | Literal['']]"


@final
class AdmissionGuard:
    """Let all in while they are served in time, and else those that still can be.

    Probes always pass. It belongs to the event loop it was first called in, as long as that is not
    closed; calls of another pass. Where requests wait at `door` for as long as they may without a
    break, it has them wait no longer than the others.
    """

    def __init__(
        self,
        registry: Registry,
        settings: AdmissionSettings,
        *,
        blocked: Blocked,
        now: Callable[[], float],
        door: DoorGuard | None = None,
    ) -> None:
        self._settings = settings
        self._mode: Literal["report", "enforce"] = (
            "report" if settings.mode == "report" else "enforce"
        )
        self._blocked = blocked
        self._now = now
        self._door = door
        self._streams_most = settings.streams
        self._ranks = Ranks(critical=settings.critical, sheddable=settings.sheddable)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._inside: dict[Call, float] = {}
        self._streams: set[Call] = set()
        self._overloaded_seconds = 0.0
        self._renew()
        registry.gauge(LIMIT, read=lambda: self.limit)
        registry.gauge(INSIDE, read=lambda: len(self._inside))
        registry.gauge(WAITING, read=lambda: len(self._turns))
        registry.gauge(STREAMS, read=lambda: len(self._streams))
        registry.running_total(OVERLOADED, read=lambda: self._overloaded_seconds)
        shed = registry.counter(SHED)
        self._cells = {(rank, why): shed.cell(rank, why) for rank in RANKS for why in _REASONS}
        for reason in _REASONS:
            blocked.expect("admission", reason, self._mode)

    def _renew(self) -> None:
        self._pressure = Pressure(
            begin_seconds=self._settings.after_seconds, end_seconds=self._settings.until_seconds
        )
        # Whoever waits at the door for so long is refused there anyway.
        self._crowd = Pressure(
            begin_seconds=POOL_SECONDS
            if self._door is None
            else min(self._door.wait_seconds, 60.0),
            end_seconds=self._settings.until_seconds,
        )
        self._limit = ConcurrencyLimit(floor=self._settings.concurrency_floor)
        self._turns = Turns(wait_seconds=self._settings.wait_seconds)
        self._stride = Stride()
        self._inside.clear()
        self._streams.clear()
        self._overloaded = False
        # Whether requests wait for their turn.
        self._waits = False
        self._turning = False
        self._shed = 0
        self._overloaded_since = inf
        self._let_in_at = 0.0
        self._retry_after = 0
        # When the next look is due, and when it is late.
        self._due_at = self._late_at = -inf
        self._looked_at = -inf
        # Requests so far: now, and when each of those who want to know how many came asked last.
        self._come = self._taken_come = self._looked_come = self._rounds_come = self._heard = 0
        # Rounds of the loop in a row without a request, for a look and for a turn.
        self._rounds = self._silent = 0
        self._hear_until = -inf
        self._idle = 0

    @property
    def limit(self) -> float:
        """How many may be served at once; 0 while there is no limit."""
        return 0.0 if self._limit.limit == inf else self._limit.limit

    def enter(self, call: Call) -> Awaitable[None] | None:
        """Let the call in, or return what waits for its turn; either may raise `RequestShed`."""
        if call.probe:
            return None
        now = call.started
        if asyncio.get_running_loop() is not self._loop and not self._bound():
            return None
        # Looked at in each request, too: in a loop that is behind, the look itself comes late.
        if now > self._late_at:
            self._behind(now)
        self._come += 1
        if self._streams_most and _wants_stream(call):
            self._bound_streams(call)
        if self._waits:
            return self._wait(call, now)
        self._inside[call] = now
        return None

    def accepted(self, call: Call) -> None:
        """Count a websocket apart from now on."""
        self._set_apart(call)

    def part(self, call: Call, message: Message) -> None:
        """Count an event stream apart as soon as its first part goes out."""
        del message
        if call in self._inside and call.stream is None and is_event_stream(call.head):
            self._set_apart(call)

    def ended(self, call: Call) -> None:
        """Count the call out, and learn from it how long its route takes."""
        entered = self._inside.pop(call, None)
        if entered is None:
            self._streams.discard(call)
            return
        record = call.record
        # What failed at once says nothing of how long it takes to serve.
        if call.status < 500:
            until = call.first_at or self._now()
            self._limit.ended(record.route or call.route(), until - entered)
        if self._turns:
            self._stir()

    def checks(self) -> tuple[Check, ...]:
        """Return what takes the worker out of service in a long overload, where that is wanted."""
        after = self._settings.unready_after_seconds
        if not after:
            return ()

        async def lasts() -> str | None:
            seconds = self._now() - self._overloaded_since
            return f"it has been overloaded for {seconds:.0f} s" if seconds >= after else None

        return (Check("admission", lasts, interval_seconds=1.0, fall=1),)

    # How late the loop comes.

    def _bound(self) -> bool:
        """Whether this is the loop that is guarded, which it becomes where there is none."""
        if self._loop is not None and not self._loop.is_closed():
            return False
        self._loop = asyncio.get_running_loop()
        self._timer = None
        self._renew()
        return True

    def _behind(self, now: float) -> None:
        if self._timer is None:
            self._wind(now)
        else:
            self._take(now, late=True)

    def _wind(self, now: float) -> None:
        assert self._loop is not None
        self._due_at = now + LOOK_SECONDS
        self._late_at = self._due_at + self._settings.late_seconds
        self._timer = self._loop.call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """Look how late a quiet moment comes, every 50 ms as long as there are requests.

        A loop that serves one request in each round is not late, however many wait in the kernel.
        """
        now = self._now()
        quiet = self._quiet()
        if not quiet and now <= self._late_at:
            assert self._loop is not None
            self._loop.call_soon(self._look)
            return
        self._rounds = 0
        behind = now > self._late_at
        wait = now - self._turns.oldest()
        idle = not self._inside and not self._turns and self._come == self._looked_come
        self._crowd.entered += self._come - self._looked_come
        self._looked_come = self._come
        self._take(now, late=behind or wait > self._settings.late_seconds)
        if self._door is not None:
            self._look_at(self._door, now)
        if self._overloaded:
            self._overloaded_seconds += now - self._looked_at
            self._turns.look(now)
            self._limit.adjust(now, len(self._inside), late=behind)
            for call, entered in list(self._inside.items()):
                if self._is_long(call, entered, now):
                    self._set_apart(call)
        else:
            self._limit.learn(now, late=self._pressure.late)
        self._stir()
        self._looked_at = now
        self._idle = self._idle + 1 if idle else 0
        if self._idle < _IDLE_LOOKS or self._overloaded or self._crowd.overloaded:
            self._wind(now)
        else:
            self._timer = None
            self._due_at = self._late_at = -inf

    def _quiet(self) -> bool:
        """Whether no request has come for some rounds; called once in each."""
        self._rounds = self._rounds + 1 if self._come == self._rounds_come else 0
        self._rounds_come = self._come
        return self._rounds >= _QUIET_ROUNDS

    def _look_at(self, door: DoorGuard, now: float) -> None:
        """Look how long they wait at the door."""
        wait = self._settings.wait_seconds
        match self._crowd.seen(now, late=now - door.waits_since() > wait / 2):
            case OverloadBegan():
                self._say("pool")
                if self._mode == "enforce":
                    door.hurry(wait)
            case OverloadEnded(seconds=seconds):
                door.hurry(inf)
                emit(ServiceRecovered, why="pool", overloaded_seconds=round(seconds, 3), shed=0)
            case None:
                pass

    def _take(self, now: float, *, late: bool) -> None:
        self._pressure.entered += self._come - self._taken_come
        self._taken_come = self._come
        match self._pressure.seen(now, late=late):
            case OverloadBegan():
                self._overloaded = True
                self._overloaded_since = self._looked_at = now
                self._limit.begin(now, len(self._inside))
                self._shed = 0
            case OverloadEnded(seconds=seconds):
                self._overloaded = False
                self._overloaded_since = inf
                self._limit.end(now)
                if self._shed:
                    emit(
                        ServiceRecovered,
                        why="loop",
                        overloaded_seconds=round(seconds, 3),
                        shed=self._shed,
                    )
            case None:
                pass
        self._waits = self._pressure.maybe

    def _say(self, why: str) -> None:
        emit(
            ServiceOverloaded,
            mode=self._mode,
            why=why,
            inside=len(self._inside),
            limit=int(self.limit),
        )

    # Whose turn it is.

    def _wait(self, call: Call, now: float) -> Awaitable[None] | None:
        rank = self._ranks.of(call.record.method, call.record.path)
        # What runs in one round of the loop was all there when the round began.
        since = min(now, max(self._due_at, now - LONG_SECONDS))
        if self._mode == "report":
            if self._overloaded:
                self._report(call, rank, now - since)
            self._inside[call] = now
            return None
        assert self._loop is not None
        seat = _Seat(call, self._loop.create_future())
        deadline = current_deadline()
        waiting = self._turns.wait(
            rank, since=since, now=now, ticket=seat, deadline=inf if deadline is None else deadline
        )
        self._stir()
        if self._overloaded:
            for one in self._turns.too_many(now):
                if one is waiting:
                    self._refuse(call, rank, "crowded", now - since)
                _ring(one.ticket, "crowded")
        return self._sit(waiting, seat)

    async def _sit(self, waiting: Turn, seat: _Seat) -> None:
        try:
            reason = await seat.bell
        except BaseException:
            self._turns.leave(waiting)
            raise
        if reason:
            self._refuse(seat.call, waiting.rank, reason, self._now() - waiting.since)

    def _stir(self) -> None:
        """Let in who may, in the next round of the loop."""
        if not self._turning and self._turns and self._loop is not None:
            self._turning = True
            self._let_in_at = self._now()
            self._hear_until = self._let_in_at + STRIDE_SECONDS
            self._loop.call_soon(self._hear)

    def _hear(self) -> None:
        """Hear who else is there before one is let in, for no longer than the last ones took.

        Nobody would be answered in time otherwise: they would wait in the kernel, who came first
        in front. Threads that compute leave the loop hardly a turn, so their end is waited for.
        """
        now = self._now()
        self._silent = self._silent + 1 if self._come == self._heard else 0
        self._heard = self._come
        since = now - self._let_in_at
        if self._inside and since < ROUND_SECONDS:
            self._hear_until = now + max(since, STRIDE_SECONDS)
        if self._silent >= _QUIET_ROUNDS or now > self._hear_until or self._loop is None:
            self._silent = 0
            self._turn()
        else:
            self._loop.call_soon(self._hear)

    def _turn(self) -> None:
        now = self._now()
        for waiting in self._turns.in_vain(now, overloaded=self._overloaded):
            _ring(waiting.ticket, "waited")
        seats: list[_Seat] = []
        while len(seats) < self._stride.turns:
            found = self._turns.next(now, inside=len(self._inside), limit=self._limit.limit)
            if found is None:
                break
            seat: _Seat = found.ticket
            if seat.call.left:
                _ring(seat, "left")
            elif not seat.bell.done():
                self._inside[seat.call] = now
                seats.append(seat)
        if not seats or self._loop is None:
            self._turning = False
            return
        # What is called soon is called in that order, so nothing else runs between the two.
        self._loop.call_soon(self._begin)
        for seat in seats:
            seat.bell.set_result("")
        self._loop.call_soon(self._done, len(seats))

    def _begin(self) -> None:
        self._let_in_at = self._now()

    def _done(self, count: int) -> None:
        """Hear that all that were let in have run until they waited for something."""
        now = self._now()
        took = now - self._let_in_at
        self._stride.took(count, took)
        self._hear_until = now + max(took, STRIDE_SECONDS)
        self._hear()

    # What becomes of the others.

    def _report(self, call: Call, rank: Rank, waited: float) -> None:
        if len(self._inside) >= self._limit.limit * SHARES[rank]:
            self._tell(call, rank, "crowded", waited)
        elif waited > self._settings.wait_seconds:
            self._tell(call, rank, "waited", waited)

    def _refuse(self, call: Call, rank: Rank, reason: Reason, waited: float) -> None:
        if reason != "streams":
            self._pressure.turned_away(self._now())
        because = self._tell(call, rank, reason, waited)
        # Not all at the same moment: who is told to come again in a second does.
        self._retry_after = self._retry_after % 3 + 1
        raise RequestShed(because, retry_after_seconds=float(self._retry_after))

    def _tell(self, call: Call, rank: Rank, reason: Reason, waited: float) -> str:
        # Not before: what is late and still served in time is nobody's concern.
        if self._overloaded and reason != "streams":
            if not self._shed:
                self._say("loop")
            self._shed += 1
        self._cells[rank, reason].add()
        because = (
            f"{_BECAUSE[reason]} ({rank}, after {waited * 1000:.0f} ms): {len(self._inside)} are "
            f"inside of {self.limit:.0f}, {len(self._turns)} wait of {self._turns.room}"
        )
        record = call.record
        self._blocked.tell(
            "admission", reason, self._mode, because, client=record.client, route=call.route()
        )
        return because

    # Streams.

    def _bound_streams(self, call: Call) -> None:
        if len(self._streams) < self._streams_most:
            return
        rank = self._ranks.of(call.record.method, call.record.path)
        if self._mode == "report":
            self._tell(call, rank, "streams", 0.0)
        else:
            self._refuse(call, rank, "streams", 0.0)

    def _set_apart(self, call: Call) -> None:
        if self._inside.pop(call, None) is not None:
            self._streams.add(call)
            if self._turns:
                self._stir()

    def _is_long(self, call: Call, entered: float, now: float) -> bool:
        if now - entered < LONG_SECONDS:
            return False
        since = call.first_at or now
        return now - since > LONG_SECONDS or self._limit.own_seconds(call.route()) > LONG_SECONDS


_BECAUSE: Final[dict[Reason, str]] = {
    "crowded": "more requests wait than are served in time",
    "waited": "no turn came in the time a request waits",
    "left": "the client left while it waited",
    "streams": "as many websockets and event streams are open as may be",
}


def _ring(seat: _Seat, reason: Reason) -> None:
    if not seat.bell.done():
        seat.bell.set_result(reason)


def _wants_stream(call: Call) -> bool:
    return call.scope["type"] == "websocket" or b"text/event-stream" in call.headers.get(
        b"accept", b""
    )
