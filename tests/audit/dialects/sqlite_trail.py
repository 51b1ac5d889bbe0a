"""SQLite databases with the trail on them, made by the dialect alone."""

import sqlite3
from typing import NamedTuple

import sqlalchemy as sa

from shipworthy.audit.cells import write_context
from shipworthy.audit.dialects.sqlite import SQLITE_AUDIT
from shipworthy.audit.model import Context, Shape, TableName
from shipworthy.audit.tables import ENTRIES, METADATA


class Change(NamedTuple):
    """What one entry says."""

    op: str
    key: str | None
    old: str | None
    new: str | None


ANA = Context(
    tx="0190f3c2a1b0" + "a" * 20,
    at_microseconds=17,
    actor="ana",
    actor_kind="user",
    route="/clients/{id}",
)
BO = Context(tx="0190f3c2a1b1" + "b" * 20, at_microseconds=18, actor="bo", actor_kind="user")


def captured(url, *statements, personal=None):
    """Return an engine of a database that has these tables, each captured."""
    engine = sa.create_engine(url)
    sa.event.listen(engine, "connect", _unsynced)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
        METADATA.create_all(connection)
        for statement in SQLITE_AUDIT.base_ddl():
            connection.exec_driver_sql(statement)
        capture(connection, personal or {})
    return engine


def _unsynced(dbapi_connection, _record):
    # What a power cut would leave is not asked here.
    dbapi_connection.execute("PRAGMA synchronous=OFF")


def capture(connection, personal):
    """Make the triggers of every table; `personal` is by table."""
    catalog = SQLITE_AUDIT.read_catalog(connection)
    for number, table in enumerate(catalog.tables.values(), start=1):
        shape = Shape(
            id=10 + number,
            table_id=number,
            table=table,
            personal=personal.get(table.name.name, {}),
        )
        for statement in SQLITE_AUDIT.capture(shape, catalog).create:
            connection.exec_driver_sql(statement)
    return catalog


def table_of(connection, name):
    """Return a table's facts."""
    return SQLITE_AUDIT.read_catalog(connection).tables[TableName(schema="", name=name)]


def changes(connection):
    """Return what the log says, oldest first."""
    rows = connection.execute(
        sa.select(ENTRIES.c.op, ENTRIES.c.key, ENTRIES.c.old, ENTRIES.c.new).order_by(ENTRIES.c.seq)
    )
    return [Change(*row) for row in rows]


def writers(connection):
    """Return each entry's context."""
    return list(connection.execute(sa.select(ENTRIES.c.tx).order_by(ENTRIES.c.seq)).scalars())


def work_for(connection, context):
    """Have the connection write for a context, None for nobody."""
    cell = SQLITE_AUDIT.attach(connection.connection.dbapi_connection)
    cell[0] = None if context is None else write_context(context)


def stranger(engine):
    """Return a connection as another program has it: without anything of ours."""
    return sqlite3.connect(engine.url.database, isolation_level=None)
