"""Run a whole transaction to a known end: committed, not committed, or said not to be known.

The one place in this room that repeats something. A unit of work is a function that is given a
connection or a session, between a BEGIN and a COMMIT that are ours. It runs again from its
beginning when the database gave it up or was not there, and never when it may have been applied:
then the database is asked, and the answer decides.

There is one loop, for threads and for event loops: async units run in the greenlet in which
SQLAlchemy itself runs its async engines, and wait there.

Not here: what follows a failure (`unit`), what an error means (`classify`), deadlines of single
calls (`guard`), and replaying a whole request (`web`).
"""

import asyncio
import inspect
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import inf
from typing import Annotated, Any, Final, Required, TypedDict, TypeVar, cast, final, overload
from uuid import uuid4
from weakref import WeakKeyDictionary

import sqlalchemy as sa
import sqlalchemy.exc
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.util import await_only, greenlet_spawn
from typing_extensions import Unpack, override

from shipworthy.context import current_deadline, deadline_scope, note_retry
from shipworthy.db.attempt import Attempt, attempt_scope
from shipworthy.db.breaking import DatabaseRefused
from shipworthy.db.classify import (
    PHASE_ATTRIBUTE,
    classify,
    concerns_database,
    facts_of,
    verdict_of,
)
from shipworthy.db.dialects import dialect_named
from shipworthy.db.dialects.bounds import begin_statement, rolled_back
from shipworthy.db.kinds import OperationKind, kind_named
from shipworthy.db.outcome import DbPhase, Outcome
from shipworthy.db.question import Question, ServerStatus, TokenRow
from shipworthy.db.tables import OUTCOMES, prune_outcomes
from shipworthy.db.unit import (
    CONTENTION,
    AskDatabase,
    CommitAnswer,
    Done,
    Next,
    Unit,
    UnitFailure,
    UnitOver,
)
from shipworthy.errors import Misuse, ShipworthyError
from shipworthy.events import Event, FirstNames, Label, Measure, Severity, emit, event
from shipworthy.resilience import RetryBudget, RetryRule, retrying_scope

T = TypeVar("T")
S = TypeVar("S", bound=Session)
AS = TypeVar("AS", bound=AsyncSession)

# COMMIT may take this share of the time that is left, so that some is left to ask what became of
# it.
COMMIT_SHARE: Final = 0.75
# How long it is believed that our tables are not there.
ABSENT_SECONDS: Final = 60.0
# Somebody must change something before an answer can come.
_NO_ANSWER: Final = frozenset({Outcome.AUTH_CONFIG, Outcome.PERMANENT, Outcome.READ_ONLY})
# A row of ours is of no use once no transaction that it speaks of can still be open.
OUTCOME_KEPT_SECONDS: Final = 86_400.0
# Each process deletes up to twice as many old rows as it writes, so the table is as long as a day.
PRUNED_EVERY: Final = 500
PRUNED_ROWS: Final = 1_000
PRUNE_SECONDS: Final = 1.0


@event(severity=Severity.INFO)
class UnitRepeated(Event):
    """A transaction failed in a way that another run may cure, and is run again as a whole."""

    unit: Annotated[str, Label]
    outcome: Annotated[str, Label]
    wait_seconds: Annotated[float, Measure]
    because: str


@event(severity=Severity.WARNING)
class CommitResolved(Event):
    """The answer to a COMMIT was lost, and the database could say whether it was applied."""

    unit: Annotated[str, Label]
    answer: Annotated[str, Label]
    operation_id: str


@event(severity=Severity.ERROR)
class CommitLost(Event):
    """The answer to a COMMIT was lost, and nobody knows whether it was applied.

    `question` is the statement that finds out, '' where there is none.
    """

    unit: Annotated[str, Label]
    operation_id: str
    because: str
    question: str


@final
class LostCommit(ShipworthyError, sqlalchemy.exc.OperationalError):
    """Nobody knows whether the transaction was applied; never run it again before you know.

    `operation_id` is what the log, the client and whoever looks into it have in common;
    `question` the statement that finds out, '' where there is none. An OperationalError to whoever
    catches those.
    """

    status = 500

    def __init__(
        self, name: str, *, operation_id: str, because: str, question: str, error: BaseException
    ) -> None:
        self.name = name
        self.operation_id = operation_id
        self.because = because
        self.question = question
        look = f"ask once it answers: {question}" if question else "look for what it would write"
        self.message = (
            f"the connection was lost during the COMMIT of '{name}' (operation {operation_id}) and "
            f"{because}: whether it was applied is not known. Do not repeat it blindly; {look}"
        )
        sqlalchemy.exc.OperationalError.__init__(self, None, None, error)

    @override
    def __str__(self) -> str:
        return self.message

    @property
    def public_detail(self) -> str:
        """Return what a client may be told: the operation, by which it can be looked for."""
        return (
            f"the connection to the database was lost at the last moment, and whether operation "
            f"{self.operation_id} took effect is not known; look before you send it again"
        )


@final
class TransactionEnded(Misuse):
    """A unit of work committed or rolled back by itself, so it is no longer one unit."""


@final
class TransactionOverdue(ShipworthyError, TimeoutError):
    """The time of a unit was over before its COMMIT; it was rolled back, nothing was applied."""

    status = 504


@event(severity=Severity.WARNING)
class OutcomesUnpruned(Event):
    """Old rows of our table of outcomes could not be deleted; it is tried again later."""

    because: str


class UnitOptions(TypedDict, total=False):
    """What a unit may be told; only `name` has no default.

    `name` stands in events and messages: a constant, as `orders.pay`. `read_only` says that it
    writes nothing, and is enforced where a database can. `isolation` is SQLAlchemy's isolation
    level. `kind` is how long it may take, a name or an `OperationKind`: by default
    `interactive-write`, or `interactive-read`. `attempts` counts those that reached the server.
    `token` has the unit leave a row of ours, by which a lost COMMIT is found again: None where our
    tables are installed, True insists on them, False never. `operation_id` is for whoever must
    find out about a lost COMMIT; one is made up without.
    """

    name: Required[str]
    read_only: bool
    isolation: str | None
    kind: str | OperationKind | None
    attempts: int
    token: bool | None
    operation_id: str | None


@overload
def run_transaction(
    source: Engine, fn: Callable[[Connection], T], **options: Unpack[UnitOptions]
) -> T: ...
@overload
def run_transaction(
    source: sessionmaker[S], fn: Callable[[S], T], **options: Unpack[UnitOptions]
) -> T: ...
def run_transaction(source: Any, fn: Callable[[Any], Any], **options: Unpack[UnitOptions]) -> Any:
    """Run `fn` in a transaction, commit it, and return its result, which was then applied once.

    `fn` may run several times, so what it does beside the database happens several times too. It
    must not commit or roll back by itself (savepoints are its own): `TransactionEnded`. Raises
    `LostCommit` where nobody knows whether it was applied, `TransactionOverdue` when its time was
    over, `Misuse` for options that cannot be, and otherwise what the last attempt raised.
    """
    if isinstance(source, (AsyncEngine, async_sessionmaker)) or inspect.iscoroutinefunction(fn):
        raise Misuse(
            f"'{options.get('name')}' is asynchronous: await run_transaction_async(...) instead"
        )
    return _Run(source, fn, _Wanted(**options)).to_its_end()


@overload
async def run_transaction_async(
    source: AsyncEngine,
    fn: Callable[[AsyncConnection], Awaitable[T]],
    **options: Unpack[UnitOptions],
) -> T: ...
@overload
async def run_transaction_async(
    source: async_sessionmaker[AS], fn: Callable[[AS], Awaitable[T]], **options: Unpack[UnitOptions]
) -> T: ...
async def run_transaction_async(
    source: Any, fn: Callable[[Any], Awaitable[Any]], **options: Unpack[UnitOptions]
) -> Any:
    """Do as `run_transaction` for an async engine and a coroutine function, cut at the deadline.

    A cancellation ends it at once. During COMMIT nobody asks any more what became of it: that is
    said by the event `db.commit_lost`, counted as lost, and noted on the `CancelledError`.
    """
    if not isinstance(source, (AsyncEngine, async_sessionmaker)):
        raise Misuse(
            f"'{options.get('name')}' is given {type(source).__name__}, which blocks the event "
            f"loop: pass an AsyncEngine or an async_sessionmaker"
        )
    return await greenlet_spawn(_Run(source, fn, _Wanted(**options)).to_its_end)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    name: str
    read_only: bool = False
    isolation: str | None = None
    kind: str | OperationKind | None = None
    attempts: int = 5
    token: bool | None = None
    operation_id: str | None = None


# -- what is remembered of an engine --


class _Target:
    """What all units on one engine have in common: two budgets, and whether our tables are there.

    Conflicts have a budget of their own, one retry for each first attempt and ten a second:
    contention is not overload, and must not use up what an outage needs. For what was lost the
    reserve is two a second, saved for ten: a restart takes all connections of a pool at once.
    """

    def __init__(self) -> None:
        self.contention = RetryBudget(ratio=1.0, reserve_per_second=10.0)
        self.loss = RetryBudget(reserve_per_second=2.0)
        self.tables = self.writable = False
        self.looked = -inf
        # Whether the server tells what became of a transaction, once that is known.
        self.tells: bool | None = None
        self.tokens = 0

    def deposit(self, now: float) -> None:
        self.contention.deposit(now)
        self.loss.deposit(now)

    def spend(self, outcome: Outcome) -> bool:
        budget = self.contention if outcome in CONTENTION else self.loss
        return budget.spend(time.monotonic())

    def look(self, connection: Connection) -> bool:
        """Say whether our tables are there; asked once, and again a minute after a no."""
        now = time.monotonic()
        if not self.tables and now - self.looked >= ABSENT_SECONDS:
            self.tables = sa.inspect(connection).has_table(OUTCOMES.name)
            self.looked = now
        return self.tables

    def prunes(self) -> bool:
        """Count a row that was written, and say whether old ones are due: the first time, too."""
        self.tokens += 1
        return self.tokens % PRUNED_EVERY == 1

    def forget(self) -> None:
        self.tables, self.writable, self.looked = False, False, -inf


# By dialect: an engine and those made of it with other options share one.
_targets: WeakKeyDictionary[Any, _Target] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class TransactionCounts:
    """What units did since the start: runs beyond the first by (name, outcome), and what became of
    COMMITs whose answer was lost by `committed`, `never` and `lost`."""

    reruns: Mapping[tuple[str, str], int]
    commits: Mapping[str, int]


# Names of units that are counted one by one; a name that is made up at run time has no end.
_names = FirstNames(200)
_reruns: Counter[tuple[str, str]] = Counter()
_commits: Counter[str] = Counter()


def transaction_counts() -> TransactionCounts:
    """Return a copy of the counts; names beyond the first 200 are counted as `_other`."""
    return TransactionCounts(reruns=dict(_reruns), commits=dict(_commits))


def _count_rerun(name: str, outcome: Outcome) -> None:
    _reruns[_names.of(name), outcome.value] += 1


# -- one attempt --


@dataclass(slots=True)
class _Opened:
    """A connection or session with its transaction, whichever was asked for."""

    given: Any
    connection: Connection
    begun: object
    current: Callable[[], object]
    flush: Callable[[], object]
    commit: Callable[[], object]
    close: Callable[[], object]
    # What closes it where `close` has failed.
    abandon: Callable[[], object]


def _open_connection(source: Engine | AsyncEngine, isolation: str | None) -> _Opened:
    given: Any
    if isinstance(source, AsyncEngine):
        given = source.connect()
        await_only(given.start())
        connection = cast("Connection", given.sync_connection)
    else:
        given = connection = source.connect()
    try:
        if isolation is not None:
            connection.execution_options(isolation_level=cast("Any", isolation))
        begun = connection.begin()
    except BaseException:
        connection.close()
        raise
    return _Opened(
        given=given,
        connection=connection,
        begun=begun,
        current=connection.get_transaction,
        flush=_nothing,
        commit=connection.commit,
        close=connection.close,
        abandon=connection.close,
    )


def _open_session(source: Any, isolation: str | None) -> _Opened:
    given = source()
    session: Session = given.sync_session if isinstance(given, AsyncSession) else given
    options: Any = {} if isolation is None else {"isolation_level": isolation}
    try:
        begun = session.begin()
        connection = session.connection(execution_options=options)
    except BaseException:
        session.close()
        raise
    return _Opened(
        given=given,
        connection=connection,
        begun=begun,
        current=session.get_transaction,
        flush=session.flush,
        commit=session.commit,
        close=session.close,
        abandon=session.invalidate,
    )


def _nothing() -> None:
    return None


@final
class _Run:
    """One call of `run_transaction`, from the first attempt to its end."""

    def __init__(self, source: Any, fn: Callable[[Any], Any], wanted: _Wanted) -> None:
        self._source = source
        self._fn = fn
        self._wanted = wanted
        self._engine = _engine_of(source, wanted)
        self._is_async = isinstance(source, (AsyncEngine, async_sessionmaker))
        self._name = wanted.name
        self._operation_id = wanted.operation_id or uuid4().hex
        kind = wanted.kind or ("interactive-read" if wanted.read_only else "interactive-write")
        self._kind = kind_named(kind) if isinstance(kind, str) else kind
        self._dialect = dialect_named(self._engine.dialect.name)
        self._target = _targets.setdefault(self._engine.dialect, _Target())
        self._deadline = inf
        # Of the attempt that runs, or ran last.
        self._phase: DbPhase | None = None
        self._writes = True
        self._question: Question | None = None
        self._broken = self._ended_itself = False
        # A COMMIT was sent, and what became of it is not known yet.
        self._undecided = False
        self._did = Attempt()
        self._result: Any = None

    def to_its_end(self) -> Any:
        """Run the unit until it is decided."""
        began = time.monotonic()
        with self._until(began + (self._kind.total_seconds or inf)), retrying_scope() as outermost:
            self._deadline = current_deadline() or inf
            if self._left() <= 0:
                raise self._overdue("was not begun")
            self._target.deposit(began)
            unit = Unit(RetryRule(attempts=self._wanted.attempts), repeats=outermost)
            while True:
                try:
                    self._attempt()
                except Exception as error:
                    follows = self._after(unit, error)
                    if isinstance(follows, UnitOver):
                        # Here, so that it carries the traceback of the attempt and no more.
                        raise
                    if isinstance(follows, Done):
                        return self._result
                    self._pause(follows.wait_seconds)
                except BaseException as cut:
                    self._cut_off(cut)
                    raise
                else:
                    return self._result

    # -- an attempt --

    def _attempt(self) -> None:
        self._question, self._writes = None, not self._wanted.read_only
        self._broken, self._ended_itself, self._result = False, False, None
        self._phase = DbPhase.CONNECT
        with attempt_scope() as self._did:
            self._did.statement_seconds = self._kind.statement_seconds
            with self._until(time.monotonic() + (self._kind.checkout_seconds or inf)):
                open_it = (
                    _open_connection
                    if isinstance(self._source, (Engine, AsyncEngine))
                    else _open_session
                )
                opened = open_it(self._source, self._wanted.isolation)
            try:
                self._work(opened)
            except BaseException as error:
                if self._phase is DbPhase.STATEMENT:
                    self._broken = opened.connection.invalidated
                    self._ended_itself = opened.current() is not opened.begun
                _close(opened, error)
                raise
            opened.close()
        if isinstance(self._question, TokenRow) and self._target.prunes():
            self._prune()

    def _prune(self) -> None:
        """Delete what nobody will ask for any more; that this fails is not the unit's failure."""
        try:
            with (
                self._until(time.monotonic() + PRUNE_SECONDS),
                self._engine.begin() as connection,
            ):
                prune_outcomes(connection, time.time() - OUTCOME_KEPT_SECONDS, PRUNED_ROWS)
        except Exception as error:  # noqa: BLE001 - the unit is committed, whatever this is
            emit(OutcomesUnpruned, because=classify(error).because)

    def _work(self, opened: _Opened) -> None:
        self._phase = DbPhase.STATEMENT
        self._begin(opened.connection)
        tables = self._wants_token(opened.connection)
        self._result = self._call(opened.given)
        if opened.current() is not opened.begun:
            raise TransactionEnded(self._ended())
        opened.flush()
        self._refuse_half()
        self._note(opened.connection, tables=tables)
        if self._left() <= 0:
            raise self._overdue("was rolled back")
        self._phase = DbPhase.COMMIT
        asks = 1.0 if self._question is None else COMMIT_SHARE
        with self._until(time.monotonic() + self._left() * asks):
            self._undecided = self._writes
            opened.commit()
        self._undecided = False
        self._phase = None

    def _begin(self, connection: Connection) -> None:
        statement = begin_statement(
            self._engine.dialect.name, self._kind.bounds(read_only=self._wanted.read_only)
        )
        if statement is not None:
            connection.exec_driver_sql(statement)

    def _wants_token(self, connection: Connection) -> bool:
        wanted = self._wanted.token
        if self._wanted.read_only or wanted is False:
            return False
        there = self._target.look(connection)
        if wanted and not there:
            self._target.forget()
            raise Misuse(
                f"'{self._name}' wants an outcome token and this database has no table "
                f"{OUTCOMES.name}: run `shipworthy db migrate`, or leave token out"
            )
        return there

    def _call(self, given: Any) -> Any:
        if not self._is_async:
            return self._fn(given)
        return await_only(self._within(self._fn(given)))

    async def _within(self, working: Awaitable[Any]) -> Any:
        left = self._left()
        limit = asyncio.timeout(None if left == inf else left)
        try:
            async with limit:
                return await working
        except TimeoutError:
            if limit.expired():
                raise self._overdue("was cut and rolled back") from None
            raise

    def _refuse_half(self) -> None:
        """Fail where a server threw the first half away and the unit has not noticed."""
        for failure in self._did.failures:
            if rolled_back(self._engine.dialect.name, classify(failure).code):
                raise failure

    def _note(self, connection: Connection, *, tables: bool) -> None:
        """Leave something to ask for, where there is something to lose."""
        status = None if self._dialect is None else self._dialect.transaction_status
        if not self._writes:
            return
        if tables and self._left_token(connection):
            return
        if status is not None and self._target.tells is not False:
            row = self._told(connection, f"SELECT ({status.assigned}), ({status.place})")
            if row is not None:
                self._writes = row[0] is not None
                if self._writes:
                    self._question = ServerStatus(status, row[0], row[1])

    def _left_token(self, connection: Connection) -> bool:
        """Insert the token's row; false where we may not, and nothing of the unit is lost."""
        known = self._target.writable
        try:
            # The first time in a savepoint: whoever installed the table may not have granted it.
            with nullcontext() if known else connection.begin_nested():
                self._question = TokenRow(connection)
        except sqlalchemy.exc.DBAPIError as error:
            self._target.forget()
            if known or self._wanted.token or classify(error).outcome is not Outcome.AUTH_CONFIG:
                raise
            self._target.looked = time.monotonic()
            return False
        self._target.writable = True
        return True

    def _told(self, connection: Connection, text: str) -> Any:
        """Return what the server tells; None where it may not, and nothing of the unit is lost."""
        if self._target.tells:
            return connection.execute(sa.text(text)).one()
        try:
            # The first time, in a savepoint: a refusal would be the end of the transaction.
            with connection.begin_nested():
                row = connection.execute(sa.text(text)).one()
        except sqlalchemy.exc.DBAPIError as error:
            if classify(error).outcome not in _NO_ANSWER:
                raise
            self._target.tells = False
            return None
        self._target.tells = True
        return row

    # -- what follows a failure --

    def _after(self, unit: Unit, error: Exception) -> Next:
        failure = self._failure(error)
        if failure is None:
            self._undecided = False
            return UnitOver("no database had a part in it")
        first = next(iter(self._did.failures), error.__cause__)
        if failure.outcome is Outcome.APP_STATE and first is not error.__cause__:
            error.add_note(f"'{self._name}' had failed before and went on: {first!r}")
        follows: Next = unit.failed(
            failure, left_seconds=self._left(), spend=self._target.spend, draw=random.random
        )
        while isinstance(follows, AskDatabase):
            try:
                self._pause(follows.wait_seconds)
                answer = self._ask()
            except BaseException as cut:
                self._cut_off(cut)
                raise
            follows = unit.answered(
                answer, left_seconds=self._left(), spend=self._target.spend, draw=random.random
            )
            if answer in (CommitAnswer.COMMITTED, CommitAnswer.NEVER):
                self._resolved(answer, error)
        self._undecided = False
        if isinstance(follows, UnitOver):
            self._end(follows, error)
        elif not isinstance(follows, Done):
            _count_rerun(self._name, failure.outcome)
            note_retry()
            emit(
                UnitRepeated,
                unit=self._name,
                outcome=failure.outcome.value,
                wait_seconds=follows.wait_seconds,
                because=failure.because,
            )
        return follows

    def _failure(self, error: Exception) -> UnitFailure | None:
        facts = facts_of(error)
        if self._phase is None or not concerns_database(facts):
            return None
        # Without a guard nobody noted the phase. What did not happen to our own connection may
        # have happened anywhere, so that is left open.
        stranger = self._phase is DbPhase.STATEMENT and not self._broken
        phase = facts.phase or (None if stranger else self._phase)
        verdict = verdict_of(facts, phase=phase)
        unconnected = phase is DbPhase.CONNECT and not verdict.ours
        # What an open breaker says is for callers far away; here it is asked again at no cost.
        shut = isinstance(error, DatabaseRefused)
        retry_after = None if shut else getattr(error, "retry_after_seconds", None)
        return UnitFailure(
            outcome=verdict.outcome,
            because=verdict.because,
            connected=not (unconnected or verdict.refused or shut),
            in_commit=self._phase is DbPhase.COMMIT,
            writes=self._writes,
            askable=self._question is not None,
            applied=self._did.commits > 0 or self._ended_itself,
            retry_after_seconds=retry_after if isinstance(retry_after, float) else None,
        )

    def _ask(self) -> CommitAnswer:
        question = self._question
        assert question is not None  # nobody asks without one
        try:
            with self._engine.connect() as connection:
                self._begin(connection)
                return question.ask(connection)
        except Exception as error:  # noqa: BLE001 - whatever it is, it decides nothing
            outcome = classify(error).outcome
            # The row came between our look and our INSERT: the next look sees it.
            if isinstance(error, sqlalchemy.exc.IntegrityError) or outcome not in _NO_ANSWER:
                return CommitAnswer.OPEN
            error.add_note(f"asked what became of the COMMIT of '{self._name}'")
            return CommitAnswer.UNKNOWN

    def _resolved(self, answer: CommitAnswer, error: Exception) -> None:
        _commits[answer.value] += 1
        emit(CommitResolved, unit=self._name, answer=answer.value, operation_id=self._operation_id)
        if answer is CommitAnswer.NEVER:
            # For whoever classifies it: nothing is ambiguous any more.
            setattr(error, PHASE_ATTRIBUTE, DbPhase.STATEMENT)
            error.add_note(f"'{self._name}' was not committed: the database says so")

    def _lost(self, because: str) -> str:
        """Say that nobody knows what became of the COMMIT; return what finds out."""
        question = "" if self._question is None else self._question.text
        _commits["lost"] += 1
        emit(
            CommitLost,
            unit=self._name,
            operation_id=self._operation_id,
            because=because,
            question=question,
        )
        return question

    def _cut_off(self, cut: BaseException) -> None:
        """Whoever ends us does not wait for a question to the database; then others must ask."""
        if not self._undecided:
            return
        self._undecided = False
        question = self._lost("whoever waited for it was cancelled before it was known")
        cut.add_note(
            f"in the COMMIT of '{self._name}' (operation {self._operation_id}); whether it was "
            f"applied is not known, ask: {question or 'for what it would write'}"
        )

    def _end(self, end: UnitOver, error: Exception) -> None:
        if end.lost:
            question = self._lost(end.because)
            raise LostCommit(
                self._name,
                operation_id=self._operation_id,
                because=end.because,
                question=question,
                error=error,
            ) from error
        if end.applied:
            raise TransactionEnded(self._ended()) from error
        error.add_note(f"'{self._name}' is not run again: {end.because}")

    def _ended(self) -> str:
        return (
            f"the unit '{self._name}' committed or rolled back by itself, so it can neither be "
            f"applied as a whole nor run again: leave COMMIT to run_transaction, use begin_nested "
            f"for a part that may fail, and give what is committed apart a unit of its own"
        )

    # -- time --

    def _left(self) -> float:
        return self._deadline - time.monotonic()

    def _until(self, at: float) -> AbstractContextManager[object]:
        return nullcontext() if at == inf else deadline_scope(at)

    def _pause(self, seconds: float) -> None:
        if self._is_async:
            await_only(asyncio.sleep(seconds))
        else:
            time.sleep(seconds)

    def _overdue(self, what: str) -> TransactionOverdue:
        total = self._kind.total_seconds
        limit = f"{total:g} s of kind '{self._kind.name}'" if total else "deadline of its request"
        return TransactionOverdue(
            f"the unit '{self._name}' {what}: its time was over (the {limit}, or what the caller "
            f"had left of its own); nothing of it was applied"
        )


def _engine_of(source: Any, wanted: _Wanted) -> Engine:
    if isinstance(source, AsyncEngine):
        engine: Any = source.sync_engine
    elif isinstance(source, Engine):
        engine = source
    else:
        session = source()
        engine = getattr(session, "sync_session", session).get_bind()
    if not isinstance(engine, Engine):
        raise Misuse(
            f"'{wanted.name}' is given a {type(source).__name__} that is bound to a "
            f"{type(engine).__name__}: bind it to an engine, because every attempt, and every "
            f"question about a lost COMMIT, takes a new connection"
        )
    level = wanted.isolation or engine.get_execution_options().get("isolation_level")
    level = level or getattr(engine.dialect, "_on_connect_isolation_level", None)
    if level == "AUTOCOMMIT":
        raise Misuse(
            f"'{wanted.name}' would run in autocommit, where each statement is a transaction of "
            f"its own; give the unit another isolation level"
        )
    return engine


def _close(opened: _Opened, error: BaseException) -> None:
    """Roll back and give the connection back, whatever state it is in; `error` is what counts."""
    try:
        opened.close()
    except Exception as second:  # noqa: BLE001 - said, and the first error goes on
        error.add_note(f"its ROLLBACK failed too: {type(second).__name__}")
        opened.abandon()
