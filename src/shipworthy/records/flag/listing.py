"""What is flagged, as deletions, and how one of them comes back.

A deletion here is what one transaction flagged. The trail has it as updates, so it is not among the
deletions of the trash: it is listed by the ids that the rows carry.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, final

import sqlalchemy as sa

from shipworthy.context import noted
from shipworthy.errors import Misuse
from shipworthy.records.dialects import restore_dialect
from shipworthy.records.flag.marks import ID_COLUMN, FlaggedTable, flagged_tables
from shipworthy.records.refusals import RecordsRefused
from shipworthy.records.targets import AsyncTarget, SyncTarget, run_async

_SHOWN: Final = 3


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FlagDeletion:
    """Rows that one transaction flagged; `tables` counts them by table."""

    id: str
    at: datetime
    tables: Mapping[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many there are in all."""
        return sum(self.tables.values())

    def facts(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "id": self.id,
            "at": self.at.isoformat(),
            "tables": dict(self.tables),
            "rows": self.rows,
        }


@final
class FlagRestoreRefused(RecordsRefused):
    """Flagged rows cannot come back now; nothing was changed."""


def flagged_deletions(
    target: SyncTarget, flagged: Iterable[str], *, limit: int = 100
) -> list[FlagDeletion]:
    """Return what is flagged, the newest first, at most `limit` of each table.

    `flagged` names the tables, as `trash.flag` does. Raises `Misuse` for one that is not adopted.
    """
    when: dict[str, datetime] = {}
    tables: dict[str, dict[str, int]] = {}
    with _working(target) as connection:
        _must_be_adopted(connection, flagged_tables(flagged))
        for name, table in _tables(flagged).items():
            time, id = table.c[_time_column(flagged, name)], table.c[ID_COLUMN]  # noqa: A001
            last = sa.func.max(time)
            found = (
                sa.select(id, last, sa.func.count())
                .where(time.is_not(None), id.is_not(None))
                .group_by(id)
                .order_by(last.desc())
                .limit(limit)
            )
            for key, at, rows in connection.execute(found):
                when[key] = max(_utc(at), when.get(key, _utc(at)))
                tables.setdefault(key, {})[name] = rows
    made = [FlagDeletion(id=key, at=at, tables=tables[key]) for key, at in when.items()]
    return sorted(made, key=lambda one: (one.at, one.id), reverse=True)[:limit]


def restore_flagged(target: SyncTarget, flagged: Iterable[str], id: str) -> int:  # noqa: A002
    """Take the flags of a deletion away, in one transaction; returns how many rows live again.

    Raises `FlagRestoreRefused` where no row has that id, where a row refers to one that another
    deletion has flagged, and where a live row has taken a unique value; a connection or session
    must be rolled back then. Raises `Misuse` for a table that is not adopted.
    """
    names = flagged_tables(flagged)
    with _working(target) as connection, noted(json.dumps({"restores_flag": id})):
        _must_be_adopted(connection, names)
        needed = sorted(_needed(connection, names, id))
        if needed:
            raise FlagRestoreRefused(
                f"deletion {id} has rows under rows that deletion {', '.join(needed[:_SHOWN])} "
                "flagged; restore that one first"
            )
        rows = 0
        for name, table in _tables(flagged).items():
            statement = sa.update(table).where(table.c[ID_COLUMN] == id)
            try:
                rows += connection.execute(
                    statement.values({names[name].column: None, ID_COLUMN: None})
                ).rowcount
            except sa.exc.IntegrityError as error:
                because = restore_dialect(connection.dialect.name).refusal(error)
                raise FlagRestoreRefused(
                    f"a row of {name} cannot come back, the database refuses it: {because}; change "
                    "what has its place, then restore again"
                ) from error
        if not rows:
            raise FlagRestoreRefused(
                f"no row carries the deletion {id}; `shipworthy trash flagged` lists those there "
                "are"
            )
        return rows


async def flagged_deletions_async(
    target: AsyncTarget, flagged: Iterable[str], *, limit: int = 100
) -> list[FlagDeletion]:
    """Return what `flagged_deletions` does."""
    return await run_async(target, flagged_deletions, flagged, limit=limit)


async def restore_flagged_async(target: AsyncTarget, flagged: Iterable[str], id: str) -> int:  # noqa: A002
    """Do what `restore_flagged` does."""
    return await run_async(target, restore_flagged, flagged, id)


def _time_column(flagged: Iterable[str], table: str) -> str:
    """Return the column of `table` that has the time."""
    return flagged_tables(flagged)[table].column


def _must_be_adopted(connection: sa.Connection, names: Mapping[str, FlaggedTable]) -> None:
    inspector = sa.inspect(connection)
    for name, chosen in names.items():
        schema, _, short = name.rpartition(".")
        try:
            has = {it["name"] for it in inspector.get_columns(short, schema=schema or None)}
        except sa.exc.NoSuchTableError:
            raise Misuse(
                f"there is no table {name} in this database; trash.flag names it"
            ) from None
        if not {chosen.column, ID_COLUMN} <= has:
            raise Misuse(
                f"{name} is in trash.flag and not under flag mode yet; run `shipworthy trash adopt "
                f"{name}`"
            )


def _needed(connection: sa.Connection, names: Mapping[str, FlaggedTable], id: str) -> set[str]:  # noqa: A002
    """Return the ids of other deletions that have a row which a row of this one refers to."""
    found: set[str] = set()
    inspector = sa.inspect(connection)
    for name in names:
        schema, _, short = name.rpartition(".")
        for key in inspector.get_foreign_keys(short, schema=schema or None):
            there = key["referred_schema"]
            parent = f"{there}.{key['referred_table']}" if there else key["referred_table"]
            if parent not in names:
                continue
            near, far = key["constrained_columns"], key["referred_columns"]
            c = _table(name, [*near, ID_COLUMN]).alias("c")
            p = _table(parent, [*far, ID_COLUMN]).alias("p")
            same = [c.c[a] == p.c[b] for a, b in zip(near, far, strict=True)]
            other = sa.select(p.c[ID_COLUMN]).where(
                *same, c.c[ID_COLUMN] == id, p.c[ID_COLUMN].is_not(None), p.c[ID_COLUMN] != id
            )
            found.update(connection.scalars(other.distinct()))
    return found


def _tables(flagged: Iterable[str]) -> dict[str, sa.TableClause]:
    return {
        name: _table(name, [chosen.column, ID_COLUMN])
        for name, chosen in flagged_tables(flagged).items()
    }


def _table(name: str, columns: Iterable[str]) -> sa.TableClause:
    schema, _, short = name.rpartition(".")
    made = [
        sa.column(it, sa.String() if it == ID_COLUMN else sa.types.NullType()) for it in columns
    ]
    return sa.table(short, *made, schema=schema or None)


def _utc(value: Any) -> datetime:
    """Return a time as the driver has it; SQLite's is a text, and without a zone it is UTC."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime):
        raise Misuse(f"a column for the time of deletions holds {value!r}, which is no time")
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


@contextmanager
def _working(target: SyncTarget) -> Iterator[sa.Connection]:
    if isinstance(target, sa.Engine):
        with target.begin() as connection:
            yield connection
    elif isinstance(target, sa.Connection):
        yield target
    else:
        target.flush()
        yield target.connection()
        target.expire_all()
