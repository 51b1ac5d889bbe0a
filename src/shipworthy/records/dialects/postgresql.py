"""PostgreSQL: constraints that can wait, sequences that stand beside their tables."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, final

import sqlalchemy as sa

from shipworthy.audit import CatalogTable


@final
class PostgresqlRestore:
    """What a restore needs of PostgreSQL."""

    # attnum: a column that is dropped keeps its own.
    stable_numbers = True
    tells_late = False

    @contextmanager
    def short_locks(self, connection: sa.Connection, seconds: float) -> Iterator[None]:
        before = connection.scalar(sa.select(sa.func.current_setting("lock_timeout")))
        self._wait(connection, f"{int(seconds * 1000)}ms")
        yield
        # Not after a failure: the transaction is of no use then, and takes the setting with it.
        self._wait(connection, str(before))

    def check_later(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql("SET CONSTRAINTS ALL DEFERRED")

    def check_now(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")

    def move_sequences(self, connection: sa.Connection, table: CatalogTable) -> None:
        """Move a sequence that stands before its rows: TRUNCATE ... RESTART IDENTITY had it do so.

        One that stands behind them is left: it would give numbers again that were given.
        """
        preparer = connection.dialect.identifier_preparer
        name = preparer.quote(table.name.name)
        if table.name.schema:
            name = f"{preparer.quote(table.name.schema)}.{name}"
        for column in table.columns:
            if not (column.identity or (column.default or "").startswith("nextval(")):
                continue
            sequence = connection.scalar(
                sa.select(sa.func.pg_get_serial_sequence(name, column.name))
            )
            if sequence is None:
                continue
            field: sa.ColumnClause[int] = sa.column(column.name)
            highest = connection.scalar(sa.select(sa.func.max(field)).select_from(sa.text(name)))
            state: Any = connection.execute(
                sa.select(sa.column("last_value"), sa.column("is_called")).select_from(
                    sa.text(sequence)
                )
            ).one()
            stands = state.last_value if state.is_called else state.last_value - 1
            if highest is not None and stands < highest:
                connection.execute(sa.select(sa.func.setval(sequence, highest)))

    def refusal(self, error: sa.exc.DBAPIError) -> str:
        """Return the message's first line: the values stand in its detail."""
        return str(error.orig).split("\n", 1)[0][:200]

    @staticmethod
    def _wait(connection: sa.Connection, length: str) -> None:
        of_transaction = sa.true()
        connection.execute(sa.select(sa.func.set_config("lock_timeout", length, of_transaction)))


POSTGRESQL_RESTORE: Final = PostgresqlRestore()
