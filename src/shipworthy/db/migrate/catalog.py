"""What the database says of itself before a migration: sizes, proofs, and who is in the way."""

from dataclasses import dataclass
from typing import Any, final

from sqlalchemy import Connection, func, inspect, literal_column, select, table, text
from typing_extensions import override

from shipworthy.db.dialects.migration import MigrationDialect
from shipworthy.redact import printable, redact

SHOWN_QUERY = 120


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LongTransaction:
    """A transaction that a migration would wait behind; `tables` None: nobody knows which."""

    pid: int
    user: str
    age_seconds: float
    query: str
    tables: tuple[str, ...] | None

    @override
    def __str__(self) -> str:
        where = "its tables cannot be seen"
        if self.tables is not None:
            where = f"it holds {', '.join(self.tables)}"
        return (
            f"process {self.pid} of user '{self.user}' is in a transaction for "
            f"{self.age_seconds:.0f} s ({where}), last statement: {self.query or 'unknown'}"
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenIndex:
    """An index that a build left behind: it costs writes and serves no read."""

    schema: str
    name: str

    @override
    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


def table_rows(
    connection: Connection, dialect: MigrationDialect, *, tables: frozenset[str], most: int
) -> dict[str, int]:
    """Return about how many rows tables (and indexes, where they can stand alone) have.

    Names are as a clause has them, once with and once without their schema. Where the database
    keeps no estimate, the rows of `tables` are counted, up to `most`.
    """
    if dialect.rows is None:
        return _counted(connection, tables, most)
    found: dict[str, int] = {}
    for schema, name, rows in connection.execute(text(dialect.rows)):
        for known in (plain(name), f"{plain(schema)}.{plain(name)}"):
            found[known] = max(found.get(known, 0), int(rows))
    return found


def proven_columns(connection: Connection, dialect: MigrationDialect) -> set[tuple[str, str]]:
    """Return table and column of each CHECK that says the column is never NULL."""
    if dialect.proven is None:
        return set()
    rows = connection.execute(text(dialect.proven))
    return {(plain(name), plain(column_name)) for name, column_name in rows}


def long_transactions(
    connection: Connection, dialect: MigrationDialect, *, seconds: float, tables: frozenset[str]
) -> list[LongTransaction]:
    """Return the transactions older than `seconds` that touch one of `tables`, the oldest first.

    Where the database does not show what a transaction touches, it is taken to.
    """
    if dialect.behind is None:
        return []
    plain_tables = {name.rpartition(".")[2] for name in tables}
    found = []
    for pid, user, age, query, touched in connection.execute(
        text(dialect.behind), {"seconds": seconds}
    ):
        names = None if touched is None else tuple(plain(name) for name in touched.split(","))
        if names is None or plain_tables.intersection(names):
            found.append(
                LongTransaction(
                    pid=int(pid),
                    user=str(user),
                    age_seconds=float(age),
                    query=shortened(query or ""),
                    tables=names,
                )
            )
    return found


def broken_indexes(connection: Connection, dialect: MigrationDialect) -> list[BrokenIndex]:
    """Return the indexes that are there and are not used, because their build did not end."""
    if dialect.broken is None:
        return []
    return [
        BrokenIndex(schema=schema, name=name)
        for schema, name in connection.execute(text(dialect.broken))
    ]


def plain(name: Any) -> str:
    """Return a name of the catalog as a clause has it: one word in small letters."""
    return "_".join(str(name).lower().split())


def shortened(query: str) -> str:
    """Return a query for a message: on one line, no longer than that, its secrets hidden."""
    flat = printable(redact(" ".join(query.split())))
    return flat if len(flat) <= SHOWN_QUERY else f"{flat[: SHOWN_QUERY - 3]}..."


def _counted(connection: Connection, tables: frozenset[str], most: int) -> dict[str, int]:
    found = {}
    for name in inspect(connection).get_table_names():
        if plain(name) in tables:
            some = select(literal_column("1")).select_from(table(name)).limit(most).subquery()
            found[plain(name)] = connection.scalar(select(func.count()).select_from(some)) or 0
    return found
