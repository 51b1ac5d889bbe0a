"""MariaDB: the trail by triggers, and a variable of the session that says who it is for.

MySQL is not supported: it has neither SET STATEMENT nor loops over queries, and other functions.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import ceil
from typing import Any, Final, final

import sqlalchemy as sa

from shipworthy.audit.cells import write_context
from shipworthy.audit.dialects import (
    CaptureDdl,
    TriggerState,
    mariadb_catalog,
    mariadb_horizon,
    mariadb_rows,
    mariadb_triggers,
    mariadb_values,
)
from shipworthy.audit.dialects.mariadb_entries import CONTEXT, NOTED
from shipworthy.audit.model import Catalog, CatalogTable, Cell, Context, Shape
from shipworthy.errors import Misuse

_OLDEST: Final = (10, 6)


@final
class MariadbAudit:
    """MariaDB through PyMySQL or asyncmy; what is promised stands in `AuditDialect`."""

    __slots__ = ()

    name = "mariadb"
    # `position` stays 0: the trigger cannot know the number of its row before it has it.
    position_column = "seq"
    context_statement = f"SET {CONTEXT} = :context, {NOTED} = NULL"
    clear_statement = f"SET {CONTEXT} = NULL"

    def read_catalog(self, connection: sa.Connection) -> Catalog:
        """Return the tables of the connection's database that are not ours."""
        dialect = connection.dialect
        version = dialect.server_version_info or ()
        if not getattr(dialect, "is_mariadb", False) or version[:2] < _OLDEST:
            found = "MariaDB" if getattr(dialect, "is_mariadb", False) else "MySQL"
            raise Misuse(
                f"the trail needs MariaDB 10.6 or later, and this is {found} "
                f"{'.'.join(map(str, version))}"
            )
        return mariadb_catalog.read_catalog(connection)

    def base_ddl(self) -> tuple[str, ...]:
        """Return the guards of the log."""
        return mariadb_triggers.guards()

    def base_drop(self) -> tuple[str, ...]:
        """Return what takes the guards away."""
        return mariadb_triggers.guards_drop()

    def capture(self, shape: Shape, catalog: Catalog) -> CaptureDdl:
        """Return three triggers, and a fourth where foreign keys touch other rows."""
        return mariadb_triggers.capture(shape, catalog)

    def triggers(self, connection: sa.Connection) -> Sequence[TriggerState]:
        """Return ours, guards too; MariaDB cannot disable a trigger."""
        return mariadb_catalog.read_triggers(connection)

    def lock_limit(self, seconds: float) -> tuple[str, ...]:
        """Return the wait for metadata locks, which is in whole seconds and at least one."""
        return (f"SET SESSION lock_wait_timeout={max(1, ceil(seconds))}",)

    def horizon(self, connection: sa.Connection) -> int:
        """Return the number below which `connection` sees every entry that is or was open."""
        return mariadb_horizon.read_horizon(connection)

    @contextmanager
    def retention(self, connection: sa.Connection) -> Iterator[None]:
        """Let entries be removed and changed by this connection inside the block."""
        connection.exec_driver_sql(f"SET {mariadb_triggers.RETENTION}=1")
        try:
            yield
        finally:
            if not connection.invalidated:
                connection.exec_driver_sql(f"SET {mariadb_triggers.RETENTION}=NULL")

    def bind(self, dbapi_connection: Any, context: Context) -> None:
        """Set the variable from which the triggers of this connection read the context."""
        cursor = dbapi_connection.cursor()
        try:
            cursor.execute(f"SET {CONTEXT} = %s, {NOTED} = NULL", (write_context(context),))
        finally:
            cursor.close()

    def attach(self, dbapi_connection: Any) -> None:
        """Do nothing: a statement carries the context."""

    def cell(self, value: Any, column_type: str) -> Cell:
        """Return a value as the driver has it as a cell."""
        return mariadb_values.encode(value, column_type)

    def value(self, cell: Cell, column_type: str) -> Any:
        """Return a cell as people and JSON have it."""
        return mariadb_values.value(cell, column_type)

    def insert_rows(
        self,
        connection: sa.Connection,
        table: CatalogTable,
        columns: Sequence[str],
        rows: Sequence[Mapping[str, Cell]],
    ) -> int:
        """Insert images by casts from text."""
        return mariadb_rows.insert_rows(connection, table, columns, rows)

    def update_row(
        self,
        connection: sa.Connection,
        table: CatalogTable,
        key: Sequence[Cell],
        image: Mapping[str, Cell],
    ) -> int:
        """Set columns of one row by casts from text."""
        return mariadb_rows.update_row(connection, table, key, image)

    def delete_rows(
        self, connection: sa.Connection, table: CatalogTable, keys: Sequence[Sequence[Cell]]
    ) -> int:
        """Delete rows by their keys."""
        return mariadb_rows.delete_rows(connection, table, keys)

    def select_rows(
        self,
        connection: sa.Connection,
        table: CatalogTable,
        columns: Sequence[str],
        cells: Sequence[Sequence[Cell]],
        *,
        lock: bool = False,
    ) -> list[dict[str, Cell]]:
        """Return live rows as images."""
        return mariadb_rows.select_rows(connection, table, columns, cells, lock=lock)


MARIADB_AUDIT = MariadbAudit()
