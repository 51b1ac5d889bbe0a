"""Rows of PostgreSQL as images and back, inside the database: no value passes through Python.

Images go in as one JSON text and are cast to each column's type there, under fixed settings, so
what was captured is what is stored, and a hundred thousand rows are some statements.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import sqlalchemy as sa

from shipworthy.audit.cells import read_image
from shipworthy.audit.dialects.postgresql_names import (
    PARTITIONED,
    literal,
    quoted,
    relation_of,
)
from shipworthy.audit.dialects.postgresql_text import (
    SETTINGS,
    TextFact,
    as_image,
    as_json,
    settings_needed,
    texts_of,
)
from shipworthy.audit.model import CatalogTable, Cell

_ROWS_AT_ONCE: Final = 5000
_BYTES_AT_ONCE: Final = 8 * 1024 * 1024
_ROWS: Final = "\0"  # where the parameter stands: in no name and in no text of PostgreSQL
# What reading text depends on besides what writing it does.
_READING: Final[dict[str, str]] = {"array_nulls": "on", "xmloption": "content"}


@contextmanager
def fixed_settings(connection: sa.Connection, table: CatalogTable) -> Iterator[None]:
    """Set, within the transaction, all that text of the table's values depends on; and put it back.

    The `search_path` stays where no type asks for another: operators are found by it.
    """
    needed = {one.name for one in settings_needed(texts_of(table).values())}
    wanted = {
        name: one.wanted
        for name, one in SETTINGS.items()
        if name in needed or name != "search_path"
    } | _READING
    kept = connection.scalar(
        sa.text(
            "SELECT json_object_agg(n, current_setting(n))::text"
            f" FROM unnest(ARRAY[{', '.join(literal(name) for name in wanted)}]) AS u(n)"
        )
    )
    _set(connection, wanted)
    yield
    # After an error there is nothing to put back: the settings go with what is rolled back.
    _set(connection, json.loads(kept or "{}"))


def insert_rows(
    connection: sa.Connection,
    table: CatalogTable,
    columns: Sequence[str],
    rows: Sequence[Mapping[str, Cell]],
) -> int:
    """Insert images as they were captured; generated columns are left to the database."""
    facts = texts_of(table)
    kept = [name for name in columns if not _column_is_generated(table, name)]
    if not rows:
        return 0
    if not kept:
        raise ValueError(f"insert into {table.name}: no column is left that can be written")
    names = ", ".join(quoted(name) for name in kept)
    values = ", ".join(_cast(table, facts, name, f"r.c{place}") for place, name in enumerate(kept))
    statement = _statement(
        f"INSERT INTO {relation_of(table)} ({names}) OVERRIDING SYSTEM VALUE"
        f" SELECT {values} FROM {_recordset(len(kept))}"
    )
    inserted = 0
    with fixed_settings(connection, table):
        for chunk in _chunks([[row[name] for name in kept] for row in rows], table):
            inserted += connection.execute(statement, {"rows": chunk}).rowcount
    return inserted


def update_row(
    connection: sa.Connection,
    table: CatalogTable,
    key: Sequence[Cell],
    image: Mapping[str, Cell],
) -> int:
    """Set columns of the row with that key to cells."""
    facts = texts_of(table)
    kept = [name for name in image if not _column_is_generated(table, name)]
    if not table.primary_key:
        raise ValueError(f"update of {table.name}: it has no primary key to find the row by")
    if not kept:
        return 0
    wanted = [*kept, *table.primary_key]
    casts = [_cast(table, facts, name, f"r.c{place}") for place, name in enumerate(wanted)]
    sets = ", ".join(f"{quoted(n)} = {c}" for n, c in zip(kept, casts, strict=False))
    where = " AND ".join(
        f"t.{quoted(name)} = {cast}"
        for name, cast in zip(table.primary_key, casts[len(kept) :], strict=True)
    )
    statement = _statement(
        f"UPDATE {relation_of(table)} AS t SET {sets} FROM {_recordset(len(wanted))} WHERE {where}"
    )
    cells = [*(image[name] for name in kept), *key]
    with fixed_settings(connection, table):
        (chunk,) = _chunks([cells], table)
        return connection.execute(statement, {"rows": chunk}).rowcount


def delete_rows(
    connection: sa.Connection, table: CatalogTable, keys: Sequence[Sequence[Cell]]
) -> int:
    """Delete the rows with these keys, compared inside the database."""
    facts = texts_of(table)
    names = ", ".join(f"t.{quoted(name)}" for name in table.primary_key)
    casts = ", ".join(
        _cast(table, facts, name, f"r.c{place}") for place, name in enumerate(table.primary_key)
    )
    statement = _statement(
        f"DELETE FROM {relation_of(table)} AS t WHERE ({names}) IN"
        f" (SELECT {casts} FROM {_recordset(len(table.primary_key))})"
    )
    deleted = 0
    with fixed_settings(connection, table):
        for chunk in _chunks([list(key) for key in keys], table):
            deleted += connection.execute(statement, {"rows": chunk}).rowcount
    return deleted


def select_rows(
    connection: sa.Connection,
    table: CatalogTable,
    columns: Sequence[str],
    cells: Sequence[Sequence[Cell]],
    *,
    lock: bool = False,
) -> list[dict[str, Cell]]:
    """Return images of the live rows whose `columns` equal one of `cells`; all if empty.

    With `lock` nobody else changes them before the transaction ends.
    """
    facts = texts_of(table)
    image = as_image({name: as_json(fact, f"t.{quoted(name)}") for name, fact in facts.items()})
    # Heirs of a table are captured as tables of their own; partitions are not.
    only = "" if table.traits.get(PARTITIONED) else "ONLY "
    query = f"SELECT {image} FROM {only}{relation_of(table)} AS t"
    with fixed_settings(connection, table):
        if not cells:
            found = connection.scalars(_statement(query)).all()
            return [read_image(text) for text in found]
        names = ", ".join(f"t.{quoted(name)}" for name in columns)
        casts = ", ".join(
            _cast(table, facts, name, f"r.c{place}") for place, name in enumerate(columns)
        )
        query += f" WHERE ({names}) IN (SELECT {casts} FROM {_recordset(len(columns))})"
        query += " FOR UPDATE OF t" * lock
        statement = _statement(query)
        images: list[dict[str, Cell]] = []
        for chunk in _chunks([list(one) for one in cells], table):
            images += [read_image(text) for text in connection.scalars(statement, {"rows": chunk})]
        return images


def rewritten(
    connection: sa.Connection, table: CatalogTable, texts: Mapping[str, str | None]
) -> dict[str, Cell]:
    """Return values of some columns, written by people, as the cells that the triggers write."""
    facts = texts_of(table)
    casts = ", ".join(
        f"{_cast(table, facts, name, f'r.c{place}')} AS {quoted(name)}"
        for place, name in enumerate(texts)
    )
    image = as_image({name: as_json(facts[name], f"v.{quoted(name)}") for name in texts})
    statement = _statement(f"SELECT {image} FROM (SELECT {casts} FROM {_recordset(len(texts))}) v")
    with fixed_settings(connection, table):
        (chunk,) = _chunks([list(texts.values())], table)
        return read_image(connection.execute(statement, {"rows": chunk}).scalar_one())


def _statement(sql: str) -> sa.TextClause:
    """Return SQL in which names may have colons, and whose one parameter is the rows."""
    return sa.text(sql.replace(":", "\\:").replace(_ROWS, ":rows"))


def _set(connection: sa.Connection, settings: Mapping[str, str]) -> None:
    calls = ", ".join(
        f"set_config({literal(name)}, {literal(value)}, true)" for name, value in settings.items()
    )
    connection.execute(_statement(f"SELECT {calls}"))


def _recordset(columns: int) -> str:
    names = ", ".join(f"c{place} pg_catalog.text" for place in range(columns))
    # As text first: drivers have ideas of their own about JSON.
    rows = f"CAST(CAST({_ROWS} AS pg_catalog.text) AS pg_catalog.json)"
    return f"pg_catalog.json_to_recordset({rows}) AS r({names})"


def _cast(table: CatalogTable, facts: Mapping[str, TextFact], name: str, value: str) -> str:
    column = table.column(name)
    if column is None:
        raise ValueError(f"{table.name} has no column {name}; it has {', '.join(facts)}")
    if facts[name].base.startswith("reg"):
        value = f"{value}::pg_catalog.oid"
    return f"CAST({value} AS {column.type})"


def _column_is_generated(table: CatalogTable, name: str) -> bool:
    column = table.column(name)
    return column is not None and column.generated


def _chunks(rows: Sequence[Sequence[Cell]], table: CatalogTable) -> Iterator[str]:
    """Yield rows as JSON texts of bounded size."""
    held: list[str] = []
    size = 0
    for row in rows:
        if any(cell is True for cell in row):
            raise ValueError(
                f"a row of {table.name} has a personal value that was not put back into its image;"
                " take it from shipworthy_audit_personal first, or leave the column out"
            )
        text = json.dumps({f"c{place}": cell for place, cell in enumerate(row)}, ensure_ascii=False)
        held.append(text)
        size += len(text)
        if len(held) >= _ROWS_AT_ONCE or size >= _BYTES_AT_ONCE:
            yield f"[{','.join(held)}]"
            held, size = [], 0
    if held:
        yield f"[{','.join(held)}]"
