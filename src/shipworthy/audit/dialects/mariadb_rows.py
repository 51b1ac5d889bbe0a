"""MariaDB: rows put back from cells, and live rows read as cells, inside the database.

Every value is bound as text and cast there. A session may have any `sql_mode` and time zone: while
rows are put back it has those of `mariadb_cells`, and its own again afterwards.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import sqlalchemy as sa

from shipworthy.audit.dialects.mariadb_cells import (
    LENIENT_MODE,
    RESTORE_MODE,
    cell,
    is_error,
    name,
    parsed,
)
from shipworthy.audit.dialects.mariadb_text import bound_text, read_text
from shipworthy.audit.model import CatalogColumn, CatalogTable, Cell

# Of one statement, which the server reads whole and bounds (`max_allowed_packet`, 16 MiB).
_VALUES: Final = 5_000
_LETTERS: Final = 1_000_000


def insert_rows(
    connection: sa.Connection,
    table: CatalogTable,
    columns: Sequence[str],
    rows: Sequence[Mapping[str, Cell]],
) -> int:
    """Insert images; MariaDB makes the generated columns again."""
    given = _stored(table, columns)
    row_form = f"({','.join(parsed('%s', it.type) for it in given)})"
    begin = f"INSERT INTO {_name(table.name.name)} ({_names(given)}) VALUES "
    cells = [[row.get(it.name) for it in given] for row in rows]
    inserted = 0
    with _exact(connection):
        for part in _parts(cells):
            inserted += _write(connection, begin + ",".join([row_form] * len(part)), given, part)
    return inserted


def update_row(
    connection: sa.Connection,
    table: CatalogTable,
    key: Sequence[Cell],
    image: Mapping[str, Cell],
) -> int:
    """Set columns of the row with that key."""
    if len(key) != len(table.primary_key) or not key:
        raise ValueError(
            f"{len(key)} cells were given for a row of {table.name}, whose primary key has "
            f"{len(table.primary_key)} columns: a row is changed by the whole of its key"
        )
    given = _stored(table, tuple(image))
    if not given:
        return 0
    keys = [_column(table, part) for part in table.primary_key]
    settings = ",".join(f"{_name(it.name)}={parsed('%s', it.type)}" for it in given)
    with _exact(connection):
        return _write(
            connection,
            f"UPDATE {_name(table.name.name)} SET {settings} WHERE {_equal(keys)}",
            [*given, *keys],
            [[*(image[it.name] for it in given), *key]],
        )


def delete_rows(
    connection: sa.Connection, table: CatalogTable, keys: Sequence[Sequence[Cell]]
) -> int:
    """Delete the rows with these keys, compared as the columns compare."""
    compared = [_column(table, part) for part in table.primary_key]
    deleted = 0
    with _exact(connection):
        for part in _parts(keys):
            condition = " OR ".join([f"({_equal(compared)})"] * len(part))
            deleted += connection.exec_driver_sql(
                f"DELETE FROM {_name(table.name.name)} WHERE {condition}",
                tuple(value for row in part for value in _bound(compared, row)),
            ).rowcount
    return deleted


def select_rows(
    connection: sa.Connection,
    table: CatalogTable,
    columns: Sequence[str],
    cells: Sequence[Sequence[Cell]],
    *,
    lock: bool = False,
) -> list[dict[str, Cell]]:
    """Return live rows as images, compared as the columns compare; all rows if `cells` is empty.

    With `lock` they are read as they are now, not as the transaction saw them first, and nobody
    else changes them before it ends.
    """
    compared = [_column(table, column) for column in columns]
    listed = _cells(table.columns)
    begin = f"SELECT {listed} FROM {_name(table.name.name)}"
    names = [it.name for it in table.columns]
    found: list[dict[str, Cell]] = []
    with _exact(connection):
        for part in _parts([list(row) for row in cells]) if cells else [[]]:
            condition = " OR ".join([f"({_equal(compared)})"] * len(part))
            answer = connection.exec_driver_sql(
                (f"{begin} WHERE {condition}" if part else begin) + " FOR UPDATE" * lock,
                tuple(value for row in part for value in _bound(compared, row)),
            )
            found += [dict(zip(names, map(read_text, row), strict=True)) for row in answer]
    return found


def select_after(
    connection: sa.Connection, table: CatalogTable, key: Sequence[Cell] | None, limit: int
) -> list[dict[str, Cell]]:
    """Return so many live rows as images, in the order of their keys, after `key`; None: first."""
    keys = [_column(table, part) for part in table.primary_key]
    listed = _cells(table.columns)
    after = "" if key is None else f" WHERE {_later(keys)}"
    bound: list[str | bytes | None] = []
    for place in range(len(keys)) if key is not None else ():
        bound += _bound(keys[: place + 1], list(key or ())[: place + 1])
    names = [it.name for it in table.columns]
    with _exact(connection):
        answer = connection.exec_driver_sql(
            f"SELECT {listed} FROM {_name(table.name.name)}{after} "
            f"ORDER BY {','.join(_name(it.name) for it in keys)} LIMIT {limit}",
            tuple(bound),
        )
        return [dict(zip(names, map(read_text, row), strict=True)) for row in answer]


def _later(keys: Sequence[CatalogColumn]) -> str:
    """Return what is true of the keys after one: the first part later, or equal and the next."""
    parts = []
    for place, last in enumerate(keys):
        equal = [f"{_name(it.name)}={parsed('%s', it.type)}" for it in keys[:place]]
        parts.append(" AND ".join([*equal, f"{_name(last.name)}>{parsed('%s', last.type)}"]))
    return "(" + " OR ".join(f"({part})" for part in parts) + ")"


@contextmanager
def _exact(connection: sa.Connection) -> Iterator[None]:
    """Give the session the mode, zone and letters in which cells mean what they say."""
    before = connection.exec_driver_sql(
        "SELECT @@SESSION.sql_mode, @@SESSION.time_zone, @@SESSION.collation_connection"
    ).one()
    setting = "SET SESSION sql_mode=%s, time_zone=%s, collation_connection=%s"
    connection.exec_driver_sql(setting, (RESTORE_MODE, "+00:00", "utf8mb4_bin"))
    try:
        yield
    finally:
        if not connection.invalidated:
            connection.exec_driver_sql(setting, tuple(before))


def _write(
    connection: sa.Connection,
    statement: str,
    columns: Sequence[CatalogColumn],
    rows: Sequence[Sequence[Cell]],
) -> int:
    """Run a statement that writes; a value that does not fit is an error, never cut."""
    values = tuple(value for row in rows for value in _bound(columns, row))
    errors = sum(
        is_error(value, column.type)
        for row in rows
        for column, value in zip(columns, row, strict=True)
    )
    if not errors:
        return connection.exec_driver_sql(statement, values).rowcount
    connection.exec_driver_sql("SET SESSION sql_mode=%s", (LENIENT_MODE,))
    written = connection.exec_driver_sql(statement, values).rowcount
    warned = int(connection.exec_driver_sql("SELECT @@warning_count").scalar_one())
    connection.exec_driver_sql("SET SESSION sql_mode=%s", (RESTORE_MODE,))
    if warned > errors:
        raise ValueError(
            f"{warned} values were changed on the way into the table, and only {errors} of them "
            f"are enums without a member; roll back, and compare the table with what was captured"
        )
    return written


def _stored(table: CatalogTable, columns: Sequence[str]) -> list[CatalogColumn]:
    return [it for column in columns if (it := table.column(column)) and not it.generated]


def _column(table: CatalogTable, column: str) -> CatalogColumn:
    found = table.column(column)
    if found is None:
        raise ValueError(f"{table.name} has no column '{column}'; read the catalog again")
    return found


def _equal(columns: Sequence[CatalogColumn]) -> str:
    return " AND ".join(f"{_name(it.name)}<=>{parsed('%s', it.type)}" for it in columns)


def _bound(columns: Sequence[CatalogColumn], cells: Sequence[Cell]) -> Iterator[str | bytes | None]:
    """Return what the driver is given: a cell as often as the statement names it."""
    for column, value in zip(columns, cells, strict=True):
        if isinstance(value, bool):
            raise TypeError(
                f"the value of '{column.name}' is personal and lies beside the log; give its text, "
                f"or leave the column out where it was erased"
            )
        for _ in range(parsed("%s", column.type).count("%s")):
            yield bound_text(value)


def _parts(rows: Sequence[Sequence[Cell]]) -> Iterator[list[Sequence[Cell]]]:
    """Return runs of rows of which each is short enough for one statement."""
    part: list[Sequence[Cell]] = []
    values = letters = 0
    for row in rows:
        size = sum(len(value) for value in row if isinstance(value, str))
        if part and (values + len(row) > _VALUES or letters + size > _LETTERS):
            yield part
            part, values, letters = [], 0, 0
        part.append(row)
        values += len(row)
        letters += size
    if part:
        yield part


def _cells(columns: Sequence[CatalogColumn]) -> str:
    """Return the SQL of the cells of a row; `read_text` reads them."""
    return ",".join(f"CAST({cell(_name(it.name), it.type)} AS BINARY)" for it in columns)


def _name(identifier: str) -> str:
    """Return a quoted name for a statement with parameters, in which a percent sign is doubled."""
    return name(identifier).replace("%", "%%")


def _names(columns: Sequence[CatalogColumn]) -> str:
    return ",".join(_name(it.name) for it in columns)
