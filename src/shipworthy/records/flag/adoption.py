"""Bring a table under flag mode on a live database, step by step, and release it again.

A step's locks are waited for a short time; then those who stand behind go first, and it is tried
again. Whatever interrupts it, the next call finds what is there and goes on.

Not here: what the steps are (`adopting`), and their SQL (`dialects`).
"""

import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, final

import sqlalchemy as sa
from sqlalchemy.pool import SingletonThreadPool, StaticPool

from shipworthy.audit import CatalogTable, CatalogUnique, TableName, dialect_for
from shipworthy.db import (
    BackfillProgress,
    MigrationDialect,
    Outcome,
    backfill,
    classify,
    install_progress,
    migration_dialect,
)
from shipworthy.errors import Misuse, ShipworthyError
from shipworthy.records.flag.adopting import (
    AdoptPlan,
    AdoptStep,
    AdoptSurvey,
    plan_adopt,
    plan_release,
)
from shipworthy.records.flag.dialects import (
    FlaggedCatalogTable,
    FlagStatement,
    flag_dialect,
    own_name,
)
from shipworthy.records.flag.marks import ID_COLUMN, FlaggedTable, flagged_tables
from shipworthy.records.flag.upserts import find_upserts
from shipworthy.resilience import Backoff

LOCK_TIMEOUT_SECONDS: Final = 1.0
TRIES: Final = 20
_BACKOFF: Final = Backoff(base_seconds=0.1, factor=2.0, cap_seconds=5.0)


@final
class AdoptionFailed(ShipworthyError):
    """A step was not done; those before it stay, and the next call goes on behind them."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptOptions:
    """How a table is to be adopted; `code` is the folder in which upserts are looked for."""

    free_unique: bool = False
    shadow: bool = False
    role: str = ""
    code: Path | None = None
    lock_timeout_seconds: float = LOCK_TIMEOUT_SECONDS
    tries: int = TRIES


def plan_of_adoption(
    engine: sa.Engine, table: str, flagged: Iterable[str], options: AdoptOptions | None = None
) -> AdoptPlan:
    """Return what `adopt` would do, with its SQL; changes nothing."""
    chosen = options or AdoptOptions()
    with engine.connect() as connection:
        found = _survey(connection, table, flagged_tables(flagged), chosen.code)
    return plan_adopt(
        found,
        flag_dialect(engine.dialect.name),
        free_unique=chosen.free_unique,
        shadow=chosen.shadow,
        role=chosen.role,
    )


def adopt(
    engine: sa.Engine,
    table: str,
    flagged: Iterable[str],
    options: AdoptOptions | None = None,
    *,
    say: Callable[[str], None] = print,
    wait: Callable[[float], None] = time.sleep,
) -> AdoptPlan:
    """Bring `table` under flag mode; `flagged` names all that are, as `trash.flag` does.

    Returns what was done. Raises `Misuse` for what the plan refuses, with every reason, and
    `AdoptionFailed` where a lock was not to be had. Blocks.
    """
    chosen = options or AdoptOptions()
    plan = _usable(plan_of_adoption(engine, table, flagged, chosen))
    _Run(engine, chosen, say=say, wait=wait).do(plan, flagged_tables(flagged)[table])
    return plan


def plan_of_release(engine: sa.Engine, table: str, flagged: Iterable[str]) -> AdoptPlan:
    """Return what `release_flags` would do, with its SQL; changes nothing."""
    with engine.connect() as connection:
        found = _survey(connection, table, flagged_tables(flagged), None)
        replaced = _replaced(found.flagged)
    return plan_release(found, flag_dialect(engine.dialect.name), replaced)


def release_flags(
    engine: sa.Engine,
    table: str,
    flagged: Iterable[str],
    options: AdoptOptions | None = None,
    *,
    say: Callable[[str], None] = print,
    wait: Callable[[float], None] = time.sleep,
) -> AdoptPlan:
    """Take everything of ours away from `table` but its two columns; raises as `adopt` does."""
    plan = _usable(plan_of_release(engine, table, flagged))
    run = _Run(engine, options or AdoptOptions(), say=say, wait=wait)
    run.do(plan, flagged_tables(flagged)[table])
    return plan


@final
class _Run:
    """The steps of one call."""

    def __init__(
        self,
        engine: sa.Engine,
        options: AdoptOptions,
        *,
        say: Callable[[str], None],
        wait: Callable[[float], None],
    ) -> None:
        migrating = migration_dialect(engine.dialect.name)
        assert migrating is not None  # every kind that has a trail can be migrated
        self._engine = engine
        self._migrating: MigrationDialect = migrating
        self._options = options
        self._say = say
        self._wait = wait

    def do(self, plan: AdoptPlan, flagged: FlaggedTable) -> None:
        """Do every step, in order."""
        for number, step in enumerate(plan.steps, 1):
            self._say(f"{number} of {len(plan.steps)}: {step.what}")
            if step.backfill:
                self._backfill(flagged)
            for statement in step.statements:
                self._one(step, statement)

    def _one(self, step: AdoptStep, statement: FlagStatement) -> None:
        for attempt in range(1, self._options.tries + 1):
            try:
                self._execute(statement)
            except sa.exc.DBAPIError as error:
                if not self._is_locked(error):
                    raise
            else:
                return
            self._say(
                f"{step.what}: locked for more than {self._options.lock_timeout_seconds:g} s "
                f"(try {attempt} of {self._options.tries})"
            )
            self._wait(random.uniform(0.0, _BACKOFF.ceiling(attempt)))  # noqa: S311 - no secret
        raise AdoptionFailed(
            f"{step.what}: no lock within {self._options.lock_timeout_seconds:g} s in "
            f"{self._options.tries} tries; run it again when the transactions that hold the table "
            "are done, what was done stays"
        )

    def _execute(self, statement: FlagStatement) -> None:
        bound = self._migrating.wait_for_locks(statement.sql, self._options.lock_timeout_seconds)
        with self._engine.connect() as connection:
            alone = connection.execution_options(isolation_level="AUTOCOMMIT")
            try:
                _run(alone, bound)
                if statement.alone:
                    self._drop_broken(alone)
                _run(alone, statement.sql)
            finally:
                if not isinstance(self._engine.pool, (StaticPool, SingletonThreadPool)):
                    # What bounds its waits is nobody else's.
                    connection.invalidate()

    def _drop_broken(self, connection: sa.Connection) -> None:
        """Drop indexes of ours that an interrupted build left behind."""
        if self._migrating.broken is None:
            return
        for schema, name in connection.execute(sa.text(self._migrating.broken)).all():
            if name.startswith("shipworthy_flag_"):
                _run(connection, self._migrating.drop_broken.format(schema=schema, name=name))

    def _backfill(self, flagged: FlaggedTable) -> None:
        """Give an id of its own to each row that was flagged before there were ids."""
        schema, _, name = flagged.table.rpartition(".")
        with self._engine.begin() as connection:
            install_progress(connection)
        inspector = sa.inspect(self._engine)
        key = inspector.get_pk_constraint(name, schema=schema or None)["constrained_columns"]
        if len(key) != 1:
            raise Misuse(
                f"{flagged.table} has flagged rows without {ID_COLUMN} and a primary key of "
                f"{len(key)} columns, which a backfill cannot go by; set it yourself, then adopt"
            )
        table = sa.Table(
            name,
            sa.MetaData(),
            *(
                sa.Column(it["name"], it["type"])
                for it in inspector.get_columns(name, schema=schema or None)
                if it["name"] in (*key, flagged.column, ID_COLUMN)
            ),
            schema=schema or None,
        )
        new_id = flag_dialect(self._engine.dialect.name).new_id

        def told(progress: BackfillProgress) -> None:
            self._say(f"{progress.rows:,} rows have their id")

        backfill(
            self._engine,
            table,
            key=table.c[key[0]],
            set_={table.c[ID_COLUMN]: sa.literal_column(new_id)},
            where=sa.and_(table.c[flagged.column].is_not(None), table.c[ID_COLUMN].is_(None)),
            name=f"flags of {flagged.table}",
            on_batch=told,
            wait=self._wait,
        )

    def _is_locked(self, error: sa.exc.DBAPIError) -> bool:
        found = classify(error)
        codes = self._migrating.lock_codes
        return found.outcome is Outcome.RERUN or bool(codes & {found.sqlstate, found.code})


def _survey(
    connection: sa.Connection,
    name: str,
    flagged: Mapping[str, FlaggedTable],
    code: Path | None,
) -> AdoptSurvey:
    if name not in flagged:
        raise Misuse(
            f"{name} is not in trash.flag; name it there with the column for the time of its "
            f"deletion, as in flag = ['{name}.deleted_at']"
        )
    inspector = sa.inspect(connection)
    dialect = dialect_for(connection.dialect.name)
    place = inspector.default_schema_name or ""
    tables = {
        str(it): _placed(table, place)
        for it, table in dialect.read_catalog(connection).tables.items()
    }
    if name not in tables:
        raise Misuse(f"there is no table {name} in this database")
    under = {
        it: FlaggedCatalogTable(table=tables[it], column=chosen.column)
        for it, chosen in flagged.items()
        if it in tables
    }
    mine = under[name]
    table = mine.table
    flags = sa.table(table.name.name, sa.column(mine.column), sa.column(ID_COLUMN),
                     schema=table.name.schema or None)  # fmt: skip
    has = [table.column(it) is not None for it in (mine.column, ID_COLUMN)]
    gone = flags.c[mine.column].is_not(None)
    return AdoptSurvey(
        flagged=mine,
        constraints=frozenset(
            str(it["name"])
            for it in (
                *inspector.get_unique_constraints(
                    name.rpartition(".")[2], schema=table.name.schema
                ),
                *inspector.get_check_constraints(name.rpartition(".")[2], schema=table.name.schema),
            )
        )
        if place
        else frozenset(),
        indexes=frozenset(
            str(it["name"])
            for it in inspector.get_indexes(
                name.rpartition(".")[2], schema=table.name.schema or None
            )
        ),
        parents=[
            (key, under[str(_short(key.target, place))])
            for key in table.foreign_keys
            if str(_short(key.target, place)) in under
            and (
                str(_short(key.target, place)) == name
                or _ready(under[str(_short(key.target, place))])
            )
        ],
        children=[
            (other, key)
            for other in tables.values()
            for key in other.foreign_keys
            if str(_short(key.target, place)) == name and other is not table
        ],
        under_flags={it.name: it for it in under.values()},
        upserts=tuple(find_upserts(code)) if code else (),
        flagged_rows=_count(connection, sa.select(sa.func.count()).select_from(flags).where(gone))
        if has[0]
        else 0,
        unnamed_rows=_count(
            connection,
            sa.select(sa.func.count())
            .select_from(flags)
            .where(gone, flags.c[ID_COLUMN].is_(None) if has[1] else sa.true()),
        )
        if has[0]
        else 0,
    )


def _replaced(flagged: FlaggedCatalogTable) -> list[CatalogUnique]:
    """Return the unique indexes whose place one of live rows has taken, under their old names."""
    found = []
    for it in flagged.table.uniques:
        if not it.name.startswith(own_name("live")):
            continue
        columns = tuple(one for one in it.columns if one != it.name)
        old = it.name.removeprefix(own_name("live", flagged.name.name, ""))
        if own_name("live", flagged.name.name, old) != it.name:
            raise Misuse(
                f"index {it.name} has a shortened name, so nobody knows what it took the place of; "
                f"make a unique index over {', '.join(columns)}, drop this one, then release"
            )
        found.append(CatalogUnique(name=old, columns=columns))
    return found


def _placed(table: CatalogTable, place: str) -> CatalogTable:
    """Return the table with its schema, also where that is the default one."""
    if table.name.schema or not place:
        return table
    return replace(table, name=TableName(schema=place, name=table.name.name))


def _short(name: TableName, place: str) -> TableName:
    return TableName(schema="", name=name.name) if name.schema == place else name


def _ready(flagged: FlaggedCatalogTable) -> bool:
    return flagged.table.column(flagged.column) is not None


def _count(connection: sa.Connection, statement: sa.Select[Any]) -> int:
    return int(connection.scalar(statement) or 0)


def _usable(plan: AdoptPlan) -> AdoptPlan:
    if plan.problems:
        raise Misuse("\n".join(plan.problems))
    return plan


def _run(connection: sa.Connection, statement: str) -> None:
    connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
