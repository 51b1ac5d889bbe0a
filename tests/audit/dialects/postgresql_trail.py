"""A trail on a PostgreSQL database as its tests need one: made by the dialect alone."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from shipworthy.audit.dialects import CaptureDdl
from shipworthy.audit.dialects.postgresql import POSTGRESQL_AUDIT
from shipworthy.audit.model import Catalog, CatalogTable, Context, Shape, TableName
from shipworthy.audit.tables import METADATA

# A parent, children that go with it, and one that refers to its own table.
TREE = (
    "CREATE TABLE client (id int PRIMARY KEY, name text)",
    (
        "CREATE TABLE project (id int PRIMARY KEY, client int REFERENCES client ON DELETE CASCADE,"
        " follows int REFERENCES project ON DELETE SET NULL)"
    ),
)
# What a session may set that changes how values are written.
HOSTILE = (
    "SET DateStyle = 'German, DMY'",
    "SET IntervalStyle = 'sql_standard'",
    "SET TimeZone = 'Asia/Kathmandu'",
    "SET extra_float_digits = -15",
    "SET bytea_output = 'escape'",
    "SET lc_monetary = 'C.UTF-8'",
    "SET standard_conforming_strings = off",
    "SET quote_all_identifiers = on",
    "SET xmloption = document",
    "SET array_nulls = off",
)


def run(connection: sa.Connection, *statements: str) -> None:
    """Run SQL as it is written."""
    for statement in statements:
        connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


def install(
    connection: sa.Connection,
    *ddl: str,
    personal: Mapping[str, Mapping[str, str]] | None = None,
    blocks_truncate: bool = False,
) -> Catalog:
    """Make the application's tables, the trail's, and capture all of the former."""
    run(connection, *ddl)
    METADATA.create_all(connection)
    run(connection, *POSTGRESQL_AUDIT.base_ddl())
    catalog = POSTGRESQL_AUDIT.read_catalog(connection)
    for number, table in enumerate(catalog.tables.values(), 1):
        shape = Shape(
            id=number,
            table_id=number,
            table=table,
            personal=(personal or {}).get(table.name.name, {}),
            blocks_truncate=blocks_truncate,
        )
        run(connection, *POSTGRESQL_AUDIT.capture(shape, catalog).create)
    connection.commit()
    return catalog


def table_of(catalog: Catalog, name: str) -> CatalogTable:
    return catalog.tables[TableName(schema="", name=name)]


def capture_of(catalog: Catalog, name: str, number: int) -> CaptureDdl:
    shape = Shape(id=number, table_id=number, table=table_of(catalog, name))
    return POSTGRESQL_AUDIT.capture(shape, catalog)


def entries(connection: sa.Connection) -> list[tuple[Any, ...]]:
    """Return what the log says, in its order: op, key, old, new."""
    found = connection.execute(
        sa.text('SELECT op, key, "old", "new" FROM shipworthy_audit_entries ORDER BY seq')
    )
    return [(op, key, _json(old), _json(new)) for op, key, old, new in found]


def actors(connection: sa.Connection) -> list[tuple[str, str, str]]:
    """Return of each entry who it was made for: actor, what that is, database user."""
    return [
        tuple(row)
        for row in connection.execute(
            sa.text(
                "SELECT c.actor, c.actor_kind, c.db_user FROM shipworthy_audit_entries e"
                " JOIN shipworthy_audit_contexts c ON c.tx = e.tx AND c.position = e.position"
                " ORDER BY e.seq"
            )
        )
    ]


def context(number: int, actor: str, **more: str) -> Context:
    return Context(tx=f"{number:032x}", at_microseconds=1, actor=actor, actor_kind="user", **more)


def images(connection: sa.Connection, op: str = "D") -> list[dict[str, Any]]:
    side = "new" if op == "I" else "old"
    return [
        json.loads(text)
        for text in connection.scalars(
            sa.text(f'SELECT "{side}" FROM shipworthy_audit_entries WHERE op = :op ORDER BY seq'),
            {"op": op},
        )
    ]


def bytes_of(connection: sa.Connection, table: str) -> list[str]:
    """Return each row as the server sends it in binary, which no setting changes."""
    return sorted(
        connection.scalars(sa.text(f"SELECT encode(record_send(t), 'hex') FROM {table} AS t"))
    )


def names(rows: Iterable[Any]) -> list[str]:
    return [row.name for row in rows]


def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)
