"""SQLite: one writer at a time, one clock in milliseconds, and files that keep freed bytes."""

import json
from collections.abc import Sequence
from typing import Any, Final, final

import sqlalchemy as sa

from shipworthy.audit.dialects.sqlite_cells import column_affinity, encode, name
from shipworthy.audit.dialects.sqlite_triggers import NOW, image_sql
from shipworthy.audit.model import CatalogTable, Cell

# Of what was committed: the last entry, or that the trail was installed.
_LAST: Final = (
    "SELECT max(at) FROM (SELECT max(at_microseconds) AS at FROM shipworthy_audit_entries "
    "UNION ALL SELECT max(at_microseconds) FROM shipworthy_audit_shapes)"
)


@final
class SqlitePast:
    """`PastDialect` of SQLite."""

    __slots__ = ()

    numbers_stay = False
    commits_in_order = True

    def now_microseconds(self, connection: sa.Connection) -> int:
        return int(connection.exec_driver_sql(f"SELECT {NOW}*1000").scalar_one())

    def begin_snapshot(self, connection: sa.Connection) -> None:
        """Wait: within a transaction it could not be told whether somebody writes."""

    def no_snapshot(self, connection: sa.Connection) -> str:
        # The driver begins no transaction for a read.
        if not _in_transaction(connection):
            connection.exec_driver_sql("BEGIN")
        return ""

    def writing_since(self, connection: sa.Connection) -> int | None:
        if not _in_transaction(connection) and _nobody_writes(connection):
            return None
        # Whoever writes began after the entry that was committed last.
        return int(connection.exec_driver_sql(_LAST).scalar_one())

    def live_page(
        self, connection: sa.Connection, table: CatalogTable, after: Any, limit: int
    ) -> tuple[list[dict[str, Cell]], Any]:
        order = _order(table)
        # What the order is by comes as it is, to go on from; the image as bytes, since a text need
        # not be UTF-8 and the driver refuses to read one that is not.
        image = f"CAST({image_sql(table, name(table.name.name))} AS BLOB)"
        where = f"WHERE ({','.join(order)})>({','.join('?' * len(order))})" if after else ""
        rows = connection.exec_driver_sql(
            f"SELECT {image},{','.join(order)} FROM main.{name(table.name.name)} {where} "
            f"ORDER BY {','.join(order)} LIMIT {limit}",
            tuple(after or ()),
        ).all()
        images = [json.loads(row[0].decode("utf-8", "surrogateescape")) for row in rows]
        return images, tuple(rows[-1][1:]) if len(rows) == limit else None

    def key_cells(
        self, connection: sa.Connection, table: CatalogTable, values: Sequence[Any]
    ) -> list[Cell]:
        del connection
        cells: list[Cell] = []
        for column_name, value in zip(table.primary_key, values, strict=True):
            column = table.column(column_name)
            kind = "BLOB" if column is None else column_affinity(table, column)
            # What an INSERT would make of it; CAST to NUMERIC, unlike it, makes 0 of a word.
            stored = value
            if isinstance(value, str) and kind in {"INTEGER", "NUMERIC", "REAL"}:
                stored = _number(value)
            elif kind == "TEXT" and isinstance(value, int | float):
                stored = str(value)
            cells.append(encode(stored))
        return cells

    def new_position(self) -> None:
        return None

    def forget_freed(self, connection: sa.Connection) -> str:
        connection.exec_driver_sql("PRAGMA secure_delete=ON").all()
        return (
            "bytes that were freed before stay in the file and in its -wal until VACUUM and "
            "PRAGMA wal_checkpoint(TRUNCATE) have run"
        )


def _nobody_writes(connection: sa.Connection) -> bool:
    """Return whether the write lock can be had, which is given back at once."""
    patience = connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one()
    connection.exec_driver_sql("PRAGMA busy_timeout=0").all()
    try:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    except sa.exc.OperationalError:
        return False
    else:
        connection.exec_driver_sql("ROLLBACK")
        return True
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout={patience}").all()


def _order(table: CatalogTable) -> list[str]:
    """Return what tells rows apart and is never NULL: the rowid, by a name no column has taken."""
    if table.traits.get("without_rowid"):
        return [name(column) for column in table.primary_key]
    taken = {column.name.lower() for column in table.columns}
    return [next((alias for alias in ("rowid", "oid", "_rowid_") if alias not in taken), "rowid")]


def _number(text: str) -> int | float | str:
    """Return the number that a text stands for, the text itself where it stands for none."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _in_transaction(connection: sa.Connection) -> bool:
    return bool(getattr(connection.connection.driver_connection, "in_transaction", False))


SQLITE_PAST: Final = SqlitePast()
