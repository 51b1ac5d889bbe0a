"""Change the rows of a large table in small transactions, and remember how far it came.

Each batch is a range of the key: it finds where the range ends, changes the rows in it and notes
the end, in one transaction. So whatever interrupts it, the next call goes on behind the last batch
that was committed, and no row is changed twice.
"""

import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final, final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from shipworthy.clock import SYSTEM_CLOCK, Clock
from shipworthy.db.classify import classify
from shipworthy.db.dialects.migration import migration_dialect
from shipworthy.db.guard import protections
from shipworthy.db.migrate.refused import MigrationFailed
from shipworthy.db.outcome import Outcome
from shipworthy.errors import Misuse
from shipworthy.resilience import Backoff

BATCH_ROWS: Final = 1000
"""So many rows are changed in a few tens of milliseconds: less than a person notices."""
TRIES: Final = 10
NAME_CHARACTERS: Final = 120
LAG_SECONDS: Final = 10.0
# How long it waits, at a time, for replicas to catch up and for callers to get a connection.
_PATIENCE_SECONDS: Final = 600.0
_LOOK_SECONDS: Final = 0.5
# A lost COMMIT is among them: the next batch begins by reading what is noted, and what is noted
# was changed.
_AGAIN: Final = frozenset(
    {Outcome.RERUN, Outcome.LOST, Outcome.NOT_SENT, Outcome.AMBIGUOUS, Outcome.STALE_PLAN,
     Outcome.OVERLOAD}
)  # fmt: skip
_READERS: Final[Mapping[type, Callable[[Any], Any]]] = {
    int: int,
    str: str,
    UUID: UUID,
    Decimal: Decimal,
    datetime: datetime.fromisoformat,
    date: date.fromisoformat,
}
_BACKOFF: Final = Backoff(base_seconds=0.05, factor=2.0, cap_seconds=5.0)

_METADATA: Final = sa.MetaData()
BACKFILLS: Final = sa.Table(
    "shipworthy_backfills",
    _METADATA,
    sa.Column("name", sa.String(NAME_CHARACTERS), primary_key=True),
    # Of any type, as JSON writes it; NULL before the first batch.
    sa.Column("after_key", sa.Text),
    sa.Column("rows_done", sa.BigInteger, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("is_done", sa.Boolean, nullable=False),
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillProgress:
    """How far a backfill is: `rows` were changed in all, in this call and those before."""

    name: str
    rows: int
    batches: int
    is_done: bool


def install_progress(connection: Connection) -> list[str]:
    """Make the table of progress where it is missing, and say so; the caller commits."""
    if sa.inspect(connection).has_table(BACKFILLS.name):
        return []
    BACKFILLS.create(connection)
    return [f"made the table {BACKFILLS.name}"]


def remove_progress(connection: Connection) -> list[str]:
    """Drop the table of progress where it is, and say so; the caller commits."""
    if not sa.inspect(connection).has_table(BACKFILLS.name):
        return []
    BACKFILLS.drop(connection)
    return [f"dropped the table {BACKFILLS.name}"]


def backfill(
    engine: Engine,
    table: sa.Table,
    *,
    key: sa.Column[Any],
    set_: Mapping[sa.Column[Any] | str, Any],
    where: sa.ColumnElement[bool] | None = None,
    name: str | None = None,
    batch_rows: int = BATCH_ROWS,
    pause_ratio: float = 1.0,
    lag: Callable[[], float] | None = None,
    lag_seconds: float = LAG_SECONDS,
    on_batch: Callable[[BackfillProgress], None] | None = None,
    wait: Callable[[float], None] = time.sleep,
    clock: Clock = SYSTEM_CLOCK,
) -> BackfillProgress:
    """Set columns in every row that `where` holds for, each row exactly once, and return how far.

    Rows are taken in the order of `key`, which is unique, never NULL and never changed. Rows that
    come later are not looked for: first let new code write them as they should be. `name` stands
    for the work: the same name goes on where it was, in this process or another; several at once
    share the work.

    After each batch it rests for `pause_ratio` times as long as that took, and longer while callers
    of this process wait for a connection or replicas are more than `lag_seconds` behind (`lag` says
    how far; PostgreSQL says it by itself to a role that may see it).

    Raises `Misuse` where the table of progress is missing or the key is of a type that cannot be
    noted, `MigrationFailed` when replicas do not catch up, and what the database raises after
    several tries. Blocks; call it in a thread or a process of its own.
    """
    title = name or f"{table.name}: {', '.join(sorted(str(getattr(c, 'key', c)) for c in set_))}"
    _check(engine, key, title, batch_rows, pause_ratio)
    work = _Work(name=title, table=table, key=key, values=set_, where=where, batch_rows=batch_rows)
    batches = failures = 0
    begun = False
    while True:
        try:
            if not begun:
                _begin(engine, title, clock)
                begun = True
            began = clock.now()
            with engine.begin() as connection:
                rows, done = work.batch(connection, clock.wall())
        except Exception as error:
            failures += 1
            if failures >= TRIES or classify(error).outcome not in _AGAIN:
                raise
            wait(random.uniform(0.0, _BACKOFF.ceiling(failures)))  # noqa: S311 - no secret
            continue
        failures = 0
        batches += not done
        progress = BackfillProgress(name=title, rows=rows, batches=batches, is_done=done)
        if on_batch is not None:
            on_batch(progress)
        if done:
            return progress
        wait(pause_ratio * (clock.now() - began))
        _yield_to_others(
            engine,
            title,
            lag=lag or _lag_of(engine),
            lag_seconds=lag_seconds,
            wait=wait,
            clock=clock,
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    name: str
    table: sa.Table
    key: sa.Column[Any]
    values: Mapping[sa.Column[Any] | str, Any]
    where: sa.ColumnElement[bool] | None
    batch_rows: int

    def batch(self, connection: Connection, now: float) -> tuple[int, bool]:
        """Do the next one; return the rows changed so far in all, and whether none was left."""
        mine = BACKFILLS.c.name == self.name
        # A write first: it is the lock that makes several of us take turns, on every database.
        connection.execute(sa.update(BACKFILLS).where(mine).values(at=now))
        after, rows, done = connection.execute(
            sa.select(BACKFILLS.c.after_key, BACKFILLS.c.rows_done, BACKFILLS.c.is_done).where(mine)
        ).one()
        if done:
            return rows, True
        key = self.key
        here = [] if self.where is None else [self.where]
        if after is not None:
            here.append(key > _READERS[key.type.python_type](json.loads(after)))
        keys = connection.scalars(
            sa.select(key).where(*here).order_by(key).limit(self.batch_rows)
        ).all()
        if not keys:
            connection.execute(sa.update(BACKFILLS).where(mine).values(is_done=True))
            return rows, True
        changed = connection.execute(
            sa.update(self.table).where(*here, key <= keys[-1]).values(dict(self.values))
        ).rowcount
        connection.execute(
            sa.update(BACKFILLS)
            .where(mine)
            .values(after_key=json.dumps(_noted(keys[-1])), rows_done=rows + changed)
        )
        return rows + changed, False


def _noted(value: Any) -> Any:
    if isinstance(value, date):
        return value.isoformat()
    return value if isinstance(value, int) else str(value)


def _check(
    engine: Engine, key: sa.Column[Any], name: str, batch_rows: int, pause_ratio: float
) -> None:
    if key.type.python_type not in _READERS:
        known = ", ".join(sorted(kind.__name__ for kind in _READERS))
        raise Misuse(
            f"the key {key} holds {key.type.python_type.__name__}, which cannot be noted; take a "
            f"unique column of {known}"
        )
    if batch_rows < 1 or not 0 <= pause_ratio < float("inf"):
        raise Misuse(
            f"a batch has at least one row and a pause is finite: batch_rows={batch_rows}, "
            f"pause_ratio={pause_ratio}"
        )
    if len(name) > NAME_CHARACTERS:
        raise Misuse(
            f"the name of a backfill has at most {NAME_CHARACTERS} characters: {name[:40]!r}..."
        )
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table(BACKFILLS.name):
            raise Misuse(
                f"the table {BACKFILLS.name} is missing, in which progress is noted; run "
                f"`shipworthy db migrate` first"
            )


def _begin(engine: Engine, name: str, clock: Clock) -> None:
    try:
        with engine.begin() as connection:
            if connection.scalar(sa.select(BACKFILLS.c.name).where(BACKFILLS.c.name == name)):
                return
            connection.execute(
                BACKFILLS.insert().values(name=name, rows_done=0, at=clock.wall(), is_done=False)
            )
    except sa.exc.IntegrityError:
        return  # another began it at the same moment


def _lag_of(engine: Engine) -> Callable[[], float]:
    found = migration_dialect(engine.dialect.name)
    statement = None if found is None else found.lag

    def ask() -> float:
        if statement is None:
            return 0.0
        try:
            with engine.connect() as connection:
                return float(connection.exec_driver_sql(statement).scalar() or 0.0)
        except sa.exc.SQLAlchemyError as error:
            if classify(error).outcome not in _AGAIN:
                raise
            return 0.0  # the next batch meets it too, and is tried again

    return ask


def _yield_to_others(
    engine: Engine,
    name: str,
    *,
    lag: Callable[[], float],
    lag_seconds: float,
    wait: Callable[[float], None],
    clock: Clock,
) -> None:
    give_up = clock.now() + _PATIENCE_SECONDS
    while _waiting(engine) and clock.now() < give_up:
        wait(_LOOK_SECONDS)
    while (behind := lag()) > lag_seconds:
        if clock.now() >= give_up:
            raise MigrationFailed(
                f"backfill '{name}' stopped: replicas are {behind:.0f} s behind, and were more "
                f"than {lag_seconds:g} s for {_PATIENCE_SECONDS:g} s; call it again when they have "
                f"caught up, it goes on from there",
                applied=(),
            )
        wait(_LOOK_SECONDS)


def _waiting(engine: Engine) -> int:
    return sum(
        protection.statistics().waiting
        for protection in protections()
        if any(held() is engine.pool for held in protection._pools)  # noqa: SLF001
    )
