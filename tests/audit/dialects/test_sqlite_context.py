"""SQLite: entries of our connections have our context, entries of others do not."""

import asyncio
import sqlite3
import threading
from dataclasses import replace

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from audit.dialects.sqlite_trail import ANA, BO, captured, stranger, work_for, writers
from shipworthy.audit.cells import write_context
from shipworthy.audit.dialects.sqlite import SQLITE_AUDIT
from shipworthy.audit.dialects.sqlite_context import ContextCell
from shipworthy.audit.tables import CONTEXTS, METADATA

NOTES = "CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT UNIQUE, n INT)"


@pytest.fixture
def engine(tmp_path):
    """A captured table in a file."""
    engine = captured(f"sqlite:///{tmp_path / 'a.db'}", NOTES)
    yield engine
    engine.dispose()


def contexts(connection):
    """Return who the contexts are for."""
    return connection.execute(sa.select(CONTEXTS).order_by(CONTEXTS.c.tx)).all()


def test_an_entry_is_written_under_the_context(engine):
    """Every fact of it is in its table, once for all entries of the transaction."""
    with engine.begin() as connection:
        work_for(connection, ANA)
        connection.exec_driver_sql("INSERT INTO notes (body) VALUES ('a'), ('b')")
        connection.exec_driver_sql("UPDATE notes SET body='c' WHERE id=1")
        connection.exec_driver_sql("DELETE FROM notes")

    with engine.connect() as connection:
        assert writers(connection) == [ANA.tx] * 5
        [context] = contexts(connection)
        assert context.at_microseconds == 17
        assert (context.actor, context.actor_kind, context.route) == (
            "ana",
            "user",
            "/clients/{id}",
        )


def test_nobody_is_named_where_the_cell_is_empty(engine):
    """The rows of one statement are one unit, named by its time."""
    with engine.begin() as connection:
        work_for(connection, None)
        connection.exec_driver_sql("INSERT INTO notes (body) VALUES ('a'), ('b')")

    with engine.connect() as connection:
        first, second = writers(connection)
        assert first == second
        assert first[0] == "s"
        assert first[1:].isdigit()
        assert contexts(connection) == []


def test_another_client_is_not_taken_for_us(engine):
    """It writes while our connection has an actor, and between our writes; none of it is ours."""
    client = stranger(engine)
    with engine.connect() as connection:
        work_for(connection, ANA)
        connection.exec_driver_sql("INSERT INTO notes (body) VALUES ('ours')")
        connection.commit()
        client.execute("INSERT INTO notes (body) VALUES ('theirs')")
        connection.exec_driver_sql("INSERT INTO notes (body) VALUES ('ours too')")
        connection.commit()
        client.execute("DELETE FROM notes WHERE body='ours'")
    client.close()

    with engine.connect() as connection:
        found = writers(connection)
        assert [found[0], found[2]] == [ANA.tx, ANA.tx]
        assert found[1].startswith("s")
        assert found[3].startswith("s")


def test_a_connection_that_trusts_no_schema_is_told_that_it_names_nobody(engine):
    """There a trigger of the database may call no function that SQLite does not have itself."""
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA trusted_schema=OFF")
        driver = connection.connection.dbapi_connection
        assert SQLITE_AUDIT.attach(driver) is None
        SQLITE_AUDIT.bind(driver, ANA)
        connection.exec_driver_sql("PRAGMA trusted_schema=ON")
        connection.exec_driver_sql("INSERT INTO notes (body) VALUES ('a')")
        assert writers(connection)[0].startswith("s")


def test_the_clock_of_the_application_is_left_alone(engine):
    """What we answer to has the same name, and a count of arguments that nobody uses."""
    with engine.connect() as connection:
        work_for(connection, ANA)
        day = "julianday('2026-11-30','start of day','+1 day','-1 day')"
        assert connection.exec_driver_sql(f"SELECT {day}").scalar() == 2461374.5


def test_two_connections_have_two_contexts(engine):
    """Each its own, in turns on one file."""
    with engine.connect() as one, engine.connect() as two:
        work_for(one, ANA)
        work_for(two, BO)
        for connection in (one, two) * 3:
            connection.exec_driver_sql("INSERT INTO notes (body) VALUES (NULL)")
            connection.commit()

        assert writers(one) == [ANA.tx, BO.tx] * 3
        assert [context.actor for context in contexts(one)] == ["ana", "bo"]


@pytest.mark.slow
def test_threads_never_write_under_each_others_names(engine):
    """Four writers at once, each on a connection of its own, each in many transactions."""
    names = [f"{number:032x}" for number in range(4)]

    def write(tx):
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout=30000")
            for place in range(25):
                work_for(connection, replace(ANA, tx=tx, actor=tx))
                connection.exec_driver_sql(
                    "INSERT INTO notes (body) VALUES (?)", (f"{tx} {place}",)
                )
                connection.commit()

    threads = [threading.Thread(target=write, args=(tx,)) for tx in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with engine.connect() as connection:
        found = connection.exec_driver_sql(
            "SELECT tx, json_extract(new, '$.body') FROM shipworthy_audit_entries"
        ).all()
        assert len(found) == 100
        assert all(body.startswith(f"t{tx} ") for tx, body in found)


def test_an_actor_may_change_within_a_transaction(engine):
    """From one statement to the next, also where the driver sends the same statement again."""
    with engine.begin() as connection:
        for context in (ANA, BO, None, ANA):
            work_for(connection, context)
            connection.exec_driver_sql("INSERT INTO notes (body) VALUES (NULL)")

    with engine.connect() as connection:
        found = writers(connection)
        assert found[:2] == [ANA.tx, BO.tx]
        assert found[2].startswith("s")
        assert found[3] == ANA.tx


def test_a_savepoint_that_is_rolled_back_takes_no_context_from_the_rest(engine):
    """The context written inside it is gone, and is written again for what follows."""
    with engine.begin() as connection:
        work_for(connection, ANA)
        with connection.begin_nested() as savepoint:
            connection.exec_driver_sql("INSERT INTO notes (body) VALUES ('a')")
            savepoint.rollback()
        assert contexts(connection) == []
        connection.exec_driver_sql("INSERT INTO notes (body) VALUES ('b')")

    with engine.connect() as connection:
        assert writers(connection) == [ANA.tx]
        assert [context.actor for context in contexts(connection)] == ["ana"]


def test_a_transaction_that_is_rolled_back_leaves_nothing(engine):
    """Neither entries nor a context; and the connection goes on as it was."""
    with engine.connect() as connection:
        work_for(connection, ANA)
        connection.exec_driver_sql("INSERT INTO notes (body) VALUES ('a')")
        connection.rollback()
        assert writers(connection) == []
        assert contexts(connection) == []
        connection.exec_driver_sql("INSERT INTO notes (body) VALUES ('a')")
        assert writers(connection) == [ANA.tx]


def test_autocommit_has_a_context_too(engine):
    """No transaction is needed: each statement is one."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        work_for(connection, ANA)
        rows = connection.exec_driver_sql(
            "INSERT INTO notes (body) VALUES ('a') RETURNING id"
        ).all()
        assert rows == [(1,)]
        connection.exec_driver_sql("UPDATE notes SET body='b'")

    with engine.connect() as connection:
        assert writers(connection) == [ANA.tx, ANA.tx]


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT OR REPLACE INTO notes VALUES (1, 'b', 0)",
        "INSERT OR IGNORE INTO notes VALUES (3, 'c', 0)",
        "INSERT OR ROLLBACK INTO notes VALUES (3, 'c', 0)",
        "UPDATE OR REPLACE notes SET body='b' WHERE id=1",
        "INSERT INTO notes VALUES (1, 'c', 0) ON CONFLICT DO UPDATE SET body='d'",
        "INSERT INTO notes VALUES (3, 'c', 0) RETURNING id",
        "WITH one AS (SELECT 1) DELETE FROM notes",
    ],
)
def test_a_context_is_written_once_whatever_the_statement_does_with_conflicts(engine, statement):
    """A trigger inherits the conflict clause of its statement; no context suffers by it."""
    with engine.begin() as connection:
        work_for(connection, ANA)
        connection.exec_driver_sql("INSERT INTO notes VALUES (1, 'a', 0), (2, 'b', 0)")
        work_for(connection, replace(ANA, actor="changed since"))
        connection.exec_driver_sql(statement)

    with engine.connect() as connection:
        assert set(writers(connection)) == {ANA.tx}
        assert [context.actor for context in contexts(connection)] == ["ana"]


def test_the_numbers_of_entries_have_no_gaps(engine):
    """What is written again under a context takes no number twice."""
    with engine.begin() as connection:
        work_for(connection, ANA)
        connection.exec_driver_sql("INSERT INTO notes (body) VALUES ('a'), ('b')")
        connection.exec_driver_sql("DELETE FROM notes")

    with engine.connect() as connection:
        numbers = connection.exec_driver_sql("SELECT seq FROM shipworthy_audit_entries ORDER BY 1")
        assert numbers.scalars().all() == [1, 2, 3, 4]


def test_attaching_again_is_attaching_once(engine):
    """The cell stays the same, and an entry is still written once."""
    with engine.begin() as connection:
        driver = connection.connection.dbapi_connection
        cell = SQLITE_AUDIT.attach(driver)
        assert SQLITE_AUDIT.attach(driver) is cell
        SQLITE_AUDIT.bind(driver, ANA)
        assert cell[0] == write_context(ANA)
        connection.exec_driver_sql("INSERT INTO notes (body) VALUES ('a')")
        assert writers(connection) == [ANA.tx]


def test_a_connection_without_the_tables_cannot_be_attached(tmp_path):
    """Whoever asks for it too early hears which table is missing."""
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    with engine.connect() as connection, pytest.raises(sqlite3.OperationalError, match="entries"):
        SQLITE_AUDIT.attach(connection.connection.dbapi_connection)
    engine.dispose()


def test_a_trail_that_goes_and_comes_again_is_written_to_again(engine):
    """Another process takes it away and installs it, while our connection stays."""
    with engine.connect() as connection:
        work_for(connection, ANA)
        connection.exec_driver_sql("INSERT INTO notes (body) VALUES ('a')")
        connection.commit()
        other = sa.create_engine(engine.url)
        with other.begin() as another:
            for trigger in ("insert", "update", "delete"):
                another.exec_driver_sql(f"DROP TRIGGER shipworthy_audit_1_{trigger}")
            METADATA.drop_all(another)
        other.dispose()
        connection.exec_driver_sql("INSERT INTO notes (body) VALUES ('b')")
        connection.commit()
        captured(engine.url).dispose()

        work_for(connection, BO)
        connection.exec_driver_sql("INSERT INTO notes (body) VALUES ('c')")
        connection.commit()

        assert writers(connection) == [BO.tx]


def test_replace_deletes_for_the_triggers_unless_the_application_has_some(engine):
    """Theirs may write to their own tables: made to recurse they would run for ever."""
    with engine.connect() as connection:

        def recurses():
            work_for(connection, None)
            return connection.exec_driver_sql("PRAGMA recursive_triggers").scalar()

        assert recurses() == 1
        connection.exec_driver_sql("CREATE TRIGGER a AFTER INSERT ON notes BEGIN SELECT 1; END")
        assert recurses() == 0
        connection.exec_driver_sql("DROP TRIGGER a")
        assert recurses() == 1
        connection.exec_driver_sql(
            "CREATE TEMP TRIGGER a AFTER INSERT ON notes BEGIN SELECT 1; END"
        )
        assert recurses() == 0


def test_a_pragma_of_the_application_is_left_alone(engine):
    """Who has switched it on keeps it on, triggers or not."""
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TRIGGER a AFTER INSERT ON notes BEGIN SELECT 1; END")
        connection.exec_driver_sql("PRAGMA recursive_triggers=ON")
        work_for(connection, None)

        assert connection.exec_driver_sql("PRAGMA recursive_triggers").scalar() == 1


def test_a_name_that_is_no_text_does_not_stop_a_write(engine):
    """What SQLite would not take, or would cut the name at, is replaced: the row matters more."""
    with engine.begin() as connection:
        work_for(connection, replace(ANA, actor="\udcff\0ana"))
        connection.exec_driver_sql("INSERT INTO notes (body) VALUES ('a')")

    with engine.connect() as connection:
        assert [context.actor for context in contexts(connection)] == ["?\ufffdana"]


def test_the_schema_may_still_be_changed(engine):
    """Renaming and adding, with our triggers there; a column that they name cannot be dropped."""
    with engine.connect() as connection:
        work_for(connection, ANA)
        connection.exec_driver_sql("ALTER TABLE notes ADD COLUMN more TEXT")
        connection.exec_driver_sql("ALTER TABLE notes RENAME COLUMN body TO words")
        connection.exec_driver_sql("ALTER TABLE notes RENAME TO papers")
        connection.exec_driver_sql("INSERT INTO papers (words) VALUES ('a')")
        assert writers(connection) == [ANA.tx]
        with pytest.raises(sa.exc.OperationalError, match="error in trigger shipworthy_audit_1_"):
            connection.exec_driver_sql("ALTER TABLE papers DROP COLUMN n")


def test_the_cell_is_read_once_for_a_context():
    """The name is found in the text when the text is another one, not for every row."""
    cell = ContextCell()
    assert cell.tx() is None
    cell[0] = write_context(ANA)
    assert cell.tx() is cell.tx()
    cell[0] = None
    assert (cell.tx(), cell.context()) == (None, None)


@pytest.mark.slow
def test_aiosqlite_carries_it_too(engine):
    """The statement runs in another thread; the cell is read there and set here."""

    async def write():
        async_engine = create_async_engine(f"sqlite+aiosqlite:///{engine.url.database}")
        async with async_engine.connect() as connection:
            for context in (ANA, BO):
                await connection.run_sync(work_for, context)
                await connection.exec_driver_sql("INSERT INTO notes (body) VALUES (NULL)")
                await connection.commit()
            found = await connection.run_sync(writers)
            people = await connection.run_sync(contexts)
        await async_engine.dispose()
        return found, len(people)

    assert asyncio.run(write()) == ([ANA.tx, BO.tx], 2)


class AlwaysInTransaction(sqlite3.Connection):
    """What `autocommit=False` of Python 3.12 is to us: a transaction is open before we come."""

    autocommit = False


def test_a_driver_that_is_always_in_a_transaction_keeps_our_triggers(engine):
    """What it rolls back next would else take them along."""
    client = sqlite3.connect(engine.url.database, factory=AlwaysInTransaction)
    client.execute("BEGIN")
    SQLITE_AUDIT.bind(client, ANA)
    client.rollback()
    client.execute("INSERT INTO notes (body) VALUES ('a')")
    client.commit()
    client.close()

    with engine.connect() as connection:
        assert writers(connection) == [ANA.tx]
