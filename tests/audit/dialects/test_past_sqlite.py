"""SQLite: keys as they are stored, and who is writing."""

import pytest
import sqlalchemy as sa

from audit.past_database import installed, run, sqlite_engine
from shipworthy.audit.dialects.past_sqlite import SQLITE_PAST
from shipworthy.audit.dialects.sqlite_cells import encode
from shipworthy.audit.model import CatalogColumn, CatalogTable, TableName


def table(kind):
    return CatalogTable(
        name=TableName(schema="", name="t"),
        columns=(CatalogColumn(name="id", type=kind, number=1),),
        primary_key=("id",),
    )


@pytest.mark.parametrize(
    ("kind", "value", "cell"),
    [
        ("INTEGER", "8", "i8"),
        ("INTEGER", 7, "i7"),
        ("NUMERIC", "seven", "tseven"),
        ("REAL", "0.5", encode(0.5)),
        ("TEXT", 7, "t7"),
        ("TEXT", "8", "t8"),
        ("BLOB", b"\x07", "b07"),
    ],
)
def test_a_key_is_what_an_insert_would_store(kind, value, cell):
    """As typed on a command line, or as the driver takes it."""
    assert SQLITE_PAST.key_cells(None, table(kind), [value]) == [cell]


def test_who_writes_is_noticed_and_nobody_is_kept_waiting(tmp_path):
    """The lock is asked for without waiting, given back at once, and the timeout is as it was."""
    with sqlite_engine(tmp_path / "w.db", "CREATE TABLE t (id INTEGER PRIMARY KEY)") as engine:
        installed(engine)
        with engine.connect() as connection, engine.connect() as writer:
            assert SQLITE_PAST.writing_since(connection) is None
            connection.rollback()
            writer.execute(sa.text("INSERT INTO t VALUES (1)"))
            assert SQLITE_PAST.writing_since(connection) > 0
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 5000
            writer.rollback()
        run(engine, "INSERT INTO t VALUES (1)")
