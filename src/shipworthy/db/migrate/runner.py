"""Bring a live database to a revision, one revision after the other, and keep nobody waiting.

The order: take the migrator's lock, look at what waits and who is in the way, make our own tables,
then run each revision by itself. What is refused is refused before anything was changed.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Final, final

from alembic.script import Script
from sqlalchemy import Connection, Engine, Table
from sqlalchemy.exc import SQLAlchemyError

from shipworthy.context import actor
from shipworthy.db import tables
from shipworthy.db.classify import classify
from shipworthy.db.dialects.migration import MigrationDialect, migration_dialect, server_version
from shipworthy.db.guard import protections
from shipworthy.db.migrate.batches import install_progress, remove_progress
from shipworthy.db.migrate.catalog import (
    BrokenIndex,
    LongTransaction,
    broken_indexes,
    long_transactions,
    proven_columns,
    table_rows,
)
from shipworthy.db.migrate.findings import MigrationFinding, lint, refusals, tables_of
from shipworthy.db.migrate.lock import MigratorLock, Patience, only_migrator
from shipworthy.db.migrate.refused import MigrationFailed, MigrationRefused
from shipworthy.db.migrate.revisions import AlembicProject, RevisionPlan
from shipworthy.db.migrate.rule import LARGE_ROWS, MigrationSeverity
from shipworthy.db.migrate.steps import LOCK_TIMEOUT_SECONDS, TRIES, CarefulSteps
from shipworthy.db.outcome import Outcome
from shipworthy.errors import Misuse
from shipworthy.redact import redact

# What may be accepted beside the rules of the lint.
UNREADABLE: Final = "unreadable"
LONG_TRANSACTION: Final = "long-transaction"
OTHER_DATABASE: Final = "other-database"
LOCK_WAIT_SECONDS: Final = 60.0
HEADS: Final = "heads"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MigrateOptions:
    """What a run may do. `accept` are rules that are accepted in every revision.

    `beside` are tables of rooms above, which are made with ours.
    """

    to: str = HEADS
    ours: bool = True
    beside: tuple[Table, ...] = ()
    accept: frozenset[str] = frozenset()
    lock_wait_seconds: float = LOCK_WAIT_SECONDS
    lock_timeout_seconds: float = LOCK_TIMEOUT_SECONDS
    tries: int = TRIES
    long_transaction_seconds: float = 30.0
    large_rows: int = LARGE_ROWS


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationSurvey:
    """How a database stands before a migration; made without changing it.

    `ours` is the version of our own tables, None where there are none. `refused` has one sentence
    for each thing that a run would stop for.
    """

    ours: int | None
    pending: tuple[RevisionPlan, ...]
    findings: tuple[MigrationFinding, ...]
    behind: tuple[LongTransaction, ...]
    broken: tuple[BrokenIndex, ...]
    refused: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MigrateReport:
    """What a run did; `broken` are invalid indexes that are there now."""

    ours: tuple[str, ...]
    applied: tuple[str, ...]
    findings: tuple[MigrationFinding, ...]
    broken: tuple[BrokenIndex, ...] = field(default=())


def survey_migrations(
    engine: Engine, project: AlembicProject | None, options: MigrateOptions | None = None
) -> MigrationSurvey:
    """Look at what waits, what is dangerous about it and who is in the way; changes nothing.

    Raises `Misuse` for a database or a project that cannot be worked with, and what the database
    raises.
    """
    chosen = options or MigrateOptions()
    _refuse_no_project(project, chosen)
    return _survey(engine, project, chosen, None)


def run_migrations(
    engine: Engine,
    project: AlembicProject | None,
    options: MigrateOptions | None = None,
    *,
    say: Callable[[str], None] = print,
    wait: Callable[[float], None] = time.sleep,
) -> MigrateReport:
    """Make our own tables, then run the revisions that wait, each in its own transaction.

    Without a project there are only our tables. Killed between two revisions it goes on there the
    next time. Raises `MigrationRefused` before anything was changed, `MigratorBusy` for another
    migrator, `MigrationFailed` afterwards. Blocks; for a process, or a thread, of its own.
    """
    chosen = options or MigrateOptions()
    _refuse_no_project(project, chosen)
    dialect = _dialect_of(engine)
    patience = Patience(seconds=chosen.lock_wait_seconds, say=say, wait=wait)
    with only_migrator(engine, dialect, patience) as lock:
        survey = _survey(engine, project, chosen, lock)
        if survey.refused:
            raise MigrationRefused(survey.refused)
        ours = _install_ours(engine, chosen.beside) if chosen.ours else []
        for sentence in ours:
            say(sentence)
        applied: list[str] = []
        if project is not None and survey.pending:
            _Run(engine, project, chosen, lock=lock, patience=patience, applied=applied).run()
        if ours or applied:
            _forget_plans(engine)
        with engine.connect() as connection:
            broken = tuple(broken_indexes(connection, dialect))
    return MigrateReport(
        ours=tuple(ours), applied=tuple(applied), findings=survey.findings, broken=broken
    )


def remove_ours(
    engine: Engine,
    *,
    beside: Sequence[Table] = (),
    lock_wait_seconds: float = LOCK_WAIT_SECONDS,
    say: Callable[[str], None] = print,
    wait: Callable[[float], None] = time.sleep,
) -> list[str]:
    """Drop our own tables, and those `beside`, with all that is in them; say what was dropped.

    Raises `MigratorBusy` for another migrator, and what the database raises.
    """
    dialect = _dialect_of(engine)
    patience = Patience(seconds=lock_wait_seconds, say=say, wait=wait)
    with only_migrator(engine, dialect, patience), engine.begin() as connection:
        return remove_progress(connection) + tables.remove(connection, beside)


@final
class _Run:
    """The revisions of one run; those that stand are in `applied`."""

    def __init__(
        self,
        engine: Engine,
        project: AlembicProject,
        options: MigrateOptions,
        *,
        lock: MigratorLock,
        patience: Patience,
        applied: list[str],
    ) -> None:
        self._engine = engine
        self._project = project
        self._options = options
        self._lock = lock
        self._applied = applied
        self._say = patience.say
        self._steps = CarefulSteps(
            _dialect_of(engine),
            lock_timeout_seconds=options.lock_timeout_seconds,
            tries=options.tries,
            say=patience.say,
            wait=patience.wait,
        )

    def run(self) -> None:
        for script in _pending(self._engine, self._project, self._options.to):
            if not self._lock.held():
                raise MigrationFailed(
                    f"the session that held the migrator's lock was lost before revision "
                    f"{script.revision}; run the migration again, it goes on from there",
                    applied=self._applied,
                )
            self._say(f"running {script.revision}: {script.doc}")
            with self._steps:
                self._one(script)
            self._applied.append(script.revision)
        left = [
            script.revision for script in _pending(self._engine, self._project, self._options.to)
        ]
        if left:
            raise MigrationFailed(
                f"env.py ended without an error and did not apply {', '.join(left)}; does it call "
                f"context.run_migrations(), and commit?",
                applied=self._applied,
            )

    def _one(self, script: Script) -> None:
        for attempt in count(1):
            self._steps.begin_revision()
            try:
                with actor(f"migration:{script.revision}", kind="migration"):
                    self._project.apply(self._engine, script)
            except Exception as error:
                again = (
                    not self._steps.committed
                    and attempt < self._options.tries
                    and classify(error).outcome is Outcome.RERUN
                )
                if not again:
                    raise MigrationFailed(
                        self._sentence(script.revision, error), applied=self._applied
                    ) from error
                self._say(
                    f"revision {script.revision} was rolled back, {classify(error).because} (try "
                    f"{attempt} of {self._options.tries})"
                )
                self._steps.pause(attempt)
            else:
                return

    def _sentence(self, revision: str, error: Exception) -> str:
        what = redact(str(getattr(error, "orig", None) or error)).strip().splitlines()
        said = f"{type(error).__name__}: {what[0] if what else 'without a message'}"
        if self._steps.committed:
            state = (
                f"{self._steps.committed} of its changes are committed and stay; undo them by "
                f"hand, or let the revision find them there, then run the migration again"
            )
        else:
            state = "it was rolled back as a whole; run the migration again when the cause is gone"
        found = f"revision {revision} failed: {said}; {state}"
        if self._steps.is_lock_timeout(error):
            found += "".join(f"\nin the way: {one}" for one in self._in_the_way())
        return found

    def _in_the_way(self) -> Sequence[LongTransaction]:
        survey = _survey(
            self._engine,
            self._project,
            # Everybody who was there when the wait began.
            MigrateOptions(
                to=self._options.to, long_transaction_seconds=self._options.lock_timeout_seconds
            ),
            None,
        )
        return survey.behind


def _survey(
    engine: Engine,
    project: AlembicProject | None,
    options: MigrateOptions,
    lock: MigratorLock | None,
) -> MigrationSurvey:
    dialect = _dialect_of(engine)
    elsewhere: list[str] = []

    def look(connection: Connection) -> None:
        if lock is not None and not lock.seen_from(connection):
            elsewhere.append(connection.engine.url.render_as_string(hide_password=True))

    scripts = [] if project is None else _pending(engine, project, options.to, look)
    with engine.connect() as connection:
        ours = tables.installed(connection)
        plans = (
            tuple(project.read(script, connection) for script in scripts)
            if project is not None
            else ()
        )
        statements = [one for plan in plans for one in plan.statements or ()]
        touched = tables_of(statements)
        rows = table_rows(connection, dialect, tables=touched, most=options.large_rows)
        found = lint(
            statements,
            engine.dialect.name,
            server_version(engine.dialect),
            rows,
            large_rows=options.large_rows,
            proven=proven_columns(connection, dialect),
        )
        found += [
            _unreadable(plan, rows, options.large_rows) for plan in plans if plan.statements is None
        ]
        everything = any(plan.statements is None for plan in plans)
        behind = (
            long_transactions(
                connection,
                dialect,
                seconds=options.long_transaction_seconds,
                tables=frozenset(rows) if everything else touched,
            )
            if plans
            else []
        )
        broken = broken_indexes(connection, dialect)
    accepted = {"": options.accept} | {plan.revision: plan.accepted for plan in plans}
    refused = [str(one) for one in refusals(found, accepted)]
    if LONG_TRANSACTION not in options.accept:
        refused += [
            f"{one}; end it or let it end, or --accept {LONG_TRANSACTION}" for one in behind
        ]
    if OTHER_DATABASE not in options.accept:
        refused += [
            f"env.py connects to {url}, and the migrator's lock is in "
            f"{engine.url.render_as_string(hide_password=True)}; name the same database in both, "
            f"or --accept {OTHER_DATABASE}"
            for url in elsewhere
        ]
    return MigrationSurvey(
        ours=ours,
        pending=plans,
        findings=tuple(found),
        behind=tuple(behind),
        broken=tuple(broken),
        refused=tuple(refused),
    )


def _pending(
    engine: Engine,
    project: AlembicProject,
    to: str,
    look: Callable[[Connection], None] | None = None,
) -> list[Script]:
    applied = project.applied(engine, look)
    if not applied:
        raise Misuse(
            f"the env.py of {project.path} never came to context.run_migrations(), so nobody knows "
            f"where the database stands"
        )
    found: dict[str, Script] = {}
    for heads in applied:
        found |= {script.revision: script for script in project.pending(heads, to)}
    return list(found.values())


def _unreadable(plan: RevisionPlan, rows: dict[str, int], large_rows: int) -> MigrationFinding:
    most = max(rows.values(), default=0)
    return MigrationFinding(
        rule=UNREADABLE,
        severity=MigrationSeverity.LOCKS,
        what="a revision that cannot be read without being run",
        why=f"it asks the database for something ({plan.unread_because}), and so may lock any "
        f"table",
        rewrite=f"look at it, then write `# shipworthy: accept {UNREADABLE}` in its file",
        revision=plan.revision,
        line=0,
        sql="",
        tables=(),
        rows=most,
        refused=most >= large_rows,
    )


def _refuse_no_project(project: AlembicProject | None, options: MigrateOptions) -> None:
    if project is None and options.to != HEADS:
        raise Misuse(
            f"there is no Alembic project here, so no revision '{options.to}' to stop at; call it "
            f"where the alembic.ini is, or name that with --alembic"
        )


def _dialect_of(engine: Engine) -> MigrationDialect:
    found = migration_dialect(engine.dialect.name)
    if found is None:
        raise Misuse(
            f"{engine.dialect.name} is not known here; migrations run on PostgreSQL, MariaDB and "
            f"SQLite"
        )
    return found


def _install_ours(engine: Engine, beside: Sequence[Table]) -> list[str]:
    try:
        with engine.begin() as connection:
            return tables.install(connection, beside) + install_progress(connection)
    except SQLAlchemyError as error:
        raise MigrationFailed(
            f"our own tables could not be made: {classify(error).because}; give the role the right "
            f"to create tables, or leave them out with --without-ours",
            applied=(),
        ) from error


def _forget_plans(engine: Engine) -> None:
    """Have idle connections of this process replaced: what they prepared fits the old tables."""
    now = time.time()
    pools = [engine.pool]
    for protection in protections():
        pools += [pool for held in protection._pools if (pool := held()) is not None]  # noqa: SLF001
    for pool in pools:
        pool._invalidate_time = now  # noqa: SLF001 - what `Connection.invalidate` does to a pool
