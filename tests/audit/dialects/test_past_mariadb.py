"""MariaDB: one state throughout, who is writing, and tables by their keys."""

import pytest
import sqlalchemy as sa

from audit.past_database import installed
from shipworthy.audit.dialects import audit_dialect
from shipworthy.audit.dialects.past_mariadb import MARIADB_PAST
from shipworthy.audit.model import TableName

pytestmark = pytest.mark.slow


@pytest.fixture
def engine(mariadb_url):
    """A database with a captured table of five rows, and one whose keys are an enum."""
    engine = sa.create_engine(mariadb_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (id INT PRIMARY KEY, body VARCHAR(20))")
        connection.exec_driver_sql("CREATE TABLE sizes (size ENUM('small','big') PRIMARY KEY)")
        connection.exec_driver_sql("INSERT INTO sizes VALUES ('big'), ('small')")
        for number in range(1, 6):
            connection.exec_driver_sql(f"INSERT INTO t VALUES ({number}, 'row {number}')")
    installed(engine)
    yield engine
    engine.dispose()


def table_of(connection, name):
    """Return the facts of a table."""
    return audit_dialect("mariadb").read_catalog(connection).tables[TableName(schema="", name=name)]


def test_a_table_is_read_page_by_page_and_every_row_once(engine):
    """By its key; one whose key has an order of its own is read at once."""
    with engine.connect() as connection:
        table, images, after = table_of(connection, "t"), [], None
        while True:
            page, after = MARIADB_PAST.live_page(connection, table, after, 2)
            images += page
            if after is None:
                break
        sizes, rest = MARIADB_PAST.live_page(connection, table_of(connection, "sizes"), None, 1)
    assert images == [{"id": f"{n}", "body": f"row {n}"} for n in range(1, 6)]
    assert (sorted(one["size"] for one in sizes), rest) == (["big", "small"], None)


def test_a_transaction_that_sees_more_than_one_state_is_told(engine):
    """The default is a snapshot."""
    with engine.connect() as connection:
        MARIADB_PAST.begin_snapshot(connection)
        assert MARIADB_PAST.no_snapshot(connection) == ""
    committed = engine.execution_options(isolation_level="READ COMMITTED")
    with committed.connect() as connection:
        assert "begin it with isolation_level" in MARIADB_PAST.no_snapshot(connection)


def test_who_writes_is_seen_by_the_time_of_the_first_entry(engine):
    """Nobody is, before."""
    with engine.connect() as connection, engine.connect() as writer:
        assert MARIADB_PAST.writing_since(connection) is None
        before = MARIADB_PAST.now_microseconds(connection)
        connection.rollback()
        writer.exec_driver_sql("DELETE FROM t WHERE id = 1")
        assert MARIADB_PAST.writing_since(connection) >= before
        writer.rollback()


def test_a_key_is_what_the_triggers_write_of_it(engine):
    """As typed or as the driver takes it; an entry's position is its number."""
    with engine.connect() as connection:
        table = table_of(connection, "t")
        assert MARIADB_PAST.key_cells(connection, table, [7]) == ["7"]
        assert MARIADB_PAST.key_cells(connection, table, ["7"]) == ["7"]
        assert MARIADB_PAST.new_position() is None
        assert "binary logs" in MARIADB_PAST.forget_freed(connection)
