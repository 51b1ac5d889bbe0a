"""The door: requests that may keep a database connection wait here, and not in a worker thread.

The decisions are `db.PoolDoor`'s. A request that waits is a coroutine: it has no thread, no
connection, and the client's body is not read yet.

Not here: how many connections there are, and who holds them (`db`).
"""

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from math import inf
from typing import Annotated, Literal, final

from typing_extensions import override

from shipworthy.context import current_deadline
from shipworthy.db import DoorStatistics, PoolDoor, Standing, Visit, route_key
from shipworthy.errors import Rejected
from shipworthy.events import Event, Label, Metric, Severity, emit, event
from shipworthy.telemetry import Registry
from shipworthy.web.line import Call, Message

INSIDE = Metric(
    "shipworthy_door_inside", "gauge", "Requests inside that may keep a database connection."
)
WAITING = Metric("shipworthy_door_waiting", "gauge", "Requests that wait to be let in.")
WAITED = Metric("shipworthy_door_waited_total", "counter", "Requests that had to wait.")
REFUSED = Metric(
    "shipworthy_door_refused_total", "counter", "Requests that were refused after their wait."
)


@event(severity=Severity.WARNING)
class DoorCrowded(Event):
    """Requests find no place inside; it is said once until one is free.

    With `mode` enforce one of them was refused, with report one was let in that would have waited.
    """

    mode: Annotated[str, Label]
    limit: int
    inside: int
    waiting: int


@final
class DoorClosed(Rejected):
    """No connection would have been free for the request in time, so it was not begun."""

    def __init__(self, waited_seconds: float, statistics: DoorStatistics) -> None:
        super().__init__(
            f"no place was free within {waited_seconds:.2f} s: {statistics.inside} requests that "
            f"may keep a database connection are inside, of {statistics.limit}, and "
            f"{statistics.waiting} wait; shorten what they do, or enlarge the pool",
            retry_after_seconds=1.0,
        )

    @property
    @override
    def public_detail(self) -> str:
        return "the service has more work than it can take at the moment; send the request again"


@final
class DoorGuard:
    """Let no more requests in than there are connections to keep, and the others in their turn.

    Probes, websockets and routes that keep no connection pass at once. Safe in several event loops
    at a time. `wait_seconds` 0 is no limit but the request's own deadline.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        mode: Literal["report", "enforce"],
        wait_seconds: float,
        now: Callable[[], float],
    ) -> None:
        self._mode = mode
        self._wait_seconds = wait_seconds or inf
        self._hurry_seconds = inf
        self._now = now
        self._door = PoolDoor()
        self._visits: dict[Call, Visit] = {}
        self._lock = threading.Lock()
        self._said = False
        registry.gauge(INSIDE, read=lambda: self.statistics().inside)
        registry.gauge(WAITING, read=lambda: self.statistics().waiting)
        registry.running_total(WAITED, read=lambda: self.statistics().waited_total)
        registry.running_total(REFUSED, read=lambda: self.statistics().refused_total)

    def enter(self, call: Call) -> Awaitable[None] | None:
        """Let the call in, or return what waits for a place and may raise `DoorClosed`."""
        # Where no SQLAlchemy is loaded there is no pool to wait for.
        if call.probe or call.scope["type"] != "http" or "sqlalchemy" not in sys.modules:
            return None
        record = call.record
        if self._door.open:
            record.connections = self._door
            return None
        key = route_key(record.method, record.path)
        record.connections = route = self._door.free(key)
        if route is not None:
            return None
        now = self._now()
        deadline = current_deadline()
        until = now + min(self._wait_seconds, self._hurry_seconds)
        if deadline is not None and deadline < until:
            until = deadline
        with self._lock:
            visit = self._door.arrive(key, record, now, until)
            waits = visit.standing is Standing.WAITING
            if waits and self._mode == "report":
                self._door.let_in(visit, now)
        record.connections = self._visits[call] = visit
        if waits and self._mode == "report":
            self._say()
        elif waits or visit.standing is Standing.REFUSED:
            return self._wait(visit)
        return None

    def starting(self, call: Call, message: Message) -> None:
        """Give the place back where an answer begins that needs no connection."""
        del message
        visit = self._visits.get(call)
        if visit is not None:
            with self._lock:
                self._door.answering(visit, self._now())

    def leave(self, call: Call) -> None:
        """Give the place back."""
        visit = self._visits.pop(call, None)
        if visit is not None:
            # Not the visit any more, which knows the record: no cycle is left of a request.
            call.record.connections = self._door
            with self._lock:
                self._door.leave(visit, self._now())
                if self._said:
                    stands = self._door.statistics()
                    self._said = stands.limit is not None and stands.inside >= stands.limit

    @property
    def wait_seconds(self) -> float:
        """How long a request waits at most; infinite without a bound."""
        return self._wait_seconds

    def hurry(self, wait_seconds: float) -> None:
        """Let who comes from now on wait no longer than that; infinite is as long as ever."""
        self._hurry_seconds = wait_seconds

    def waits_since(self) -> float:
        """Return since when the first waits, infinite where nobody does; safe in any thread."""
        return self._door.waits_since()

    def statistics(self) -> DoorStatistics:
        """Return how it stands; safe in any thread."""
        return self._door.statistics()

    async def _wait(self, visit: Visit) -> None:
        loop = asyncio.get_running_loop()
        while True:
            bell = loop.create_future()
            with self._lock:
                visit.wake = _ringer(loop, bell)
                now = self._now()
                seconds = self._door.look(visit, now)
            if not seconds:
                break
            timer = loop.call_later(seconds, _ring, bell)
            try:
                await bell
            finally:
                timer.cancel()
        if visit.standing is Standing.REFUSED:
            self._say()
            raise DoorClosed(now - visit.since, self.statistics())

    def _say(self) -> None:
        with self._lock:
            first, self._said = not self._said, True
            stands = self.statistics()
        if first:
            emit(
                DoorCrowded,
                mode=self._mode,
                limit=stands.limit or 0,
                inside=stands.inside,
                waiting=stands.waiting,
            )


def _ringer(loop: asyncio.AbstractEventLoop, bell: "asyncio.Future[None]") -> Callable[[], None]:
    def wake() -> None:
        try:
            loop.call_soon_threadsafe(_ring, bell)
        except RuntimeError:
            # The waiter's loop was closed, so nobody waits there any more.
            return

    return wake


def _ring(bell: "asyncio.Future[None]") -> None:
    if not bell.done():
        bell.set_result(None)
