"""Who a transaction of PostgreSQL was for, and when it is final."""

from typing import Any

import pytest
import sqlalchemy as sa

from audit.dialects.postgresql_trail import TREE, actors, context, install, run, table_of
from shipworthy.audit.cells import write_context
from shipworthy.audit.dialects.postgresql import POSTGRESQL_AUDIT


@pytest.fixture
def async_url(postgres_url: str) -> str:
    return postgres_url.replace("+psycopg", "+asyncpg")


def test_the_context_is_written_once_and_again_after_a_savepoint(
    connection: sa.Connection,
) -> None:
    """An entry has its context in the same savepoint; what was rolled back has neither."""
    install(connection, *TREE)
    POSTGRESQL_AUDIT.bind(connection.connection.dbapi_connection, context(1, "ana"))
    run(
        connection,
        "SAVEPOINT here",
        "INSERT INTO client VALUES (1, 'a'), (2, 'b')",
        "ROLLBACK TO here",
    )
    assert actors(connection) == []
    run(connection, "INSERT INTO client VALUES (3, 'c')", "INSERT INTO client VALUES (4, 'd')")
    assert actors(connection) == [("ana", "user", "postgres")] * 2
    connection.commit()
    assert connection.scalar(sa.text("SELECT count(*) FROM shipworthy_audit_contexts")) == 1

    run(connection, "INSERT INTO client VALUES (5, 'e')")
    assert actors(connection)[2:] == [("", "database", "postgres")]
    connection.commit()


def test_an_actor_that_changes_is_a_second_context(connection: sa.Connection) -> None:
    """It names the first; one that names another transaction's context does not."""
    install(connection, *TREE)
    raw = connection.connection.dbapi_connection
    POSTGRESQL_AUDIT.bind(raw, context(1, "ana"))
    run(connection, "INSERT INTO client VALUES (1, 'a')")
    POSTGRESQL_AUDIT.bind(raw, context(2, "ben", continues=f"{1:032x}"))
    run(connection, "INSERT INTO client VALUES (2, 'b')")
    connection.commit()
    POSTGRESQL_AUDIT.bind(raw, context(3, "cleo", continues=f"{1:032x}"))
    run(connection, "INSERT INTO client VALUES (3, 'c')")
    found = connection.execute(
        sa.text("SELECT actor, continues FROM shipworthy_audit_contexts ORDER BY tx")
    ).all()
    assert found == [("ana", ""), ("ben", f"{1:032x}"), ("cleo", "")]


def test_who_writes_without_us_is_known_as_the_database_knows_him(
    connection: sa.Connection,
) -> None:
    """One transaction is one unit, its user and program noted, also after a savepoint."""
    install(connection, *TREE)
    run(
        connection,
        "SET application_name = 'psql'",
        "INSERT INTO client VALUES (1, 'a')",
        "SAVEPOINT here",
        "INSERT INTO client VALUES (2, 'b')",
        "ROLLBACK TO here",
        "INSERT INTO client VALUES (3, 'c')",
    )
    rows = connection.execute(
        sa.text(
            "SELECT tx, actor, actor_kind, db_user, application, address, note"
            " FROM shipworthy_audit_contexts"
        )
    ).all()
    assert [tuple(row[1:]) for row in rows] == [
        ("", "database", "postgres", "psql", "127.0.0.1", "")
    ]
    assert set(connection.scalars(sa.text("SELECT tx FROM shipworthy_audit_entries"))) == {
        rows[0].tx
    }
    assert len(rows[0].tx) == 32


def test_a_context_that_cannot_be_read_stops_no_write(connection: sa.Connection) -> None:
    """The database's own facts are noted in its place."""
    install(connection, *TREE)
    sayings = ["not json", '{"tx":7}', '["x"]', '{"tx":"\\u0000"}', "{}", "7", "null"]
    for number, said in enumerate(sayings):
        connection.execute(
            sa.text("SELECT set_config('shipworthy.context', :said, true)"), {"said": said}
        )
        run(
            connection,
            f"INSERT INTO client VALUES ({number}, 'a')",
            f"UPDATE client SET name = 'b' WHERE id = {number}",
        )
        connection.commit()
    assert actors(connection) == [("", "database", "postgres")] * 2 * len(sayings)


def test_a_context_longer_than_its_columns_is_cut(connection: sa.Connection) -> None:
    """No header of a stranger may stop a write."""
    install(connection, *TREE)
    long = context(1, "a" * 9999, route="r" * 9999, note="n" * 9999)
    connection.execute(
        sa.text(POSTGRESQL_AUDIT.context_statement), {"context": write_context(long)}
    )
    run(connection, "INSERT INTO client VALUES (1, 'a')")
    assert actors(connection) == [("a" * 200, "user", "postgres")]


@pytest.mark.anyio
async def test_asyncpg_carries_the_context_too(async_url: str) -> None:
    """`bind` speaks to SQLAlchemy's adapter in the parameters that it takes."""
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(async_url)
    async with engine.connect() as connection:

        def work(sync: sa.Connection) -> list[Any]:
            catalog = install(sync, *TREE)
            table = table_of(catalog, "client")
            assert table.primary_key == ("id",)
            POSTGRESQL_AUDIT.bind(sync.connection.dbapi_connection, context(1, "ana"))
            POSTGRESQL_AUDIT.insert_rows(sync, table, ["id", "name"], [{"id": "1", "name": "a"}])
            assert POSTGRESQL_AUDIT.triggers(sync)
            assert POSTGRESQL_AUDIT.horizon(sync) > 0
            assert POSTGRESQL_AUDIT.select_rows(sync, table, ["id"], [["1"]])
            return actors(sync)

        assert await connection.run_sync(work) == [("ana", "user", "postgres")]
    await engine.dispose()


def test_nothing_below_the_horizon_can_still_appear(postgres_url: str) -> None:
    """An open transaction holds it back; once that has ended, its entries are below it."""
    engine = sa.create_engine(postgres_url)
    with engine.connect() as one, engine.connect() as two:
        install(one, *TREE)
        run(one, "INSERT INTO client VALUES (1, 'a')")
        run(two, "INSERT INTO client VALUES (2, 'b')")
        two.commit()
        positions = dict(
            two.execute(sa.text('SELECT key, "position" FROM shipworthy_audit_entries')).all()
        )
        assert POSTGRESQL_AUDIT.horizon(two) <= positions['["2"]']
        two.rollback()
        one.commit()
        last = two.scalar(sa.text('SELECT max("position") FROM shipworthy_audit_entries'))
        two.rollback()
        # Other databases of the server write too, and hold it as well: but not for ever.
        assert _passes(two, last)
    engine.dispose()


def _passes(connection: sa.Connection, position: int) -> bool:
    for _ in range(10_000):
        if POSTGRESQL_AUDIT.horizon(connection) > position:
            return True
        connection.rollback()
    return False


def test_the_wait_for_locks_is_bounded(connection: sa.Connection) -> None:
    """In the transaction alone, and never for ever."""
    run(connection, *POSTGRESQL_AUDIT.lock_limit(0.0001))
    assert connection.scalar(sa.text("SHOW lock_timeout")) == "1ms"
    connection.rollback()
    assert connection.scalar(sa.text("SHOW lock_timeout")) == "0"
