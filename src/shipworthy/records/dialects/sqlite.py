"""SQLite: one writer, so no lock is waited for twice; numbers follow the highest row by itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, final

import sqlalchemy as sa

from shipworthy.audit import CatalogTable


@final
class SqliteRestore:
    """What a restore needs of SQLite."""

    # A column's number is its place, which the next one gets when it is dropped.
    stable_numbers = False
    tells_late = False

    @contextmanager
    def short_locks(self, connection: sa.Connection, seconds: float) -> Iterator[None]:
        """Do nothing more: who has come here has the only lock there is."""
        del connection, seconds
        yield

    def check_later(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")

    def check_now(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys = OFF")

    def move_sequences(self, connection: sa.Connection, table: CatalogTable) -> None:
        """Do nothing: AUTOINCREMENT looks at what was inserted, and so does a plain rowid."""
        del connection, table

    def refusal(self, error: sa.exc.DBAPIError) -> str:
        """Return the message: it names constraints and columns, and holds no values."""
        return str(error.orig).split("\n", 1)[0][:200]


SQLITE_RESTORE: Final = SqliteRestore()
