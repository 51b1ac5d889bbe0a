"""Entries, their tables and their values, as everything that reads the log needs them.

Not here: what is asked (`past`, `versions`), and the log's proofs (`ledger`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, final

import sqlalchemy as sa
from sqlalchemy.orm import Session
from typing_extensions import override

from shipworthy.audit.dialects import AuditDialect, dialect_for
from shipworthy.audit.dialects.past import PastDialect, past_dialect
from shipworthy.audit.model import CatalogTable, Cell, Entry, Shape, TableName
from shipworthy.audit.shapes import read_shapes
from shipworthy.audit.tables import ENTRIES, PERSONAL, SHAPES
from shipworthy.errors import Misuse, ShipworthyError


@final
class TrailMissing(Misuse):
    """The database, or the table, has no trail."""


@final
class LogRowUnreadable(ShipworthyError):
    """An entry of the log cannot be read; `seq` is which one."""

    def __init__(self, seq: int, because: str) -> None:
        self.seq = seq
        super().__init__(
            f"entry {seq} of the log cannot be read ({because}), so what belongs to it is unknown; "
            "`shipworthy audit verify` says what was changed in the log"
        )


@contextmanager
def naming_entry(seq: int) -> Iterator[None]:
    """Let what the block cannot make sense of be a `LogRowUnreadable` of the entry `seq`."""
    try:
        yield
    # The last two are of times that no calendar of the machine has.
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError, OSError) as error:
        # Of the others the text alone says nothing: "KeyError: 77".
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise LogRowUnreadable(seq, f"{kind}{error}") from error


@final
@dataclass(frozen=True, slots=True)
class NoValue:
    """In the place of a value that is not there to be had; `why` says so in a word."""

    why: str

    @override
    def __str__(self) -> str:
        return f"({self.why})"

    def __bool__(self) -> bool:
        return False


# A personal value that was erased; a value of a dropped column that was never written down.
ERASED: Final = NoValue("erased")
UNKNOWN: Final = NoValue("unknown")
# A value that the engine could not write down.
TOO_LONG: Final = NoValue("too long to be kept")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RowTarget:
    """What somebody asks about: a table, the attributes of its columns, and perhaps a row."""

    name: TableName
    attributes: Mapping[str, str]
    key: tuple[Any, ...] | None = None


def connection_of(source: sa.Connection | Session) -> sa.Connection:
    """Return the connection of a session, or the one given."""
    return source.connection() if isinstance(source, Session) else source


def target_of(what: Any, key: Any = None) -> RowTarget:
    """Read a mapped class, a mapped object, a `Table` or the name of a table, and a key."""
    given = None if key is None else tuple(key) if isinstance(key, tuple | list) else (key,)
    if isinstance(what, str):
        schema, _, name = what.rpartition(".")
        return RowTarget(name=TableName(schema=schema, name=name), attributes={}, key=given)
    if isinstance(what, sa.Table):
        return RowTarget(name=_name(what), attributes={}, key=given)
    inspected = sa.inspect(what, raiseerr=False)
    mapper = getattr(inspected, "mapper", None)
    if mapper is None or not isinstance(mapper.local_table, sa.Table):
        raise Misuse(
            f"{what!r} is no mapped class, object or table; give one of them, or a table's name"
        )
    if inspected is not mapper and given is None:
        given = tuple(mapper.primary_key_from_instance(what))
    table: sa.Table = mapper.local_table
    attributes = {
        column.name: attribute.key
        for attribute in mapper.column_attrs
        for column in attribute.columns
        if isinstance(column, sa.Column) and column.table is table
    }
    return RowTarget(name=_name(table), attributes=attributes, key=given)


def _name(table: sa.Table) -> TableName:
    return TableName(schema=table.schema or "", name=table.name)


def entry_of(row: Any) -> Entry:
    """Return a row of the log as an entry."""
    return Entry(
        seq=row.seq,
        position=row.position,
        at_microseconds=row.at_microseconds,
        tx=row.tx,
        table_id=row.table_id,
        shape_id=row.shape_id,
        op=row.op,
        key=row.key,
        old=row.old,
        new=row.new,
    )


@final
class TrailReader:
    """The log of one database, read through one connection; shapes are read once."""

    def __init__(self, connection: sa.Connection, *, snapshot: bool = False) -> None:
        name = connection.dialect.name
        audit, past = dialect_for(name), past_dialect(name)
        if snapshot:
            past.begin_snapshot(connection)
        if not sa.inspect(connection).has_table(SHAPES.name):
            raise TrailMissing(
                "this database has no trail; `shipworthy audit install` makes one, from then on"
            )
        self.connection = connection
        self.audit: AuditDialect = audit
        self.past: PastDialect = past
        self.shapes: Mapping[int, Shape] = read_shapes(connection)
        self._noted: dict[int, int] = {
            row.id: row.at_microseconds
            for row in connection.execute(sa.select(SHAPES.c.id, SHAPES.c.at_microseconds))
        }

    def table_id(self, name: TableName) -> int:
        """Return the number of the table that has, or had last, this name."""
        ids = [number for number, shape in self.shapes.items() if shape.table.name == name]
        if not ids:
            known = sorted({str(shape.table.name) for shape in self.shapes.values()})
            raise TrailMissing(
                f"table '{name}' has no trail; captured are {', '.join(known) or 'none'}; "
                "`shipworthy audit check` says what is not covered"
            )
        return self.shapes[max(ids)].table_id

    def shapes_of(self, table_id: int) -> list[Shape]:
        """Return the shapes of a table, oldest first."""
        return [
            shape for number, shape in sorted(self.shapes.items()) if shape.table_id == table_id
        ]

    def noted_at(self, shape: Shape) -> int:
        """Return when a table was given this shape, in microseconds."""
        return self._noted[shape.id]

    def live_table(self, table_id: int) -> CatalogTable | None:
        """Return the table as the catalog has it now; None where it is gone."""
        name = self.shapes_of(table_id)[-1].table.name
        return self.audit.read_catalog(self.connection).tables.get(name)

    def entries(self, *where: sa.ColumnElement[bool], newest_first: bool = False) -> list[Entry]:
        """Return entries in the order of their numbers."""
        order = ENTRIES.c.seq.desc() if newest_first else ENTRIES.c.seq
        found = self.connection.execute(sa.select(ENTRIES).where(*where).order_by(order))
        return [entry_of(row) for row in found]

    def personal(self, seqs: Sequence[int]) -> dict[tuple[int, str, str], Cell | NoValue]:
        """Return the personal cells of entries, by number, side and column."""
        found: dict[tuple[int, str, str], Cell | NoValue] = {}
        for start in range(0, len(seqs), 500):
            rows = self.connection.execute(
                sa.select(PERSONAL).where(PERSONAL.c.seq.in_(seqs[start : start + 500]))
            )
            for row in rows:
                erased = row.salt is None
                found[row.seq, row.side, row.name] = ERASED if erased else row.value
        return found

    def value(self, cell: Cell | NoValue, table: CatalogTable, column: str) -> Any:
        """Return a cell as people and JSON have it."""
        if isinstance(cell, NoValue):
            return cell
        if cell is False:
            return TOO_LONG
        known = table.column(column)
        return self.audit.value(cell, "" if known is None else known.type)


def batched(items: Iterable[Any], size: int) -> Iterable[list[Any]]:
    """Give the items in lists of that size."""
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
