"""What differs between databases for looking back and for letting go of what is old.

Beside `AuditDialect`, which is about writing the log. Connections are SQLAlchemy's, sync.

Not here: what a time means and what may go (`moment`, `retention`).
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Final, Protocol

import sqlalchemy as sa

from shipworthy.audit.dialects import dialect_for
from shipworthy.audit.model import CatalogTable, Cell


class PastDialect(Protocol):
    """One kind of database, as `past` and `retention` use it."""

    @property
    def numbers_stay(self) -> bool:
        """Whether a column keeps its number when columns before it go, and when it is renamed."""
        ...

    @property
    def commits_in_order(self) -> bool:
        """Whether entries are numbered in the order of their commits: one writer at a time."""
        ...

    def now_microseconds(self, connection: sa.Connection) -> int:
        """Return the time, by the clock of the entries, until which this transaction sees."""
        ...

    def begin_snapshot(self, connection: sa.Connection) -> None:
        """Make the transaction that begins here, with this statement, see one state throughout."""
        ...

    def no_snapshot(self, connection: sa.Connection) -> str:
        """Say in a sentence why reads of this transaction do not see one state; '' if they do."""
        ...

    def writing_since(self, connection: sa.Connection) -> int | None:
        """Return a time before which nobody writes who has not ended; None where nobody writes.

        In microseconds. Entries of transactions that are still open have that time, or later ones;
        0 where this role may not see since when.
        """
        ...

    def live_page(
        self, connection: sa.Connection, table: CatalogTable, after: Any, limit: int
    ) -> tuple[list[dict[str, Cell]], Any]:
        """Return so many live rows as images, and where to go on; None where there are no more.

        Begins with `after` None. Where reads see one state, every row is given once.
        """
        ...

    def key_cells(
        self, connection: sa.Connection, table: CatalogTable, values: Sequence[Any]
    ) -> list[Cell]:
        """Return the primary key of a row as cells, of values as the driver takes them, or text."""
        ...

    def new_position(self) -> sa.ColumnElement[int] | None:
        """Return the position of an entry that no trigger writes; None where it is its number."""
        ...

    def forget_freed(self, connection: sa.Connection) -> str:
        """Make bytes of values that were overwritten unreadable in the files, as far as it can.

        Returns in a sentence what the operator must do for the rest, '' where nothing is left.
        """
        ...


_MODULES: Final[Mapping[str, tuple[str, str]]] = {
    "sqlite": ("shipworthy.audit.dialects.past_sqlite", "SQLITE_PAST"),
    "postgresql": ("shipworthy.audit.dialects.past_postgresql", "POSTGRESQL_PAST"),
    "mysql": ("shipworthy.audit.dialects.past_mariadb", "MARIADB_PAST"),
    "mariadb": ("shipworthy.audit.dialects.past_mariadb", "MARIADB_PAST"),
}


def past_dialect(name: str) -> PastDialect:
    """Return the dialect that SQLAlchemy calls `name`; raises `Misuse` for one without a trail."""
    dialect_for(name)
    module, attribute = _MODULES[name]
    dialect: PastDialect = getattr(import_module(module), attribute)
    return dialect
