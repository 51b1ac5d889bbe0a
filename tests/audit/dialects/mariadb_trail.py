"""A trail on a MariaDB for the tests of its dialect, made by the dialect alone."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from shipworthy.audit.dialects.mariadb import MARIADB_AUDIT
from shipworthy.audit.model import Catalog, Shape, TableName
from shipworthy.audit.shapes import dump_shape
from shipworthy.audit.tables import ENTRIES, METADATA, PERSONAL, SHAPES


def install(
    engine: sa.Engine,
    personal: Mapping[str, Mapping[str, str]] | None = None,
    before: Iterable[str] = (),
) -> dict[str, Shape]:
    """Make the log and the triggers of every table there is; returns the shapes by table.

    `before` is run first in the session that makes them.
    """
    METADATA.create_all(engine)
    script(engine, "DELETE FROM shipworthy_audit_shapes")
    with engine.connect() as connection:
        run(connection, before)
        catalog = replace(
            MARIADB_AUDIT.read_catalog(connection),
            personal={
                TableName(schema="", name=table): columns
                for table, columns in (personal or {}).items()
            },
        )
        made = {}
        for number, (name, table) in enumerate(sorted(catalog.tables.items(), key=str), 1):
            made[name.name] = Shape(
                id=number + 1000,
                table_id=number,
                table=table,
                personal=catalog.personal.get(name, {}),
            )
        _note(connection, made.values())
        run(connection, MARIADB_AUDIT.base_ddl())
        for shape in made.values():
            run(connection, MARIADB_AUDIT.capture(shape, catalog).create)
        connection.commit()
    return made


def catalog_of(engine: sa.Engine) -> Catalog:
    with engine.connect() as connection:
        return MARIADB_AUDIT.read_catalog(connection)


def run(connection: sa.Connection, statements: Iterable[str]) -> None:
    for statement in statements:
        connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


def script(engine: sa.Engine, *statements: str) -> None:
    """Run statements as they stand, percent signs and colons too, and commit."""
    with engine.connect() as connection:
        run(connection, statements)
        connection.commit()


def entries(connection: sa.Connection, op: str = "") -> list[dict[str, Any]]:
    """Return the log: with the images read, and the table by name."""
    query = (
        sa.select(ENTRIES, SHAPES.c.table_name)
        .join(SHAPES, SHAPES.c.id == ENTRIES.c.shape_id)
        .order_by(ENTRIES.c.seq)
    )
    found = []
    for row in connection.execute(query).mappings():
        if op in ("", row["op"]):
            entry = dict(row)
            entry["old"] = None if row["old"] is None else json.loads(row["old"])
            entry["new"] = None if row["new"] is None else json.loads(row["new"])
            found.append(entry)
    return found


def personal(connection: sa.Connection) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(sa.select(PERSONAL)).mappings()]


def _note(connection: sa.Connection, shapes: Iterable[Shape]) -> None:
    for shape in shapes:
        connection.execute(
            sa.insert(SHAPES).values(
                id=shape.id,
                table_id=shape.table_id,
                table_schema="",
                table_name=shape.table.name.name,
                facts=dump_shape(shape),
                digest="",
                at_microseconds=0,
            )
        )
