"""PostgreSQL: snapshots, who is writing, and pages of a table by where its rows lie."""

from collections.abc import Sequence
from typing import Any, Final, final

import sqlalchemy as sa

from shipworthy.audit.cells import read_image
from shipworthy.audit.dialects.postgresql_cells import cell_of
from shipworthy.audit.dialects.postgresql_names import PARTITIONED, quoted, relation_of
from shipworthy.audit.dialects.postgresql_rows import fixed_settings, rewritten
from shipworthy.audit.dialects.postgresql_text import as_image, as_json, texts_of
from shipworthy.audit.model import CatalogTable, Cell
from shipworthy.errors import Misuse

# Whoever has written holds the lock of his number until others see what he wrote. That everybody
# may see; since when he runs, only a role that may. A prepared transaction has no process any more.
_WRITING: Final = sa.text(r"""
SELECT count(*), count(a.xact_start),
  (extract(epoch FROM min(a.xact_start)) * 1000000)\:\:bigint
FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
LEFT JOIN pg_prepared_xacts p ON l.pid IS NULL AND p.transaction = l.transactionid
WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted
  AND l.pid IS DISTINCT FROM pg_backend_pid()
  AND coalesce(a.datname, p.database, current_database()) = current_database()
""")
# Who sees one state throughout sees nothing that was committed after the transaction began.
_NOW: Final = sa.text(r"""
SELECT (extract(epoch FROM CASE WHEN current_setting('transaction_isolation')
  IN ('repeatable read', 'serializable') THEN now() ELSE clock_timestamp() END) * 1000000)
  \:\:bigint
""")
_SNAPSHOTS: Final = frozenset({"repeatable read", "serializable"})


@final
class PostgresqlPast:
    """`PastDialect` of PostgreSQL."""

    __slots__ = ()

    numbers_stay = True
    commits_in_order = False

    def now_microseconds(self, connection: sa.Connection) -> int:
        return int(connection.execute(_NOW).scalar_one())

    def begin_snapshot(self, connection: sa.Connection) -> None:
        connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))

    def no_snapshot(self, connection: sa.Connection) -> str:
        isolation = str(connection.execute(sa.text("SHOW transaction_isolation")).scalar_one())
        if isolation in _SNAPSHOTS:
            return ""
        return (
            f"a table is read back in many statements, which must see one state: this transaction "
            f"is '{isolation}'; ask before its first statement, or begin it with "
            "isolation_level='REPEATABLE READ'"
        )

    def writing_since(self, connection: sa.Connection) -> int | None:
        if self.no_snapshot(connection) == "":
            # Who has ended since this transaction first read is not to be found any more.
            return 0
        running, seen, since = connection.execute(_WRITING).one()
        if not running:
            return None
        return int(since) if seen == running else 0

    def live_page(
        self, connection: sa.Connection, table: CatalogTable, after: Any, limit: int
    ) -> tuple[list[dict[str, Cell]], Any]:
        facts = texts_of(table)
        image = as_image({name: as_json(fact, f"t.{quoted(name)}") for name, fact in facts.items()})
        many = table.traits.get(PARTITIONED)
        # Within a snapshot a row lies where it lies; partitions are told apart by their number.
        place = "t.tableoid, t.ctid" if many else "t.ctid"
        bound = "(CAST(:oid AS oid), CAST(:tid AS tid))" if many else "CAST(:tid AS tid)"
        where = f"WHERE ({place}) > {bound}" if after is not None else ""
        # What stands in the image is no parameter, whatever colons it has.
        query = f"SELECT {image} FROM {'' if many else 'ONLY '}{relation_of(table)} AS t"
        statement = sa.text(
            f"{query.replace('SELECT ', 'SELECT t.tableoid, CAST(t.ctid AS text), ', 1)}".replace(
                ":", "\\:"
            )
            + f" {where} ORDER BY {place} LIMIT :many"
        )
        oid, tid = after if after is not None else (0, "(0,0)")
        bounds: dict[str, Any] = {"many": limit}
        if after is not None:
            bounds |= {"tid": tid, "oid": oid} if many else {"tid": tid}
        with fixed_settings(connection, table):
            rows = connection.execute(statement, bounds).all()
        images = [read_image(row[2]) for row in rows]
        return images, (rows[-1][0], rows[-1][1]) if len(rows) == limit else None

    def key_cells(
        self, connection: sa.Connection, table: CatalogTable, values: Sequence[Any]
    ) -> list[Cell]:
        cells: list[Cell] = []
        for name, value in zip(table.primary_key, values, strict=True):
            column = table.column(name)
            kind = "text" if column is None else column.type
            cells.append(
                _as_written(connection, table, name, value)
                if isinstance(value, str)
                else cell_of(value, kind)
            )
        return cells

    def new_position(self) -> sa.ColumnElement[int]:
        return sa.cast(sa.cast(sa.func.pg_current_xact_id(), sa.Text), sa.BigInteger)

    def forget_freed(self, connection: sa.Connection) -> str:
        del connection
        return (
            "the old versions of the rows stay in the files until VACUUM has run, and in the "
            "write-ahead log, replicas and backups as long as those are kept"
        )


def _as_written(connection: sa.Connection, table: CatalogTable, name: str, text: str) -> Cell:
    """Return a text the way the triggers write a value of that column."""
    try:
        with connection.begin_nested():
            return rewritten(connection, table, {name: text})[name]
    except sa.exc.DBAPIError:
        column = table.column(name)
        kind = column.type if column else "column"
        raise Misuse(f"'{text}' is no {kind}, which the primary key is") from None


POSTGRESQL_PAST: Final = PostgresqlPast()
