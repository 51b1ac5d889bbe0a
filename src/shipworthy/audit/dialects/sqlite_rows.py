"""SQLite: rows put back, changed and read as cells; every value is bound, none is SQL text."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from shipworthy.audit.cells import read_image
from shipworthy.audit.dialects.sqlite_cells import decode, name
from shipworthy.audit.dialects.sqlite_text import ERRORS
from shipworthy.audit.dialects.sqlite_triggers import image_sql
from shipworthy.audit.model import CatalogTable, Cell

# Rows asked for in one statement: an expression may be a thousand deep.
_ROWS: Final = 200


def insert_rows(
    connection: sa.Connection,
    table: CatalogTable,
    columns: Sequence[str],
    rows: Sequence[Mapping[str, Cell]],
) -> int:
    """Insert images; SQLite makes the generated columns again."""
    given = [one for one in columns if (column := table.column(one)) and not column.generated]
    inserted = 0
    # Rows of one form are sent together: how a value is bound is part of the statement.
    for form, values in _by_form(rows, given):
        sql = (
            f"INSERT INTO main.{name(table.name.name)}({','.join(map(name, given))}) "
            f"VALUES({','.join(form)})"
            if given
            else f"INSERT INTO main.{name(table.name.name)} DEFAULT VALUES"
        )
        inserted += connection.exec_driver_sql(sql, values).rowcount
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
    given = [one for one in image if (column := table.column(one)) and not column.generated]
    if not given:
        return 0
    bound = [_bound(image[one]) for one in given] + [_bound(cell) for cell in key]
    settings = ",".join(f"{name(one)}={form}" for one, (form, _) in zip(given, bound, strict=False))
    condition = " AND ".join(
        f"{name(one)} IS {form}"
        for one, (form, _) in zip(table.primary_key, bound[len(given) :], strict=True)
    )
    sql = f"UPDATE main.{name(table.name.name)} SET {settings} WHERE {condition}"
    return connection.exec_driver_sql(sql, tuple(value for _, value in bound)).rowcount


def delete_rows(
    connection: sa.Connection, table: CatalogTable, keys: Sequence[Sequence[Cell]]
) -> int:
    """Delete the rows with these keys, compared as the columns compare."""
    deleted = 0
    for start in range(0, len(keys), _ROWS):
        part = [[_bound(cell) for cell in key] for key in keys[start : start + _ROWS]]
        deleted += connection.exec_driver_sql(
            f"DELETE FROM main.{name(table.name.name)} WHERE {_any_of(table.primary_key, part)}",
            tuple(value for row in part for _, value in row),
        ).rowcount
    return deleted


def select_rows(
    connection: sa.Connection,
    table: CatalogTable,
    columns: Sequence[str],
    cells: Sequence[Sequence[Cell]],
) -> list[dict[str, Cell]]:
    """Return live rows as images, compared as the columns compare; all rows if `cells` is empty."""
    # As bytes: a text need not be UTF-8, and the driver refuses to read one that is not.
    image = f"CAST({image_sql(table, name(table.name.name))} AS BLOB)"
    sql = f"SELECT {image} FROM main.{name(table.name.name)}"
    found: list[dict[str, Cell]] = []
    for start in range(0, max(len(cells), 1), _ROWS):
        part = [[_bound(cell) for cell in row] for row in cells[start : start + _ROWS]]
        condition = _any_of(columns, part)
        answer = connection.exec_driver_sql(
            f"{sql} WHERE {condition}" if part else sql,
            tuple(value for row in part for _, value in row),
        )
        found += [read_image(text.decode("utf-8", ERRORS)) for (text,) in answer]
    return found


def _any_of(columns: Sequence[str], rows: Sequence[Sequence[tuple[str, Any]]]) -> str:
    """Return a condition that is true of the rows whose `columns` equal one of those bound."""
    return " OR ".join(
        "("
        + " AND ".join(
            f"{name(one)} IS {form}" for one, (form, _) in zip(columns, row, strict=True)
        )
        + ")"
        for row in rows
    )


def _bound(cell: Cell) -> tuple[str, Any]:
    """Return how a cell stands in SQL, and what the driver is given for it."""
    value = decode(cell)
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            # Bytes that are not UTF-8, in a text all the same.
            return "CAST(? AS TEXT)", value.encode("utf-8", ERRORS)
    return "?", value


def _by_form(
    rows: Sequence[Mapping[str, Cell]], columns: Sequence[str]
) -> Iterator[tuple[tuple[str, ...], list[tuple[Any, ...]]]]:
    """Return runs of rows that are bound alike, in their order."""
    form: tuple[str, ...] | None = None
    values: list[tuple[Any, ...]] = []
    for row in rows:
        bound = [_bound(row.get(column)) for column in columns]
        its_form = tuple(one for one, _ in bound)
        if values and its_form != form:
            assert form is not None
            yield form, values
            values = []
        form = its_form
        values.append(tuple(value for _, value in bound))
    if form is not None:
        yield form, values
