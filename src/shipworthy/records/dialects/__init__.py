"""What differs between databases when rows are put back: locks, checks at the end, sequences.

How a row is read and written exactly is `audit`'s dialect; here is what it does not need.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Final, Protocol

import sqlalchemy as sa

from shipworthy.audit import CatalogTable


class RestoreDialect(Protocol):
    """One kind of database, as a restore uses it."""

    @property
    def stable_numbers(self) -> bool:
        """Whether the number of a column is its own for life, so that it is found by it."""
        ...

    @property
    def tells_late(self) -> bool:
        """Whether an entry may turn up behind the trail's `horizon` after all."""
        ...

    def short_locks(
        self, connection: sa.Connection, seconds: float
    ) -> AbstractContextManager[None]:
        """Wait for a lock for at most `seconds` inside the block."""
        ...

    def check_later(self, connection: sa.Connection) -> None:
        """Check foreign keys when `check_now` is called, or at COMMIT, as far as they allow it."""
        ...

    def check_now(self, connection: sa.Connection) -> None:
        """Check what was put off; raises what the database raises."""
        ...

    def move_sequences(self, connection: sa.Connection, table: CatalogTable) -> None:
        """See to it that the next number given in `table` is none that a row has."""
        ...

    def refusal(self, error: sa.exc.DBAPIError) -> str:
        """Return what the database has against a row, in one line, without the row's values."""
        ...


_MODULES: Final[Mapping[str, tuple[str, str]]] = {
    "sqlite": ("shipworthy.records.dialects.sqlite", "SQLITE_RESTORE"),
    "postgresql": ("shipworthy.records.dialects.postgresql", "POSTGRESQL_RESTORE"),
    "mysql": ("shipworthy.records.dialects.mariadb", "MARIADB_RESTORE"),
    "mariadb": ("shipworthy.records.dialects.mariadb", "MARIADB_RESTORE"),
}


def restore_dialect(name: str) -> RestoreDialect:
    """Return the dialect that SQLAlchemy calls `name`; `KeyError` for one without a trail."""
    module, attribute = _MODULES[name]
    dialect: RestoreDialect = getattr(import_module(module), attribute)
    return dialect
