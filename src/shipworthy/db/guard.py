"""Bring an engine under guard, and let it go again.

`protect(engine)` works on a live engine: it exchanges the class of its pool, puts a span around
what its dialect sends, and listens for its errors. Sessions, transactions and exceptions stay what
they were; an exception may carry a note and two attributes more.

Not here: the permits (`permits`, `pool`), the cutting (`watchdog`), what an error means
(`classify`), and running a transaction again (`transaction`).
"""

import asyncio
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial, wraps
from inspect import signature
from math import inf
from time import monotonic
from typing import Annotated, Any, TypeVar, final
from weakref import WeakSet, WeakValueDictionary, finalize, ref

from sqlalchemy import URL, event as sa_event
from sqlalchemy.engine import Dialect, Engine
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import Pool

from shipworthy.context import (
    TraceStep,
    current_deadline,
    deadline_scope,
    note_database,
    steps_here,
)
from shipworthy.db.attempt import commits_count, current_attempt, note_commit, note_failure
from shipworthy.db.breaking import Breaking, DatabaseRefused
from shipworthy.db.classify import (
    CUT_ATTRIBUTE,
    PHASE_ATTRIBUTE,
    classify,
    concerns_database,
    facts_of,
)
from shipworthy.db.dialects.bounds import commits, reads
from shipworthy.db.dialects.drivers import Driver, driver_of
from shipworthy.db.dialects.limits import (
    AHEAD_SECONDS,
    limit,
    limit_statement,
    other_limit_statement,
)
from shipworthy.db.fence import fenced, is_prepared
from shipworthy.db.judgement import judge
from shipworthy.db.outcome import DbPhase, Outcome
from shipworthy.db.place import here
from shipworthy.db.pool import (
    Gate,
    PoolCounts,
    WrongLoop,
    gate_of,
    guard,
    keeper_of,
    released,
)
from shipworthy.db.settings import DbSettings
from shipworthy.db.watchdog import WATCHDOG, CallWatch, LoopWatch
from shipworthy.errors import Rejected
from shipworthy.events import Event, Label, Measure, Severity, emit, event
from shipworthy.resilience import ResilienceSettings

T = TypeVar("T")

WATCH = "_shipworthy_watch"
LOOP = "_shipworthy_loop"
LOCK_WAIT = "_shipworthy_lock_wait"
# How long the server lets a statement run where it was told another limit than ours for a unit.
SESSION_LIMIT = "_shipworthy_session_limit"
# A deadline comes nearer with each statement; not each of them is worth another one.
LOCK_WAIT_STEP_SECONDS = 0.01
# Of a statement that is kept for a trace.
STATEMENT_CHARACTERS = 2048


@event(severity=Severity.WARNING)
class StatementSlow(Event):
    """A statement took longer than it should; it was let finish."""

    engine: Annotated[str, Label]
    seconds: Annotated[float, Measure]
    at: str


@event(severity=Severity.ERROR)
class DeadlineCut(Event):
    """A call to a database was cut at its deadline."""

    engine: Annotated[str, Label]
    phase: Annotated[str, Label]
    seconds: Annotated[float, Measure]
    at: str


@event(severity=Severity.ERROR)
class CommitUnanswered(Event):
    """A COMMIT was sent and its answer did not come: the guard does not know what became of it."""

    engine: Annotated[str, Label]
    because: str
    at: str


@event(severity=Severity.WARNING)
class ServerLimitRefused(Event):
    """The server does not take a limit on statements; from here on only the watchdog cuts them."""

    engine: Annotated[str, Label]
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStatistics:
    """One protected engine at one moment; `capacity` None is a pool without a limit."""

    name: str
    capacity: int | None
    in_use: int
    waiting: int
    checkouts: int
    waits: int
    wait_seconds: float
    timeouts: int
    deadlocks: int
    starvations: int
    leaks: int
    cuts: int
    slow: int
    unanswered: int
    breaker: str


@final
class Protection:
    """An engine under guard; `undo()` lets it go. Made by `protect`, one for each engine."""

    def __init__(
        self,
        pool: Pool,
        dialect: Any,
        name: str,
        settings: DbSettings,
        resilience: ResilienceSettings,
        *,
        listed: bool = True,
    ) -> None:
        self.name = name
        self.settings = settings = settings.in_force()
        if settings.mode == "report" and resilience.breaker == "enforce":
            resilience = replace(resilience, breaker="report")
        self.counts = PoolCounts()
        self.cuts = 0
        self.slow = 0
        self.unanswered = 0
        # Why the server may be asked for too many connections, '' where it may not: the prober's.
        self.exceeds = ""
        self.breaking = Breaking(name, judge, resilience, listed=listed)
        self._driver = driver_of(dialect)
        self._dialect = dialect
        # None where the server has no such limit, or has said that it will not take it.
        self._limit = (
            limit_statement(str(getattr(dialect, "name", "")), settings.statement_seconds)
            if settings.server_limit
            else None
        )
        self._plain = type(pool)
        self._pools: list[Any] = [ref(pool)]
        self._wrapped: list[str] = []
        # Runs when we are undone, or when nobody has the engine any more.
        self._end = finalize(self, WATCHDOG.leave)
        WATCHDOG.keep()
        guard(pool, self)
        # A pool that somebody made without an engine has no dialect to speak of.
        if isinstance(dialect, Dialect):
            self._install()

    def undo(self) -> None:
        """Let the engine go: pool, dialect and listeners are again what they were. Twice is once.

        Connections that are out stay out, and return as usual.
        """
        if not self._end.alive:
            return
        if self._wrapped:
            sa_event.remove(self._dialect, "handle_error", self._annotate)
        for name in self._wrapped:
            self._dialect.__dict__.pop(name, None)
        for held in self._pools:
            pool = held()
            if pool is not None and keeper_of(pool) is self:
                released(pool, self._plain)
        _protections.discard(self)
        self._end.detach()
        WATCHDOG.leave(join=True)

    def statistics(self) -> PoolStatistics:
        """Return how it stands; never waits for a connection."""
        gates = self.gates()
        counts = self.counts
        permits = gates[-1].permits if gates else None
        return PoolStatistics(
            name=self.name,
            capacity=permits.capacity if permits else None,
            in_use=sum(gate.permits.in_use for gate in gates),
            waiting=sum(len(gate.permits.queue) for gate in gates),
            checkouts=counts.checkouts,
            waits=counts.waits,
            wait_seconds=counts.wait_seconds,
            timeouts=counts.timeouts,
            deadlocks=counts.deadlocks,
            starvations=counts.starvations,
            leaks=counts.leaks,
            cuts=self.cuts,
            slow=self.slow,
            unanswered=self.unanswered,
            breaker=self.breaking.state,
        )

    def gates(self) -> list[Gate]:
        """Return the gates of its pools, the newest last: `dispose` leaves old ones in use."""
        pools = [pool for held in self._pools if (pool := held()) is not None]
        return [gate_of(pool, self) for pool in pools if keeper_of(pool) is self]

    @property
    def dialect_name(self) -> str:
        """What SQLAlchemy calls the kind of its database."""
        return str(self._dialect.name)

    @property
    def awaits(self) -> bool:
        """Whether its calls are awaited, so that they belong to an event loop."""
        return bool(self._dialect.is_async)

    def own_connection(self) -> "OwnConnection":
        """Return a connection beside the pool, which nobody can take away; made when it pings."""
        return OwnConnection(self, self._dialect, self._pools[-1])

    # -- what a gate asks (pool.Keeper) --

    def entering(self) -> Any:
        try:
            return self.breaking.ask()
        except DatabaseRefused as error:
            note_failure(error)
            raise

    def failed(self, entered: Any, error: BaseException, took_seconds: float) -> None:
        if isinstance(error, DatabaseRefused):
            note_failure(error)  # the breaker opened while it waited
        elif (
            not isinstance(error, Rejected)
            and not hasattr(error, PHASE_ATTRIBUTE)
            and concerns_database(facts_of(error))  # else it is the application's own listener's
        ):
            # Of what listens to new connections and speaks with the server: nothing was sent.
            self._mark(error, DbPhase.CONNECT, "")
            note_failure(error)
        if self.breaking.failed(entered, error, took_seconds):
            self._refuse_waiters()

    def recreated(self, pool: Pool) -> None:
        self._pools = [held for held in self._pools if held() is not None] + [ref(pool)]

    def took(self, pool: Pool, record: Any) -> None:
        if record.dbapi_connection is None:
            return
        if self._driver.bound_to_loop:
            self._same_loop(record)
            if record.dbapi_connection is None:
                return
        watch = record.__dict__.get(WATCH)
        if watch is None or not watch.serves_here():
            watch = self._watch(record)  # it was there before us, or its loop is not this one
        if pool._pre_ping:  # noqa: SLF001
            watch.begin(self._until(self.settings.connect_seconds), DbPhase.CHECKOUT)

    def handed_over(self, record: Any, entered: Any) -> None:
        self.breaking.handed_over(record, entered)
        watch = record.__dict__.get(WATCH)
        if watch is not None and watch.at != inf:
            watch.end((inf, ""))

    def returned(self, record: Any) -> None:
        watch = record.__dict__.get(WATCH)
        if watch is not None and watch.at != inf:
            watch.end((inf, ""))  # of a checkout that failed on the way
        self.breaking.returned(record)

    def connect(self, pool: Pool, creator: Callable[[Any], Any], record: Any) -> Any:
        began = monotonic()
        at = self._until(self.settings.connect_seconds)
        loop = asyncio._get_running_loop() if self._dialect.is_async else None  # noqa: SLF001
        old = record.__dict__.get(WATCH)
        if old is not None:
            old.end((inf, ""))
        watch = CallWatch(_nothing) if loop is None else LoopWatch(_nothing, loop)
        before = watch.begin(at, DbPhase.CONNECT)
        connecting = _connecting.set(watch)
        try:
            connection = creator(record)
            if self._limit is not None:
                watch.cut = partial(self._driver.cut, connection)
                self._limit_statements(pool, connection)
        except BaseException as error:
            # Some drivers keep the time by themselves, and are not cut.
            cut = watch.end(before) or (DbPhase.CONNECT if monotonic() >= at else "")
            self._mark(error, DbPhase.CONNECT, cut, self.settings.connect_seconds)
            note_failure(error)
            raise
        finally:
            _connecting.reset(connecting)
        if (steps := steps_here()) is not None:
            facts = {"db.system.name": self._dialect.name, "shipworthy.engine": self.name}
            steps.append(TraceStep("connect", began, monotonic(), facts))
        self._watch(record, watch)
        record.__dict__[LOOP] = None if loop is None else ref(loop)
        record.__dict__.pop(LOCK_WAIT, None)
        record.__dict__.pop(SESSION_LIMIT, None)
        # Guarded on: the connect events that follow may speak with the server too. `handed_over` or
        # `returned` ends it.
        return connection

    def _watch(self, record: Any, watch: CallWatch | None = None) -> CallWatch:
        """Put a watch, or a new one, on the connection of a record."""
        if watch is None:
            loop = asyncio._get_running_loop() if self._dialect.is_async else None  # noqa: SLF001
            watch = CallWatch(_nothing) if loop is None else LoopWatch(_nothing, loop)
        # By way of the record: a watch must not keep a connection that nobody has any more.
        watch.cut = partial(_cut, self._driver, ref(record))
        record.__dict__[WATCH] = watch
        return watch

    def _limit_statements(self, pool: Pool, connection: Any) -> None:
        try:
            refused = limit(connection, self._limit or "", self._dialect.loaded_dbapi.Error)
        except BaseException:
            # Cancelled or cut: nobody else has the connection yet, so nobody else would close it.
            pool._close_connection(connection, terminate=True)  # noqa: SLF001
            raise
        if refused is None:
            return
        found = classify(refused, phase=DbPhase.STATEMENT, dialect=self._dialect.name)
        # Anything else may go well on the next connection.
        if found.outcome in {Outcome.PERMANENT, Outcome.AUTH_CONFIG}:
            self._limit = None
            emit(ServerLimitRefused, engine=self.name, because=found.because)

    # -- putting it on --

    def _install(self) -> None:
        sa_event.listen(self._dialect, "handle_error", self._annotate)
        for name, phase, seconds in (
            ("do_execute", DbPhase.STATEMENT, self.settings.statement_seconds),
            ("do_executemany", DbPhase.STATEMENT, self.settings.statement_seconds),
            ("do_execute_no_params", DbPhase.STATEMENT, self.settings.statement_seconds),
        ):
            self._wrap(name, self._statement(getattr(self._dialect, name), phase, seconds))
        ends = [
            ("do_commit", DbPhase.COMMIT, self.settings.statement_seconds),
            ("do_rollback", DbPhase.ROLLBACK, self.settings.reset_seconds),
        ]
        if type(self._dialect).do_begin is not DefaultDialect.do_begin:
            # Elsewhere it does nothing, and a span around nothing has its cost all the same.
            ends.append(("do_begin", DbPhase.BEGIN, self.settings.statement_seconds))
        for name, phase, seconds in ends:
            ending = self._ending(getattr(self._dialect, name), phase, seconds)
            self._wrap(name, ending)
        dialect = self._dialect

        def take_back(connection: Any) -> None:
            dialect.do_rollback(connection)  # found when it is needed: it is under guard then

        def take_back_second(*asked: Any, **_: Any) -> None:
            dialect.do_rollback_twophase(*asked[:2], is_prepared=False)

        self._wrap("do_commit", fenced(dialect.do_commit, refused=take_back))
        second = self._second_phase(dialect.do_commit_twophase)
        self._wrap(
            "do_commit_twophase",
            fenced(second, refused=take_back_second, decided=is_prepared),
        )
        self._wrap("connect", self._driver_connect(self._dialect.connect))

    def _wrap(self, name: str, function: Callable[..., Any]) -> None:
        self._dialect.__dict__[name] = function
        self._wrapped.append(name)

    def _driver_connect(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def connect(*args: Any, **options: Any) -> Any:
            watch = _connecting.get()
            if watch is None:
                return original(*args, **options)
            return self._driver.connect(self._dialect, original, watch, args, options)

        return connect

    def _statement(
        self, original: Callable[..., Any], phase: DbPhase, seconds: float
    ) -> Callable[..., Any]:
        slow_seconds = self.settings.statement_warn_seconds or inf
        bounds_locks = self._driver.lock_wait is not None
        dialect = self._dialect.name
        limits_sessions = self._limit and other_limit_statement(dialect, seconds, seconds)

        def execute(cursor: Any, *args: Any, **options: Any) -> Any:
            context = options.get("context") or (args[-1] if args else None)
            # A statement may be a COMMIT in other words, or without a transaction around it. What
            # most of them are is looked for first, because it costs least.
            applies = not reads(args[0]) and (commits(dialect, args[0]) or _is_autocommit(context))
            return (applying if applies else call)(cursor, context, *args, **options)

        def call(cursor: Any, context: Any, *args: Any, **options: Any) -> Any:
            record = _record_of(getattr(context, "root_connection", None))
            watch = None if record is None else record.__dict__.get(WATCH)
            if watch is None:
                ends = _is_autocommit(context) or commits(self._dialect.name, args[0])
                return _unwatched(original, ends, cursor, *args, **options)
            began = monotonic()
            allowed = _allowed(seconds)
            before = watch.begin(_earlier(began + (allowed or inf)), phase)
            try:
                if bounds_locks:
                    self._bound_lock_wait(record, watch.at - began)
                elif limits_sessions and record.__dict__.get(SESSION_LIMIT, seconds) != allowed:
                    self._limit_session(record, cursor, allowed)
                answer = original(cursor, *args, **options)
            except BaseException as error:
                # Without a transaction around it a statement is its own COMMIT.
                ends = commits(dialect, args[0])
                at = DbPhase.COMMIT if ends or _is_autocommit(context) else phase
                self._note(args[0], began, monotonic(), error)
                self._failed(error, at, watch.end(before), record, began)
                self._look_at_commit(error, at=at, statement=args[0])
                if ends:
                    note_commit()  # of what came before; that it failed itself does not undo it
                raise
            cut = watch.end(before)
            took = monotonic() - began
            self._note(args[0], began, began + took)
            if cut or took > slow_seconds:
                self._late(phase, took, cut=bool(cut))
            self.breaking.answered(record, took)
            if commits_count() and (_is_autocommit(context) or commits(dialect, args[0])):
                note_commit()
            return answer

        applying = fenced(call)
        return execute

    def _ending(
        self, original: Callable[..., Any], phase: DbPhase, seconds: float
    ) -> Callable[..., Any]:
        bounds_locks = self._driver.lock_wait is not None and phase is not DbPhase.ROLLBACK

        def end(connection: Any, *args: Any, **options: Any) -> Any:
            record: Any = getattr(connection, "_connection_record", None)
            watch = None if record is None else record.__dict__.get(WATCH)
            if watch is None:
                return _unwatched(original, phase is DbPhase.COMMIT, connection, *args, **options)
            began = monotonic()
            # A rollback is never denied its time by a deadline that has passed: it frees locks.
            at = began + (seconds or inf)
            before = watch.begin(at if phase is DbPhase.ROLLBACK else _earlier(at), phase)
            try:
                if bounds_locks:
                    self._bound_lock_wait(record, watch.at - began)
                answer = original(connection, *args, **options)
            except BaseException as error:
                self._note(phase.upper(), began, monotonic(), error, calls=0)
                self._failed(error, phase, watch.end(before), record, began)
                self._look_at_commit(error, at=phase)
                raise
            self._note(phase.upper(), began, monotonic(), calls=0)
            if watch.end(before):
                self._late(phase, monotonic() - began, cut=True)
            if phase is DbPhase.COMMIT:
                note_commit()
            return answer

        return end

    def _note(
        self,
        statement: str,
        began: float,
        ended: float,
        error: BaseException | None = None,
        *,
        calls: int = 1,
    ) -> None:
        """Note a statement with its request, and for the trace of that where one may be kept."""
        note_database(calls, ended - began)
        steps = steps_here()
        if steps is None:
            return
        facts = {
            "db.system.name": self._dialect.name,
            "db.query.text": statement[:STATEMENT_CHARACTERS],
            "shipworthy.engine": self.name,
        }
        failed = "" if error is None else type(error).__name__
        steps.append(TraceStep("statement", began, ended, facts, failed))

    def _second_phase(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """COMMIT of what was prepared is a statement, or several, to SQLAlchemy; here it is one."""

        def commit(*args: Any, **options: Any) -> Any:
            attempt = current_attempt()
            noted = 0 if attempt is None else attempt.commits
            try:
                answer = original(*args, **options)
            except BaseException as error:
                links = (error, getattr(error, "orig", None))
                seen = any(getattr(link, PHASE_ATTRIBUTE, "") == DbPhase.COMMIT for link in links)
                for link in links:
                    with suppress(AttributeError):  # there is none, or it has no room for it
                        setattr(link, PHASE_ATTRIBUTE, DbPhase.COMMIT)
                note_failure(error)
                if not seen:
                    self._look_at_commit(error)
                raise
            # Nothing was prepared: then it was a COMMIT like any other.
            if attempt is None or attempt.commits == noted:
                note_commit()
            return answer

        return commit

    def _bound_lock_wait(self, record: Any, left_seconds: float) -> None:
        """Have a driver that no cut wakes wait for locks no longer than until the deadline."""
        lock_wait = self._driver.lock_wait
        assert lock_wait is not None  # whoever calls has looked
        connection = record.dbapi_connection
        own, now = record.__dict__.get(LOCK_WAIT) or (lock_wait(connection),) * 2
        wanted = min(own, left_seconds)
        if abs(wanted - now) > LOCK_WAIT_STEP_SECONDS:
            now = lock_wait(connection, wanted)
        record.__dict__[LOCK_WAIT] = (own, now)

    def _limit_session(self, record: Any, cursor: Any, seconds: float) -> None:
        """Give a session the limit of the unit that has it now, or its usual one after that."""
        if self._limit is None:
            return  # the server has refused it meanwhile
        usual_seconds = self.settings.statement_seconds
        now_seconds = record.__dict__.get(SESSION_LIMIT, usual_seconds)
        cursor.execute(other_limit_statement(self._dialect.name, now_seconds, seconds))
        record.__dict__[SESSION_LIMIT] = seconds

    # -- what went wrong --

    def _failed(
        self, error: BaseException, phase: DbPhase, cut: str, record: Any, began: float
    ) -> None:
        took = monotonic() - began
        self._mark(error, phase, cut, took)
        note_failure(error)
        if cut:
            self._late(phase, took, cut=True)
        if self.breaking.broke(record, error, took):
            self._refuse_waiters()

    def _look_at_commit(
        self, error: BaseException, *, at: DbPhase = DbPhase.COMMIT, statement: str = ""
    ) -> None:
        """Say so where a COMMIT may have been applied; a plain SELECT has nothing to apply."""
        if at is not DbPhase.COMMIT or reads(statement):
            return
        found = classify(error, phase=DbPhase.COMMIT, dialect=self._dialect.name)
        if found.outcome is Outcome.AMBIGUOUS:
            self.unanswered += 1
            emit(CommitUnanswered, engine=self.name, because=found.because, at=str(here()))

    def _mark(self, error: BaseException, phase: DbPhase, cut: str, seconds: float = 0.0) -> None:
        if hasattr(error, PHASE_ATTRIBUTE):
            return
        try:
            setattr(error, PHASE_ATTRIBUTE, phase)
            if cut:
                setattr(error, CUT_ATTRIBUTE, seconds)
        except AttributeError:
            return  # a class without room for it; the note on SQLAlchemy's own error remains
        if cut:
            error.add_note(_cut_note(self.name, phase, seconds))

    def _annotate(self, context: Any) -> None:
        """Put what is known of the driver's error on SQLAlchemy's, which wraps it."""
        original, wrapped = context.original_exception, context.sqlalchemy_exception
        phase = getattr(original, PHASE_ATTRIBUTE, None)
        if phase is None or wrapped is None or wrapped is original:
            return
        setattr(wrapped, PHASE_ATTRIBUTE, phase)
        seconds = getattr(original, CUT_ATTRIBUTE, None)
        if seconds is not None:
            setattr(wrapped, CUT_ATTRIBUTE, seconds)
            wrapped.add_note(_cut_note(self.name, phase, seconds))

    def _late(self, phase: DbPhase, seconds: float, *, cut: bool) -> None:
        if cut:
            self.cuts += 1
            emit(DeadlineCut, engine=self.name, phase=phase, seconds=seconds, at=str(here()))
        else:
            self.slow += 1
            emit(StatementSlow, engine=self.name, seconds=seconds, at=str(here()))

    def _refuse_waiters(self) -> None:
        """The breaker has opened: whoever waits for a connection need not wait for a timeout."""
        for gate in self.gates():
            gate.refuse_waiters(self.breaking.refusal)

    def _until(self, seconds: float) -> float:
        return _earlier(monotonic() + (seconds or inf))

    def _same_loop(self, record: Any) -> None:
        """Refuse a connection of another loop; drop it where that loop is over."""
        home = record.__dict__.get(LOOP)
        loop = asyncio._get_running_loop()  # noqa: SLF001
        other = None if home is None else home()
        if home is None or other is loop:
            return
        if other is not None and not other.is_closed() and other.is_running():
            raise WrongLoop(
                f"a connection of '{self.name}' belongs to the event loop {_loop_name(other)} and "
                f"was asked for in {_loop_name(loop)}; both run, and the driver can be used in one "
                f"only: make an engine for each loop"
            )
        # Its transport speaks through a loop that is no more. SQLAlchemy would try to close it
        # there; the socket goes with the object.
        record.dbapi_connection = None


@final
class OwnConnection:
    """A connection that is in no pool and asks no breaker; for one caller at a time.

    Of an async engine it is used in a greenlet of SQLAlchemy's, like all its parts.
    """

    dbapi_connection: Any = None

    def __init__(self, protection: Protection, dialect: Any, pool: "ref[Pool]") -> None:
        self._protection = protection
        self._dialect = dialect
        self._pool = pool
        # As a record of the pool has it: whoever listens to connects may keep something there.
        self.info: dict[Any, Any] = {}

    def ping(self, seconds: float) -> None:
        """Ask whether the database answers, within `seconds`; raises what the driver raises."""
        pool = self._pool()
        if pool is None:
            return  # nobody has the engine any more
        with deadline_scope(monotonic() + seconds):
            if self.dbapi_connection is None:
                self.dbapi_connection = pool._invoke_creator(self)  # type: ignore[arg-type]  # noqa: SLF001
            self._within(self._dialect.do_ping, seconds)

    def ask(self, statements: Sequence[str], seconds: float) -> list[Any]:
        """Return the one value that each of `statements` returns; raises what the driver raises."""
        self.ping(seconds)
        values: list[Any] = []
        if self.dbapi_connection is not None:
            self._within(partial(_ask, statements, values), seconds)
        return values

    def close(self) -> None:
        """Close it, in the time of a rollback at most."""
        if self.dbapi_connection is not None:
            # It may be gone already, and so may its event loop.
            with suppress(self._dialect.loaded_dbapi.Error, OSError, RuntimeError):
                self._within(self._dialect.do_close, self._protection.settings.reset_seconds or 1.0)
            self.dbapi_connection = None

    def _within(self, call: Callable[[Any], object], seconds: float) -> None:
        watch = self.__dict__[WATCH]
        watch.begin(monotonic() + seconds, DbPhase.CHECKOUT)
        try:
            call(self.dbapi_connection)
        finally:
            watch.end((inf, ""))


# From the creator of a connection to the dialect's connect below it.
_connecting: ContextVar[CallWatch | None] = ContextVar("shipworthy_db_connecting", default=None)
# Whether the engine that is made or used is ours, which `protect_all` leaves to its maker.
_ours: ContextVar[bool] = ContextVar("shipworthy_db_ours", default=False)
_protections: WeakSet[Protection] = WeakSet()
_engines: WeakValueDictionary[int, Engine] = WeakValueDictionary()
_lock = threading.RLock()


def protect(
    engine: Engine | AsyncEngine,
    *,
    name: str = "main",
    settings: DbSettings | None = None,
    resilience: ResilienceSettings | None = None,
) -> Protection:
    """Bring `engine`, sync or async, live or new, under guard; again is the same protection.

    Its options-engines share it. `name` stands in events, metrics and messages. Safe to call from
    any thread; costs nothing until the engine is used.
    """
    sync = engine.sync_engine if isinstance(engine, AsyncEngine) else engine
    with _lock:
        _engines[id(sync)] = sync
        return _protect(
            sync.pool,
            sync.dialect,
            name,
            settings or DbSettings(),
            resilience or ResilienceSettings(),
        )


def _protect(
    pool: Pool, dialect: Any, name: str, settings: DbSettings, resilience: ResilienceSettings
) -> Protection:
    with _lock:
        known = keeper_of(pool)
        if known is None:
            known = Protection(pool, dialect, name, settings, resilience)
            _protections.add(known)
        return known  # type: ignore[no-any-return]


def engine_urls() -> tuple[URL, ...]:
    """Return the URLs of the engines that are under guard, each once."""
    return tuple(
        dict.fromkeys(
            engine.url for engine in list(_engines.values()) if keeper_of(engine.pool) is not None
        )
    )


def protections() -> tuple[Protection, ...]:
    """Return what is under guard now."""
    with _lock:
        return tuple(sorted(_protections, key=lambda protection: protection.name))


def protect_all(
    settings: DbSettings | None = None, resilience: ResilienceSettings | None = None
) -> Callable[[], None]:
    """Protect every engine of this process: a new one when it is made, others on their next use.

    For `shipworthy run`. They are named `main`, `main-2` and so on, in that order. Returns what
    undoes all of it.
    """
    chosen, breaking = settings or DbSettings(), resilience or ResilienceSettings()

    def adopt(pool: Pool, dialect: Any) -> None:
        if keeper_of(pool) is None and not _ours.get():
            with _lock:
                taken = {protection.name for protection in _protections}
                _protect(pool, dialect, _free_name(taken), chosen, breaking)

    def on_connect(dialect: Any, record: Any, *_: Any) -> None:
        # One of our own is in no pool; it was made for an engine that is under guard.
        if not isinstance(record, OwnConnection):
            adopt(record._ConnectionRecord__pool, dialect)  # noqa: SLF001

    def on_checkout(_: Any, __: Any, fairy: Any) -> None:
        pool = fairy._pool  # noqa: SLF001
        adopt(pool, pool._dialect)  # noqa: SLF001

    sa_event.listen(Engine, "do_connect", on_connect)
    sa_event.listen(Pool, "checkout", on_checkout)
    forget_new = _tell_of_new(adopt)

    def undo() -> None:
        forget_new()
        sa_event.remove(Engine, "do_connect", on_connect)
        sa_event.remove(Pool, "checkout", on_checkout)
        for protection in protections():
            protection.undo()

    return undo


@contextmanager
def unadopted() -> Iterator[None]:
    """Leave engines that are made or used in the block to their maker: none is adopted."""
    before = _ours.set(True)
    try:
        yield
    finally:
        _ours.reset(before)


def _tell_of_new(adopt: Callable[[Pool, Any], None]) -> Callable[[], None]:
    """Have `adopt` called for each engine that is made; return what ends it, in any order."""
    plain = Engine.__init__
    # Who was put on after us may go on calling us: we do nothing more then.
    in_force = True

    def make(engine: Engine, *args: Any, **options: Any) -> None:
        plain(engine, *args, **options)
        if in_force and not _ours.get():
            adopt(engine.pool, engine.dialect)
            _engines[id(engine)] = engine

    made = _named_like(plain, make)

    def end() -> None:
        nonlocal in_force
        in_force = False
        if Engine.__init__ is made:
            Engine.__init__ = plain  # type: ignore[method-assign]

    Engine.__init__ = made  # type: ignore[method-assign]
    return end


def _named_like(plain: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` as one that takes its arguments by the names that `plain` has for them.

    SQLAlchemy 2.0 reads in the code of `Engine.__init__` what `create_engine` may hand on, and
    refuses `echo` where that has but `*args` and `**options`.
    """
    parameters = signature(plain, follow_wrapped=False).parameters.values()
    if any(one.kind is not one.POSITIONAL_OR_KEYWORD for one in parameters):
        return wraps(plain)(function)  # somebody else's, who has taken the names away before us
    takes = ", ".join(
        one.name if one.default is one.empty else f"{one.name}=defaults[{one.name!r}]"
        for one in parameters
    )
    space = {"function": function, "defaults": {one.name: one.default for one in parameters}}
    hands_on = ", ".join(one.name for one in parameters)
    exec(f"def named({takes}): function({hands_on})", space)  # noqa: S102 - names of parameters
    named: Any = space["named"]
    return wraps(plain)(named)


def _free_name(taken: Iterable[str]) -> str:
    used, name, number = set(taken), "main", 1
    while name in used:
        number += 1
        name = f"main-{number}"
    return name


def _nothing() -> None:
    return None


def _ask(statements: Sequence[str], values: list[Any], connection: Any) -> None:
    cursor = connection.cursor()
    try:
        for statement in statements:
            cursor.execute(statement)
            values.append(cursor.fetchone()[0])
    finally:
        cursor.close()
    connection.rollback()


def _cut(driver: Driver, held: "ref[Any]") -> None:
    record = held()
    connection = None if record is None else record.dbapi_connection
    if connection is not None:
        driver.cut(connection)


def _unwatched(
    original: Callable[..., Any],
    commits: bool,  # noqa: FBT001
    *args: Any,
    **options: Any,
) -> Any:
    """Call on a connection that was out before we came: unbounded, and noted all the same."""
    try:
        answer = original(*args, **options)
    except BaseException as error:
        note_failure(error)
        raise
    if commits:
        note_commit()
    return answer


def _allowed(seconds: float) -> float:
    """Return how long a statement may take here, where any other may take `seconds`.

    A unit of a kind that takes longer, a report, has its own length; the server, which is told it
    too, is to be the first to end it.
    """
    attempt = current_attempt()
    if attempt is None or not 0 < seconds < attempt.statement_seconds:
        return seconds
    return attempt.statement_seconds + AHEAD_SECONDS


def _earlier(at: float) -> float:
    deadline = current_deadline()
    return at if deadline is None or at < deadline else deadline


def _record_of(connection: Any) -> Any:
    fairy = getattr(connection, "_dbapi_connection", None)
    return getattr(fairy, "_connection_record", None)


def _is_autocommit(context: Any) -> bool:
    connection = getattr(context, "root_connection", None)
    # SQLAlchemy itself asks, on a connection it has just made, where there is none.
    return connection is not None and is_autocommit(connection)


def is_autocommit(connection: Any) -> bool:
    """Say whether each statement of an SQLAlchemy connection is a transaction of its own."""
    level = connection.get_execution_options().get("isolation_level")
    if level is None:
        level = getattr(connection.dialect, "_on_connect_isolation_level", None)
    return bool(level == "AUTOCOMMIT")


def watched(record: Any, seconds: float, call: Callable[[], T]) -> T:
    """Call what speaks with the server on a connection that is between two users.

    `record` is what SQLAlchemy's pool events give. Cut after `seconds` where the engine is under
    guard, as a statement would be; elsewhere it is a plain call.
    """
    watch = record.__dict__.get(WATCH)
    if watch is None:
        return call()
    before = watch.begin(_earlier(monotonic() + seconds), DbPhase.CHECKOUT)
    try:
        return call()
    finally:
        watch.end(before)


def _loop_name(loop: Any) -> str:
    thread = getattr(loop, "_thread_id", None)
    names = {item.ident: item.name for item in threading.enumerate()}
    return f"of thread '{names.get(thread, thread)}'" if thread else f"{id(loop):#x}"


def _cut_note(name: str, phase: str, seconds: float) -> str:
    return (
        f"cut by shipworthy: the {phase} on '{name}' was not done after {seconds:.2f} s "
        f"(section [db] of the settings, or the deadline of the request)"
    )


_inherited: list[Pool] = []


def _after_fork() -> None:
    """Let the child connect anew: a socket that two processes read from serves neither."""
    global _lock  # noqa: PLW0603 - whoever held it is not in this process
    _lock = threading.RLock()
    for engine in list(_engines.values()):
        # Kept, so that no finalizer says goodbye to the server on the parent's socket.
        _inherited.append(engine.pool)
        engine.dispose(close=False)


os.register_at_fork(after_in_child=_after_fork)
