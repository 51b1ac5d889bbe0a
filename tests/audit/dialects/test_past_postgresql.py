"""PostgreSQL: one state throughout, who is writing, and tables by where their rows lie."""

import pytest
import sqlalchemy as sa

from audit.past_database import ordered
from shipworthy.audit.dialects import audit_dialect
from shipworthy.audit.dialects.past_postgresql import POSTGRESQL_PAST
from shipworthy.errors import Misuse

pytestmark = pytest.mark.slow


@pytest.fixture
def engine(postgres_url):
    """A database with a table of five rows."""
    engine = sa.create_engine(postgres_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (id numeric(6,2) PRIMARY KEY, body text)")
        connection.exec_driver_sql(
            "INSERT INTO t SELECT n, 'row ' || n FROM generate_series(1,5) n"
        )
    yield engine
    engine.dispose()


def table_of(connection):
    """Return the facts of the table."""
    [table] = audit_dialect("postgresql").read_catalog(connection).tables.values()
    return table


def test_a_table_is_read_page_by_page_and_every_row_once(engine):
    """Until there is nowhere to go on from."""
    with engine.connect() as connection:
        POSTGRESQL_PAST.begin_snapshot(connection)
        table, images, after = table_of(connection), [], None
        while True:
            page, after = POSTGRESQL_PAST.live_page(connection, table, after, 2)
            images += page
            if after is None:
                break
    assert ordered(images) == [{"id": f"{n}.00", "body": f"row {n}"} for n in range(1, 6)]


def test_a_transaction_that_sees_more_than_one_state_is_told(engine):
    """And one that began as a snapshot is not."""
    with engine.connect() as connection:
        assert "isolation_level='REPEATABLE READ'" in POSTGRESQL_PAST.no_snapshot(connection)
        connection.rollback()
        POSTGRESQL_PAST.begin_snapshot(connection)
        assert POSTGRESQL_PAST.no_snapshot(connection) == ""
        assert POSTGRESQL_PAST.writing_since(connection) == 0


def test_who_writes_is_seen_with_when_it_began(engine):
    """Nobody is, before and after; asked in transactions of their own, which see what is now."""
    with engine.connect() as connection, engine.connect() as writer:
        assert POSTGRESQL_PAST.writing_since(connection) is None
        before = POSTGRESQL_PAST.now_microseconds(connection)
        connection.rollback()
        writer.exec_driver_sql("DELETE FROM t WHERE id = 1")
        assert POSTGRESQL_PAST.writing_since(connection) >= before
        writer.rollback()
        connection.rollback()
        assert POSTGRESQL_PAST.writing_since(connection) is None


def test_a_key_is_what_the_triggers_write_of_it(engine):
    """As typed, and refused with the type where it is none."""
    with engine.connect() as connection:
        table = table_of(connection)
        assert POSTGRESQL_PAST.key_cells(connection, table, ["1.5"]) == ["1.50"]
        with pytest.raises(Misuse, match=r"'x' is no numeric\(6,2\)"):
            POSTGRESQL_PAST.key_cells(connection, table, ["x"])
        assert connection.scalar(sa.select(POSTGRESQL_PAST.new_position())) > 0
        assert "VACUUM" in POSTGRESQL_PAST.forget_freed(connection)
