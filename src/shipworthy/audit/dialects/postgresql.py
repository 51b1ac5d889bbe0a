"""PostgreSQL, 14 and later: the trail's dialect, whose parts are beside it.

Changes of the schema are found by comparing catalogs and triggers; no event trigger is made, which
only a superuser may.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, final

import sqlalchemy as sa

from shipworthy.audit.cells import write_context
from shipworthy.audit.dialects import AuditDialect, CaptureDdl, TriggerState
from shipworthy.audit.dialects.postgresql_base import base_ddl, base_drop
from shipworthy.audit.dialects.postgresql_catalog import read_catalog
from shipworthy.audit.dialects.postgresql_cells import cell_of, value_of
from shipworthy.audit.dialects.postgresql_names import CONTEXT_SETTING, REMOVAL_SETTING
from shipworthy.audit.dialects.postgresql_rows import (
    delete_rows,
    insert_rows,
    select_rows,
    update_row,
)
from shipworthy.audit.dialects.postgresql_state import read_triggers
from shipworthy.audit.dialects.postgresql_triggers import capture_of
from shipworthy.audit.model import Catalog, CatalogTable, Cell, Context, Shape


@final
class PostgresqlAudit:
    """PostgreSQL through psycopg or asyncpg, also behind PgBouncer's transaction pooling."""

    __slots__ = ()

    name: str = "postgresql"
    position_column: str = "position"
    context_statement: str = f"SELECT set_config('{CONTEXT_SETTING}', :context, true)"
    clear_statement: str = ""

    def read_catalog(self, connection: sa.Connection) -> Catalog:
        """Return the application's tables."""
        return read_catalog(connection)

    def base_ddl(self) -> tuple[str, ...]:
        """Return the functions and guards of the log."""
        return base_ddl()

    def base_drop(self) -> tuple[str, ...]:
        """Return what takes them away."""
        return base_drop()

    def capture(self, shape: Shape, catalog: Catalog) -> CaptureDdl:
        """Return the triggers of one table; cascades fire them by themselves."""
        del catalog
        return capture_of(shape)

    def triggers(self, connection: sa.Connection) -> Sequence[TriggerState]:
        """Return our triggers as they are now, by what they do."""
        return read_triggers(connection)

    def lock_limit(self, seconds: float) -> tuple[str, ...]:
        """Return what bounds the wait for locks in the transaction."""
        return (f"SET LOCAL lock_timeout = '{max(1, math.ceil(seconds * 1000))}ms'",)

    def horizon(self, connection: sa.Connection) -> int:
        """Return the oldest transaction that is still open: all before it are final."""
        found: int = connection.execute(
            sa.text("SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)")
        ).scalar_one()
        return found

    @contextmanager
    def retention(self, connection: sa.Connection) -> Iterator[None]:
        """Let rows of the log be removed inside the block."""
        statement = sa.text("SELECT set_config(:name, :value, true)")
        connection.execute(statement, {"name": REMOVAL_SETTING, "value": "on"})
        yield
        connection.execute(statement, {"name": REMOVAL_SETTING, "value": ""})

    def bind(self, dbapi_connection: Any, context: Context) -> Any:
        """Carry the context in a setting that ends with the transaction."""
        # SQLAlchemy's adapter of asyncpg takes numbered parameters, all else takes %s.
        numbered = getattr(getattr(dbapi_connection, "dbapi", None), "paramstyle", "").startswith(
            "numeric"
        )
        statement = self.context_statement.replace(":context", "$1" if numbered else "%s")
        cursor = dbapi_connection.cursor()
        cursor.execute(statement, (write_context(context),))
        cursor.close()

    def attach(self, dbapi_connection: Any) -> list[str | None] | None:
        """Need nothing: a statement carries the context."""
        del dbapi_connection
        return None

    def cell(self, value: Any, column_type: str) -> Cell:
        """Return the cell of a value as a driver has it."""
        return cell_of(value, column_type)

    def value(self, cell: Cell, column_type: str) -> Any:
        """Return numbers, booleans and documents as such where JSON has them, else text."""
        return value_of(cell, column_type)

    def insert_rows(
        self,
        connection: sa.Connection,
        table: CatalogTable,
        columns: Sequence[str],
        rows: Sequence[Mapping[str, Cell]],
    ) -> int:
        """Insert images by casts inside the database."""
        return insert_rows(connection, table, columns, rows)

    def update_row(
        self,
        connection: sa.Connection,
        table: CatalogTable,
        key: Sequence[Cell],
        image: Mapping[str, Cell],
    ) -> int:
        """Set columns of one row by casts inside the database."""
        return update_row(connection, table, key, image)

    def delete_rows(
        self, connection: sa.Connection, table: CatalogTable, keys: Sequence[Sequence[Cell]]
    ) -> int:
        """Delete rows by their keys."""
        return delete_rows(connection, table, keys)

    def select_rows(
        self,
        connection: sa.Connection,
        table: CatalogTable,
        columns: Sequence[str],
        cells: Sequence[Sequence[Cell]],
        *,
        lock: bool = False,
    ) -> list[dict[str, Cell]]:
        """Return live rows as images, as capture writes them."""
        return select_rows(connection, table, columns, cells, lock=lock)


POSTGRESQL_AUDIT: Final[AuditDialect] = PostgresqlAudit()
