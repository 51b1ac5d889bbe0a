"""Tables and rows as they were: `as_of(session, when)`.

Nothing has to be stored for it: the log is folded backward from what is there now (`fold`), for the
transactions that ended by the point asked for (`moment`). A table is read in pages, so memory does
not grow with it.

Rows come as read-only mappings and not as objects of the mapped class. An object of a class is what
the class says *today*: with today's columns, today's conversions and relations that would load
today's rows. Of a row from before three migrations that would be a lie.

Not here: which versions a row had (`versions`).
"""

import datetime as dt
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session
from typing_extensions import override

from shipworthy.audit.fold import Source
from shipworthy.audit.model import Cell
from shipworthy.audit.moment import Moment, moment
from shipworthy.audit.past_table import PastTable
from shipworthy.audit.reading import NoValue, RowTarget, TrailReader, connection_of, target_of
from shipworthy.errors import Misuse


@final
class PastRow(Mapping[str, Any]):
    """A row as it was; its values by column, or by attribute where a mapped class was asked for.

    Values are as people and JSON have them. `ERASED` stands for a personal value that was erased,
    `UNKNOWN` for one of a column dropped since that was not written after the install, `TOO_LONG`
    for one that the log could not have.
    """

    __slots__ = ("_values", "cells")

    def __init__(self, values: Mapping[str, Any], cells: Mapping[str, Cell | NoValue]) -> None:
        self._values = values
        # By column, exactly as they were stored.
        self.cells = cells

    @override
    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    @override
    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(
                f"the row had no '{name}' then; it had {', '.join(self._values)}"
            ) from None

    @override
    def __repr__(self) -> str:
        return f"PastRow({dict(self._values)!r})"


@final
class Past:
    """The database as it was at one point; all tables at the same one."""

    def __init__(self, reader: TrailReader, point: Moment) -> None:
        self._reader = reader
        self._point = point
        self._tables: dict[int, PastTable] = {}

    @property
    def at(self) -> dt.datetime:
        """The time of the point."""
        return self._point.at

    def __enter__(self) -> "Past":
        return self

    def __exit__(self, *ignored: object) -> None:
        return None

    def rows(self, what: Any) -> Iterator[PastRow]:
        """Give the rows of a mapped class or a table as they were, in no order.

        They are read while they are taken, in one transaction that must see one state.
        """
        target = target_of(what)
        table = self._table(target)
        refused = self._reader.past.no_snapshot(self._reader.connection)
        if refused:
            raise Misuse(refused)
        for cells in table.rows():
            yield self._row(target, table, cells)

    def get(self, what: Any, key: Any = None) -> PastRow | None:
        """Return the row that had this primary key then, None where there was none.

        For a mapped object: the row with the key that it has.
        """
        target = target_of(what, key)
        if target.key is None:
            raise Misuse(f"which row of {target.name}? give its primary key")
        table = self._table(target)
        cells = table.row(target.key)
        return None if cells is None else self._row(target, table, cells)

    def _table(self, target: RowTarget) -> "PastTable":
        table_id = self._reader.table_id(target.name)
        if table_id not in self._tables:
            self._tables[table_id] = PastTable(self._reader, self._point, table_id)
        return self._tables[table_id]

    def _row(self, target: RowTarget, table: "PastTable", found: Mapping[str, Source]) -> PastRow:
        cells = table.resolved(found)
        values = {
            target.attributes.get(column, column): table.value(found.get(column), cell)
            for column, cell in cells.items()
        }
        return PastRow(values, cells)


def as_of(
    source: sa.Connection | Session, when: dt.datetime | int, *, final_only: bool = True
) -> Past:
    """Return the database as it was at `when`: a time with its zone, or the number of an entry.

    With `final_only` (the default) a point at which somebody may still be writing is refused with
    `PastUnsettled`, so the same question has the same answer for good. Raises `PastUnknown` for a
    time before the install and `PastPruned` where the log no longer reaches back. What the caller's
    own transaction has written counts as written. Where none is open, the one that begins here sees
    one state throughout, which `Past.rows` needs.
    """
    if _began(source):
        reader = TrailReader(connection_of(source))
        point = moment(reader.connection, reader.past, when, final_only=final_only)
        return Past(reader, point)
    # First that nobody writes there any more, then what there is: never the other way round.
    with _before(source) as connection:
        reader = TrailReader(connection)
        point = moment(connection, reader.past, when, final_only=final_only)
    return Past(TrailReader(connection_of(source), snapshot=True), point)


def _began(source: sa.Connection | Session) -> bool:
    """Return whether a transaction is open; a session may stand in that of its connection."""
    bind = source.get_bind() if isinstance(source, Session) else source
    return source.in_transaction() or (isinstance(bind, sa.Connection) and bind.in_transaction())


@contextmanager
def _before(source: sa.Connection | Session) -> Iterator[sa.Connection]:
    """Yield a connection for a transaction before that of `source`, which has none yet."""
    bind = source.get_bind() if isinstance(source, Session) else source
    if isinstance(bind, sa.Engine):
        with bind.connect() as connection:
            yield connection
    else:
        yield bind
        bind.rollback()


async def as_of_async(
    source: AsyncConnection | AsyncSession,
    when: dt.datetime | int,
    what: Any,
    *,
    final_only: bool = True,
) -> list[PastRow]:
    """Return the rows of `what` as they were at `when`; see `as_of`, of which it is a shorter form.

    For more than one table at the same point, give a function to `run_sync` that uses `as_of`.
    """

    def read(source: sa.Connection | Session) -> list[PastRow]:
        return list(as_of(source, when, final_only=final_only).rows(what))

    return await source.run_sync(read)
