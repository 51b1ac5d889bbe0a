"""MariaDB: no constraint waits, counters follow what is inserted, patience is the session's."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, final

import sqlalchemy as sa

from shipworthy.audit import CatalogTable

# "Duplicate entry 'ana@x.org' for key 'email'", "Data too long for column 'x' at row 1".
_VALUE: Final = re.compile(r"(Duplicate entry|Incorrect \w+ value:) '.*?'(?= for )")


@final
class MariadbRestore:
    """What a restore needs of MariaDB."""

    # A column's number is its place.
    stable_numbers = False
    # Its horizon is read in two steps.
    tells_late = True

    @contextmanager
    def short_locks(self, connection: sa.Connection, seconds: float) -> Iterator[None]:
        before = connection.exec_driver_sql("SELECT @@SESSION.innodb_lock_wait_timeout").scalar()
        self._wait(connection, max(1, int(seconds)))
        try:
            yield
        finally:
            if not connection.invalidated:
                self._wait(connection, int(before or 50))

    def check_later(self, connection: sa.Connection) -> None:
        """Do nothing: a circle of rows that must all be there first cannot be made here either."""
        del connection

    def check_now(self, connection: sa.Connection) -> None:
        """Do nothing: each row was checked when it went in."""
        del connection

    def move_sequences(self, connection: sa.Connection, table: CatalogTable) -> None:
        """Do nothing: AUTO_INCREMENT goes on after the highest number that was inserted."""
        del connection, table

    def refusal(self, error: sa.exc.DBAPIError) -> str:
        """Return the message without the values that it quotes."""
        arguments = getattr(error.orig, "args", ())
        message = str(arguments[-1] if arguments else error.orig)
        return _VALUE.sub(r"\1 '...'", message).split("\n", 1)[0][:200]

    @staticmethod
    def _wait(connection: sa.Connection, seconds: int) -> None:
        connection.exec_driver_sql(f"SET SESSION innodb_lock_wait_timeout = {seconds:d}")


MARIADB_RESTORE: Final = MariadbRestore()
