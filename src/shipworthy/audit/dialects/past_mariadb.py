"""MariaDB: who is writing, seen by what other connections cannot see, and pages by key."""

from collections.abc import Sequence
from typing import Any, Final, final

import sqlalchemy as sa

from shipworthy.audit.dialects.mariadb_horizon import read_horizon, uncommitted_beside
from shipworthy.audit.dialects.mariadb_rows import select_after, select_rows
from shipworthy.audit.dialects.mariadb_values import encode
from shipworthy.audit.model import CatalogTable, Cell
from shipworthy.audit.tables import ENTRIES

_NOW: Final = "SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6))*1000000 AS UNSIGNED)"
_SNAPSHOTS: Final = frozenset({"REPEATABLE-READ", "SERIALIZABLE"})
# They are ordered by their place in the list, and compared as text.
_LISTED: Final = ("enum", "set")


@final
class MariadbPast:
    """`PastDialect` of MariaDB."""

    __slots__ = ()

    numbers_stay = False
    commits_in_order = False

    def now_microseconds(self, connection: sa.Connection) -> int:
        return int(connection.exec_driver_sql(_NOW).scalar_one())

    def begin_snapshot(self, connection: sa.Connection) -> None:
        """Leave it as it is: unless it was told otherwise, a transaction sees one state."""

    def no_snapshot(self, connection: sa.Connection) -> str:
        isolation = str(connection.exec_driver_sql("SELECT @@SESSION.tx_isolation").scalar_one())
        if isolation in _SNAPSHOTS:
            return ""
        return (
            "a table is read back in many statements, which must see one state: this transaction "
            f"is {isolation}; begin it with isolation_level='REPEATABLE READ'"
        )

    def writing_since(self, connection: sa.Connection) -> int | None:
        # What this transaction does not see is not in its answer, committed meanwhile or not.
        horizon = read_horizon(connection)
        with uncommitted_beside(connection) as uncommitted:
            since = uncommitted.scalar(
                sa.select(sa.func.min(ENTRIES.c.at_microseconds)).where(ENTRIES.c.seq >= horizon)
            )
        return None if since is None else int(since)

    def live_page(
        self, connection: sa.Connection, table: CatalogTable, after: Any, limit: int
    ) -> tuple[list[dict[str, Cell]], Any]:
        columns = [table.column(name) for name in table.primary_key]
        if not columns or any(it is None or it.type.lower().startswith(_LISTED) for it in columns):
            return select_rows(connection, table, (), ()), None
        images = select_after(connection, table, after, limit)
        more = len(images) == limit
        return images, [images[-1][name] for name in table.primary_key] if more else None

    def key_cells(
        self, connection: sa.Connection, table: CatalogTable, values: Sequence[Any]
    ) -> list[Cell]:
        del connection
        cells: list[Cell] = []
        for name, value in zip(table.primary_key, values, strict=True):
            column = table.column(name)
            cells.append(encode(value, "" if column is None else column.type))
        return cells

    def new_position(self) -> None:
        return None

    def forget_freed(self, connection: sa.Connection) -> str:
        del connection
        return (
            "the old versions of the rows stay in the files until InnoDB has purged them and their "
            "pages are written over, and in binary logs and backups as long as those are kept"
        )


MARIADB_PAST: Final = MariadbPast()
