"""What differs between databases for the trail: catalog, triggers, context, horizon.

Each dialect is one module; elsewhere nobody asks which database it is.

Not here: which tables are captured and when triggers are made (`installation`), what an entry means
(`model`).
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final, Protocol, final

import sqlalchemy as sa

from shipworthy.audit.model import Catalog, CatalogTable, Cell, Context, Shape, TableName
from shipworthy.errors import Misuse


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerState:
    """A trigger of ours as the database has it now; `text` is what it does, `enabled` whether.

    `drop` takes this one away from where it stands; '' where `AuditDialect.base_drop` does.
    """

    table: TableName
    name: str
    text: str
    enabled: bool = True
    drop: str = field(default="", compare=False)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureDdl:
    """What makes the capture of one table: statements in order, and what takes it away again.

    `refused` says in a sentence what of it cannot be captured here, '' where all of it can;
    `silent` what no trigger of this engine sees on any table, so that a grant or `reconcile` must.
    `triggers` are the states that `AuditDialect.triggers` gives once `create` has run: what a check
    compares, so that a trigger that is missing, switched off or replaced is found.
    """

    create: tuple[str, ...]
    drop: tuple[str, ...]
    refused: str = ""
    silent: str = ""
    triggers: tuple[TriggerState, ...] = ()


class AuditDialect(Protocol):
    """One kind of database, as the trail uses it. Connections are SQLAlchemy's, sync."""

    @property
    def name(self) -> str:
        """Its name, as SQLAlchemy spells it."""
        ...

    def read_catalog(self, connection: sa.Connection) -> Catalog:
        """Return the application's tables: those of the default schema, without ours."""
        ...

    def base_ddl(self) -> tuple[str, ...]:
        """Return what is made once after the tables: functions, guards of the log; idempotent."""
        ...

    def base_drop(self) -> tuple[str, ...]:
        """Return what takes `base_ddl` away, before the tables go; idempotent."""
        ...

    def capture(self, shape: Shape, catalog: Catalog) -> CaptureDdl:
        """Return the triggers of one table; `create` replaces those that are there."""
        ...

    def triggers(self, connection: sa.Connection) -> Sequence[TriggerState]:
        """Return our triggers as they are now, to compare with what was generated."""
        ...

    def lock_limit(self, seconds: float) -> tuple[str, ...]:
        """Return what bounds the wait for locks in the transaction or session that follows."""
        ...

    def horizon(self, connection: sa.Connection) -> int:
        """Return the position below which every entry is final: none will appear or vanish."""
        ...

    @property
    def position_column(self) -> str:
        """The column of the log that `horizon` bounds: 'seq' where `position` stays 0."""
        ...

    def retention(self, connection: sa.Connection) -> AbstractContextManager[None]:
        """Let rows of the log be removed inside the block, in the transaction that is open."""
        ...

    def bind(self, dbapi_connection: Any, context: Context) -> Any:
        """Carry `context` to the triggers of the transaction that is open, or opens now.

        For who has one connection in the hand; `binding` uses the three below.
        """
        ...

    @property
    def context_statement(self) -> str:
        """What carries a context to the triggers of this transaction, sent before its first write.

        SQL of `sa.text` with the one parameter `:context`, which is what `cells.write_context`
        gives; '' where a cell of `attach` carries it.
        """
        ...

    @property
    def clear_statement(self) -> str:
        """What takes it away when the connection returns to its pool; '' where COMMIT does."""
        ...

    def attach(self, dbapi_connection: Any) -> list[str | None] | None:
        """Ready a connection whose database has the trail, outside a transaction; idempotent.

        Returns the cell, a list of one, from which the triggers of this connection read what
        `cells.write_context` gives, None meaning nobody; None where a statement carries it, or
        where the connection cannot be made ready.
        """
        ...

    def cell(self, value: Any, column_type: str) -> Cell:
        """Return the cell that the triggers write for a value as the driver has it.

        So that a key is written as the log has it (`cells.write_key`).
        """
        ...

    def value(self, cell: Cell, column_type: str) -> Any:
        """Return a cell as a value for people and JSON; text where there is nothing better."""
        ...

    def insert_rows(
        self,
        connection: sa.Connection,
        table: CatalogTable,
        columns: Sequence[str],
        rows: Sequence[Mapping[str, Cell]],
    ) -> int:
        """Insert images into `table` exactly as they were captured; returns how many."""
        ...

    def update_row(
        self,
        connection: sa.Connection,
        table: CatalogTable,
        key: Sequence[Cell],
        image: Mapping[str, Cell],
    ) -> int:
        """Set columns of the row with that key to cells, exactly; returns how many rows."""
        ...

    def delete_rows(
        self, connection: sa.Connection, table: CatalogTable, keys: Sequence[Sequence[Cell]]
    ) -> int:
        """Delete the rows with these primary keys; returns how many there were."""
        ...

    def select_rows(
        self,
        connection: sa.Connection,
        table: CatalogTable,
        columns: Sequence[str],
        cells: Sequence[Sequence[Cell]],
        *,
        lock: bool = False,
    ) -> list[dict[str, Cell]]:
        """Return, as images, the live rows whose `columns` equal one of `cells`; all if empty.

        With `lock`, as they are now, and nobody else changes them before the transaction ends.
        """
        ...


_MODULES: Final[Mapping[str, tuple[str, str]]] = {
    "sqlite": ("shipworthy.audit.dialects.sqlite", "SQLITE_AUDIT"),
    "postgresql": ("shipworthy.audit.dialects.postgresql", "POSTGRESQL_AUDIT"),
    "mysql": ("shipworthy.audit.dialects.mariadb", "MARIADB_AUDIT"),
    "mariadb": ("shipworthy.audit.dialects.mariadb", "MARIADB_AUDIT"),
}


def audit_dialect(name: str) -> AuditDialect | None:
    """Return the dialect that SQLAlchemy calls `name`, None for one that has no trail here."""
    found = _MODULES.get(name)
    if found is None:
        return None
    dialect: AuditDialect = getattr(import_module(found[0]), found[1])
    return dialect


def dialect_for(name: str) -> AuditDialect:
    """Return the dialect that SQLAlchemy calls `name`; raises `Misuse` for one without a trail."""
    found = audit_dialect(name)
    if found is None:
        raise Misuse(
            f"{name} is not known here; the trail is kept on PostgreSQL, MariaDB and SQLite"
        )
    return found


def shell_delimiter(name: str) -> str:
    """Return what ends a statement in the shell of that database, '' where `;` is enough."""
    # The shells of MariaDB and MySQL cut a trigger's body at its first semicolon.
    return "//" if name in ("mysql", "mariadb") else ""
