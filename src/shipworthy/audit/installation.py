"""Make the trail on a live database, or take it away, and keep nobody waiting.

The order: the migrator's lock, our own tables, the guards of the log, then one table after the
other, the smallest first, each in a transaction that waits only briefly for its lock. Whatever
interrupts it, the next call goes on from there; where all is done, it does nothing.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Final, final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.pool import SingletonThreadPool, StaticPool

from shipworthy.audit.binding import look_again
from shipworthy.audit.coverage import Coverage, coverage_of, judge_trail
from shipworthy.audit.dialects import AuditDialect, dialect_for
from shipworthy.audit.reading import connection_of
from shipworthy.audit.script import run_text
from shipworthy.audit.settings import AuditSettings, read_capture, write_capture
from shipworthy.audit.steps import (
    InstallPlan,
    InstallStep,
    plan_install,
    plan_release,
    plan_uninstall,
)
from shipworthy.audit.survey import survey_trail
from shipworthy.clock import SYSTEM_CLOCK, Clock
from shipworthy.db import (
    Outcome,
    Patience,
    classify,
    long_transactions,
    migration_dialect,
    only_migrator,
)
from shipworthy.errors import Misuse, ShipworthyError
from shipworthy.resilience import Backoff

LOCK_TIMEOUT_SECONDS: Final = 1.0
LOCK_WAIT_SECONDS: Final = 60.0
TRIES: Final = 10
# Whoever holds the lock is to end meanwhile; and those who waited behind us go first.
BACKOFF: Final = Backoff(base_seconds=0.5, factor=2.0, cap_seconds=10.0)
# The schema may change while we work; then it is looked at again.
ROUNDS: Final = 3

# A session is for `AsyncSession.run_sync`.
Place = sa.Engine | sa.Connection | Session
Say = Callable[[str], None]
Progress = Callable[[InstallStep, int, int], None]


@final
class InstallFailed(ShipworthyError):
    """Not all of it could be done; `done` are the tables that were, and stay so."""

    def __init__(self, message: str, *, done: tuple[str, ...]) -> None:
        self.done = done
        super().__init__(message)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class InstallOptions:
    """How patient an installation is: with other migrators, and with each lock."""

    lock_wait_seconds: float = LOCK_WAIT_SECONDS
    lock_timeout_seconds: float = LOCK_TIMEOUT_SECONDS
    tries: int = TRIES


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class InstallReport:
    """What was done, step by step, and what stays open."""

    steps: tuple[InstallStep, ...]
    notes: tuple[str, ...] = field(default=())


def plan(target: Place, settings: AuditSettings | None = None) -> InstallPlan:
    """Return what `install` would do, with its SQL; changes nothing.

    Without `settings` it goes by those that were in force at the last installation.
    Raises `Misuse` for a kind of database that is not known here, and what the database raises.
    """
    with _connected(target) as connection:
        return _plan(connection, settings, SYSTEM_CLOCK)


def check(target: Place, settings: AuditSettings | None = None) -> Coverage:
    """Return whether everything is captured that is to be; changes nothing.

    Without `settings` it goes by those that were in force at the last installation.
    Raises `Misuse` for a kind of database that is not known here, and what the database raises.
    """
    with _connected(target) as connection:
        dialect = dialect_for(connection.dialect.name)
        survey = survey_trail(connection, dialect)
        return coverage_of(judge_trail(survey, settings or read_capture(survey.settings), dialect))


def install(
    target: Place,
    settings: AuditSettings | None = None,
    *,
    options: InstallOptions | None = None,
    progress: Progress | None = None,
    say: Say = print,
    wait: Callable[[float], None] = time.sleep,
    clock: Clock = SYSTEM_CLOCK,
) -> InstallReport:
    """Capture every table that is to be, on a database that is being used; again is nothing.

    With a connection or a session all of it is done in its transaction, which the caller ends: for
    a migration that changes a table, so that its triggers change with it. With an engine each step
    is a transaction of its own that waits briefly and is tried again. Without `settings` it goes by
    those that were in force at the last installation.

    Raises `Misuse` for settings that name what is not there, `MigratorBusy` for another migrator,
    `InstallFailed` where a table stays locked or a right is missing; what was done stays. Blocks.
    """
    if not isinstance(target, sa.Engine):
        connection = connection_of(target)
        return _here(connection, _plan(connection, settings, clock))
    run = _Run(target, options or InstallOptions(), say=say, wait=wait, clock=clock)
    with run.alone():
        for _ in range(ROUNDS):
            with target.connect() as connection:
                found = _usable(_plan(connection, settings, clock))
            if not found.steps:
                break
            run.do(found, progress)
            look_again()
        else:
            raise InstallFailed(
                f"the tables changed during each of {ROUNDS} rounds; call it again when the other "
                f"migration is over",
                done=run.done,
            )
    return InstallReport(steps=tuple(run.steps), notes=found.notes)


def uninstall(
    engine: sa.Engine,
    *,
    keep_log: bool = False,
    options: InstallOptions | None = None,
    progress: Progress | None = None,
    say: Say = print,
    wait: Callable[[float], None] = time.sleep,
    clock: Clock = SYSTEM_CLOCK,
) -> InstallReport:
    """Take everything of ours away, the log with all that is in it too unless `keep_log`.

    Raises as `install` does. Blocks.
    """
    run = _Run(engine, options or InstallOptions(), say=say, wait=wait, clock=clock)
    with run.alone():
        with engine.connect() as connection:
            found = _plan_uninstall(connection, keep_log=keep_log)
        run.do(found, progress)
        look_again()
    return InstallReport(steps=tuple(run.steps))


def plan_of_uninstall(engine: sa.Engine, *, keep_log: bool = False) -> InstallPlan:
    """Return what `uninstall` would do, with its SQL; changes nothing."""
    with engine.connect() as connection:
        return _plan_uninstall(connection, keep_log=keep_log)


@final
class _Run:
    """The steps of one call, done one by one."""

    def __init__(
        self,
        engine: sa.Engine,
        options: InstallOptions,
        *,
        say: Say,
        wait: Callable[[float], None],
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._dialect = dialect_for(engine.dialect.name)
        self._options = options
        self._say = say
        self._wait = wait
        self._clock = clock
        self.steps: list[InstallStep] = []

    @property
    def done(self) -> tuple[str, ...]:
        return tuple(step.what for step in self.steps)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other migrators out for the length of the block."""
        migrating = migration_dialect(self._engine.dialect.name)
        assert migrating is not None  # every kind that has a trail can be migrated
        patience = Patience(
            seconds=self._options.lock_wait_seconds,
            say=self._say,
            wait=self._wait,
            clock=self._clock,
        )
        with only_migrator(self._engine, migrating, patience):
            yield

    def do(self, plan: InstallPlan, progress: Progress | None) -> None:
        """Do every step; a table that stays locked keeps none of the others from being done."""
        locked: list[str] = []
        for number, step in enumerate(plan.steps):
            if progress is not None:
                progress(step, number, len(plan.steps))
            sentence = self._one(step)
            if sentence:
                locked.append(sentence)
            else:
                self.steps.append(step)
            # Without its tables and guards nothing can be captured.
            if sentence and step.kind in ("tables", "guards"):
                break
        if locked:
            raise InstallFailed("\n".join(locked), done=self.done)

    def _one(self, step: InstallStep) -> str:
        """Do a step; return why not, where its lock was not to be had."""
        for attempt in count(1):
            try:
                self._transaction(step)
            except DBAPIError as error:
                if not self._is_locked(error):
                    raise self._refused(step, error) from error
                if attempt >= self._options.tries:
                    return self._locked(step)
                self._say(
                    f"{step.what} is locked for more than "
                    f"{self._options.lock_timeout_seconds:g} s (try {attempt} of "
                    f"{self._options.tries})"
                )
                self._wait(random.uniform(0.0, BACKOFF.ceiling(attempt)))  # noqa: S311 - no secret
            else:
                return ""
        raise AssertionError  # count() does not end

    def _transaction(self, step: InstallStep) -> None:
        with self._engine.connect() as connection:
            if not isinstance(self._engine.pool, (StaticPool, SingletonThreadPool)):
                # What bounds its waits may outlive the transaction: nobody else is to get it.
                connection.detach()
            begin_careful(connection, self._dialect, self._options.lock_timeout_seconds)
            for statement in step.statements:
                run_text(connection, statement)
            connection.commit()

    def _is_locked(self, error: DBAPIError) -> bool:
        migrating = migration_dialect(self._engine.dialect.name)
        found = classify(error)
        codes = frozenset() if migrating is None else migrating.lock_codes
        return found.outcome is Outcome.RERUN or bool(codes & {found.sqlstate, found.code})

    def _refused(self, step: InstallStep, error: DBAPIError) -> InstallFailed:
        found = classify(error)
        said = str(error.orig).strip().splitlines()[:1]
        if found.outcome is Outcome.AUTH_CONFIG:
            advice = (
                "give the SQL of `shipworthy audit plan --sql` to somebody who may run it, or use "
                "a role that owns the tables"
            )
        else:
            advice = "what was done before stays; run it again when the cause is gone"
        return InstallFailed(
            f"{step.what}: {found.because} ({''.join(said) or 'it did not say more'}); {advice}",
            done=self.done,
        )

    def _locked(self, step: InstallStep) -> str:
        seconds = self._options.lock_timeout_seconds
        migrating = migration_dialect(self._engine.dialect.name)
        holders = []
        if migrating is not None:
            with self._engine.connect() as connection:
                holders = long_transactions(
                    connection,
                    migrating,
                    seconds=seconds,
                    tables=frozenset({step.what.rpartition(".")[2].lower()}),
                )
        who = "".join(f"; {holder}" for holder in holders[:3]) or "; nobody can say by whom"
        return (
            f"{step.what} stays locked: no lock within {seconds:g} s in {self._options.tries} "
            f"tries{who}; run it again when they are done, what was done stays"
        )


def begin_careful(connection: sa.Connection, dialect: AuditDialect, seconds: float) -> None:
    """Begin a transaction whose waits for locks are bounded, also where the driver begins late."""
    for statement in dialect.lock_limit(seconds):
        run_text(connection, statement)
    driver = connection.connection.driver_connection
    # sqlite3 alone says so: it would begin at the first write of a row, which a trigger is not.
    if getattr(driver, "in_transaction", True) is False:
        run_text(connection, "BEGIN IMMEDIATE")


def release(target: sa.Connection | Session, *tables: str) -> InstallReport:
    """Take the triggers of some tables away, in the transaction of a connection or session.

    For a migration that drops or renames a column which triggers name: call `install` with the
    same one behind it. Raises `Misuse` for a table that is not there.
    """
    connection = connection_of(target)
    dialect = dialect_for(connection.dialect.name)
    survey = survey_trail(connection, dialect)
    judged = judge_trail(survey, read_capture(survey.settings), dialect)
    return _here(connection, plan_release(judged, dialect, tables))


def _here(connection: sa.Connection, plan: InstallPlan) -> InstallReport:
    """Do all of a plan in the transaction of `connection`."""
    for step in _usable(plan).steps:
        for statement in step.statements:
            run_text(connection, statement)
    if plan.steps:
        # Others see it when the caller commits; who has asked before must not go by that answer.
        sa.event.listen(connection, "commit", lambda _: look_again(), once=True)
    return InstallReport(steps=plan.steps, notes=plan.notes)


def _plan(connection: sa.Connection, settings: AuditSettings | None, clock: Clock) -> InstallPlan:
    dialect = dialect_for(connection.dialect.name)
    survey = survey_trail(connection, dialect)
    chosen = settings or read_capture(survey.settings)
    return plan_install(
        judge_trail(survey, chosen, dialect),
        dialect,
        connection.dialect,
        capture=write_capture(chosen),
        at_microseconds=int(clock.wall() * 1_000_000),
    )


def _plan_uninstall(connection: sa.Connection, *, keep_log: bool) -> InstallPlan:
    dialect = dialect_for(connection.dialect.name)
    judged = judge_trail(survey_trail(connection, dialect), AuditSettings(), dialect)
    return plan_uninstall(judged, dialect, connection.dialect, keep_log=keep_log)


def _usable(found: InstallPlan) -> InstallPlan:
    if found.problems:
        raise Misuse("\n".join(found.problems))
    return found


@contextmanager
def _connected(target: Place) -> Iterator[sa.Connection]:
    if isinstance(target, sa.Engine):
        with target.connect() as connection:
            yield connection
    else:
        yield connection_of(target)
