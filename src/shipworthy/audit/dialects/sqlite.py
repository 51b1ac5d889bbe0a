"""SQLite: the trail by triggers that any client fires, and a cell that only ours read."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, final

import sqlalchemy as sa

from shipworthy.audit.cells import write_context
from shipworthy.audit.dialects import (
    CaptureDdl,
    TriggerState,
    sqlite_catalog,
    sqlite_cells,
    sqlite_context,
    sqlite_rows,
    sqlite_triggers,
)
from shipworthy.audit.model import Catalog, CatalogTable, Cell, Context, Shape
from shipworthy.audit.tables import ENTRIES, META


@final
class SqliteAudit:
    """SQLite through sqlite3 or aiosqlite; what is promised stands in `AuditDialect`."""

    __slots__ = ()

    name = "sqlite"
    # `position` stays 0: the trigger cannot know the number of its row before it has it.
    position_column = "seq"
    context_statement = ""
    clear_statement = ""

    def read_catalog(self, connection: sa.Connection) -> Catalog:
        """Return the tables of the main database that are neither ours nor virtual."""
        return sqlite_catalog.read_catalog(connection)

    def base_ddl(self) -> tuple[str, ...]:
        """Return the guards of the log."""
        return sqlite_triggers.guards()

    def base_drop(self) -> tuple[str, ...]:
        """Return what takes the guards away."""
        return sqlite_triggers.guards_drop()

    def capture(self, shape: Shape, catalog: Catalog) -> CaptureDdl:
        """Return three triggers; those of cascades fire by themselves here."""
        del catalog
        return sqlite_triggers.capture(shape)

    def triggers(self, connection: sa.Connection) -> Sequence[TriggerState]:
        """Return ours, guards too; SQLite cannot disable a trigger."""
        return sqlite_catalog.read_triggers(connection)

    def lock_limit(self, seconds: float) -> tuple[str, ...]:
        """Return the wait for the one lock there is."""
        return (f"PRAGMA busy_timeout={max(0, round(seconds * 1000))}",)

    def horizon(self, connection: sa.Connection) -> int:
        """Return the number after the last entry: writers follow one another, so all are final."""
        last = connection.scalar(sa.select(sa.func.max(ENTRIES.c.seq)))
        return int(last or 0) + 1

    def bind(self, dbapi_connection: Any, context: Context) -> None:
        """Put the context into the cell of the connection, where it can have one."""
        cell = sqlite_context.attach(dbapi_connection)
        if cell is not None:
            cell[0] = write_context(context)

    def attach(self, dbapi_connection: Any) -> list[str | None] | None:
        """Return the cell of the connection, made if it has none; None where it trusts no schema.

        A connection with `PRAGMA trusted_schema=OFF` names nobody, and is counted as one.
        """
        return sqlite_context.attach(dbapi_connection)

    @contextmanager
    def retention(self, connection: sa.Connection) -> Iterator[None]:
        """Let entries be removed and changed inside the block, in the transaction it is in."""
        mark = {"name": sqlite_triggers.RETENTION}
        connection.execute(sa.insert(META).values(**mark, value="in a transaction"))
        yield
        connection.execute(sa.delete(META).where(META.c.name == mark["name"]))

    def cell(self, value: Any, column_type: str) -> Cell:
        """Return a value as the driver has it as a cell."""
        del column_type
        return sqlite_cells.encode(value)

    def value(self, cell: Cell, column_type: str) -> Any:
        """Return a cell as people and JSON have it."""
        return sqlite_cells.readable(cell, column_type)

    def insert_rows(
        self,
        connection: sa.Connection,
        table: CatalogTable,
        columns: Sequence[str],
        rows: Sequence[Mapping[str, Cell]],
    ) -> int:
        """Insert images by bound values."""
        return sqlite_rows.insert_rows(connection, table, columns, rows)

    def update_row(
        self,
        connection: sa.Connection,
        table: CatalogTable,
        key: Sequence[Cell],
        image: Mapping[str, Cell],
    ) -> int:
        """Set columns of one row by bound values."""
        return sqlite_rows.update_row(connection, table, key, image)

    def delete_rows(
        self, connection: sa.Connection, table: CatalogTable, keys: Sequence[Sequence[Cell]]
    ) -> int:
        """Delete rows by their keys."""
        return sqlite_rows.delete_rows(connection, table, keys)

    def select_rows(
        self,
        connection: sa.Connection,
        table: CatalogTable,
        columns: Sequence[str],
        cells: Sequence[Sequence[Cell]],
        *,
        lock: bool = False,
    ) -> list[dict[str, Cell]]:
        """Return live rows as images; who has written here has the only lock there is."""
        del lock
        return sqlite_rows.select_rows(connection, table, columns, cells)


SQLITE_AUDIT = SqliteAudit()
