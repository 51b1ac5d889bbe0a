"""The pool, with permits in front of it: every wait is bounded, in turn, and can be explained.

The class of the live pool is exchanged for a subclass made here, so the engine, its sessions and
whoever keeps the pool go on with what they have, and `dispose()` makes the new pool of the same
class. The pool's own queue never waits any more.

Not here: deadlines of statements and connects (`watchdog`), and how an engine comes under guard
(`guard`).
"""

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from math import inf
from time import monotonic
from typing import Annotated, Any, Protocol, final
from weakref import ReferenceType, WeakSet, ref

import sqlalchemy.exc
from sqlalchemy.pool import Pool, QueuePool, StaticPool
from sqlalchemy.util import await_only
from typing_extensions import override

from shipworthy.context import (
    TraceStep,
    current_deadline,
    current_request,
    note_wait,
    steps_here,
)
from shipworthy.db.permits import Holding, Permits, Waiting, stuck
from shipworthy.db.place import Place, here, stands
from shipworthy.db.settings import DbSettings
from shipworthy.db.starvation import thread_waits
from shipworthy.db.watchdog import Alarm
from shipworthy.errors import Rejected, ShipworthyError
from shipworthy.events import Event, Label, Measure, Severity, emit, event

# Holders that a message names; the rest is counted.
NAMED_HOLDERS = 5
# Where the class of a guarded pool, and its records, keep what is ours. Not in the pool itself: its
# state stays the state that others compare.
GATE = "_shipworthy_gate"
HOLDING = "_shipworthy_holding"


class PoolTimeout(Rejected, sqlalchemy.exc.TimeoutError):
    """No connection became free in time; the message names the lines that hold them."""

    code = "3o7r"

    @property
    @override
    def public_detail(self) -> str:
        """Return what a client may be told: none of the lines that hold the connections."""
        return "all connections to a database that this request needs are in use"


@final
class PoolDeadlock(PoolTimeout):
    """All connections are held by callers that wait for one more, so none would come back."""


@final
class PoolStarvation(PoolTimeout):
    """All worker threads wait for connections, so none is left to give one back."""


@final
class WrongLoop(ShipworthyError, RuntimeError):
    """A connection of one event loop was asked for in another while both run."""


@event(severity=Severity.WARNING)
class CheckoutTimedOut(Event):
    """A caller got no connection within its time."""

    engine: Annotated[str, Label]
    waited_seconds: Annotated[float, Measure]
    because: str


@event(severity=Severity.ERROR)
class DeadlockFound(Event):
    """All connections were held by callers that wait for one more; the newest was refused."""

    engine: Annotated[str, Label]
    asked_at: str
    held_at: str


@event(severity=Severity.ERROR)
class StarvationFound(Event):
    """All worker threads waited for connections, and none was left to give one back.

    The newest were refused; it is said once until one comes back.
    """

    engine: Annotated[str, Label]
    threads: int
    asked_at: str
    held_at: str


@event(severity=Severity.WARNING)
class ConnectionLeaked(Event):
    """A connection has been out for so long that it may never come back."""

    engine: Annotated[str, Label]
    held_seconds: Annotated[float, Measure]
    taken_at: str
    stands_at: str


@event(severity=Severity.INFO)
class LeakReturned(Event):
    """A connection that had been named as leaked came back."""

    engine: Annotated[str, Label]
    held_seconds: Annotated[float, Measure]
    taken_at: str


@dataclass(slots=True)
class PoolCounts:
    """What has happened at one engine's pool so far; written under the lock of the gates."""

    checkouts: int = 0
    waits: int = 0
    wait_seconds: float = 0.0
    timeouts: int = 0
    deadlocks: int = 0
    starvations: int = 0
    leaks: int = 0


class Keeper(Protocol):
    """What a gate must know of the protection it belongs to."""

    name: str
    settings: DbSettings
    counts: PoolCounts

    def entering(self) -> Any:
        """Return what `handed_over` or `failed` gets, or raise where nobody may pass now."""
        ...

    def recreated(self, pool: Pool) -> None:
        """Take note that `pool` takes the place of one before, under the same guard."""
        ...

    def took(self, pool: Pool, record: Any) -> None:
        """Guard the record that a caller is about to get."""
        ...

    def handed_over(self, record: Any, entered: Any) -> None:
        """The checkout is over, and went well."""
        ...

    def failed(self, entered: Any, error: BaseException, took_seconds: float) -> None:
        """The checkout is over, and went badly."""
        ...

    def returned(self, record: Any) -> None:
        """The connection came back."""
        ...

    def connect(self, pool: Pool, creator: Callable[[Any], Any], record: Any) -> Any:
        """Make a connection by its deadline."""
        ...


# One lock for all gates, because a deadlock may go through several pools; it is held for
# microseconds. What is given back is put aside first: the garbage collector may return a
# connection while this very thread is inside.
_lock = threading.Lock()
_given_back: deque[tuple[Permits, Holding | None]] = deque()
_gates: WeakSet["Gate"] = WeakSet()


class _Job:
    """One run of code in one thread, as long as its context lives."""

    __slots__ = ("__weakref__", "thread")

    def __init__(self, thread: int) -> None:
        self.thread = thread

    def done(self) -> bool:
        return False


_job: ContextVar[_Job | None] = ContextVar("shipworthy_db_job", default=None)


def _flow() -> tuple[Any, Any, int]:
    """Return the flow we are in, its event loop if any, and the thread.

    A thread is not enough: a worker thread that ran a dependency of one request runs another
    request next. A context is not enough either: it is copied into threads. So it is both.
    """
    thread = threading.get_ident()
    loop = asyncio._get_running_loop()  # noqa: SLF001 - the public one costs an exception
    if loop is not None:
        task = asyncio.current_task(loop)
        if task is not None:
            return task, loop, thread
    job = _job.get()
    if job is None or job.thread != thread:
        job = _Job(thread)
        _job.set(job)
    return job, loop, thread


def _outlived_its_job(holding: Holding) -> bool:
    """Say whether a worker thread took it in another job than the one that gives it back here."""
    job = _job.get()
    same = job is not None and holding.flow() is job and job.thread == threading.get_ident()
    return holding.loop is None and not same


@final
class Gate:
    """The permits of one pool, and the waiting for them."""

    __slots__ = ("__weakref__", "_alarm", "_keeper", "_pool", "fairies", "permits")

    def __init__(self, pool: Pool, keeper: Keeper) -> None:
        self._keeper = keeper
        self._pool = ref(pool)
        self.permits = Permits(
            _capacity(pool), adopted=out(pool), shared=isinstance(pool, StaticPool)
        )
        # Of a shared connection: each holder's proxy, because only the last one is told of.
        self.fairies: dict[Holding, ReferenceType[Any]] = {}
        self._alarm = Alarm(self._look_for_leaks)
        with _lock:
            _gates.add(self)

    @property
    def capacity(self) -> int | None:
        """How many permits there are; None is a pool without a limit."""
        return self.permits.capacity

    def serves(self, request: object) -> bool:
        """Say whether somebody holds a permit for `request`, or waits for one."""
        with _lock:
            found = any(holding.request is request for holding in self.permits.holdings) or any(
                waiting.request is request for waiting in self.permits.queue
            )
        if _given_back:
            _settle()
        return found

    def enter(self, pool: Pool) -> Holding:
        """Return a permit, at once or within the time the caller has.

        Raises `PoolTimeout`; `PoolDeadlock` at once where no permit would ever come back, and
        `PoolStarvation` soon where no thread is left to bring one back.
        """
        flow, loop, thread = _flow()
        request = current_request()
        if loop is None and request is not None and request.connections is not None:
            request.connections.asks(self)
        now = monotonic()
        awaits = pool._dialect.is_async  # noqa: SLF001
        waiting = Waiting(
            flow,
            here(),
            now,
            request=request,
            loop=loop,
            thread=thread,
            blocks=None if awaits else loop,
        )
        counts = self._keeper.counts
        holders: list[Holding] | None = None
        wait: Callable[[float], None] | None = None
        with _lock:
            counts.checkouts += 1
            holding = self.permits.ask(waiting, now)
            if holding is None:
                counts.waits += 1
                refuse = self._keeper.settings.deadlocks == "refuse"
                if refuse and waiting in stuck([gate.permits for gate in _gates]):
                    self.permits.withdraw(waiting)
                    counts.deadlocks += 1
                    holders = list(self.permits.holdings)
                else:
                    wait = _awaiting(waiting, loop) if awaits else _blocking(waiting)
        if _given_back:
            _settle()
        if holders is not None:
            raise self._deadlock(waiting, holders)
        if wait is not None:
            watched = None
            if loop is None and self._keeper.settings.deadlocks == "refuse":
                watched = thread_waits(partial(self._starve, waiting), now)
            try:
                holding = self._wait(waiting, wait, now, self._seconds(pool, now), pool)
            finally:
                if watched is not None:
                    watched.over(monotonic(), served=holding is not None)
        assert holding is not None  # it was granted at once, or waited for
        self._watch_for_leak(holding)
        return holding

    def leave(self, holding: Holding) -> None:
        """Give a permit back; twice is once."""
        request: Any = holding.request
        if request is not None and request.connections is not None and _outlived_its_job(holding):
            request.connections.kept()
        _given_back.append((holding.permits, holding))
        _settle()
        if holding.leaked:
            emit(
                LeakReturned,
                engine=self._keeper.name,
                held_seconds=monotonic() - holding.since,
                taken_at=str(holding.place),
            )

    def leave_adopted(self) -> None:
        """Take note that a connection came back which was out before we came."""
        _given_back.append((self.permits, None))
        _settle()

    def refuse_waiters(self, error: Callable[[], Exception]) -> None:
        """Send everybody in the queue away, each with an error of its own."""
        with _lock:
            refused = self.permits.refuse_all(error)
        for waiting in refused:
            waiting.wake()
        _settle()

    def _seconds(self, pool: Pool, now: float) -> float:
        own = getattr(pool, "_timeout", None)
        seconds = self._keeper.settings.checkout_seconds or inf
        if isinstance(own, (int, float)):
            seconds = min(seconds, own)
        deadline = current_deadline()
        return seconds if deadline is None else max(0.0, min(seconds, deadline - now))

    def _wait(
        self,
        waiting: Waiting,
        wait: Callable[[float], None],
        began: float,
        seconds: float,
        pool: Pool,
    ) -> Holding:
        try:
            wait(seconds)
        except BaseException:
            # Cancelled, or interrupted: what was granted in the same moment goes to the next.
            with _lock:
                granted = self.permits.withdraw(waiting)
            if granted is not None:
                self.leave(granted)
            _settle()
            raise
        waited = monotonic() - began
        counts = self._keeper.counts
        with _lock:
            holding = self.permits.withdraw(waiting)
            counts.wait_seconds += waited
            if holding is None and waiting.error is None:
                counts.timeouts += 1
            holders = list(self.permits.holdings)
        _settle()
        if (steps := steps_here()) is not None:
            facts = {"shipworthy.engine": self._keeper.name}
            refused = PoolTimeout if waiting.error is None else type(waiting.error)
            failed = "" if holding is not None else refused.__name__
            steps.append(TraceStep("wait", began, began + waited, facts, failed))
        if holding is not None:
            return holding
        if waiting.error is not None:
            raise waiting.error
        because = _because(pool, seconds, holders)
        emit(CheckoutTimedOut, engine=self._keeper.name, waited_seconds=waited, because=because)
        raise PoolTimeout(because, retry_after_seconds=1.0)

    def _deadlock(self, waiting: Waiting, holders: list[Holding]) -> PoolDeadlock:
        held = _named(holders, monotonic())
        emit(
            DeadlockFound,
            engine=self._keeper.name,
            asked_at=str(waiting.place),
            held_at=held,
        )
        what = (
            "this waits inside the event loop, whose tasks hold them all"
            if waiting.blocks is not None
            else "all of them are held by callers that themselves wait for one more"
        )
        return PoolDeadlock(
            f"no connection of '{self._keeper.name}' would ever come back: {what}. Asked for at "
            f"{waiting.place}; {held}. Take one connection for each unit of work and pass it on",
            retry_after_seconds=1.0,
        )

    def _starve(self, waiting: Waiting, threads: int, first: bool) -> bool:  # noqa: FBT001
        """Refuse `waiting`, unless a holder may still give a connection back by itself."""
        with _lock:
            starved = waiting in self.permits.queue and not self.permits.moves()
            if starved:
                self.permits.withdraw(waiting)
                self._keeper.counts.starvations += 1
            holders = list(self.permits.holdings)
        _settle()
        if not starved:
            return False
        held = _named(holders, monotonic())
        name = self._keeper.name
        waiting.error = PoolStarvation(
            f"{threads} worker threads wait for {len(holders)} connections of '{name}', and none "
            f"is left to give one back. Asked for at {waiting.place}; {held}. Give each connection "
            f"back in the function that took it, or let the door hold requests back (web.door)",
            retry_after_seconds=1.0,
        )
        waiting.wake()
        if first:
            emit(
                StarvationFound,
                engine=name,
                threads=threads,
                asked_at=str(waiting.place),
                held_at=held,
            )
        return True

    def _watch_for_leak(self, holding: Holding) -> None:
        after = self._keeper.settings.leak_after_seconds
        if after and self._alarm.at == inf:
            self._alarm.set(holding.since + after)

    def _look_for_leaks(self, now: float) -> None:
        after = self._keeper.settings.leak_after_seconds
        with _lock:
            leaked, again = self.permits.leaks(now, after)
            self._keeper.counts.leaks += len(leaked)
        _settle()
        if again is not None:
            self._alarm.set(again)
        for holding in leaked:
            emit(
                ConnectionLeaked,
                engine=self._keeper.name,
                held_seconds=now - holding.since,
                taken_at=str(holding.place),
                stands_at=where_stands(holding),
            )


def _settle() -> None:
    """Give back what was put aside, and wake whoever got it.

    Whoever finds the lock taken may go: its owner looks again after it has let go.
    """
    while _given_back and _lock.acquire(blocking=False):
        woken = []
        try:
            now = monotonic()
            while _given_back:
                permits, holding = _given_back.popleft()
                waiting = (
                    permits.give_back_adopted(now)
                    if holding is None
                    else permits.give_back(holding, now)
                )
                if waiting is not None:
                    woken.append(waiting)
        finally:
            _lock.release()
        for waiting in woken:
            waiting.wake()


def _blocking(waiting: Waiting) -> Callable[[float], None]:
    bell = threading.Lock()
    bell.acquire()
    waiting.wake = bell.release

    def wait(seconds: float) -> None:
        bell.acquire(timeout=min(seconds, threading.TIMEOUT_MAX))

    return wait


def _awaiting(waiting: Waiting, loop: asyncio.AbstractEventLoop) -> Callable[[float], None]:
    future: asyncio.Future[None] = loop.create_future()

    def ring() -> None:
        if not future.done():
            future.set_result(None)

    def wake() -> None:
        if asyncio._get_running_loop() is loop:  # noqa: SLF001
            ring()
        else:
            _from_elsewhere(loop, ring)

    waiting.wake = wake

    def wait(seconds: float) -> None:
        timer = None if seconds == inf else loop.call_later(seconds, ring)
        try:
            await_only(future)
        finally:
            if timer is not None:
                timer.cancel()

    return wait


def _from_elsewhere(loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(ring)
    except RuntimeError:
        # The waiter's loop was closed, so nobody waits there any more.
        return


def _because(pool: Pool, seconds: float, holders: list[Holding]) -> str:
    if isinstance(pool, StaticPool):
        what = (
            f"the one connection of this StaticPool was in use for {seconds:.2f} s, and two at a "
            f"time would mix their transactions; take a pool of several, or a file"
        )
    else:
        # The sentence of SQLAlchemy, which people search their logs for.
        size, overflow = pool.size(), pool.overflow()  # type: ignore[attr-defined]
        what = (
            f"QueuePool limit of size {size} overflow {overflow} reached, connection timed out, "
            f"timeout {seconds:.2f}"
        )
    return f"{what}; {_named(holders, monotonic())}"


def _named(holders: list[Holding], now: float) -> str:
    if not holders:
        return "held since before the pool came under guard"
    places: dict[str, list[float]] = {}
    for holding in holders:
        places.setdefault(str(holding.place), []).append(now - holding.since)
    named = [
        f"{place} ({f'{len(ages)} times, ' if len(ages) > 1 else ''}for {max(ages):.1f} s)"
        for place, ages in list(places.items())[:NAMED_HOLDERS]
    ]
    more = len(places) - len(named)
    return f"held by {', '.join(named)}{f' and {more} more lines' if more else ''}"


def where_stands(holding: Holding) -> str:
    """Return the line where the owner of a permit stands now, in words where there is none."""
    flow = holding.flow()
    if flow is None or flow.done():
        return "nowhere: the code that took it is over"
    if isinstance(flow, asyncio.Task):
        frames = flow.get_stack(limit=1)
        return str(Place(frames[0].f_code, frames[0].f_lineno)) if frames else "no line of Python"
    return str(stands(holding.thread))


def _capacity(pool: Pool) -> int | None:
    if isinstance(pool, StaticPool):
        return 1
    if isinstance(pool, QueuePool):
        overflow = pool._max_overflow  # noqa: SLF001
        return None if overflow < 0 else pool.size() + overflow
    return None


def out(pool: Pool) -> int:
    """Return how many connections of `pool` are out, as far as it can say."""
    if isinstance(pool, QueuePool):
        return max(0, pool.checkedout())
    if isinstance(pool, StaticPool) and "connection" in pool.__dict__:
        return int(pool.connection.in_use)
    return 0


def gate_of(pool: Any, keeper: Keeper) -> Gate:
    """Return the gate of a guarded pool; one that was released meanwhile gets one of no effect."""
    gate: Gate | None = getattr(type(pool), GATE, None)
    return Gate(pool, keeper) if gate is None else gate


class _Guarded:
    """What a guarded pool does in place of its plain class; copied into a subclass of that.

    Copied and not mixed in: the class of a live object can only be exchanged for one with the same
    single line of ancestors.
    """

    def connect(self: Any) -> Any:
        keeper, plain = self._shipworthy, self._shipworthy_plain
        entered = keeper.entering()
        began = monotonic()
        try:
            fairy = plain.connect(self)
        except BaseException as error:
            waited = monotonic() - began
            note_wait(waited)
            keeper.failed(entered, error, waited)
            raise
        note_wait(monotonic() - began)
        record = fairy._connection_record  # noqa: SLF001
        gate = gate_of(self, keeper)
        if gate.permits.shared:
            _follow(gate, record, fairy)
        keeper.handed_over(record, entered)
        return fairy

    def _do_get(self: Any) -> Any:
        keeper, plain = self._shipworthy, self._shipworthy_plain
        gate = gate_of(self, keeper)
        holding = gate.enter(self)
        try:
            record = plain._do_get(self)  # noqa: SLF001
            try:
                keeper.took(self, record)
            except BaseException:
                plain._do_return_conn(self, record)  # noqa: SLF001
                raise
        except BaseException:
            gate.leave(holding)
            raise
        record.__dict__[HOLDING] = holding
        return record

    def _do_return_conn(self: Any, record: Any) -> None:
        keeper, plain = self._shipworthy, self._shipworthy_plain
        # Taken off first: once the record is back, it may be another caller's.
        holding = record.__dict__.pop(HOLDING, None)
        gate = gate_of(self, keeper)
        keeper.returned(record)
        try:
            plain._do_return_conn(self, record)  # noqa: SLF001
        finally:
            if holding is None:
                gate.leave_adopted()
            elif holding not in gate.fairies or len(gate.fairies) == 1:
                gate.leave(holding)

    def dispose(self: Any) -> None:
        self._shipworthy_plain.dispose(self)
        # The pool counts from none again, so do we; whoever is out returns to the gate it came by.
        # Made here, and never by a return: the garbage collector may return inside the lock.
        setattr(type(self), GATE, Gate(self, self._shipworthy))

    def recreate(self: Any) -> Any:
        # The stock one calls `self.__class__`, which says the plain class.
        pool = self._shipworthy_plain.recreate(self)
        if keeper_of(pool) is None:
            guard(pool, self._shipworthy)
        self._shipworthy.recreated(pool)
        return pool

    def _creator_under_deadline(self: Any) -> Any:
        original = self.__dict__["_invoke_creator"]
        return lambda record: self._shipworthy.connect(self, original, record)

    def _set_creator(self: Any, original: Any) -> None:
        self.__dict__["_invoke_creator"] = original

    def _delete_creator(self: Any) -> None:
        del self.__dict__["_invoke_creator"]

    _invoke_creator = property(_creator_under_deadline, _set_creator, _delete_creator)
    # For whoever compares classes; `type(pool)` is ours.
    __class__ = property(lambda self: self._shipworthy_plain)


_COPIED = ("connect", "dispose", "recreate", "_do_get", "_do_return_conn", "_invoke_creator")


def guard(pool: Pool, keeper: Keeper) -> None:
    """Give the pool a class of its own that asks `keeper` for permits; what is out is counted.

    Name and module of the class stay the same: logger names are made of them, and so is what
    people configured.
    """
    cls = type(pool)
    own: Any = type(
        cls.__name__,
        (cls,),
        {
            **{name: vars(_Guarded)[name] for name in (*_COPIED, "__class__")},
            "__module__": cls.__module__,
            "__qualname__": cls.__qualname__,
            "__doc__": cls.__doc__,
            "_shipworthy": keeper,
            "_shipworthy_plain": cls,
            GATE: Gate(pool, keeper),
        },
    )
    pool.__class__ = own


def released(pool: Pool, cls: type[Pool]) -> None:
    """Give a guarded pool its plain class back."""
    # Past the property that says so already.
    object.__dict__["__class__"].__set__(pool, cls)


def _follow(gate: Gate, record: Any, fairy: Any) -> None:
    """Give a permit of a shared connection back when its proxy goes.

    The pool says only once that the connection came back, however often it was taken.
    """
    holding = record.__dict__.get(HOLDING)
    if holding is None:
        return

    def gone(_: object) -> None:
        gate.fairies.pop(holding, None)
        gate.leave(holding)

    gate.fairies[holding] = ref(fairy, gone)


def keeper_of(pool: Pool) -> Any:
    """Return the protection a pool is under, or None."""
    return getattr(type(pool), "_shipworthy", None)


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 - whoever held it is not in this process
    _lock = threading.Lock()
    _given_back.clear()


os.register_at_fork(after_in_child=_after_fork)
