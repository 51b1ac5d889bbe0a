"""Tables as they were: compared with copies taken at the time."""

import datetime as dt
import random

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from audit.past_database import a_moment_between, copy_of, installed, ordered, run, sqlite_engine
from shipworthy.audit import (
    ERASED,
    UNKNOWN,
    PastUnknown,
    PastUnsettled,
    TrailMissing,
    as_of,
    as_of_async,
    history,
)
from shipworthy.errors import Misuse

ORDERS = "CREATE TABLE orders (id INTEGER PRIMARY KEY, state VARCHAR(20), total DOUBLE PRECISION)"


@pytest.fixture
def engine(tmp_path):
    """SQLite with a table of orders, two in it since before the install."""
    with sqlite_engine(
        tmp_path / "app.db", ORDERS, "INSERT INTO orders VALUES (1, 'new', 1.5), (2, 'new', NULL)"
    ) as engine:
        installed(engine)
        yield engine


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    number: Mapped[int] = mapped_column("id", primary_key=True)
    state: Mapped[str]
    total: Mapped[float | None]


def then(engine, when, table="orders"):
    with engine.connect() as connection:
        return ordered(row.cells for row in as_of(connection, when).rows(table))


def test_a_table_is_as_it_was_whatever_was_written_since(engine):
    """Rows changed, deleted, inserted and renamed since: all and again when asked later."""
    copy, when = copy_of(engine, "orders"), a_moment_between(engine)
    run(engine, "UPDATE orders SET state = 'paid'", "DELETE FROM orders WHERE id = 2")
    run(
        engine, "INSERT INTO orders VALUES (2, 'other', 9)", "UPDATE orders SET id = 7 WHERE id = 1"
    )
    assert then(engine, when) == copy
    later, when_later = copy_of(engine, "orders"), a_moment_between(engine)
    run(engine, "DELETE FROM orders")
    assert then(engine, when) == copy
    assert then(engine, when_later) == later


def test_one_row_is_as_it_was(engine):
    """By its class and key, or by an object that has the key; with attributes for columns."""
    when = a_moment_between(engine)
    run(engine, "UPDATE orders SET state = 'paid' WHERE id = 1", "DELETE FROM orders WHERE id = 2")
    with Session(engine) as session, as_of(session, when) as past:
        order = past.get(session.get(Order, 1))
        assert (order.number, order.state, order["total"]) == (1, "new", 1.5)
        assert past.get(Order, 2).state == "new"
        assert past.get(Order, 3) is None
        assert past.get("orders", "1")["id"] == 1
        assert past.at == when
        with pytest.raises(AttributeError, match="had no 'nothing' then; it had number"):
            order.nothing  # noqa: B018
        with pytest.raises(TypeError):
            order["state"] = "changed"


def test_a_session_in_the_transaction_of_its_connection_leaves_it_alone(engine):
    """What that wrote is there afterwards, and counts as written."""
    with engine.connect() as connection, connection.begin():
        connection.execute(sa.text("UPDATE orders SET state = 'mine' WHERE id = 1"))
        seq = connection.scalar(sa.text("SELECT max(seq) FROM shipworthy_audit_entries"))
        with Session(connection) as session:
            assert as_of(session, seq).get(Order, 1).state == "mine"
        found = connection.scalar(sa.text("SELECT state FROM orders WHERE id = 1"))
    assert found == "mine"


def test_two_tables_are_read_at_the_same_point(engine):
    """So what belongs together can be joined."""
    run(engine, "CREATE TABLE lines (id INTEGER PRIMARY KEY, order_id INTEGER, what TEXT)")
    installed(engine)
    run(engine, "INSERT INTO lines VALUES (1, 1, 'tea'), (2, 2, 'rice')")
    when = a_moment_between(engine)
    run(engine, "DELETE FROM lines", "UPDATE orders SET state = 'void'")
    with engine.connect() as connection:
        past = as_of(connection, when)
        orders = {row["id"]: row for row in past.rows("orders")}
        joined = sorted(
            (orders[row["order_id"]]["state"], row["what"]) for row in past.rows("lines")
        )
    assert joined == [("new", "rice"), ("new", "tea")]


def test_a_transaction_is_in_whole_or_not_at_all(engine):
    """One that wrote on both sides of the point ended after it, so none of it was there."""
    copy = copy_of(engine, "orders")
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE orders SET state = 'half'"))
        when = a_moment_between(engine)
        connection.execute(sa.text("UPDATE orders SET total = 3"))
    _one_name_for_the_last(engine, 4)
    assert then(engine, when) == copy


def _one_name_for_the_last(engine, entries):
    """Name the entries as one transaction, as an application's own connection does."""
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO shipworthy_audit_meta VALUES ('retention', '1')")
        connection.exec_driver_sql(
            "UPDATE shipworthy_audit_entries SET tx = 'one' WHERE seq > "
            f"(SELECT max(seq) FROM shipworthy_audit_entries) - {entries}"
        )
        connection.exec_driver_sql("DELETE FROM shipworthy_audit_meta WHERE name = 'retention'")


def test_the_number_of_an_entry_is_the_point_after_its_transaction(engine):
    """Exact where the clock is coarse: what `history` prints can be looked at."""
    run(engine, "UPDATE orders SET state = 'paid' WHERE id = 1")
    copy = copy_of(engine, "orders")
    run(engine, "UPDATE orders SET state = 'sent' WHERE id = 1")
    with engine.connect() as connection:
        [sent, paid] = history(connection, "orders", 1)
    assert (sent.new, paid.new) == ({"state": "sent"}, {"state": "paid"})
    assert then(engine, paid.seq) == copy
    with pytest.raises(Misuse, match="the log has no entry 99"):
        then(engine, 99)


def test_a_time_before_the_trail_is_refused(engine):
    """It is not known, and nothing is made up; the table's own beginning is told."""
    early = a_moment_between(engine)
    run(engine, "CREATE TABLE later (id INTEGER PRIMARY KEY)")
    installed(engine)
    with pytest.raises(
        PastUnknown, match=r"what was in later at .* is not known: its trail begins"
    ):
        then(engine, early, "later")
    with pytest.raises(PastUnknown):
        then(engine, dt.datetime(2020, 1, 1, tzinfo=dt.UTC))


def test_a_time_that_names_no_instant_is_refused(engine):
    """Without its zone it could be many; and one to come is not yet past."""
    with pytest.raises(Misuse, match="has no time zone"):
        then(engine, dt.datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(PastUnsettled, match="has not come yet"):
        then(engine, dt.datetime.now(dt.UTC) + dt.timedelta(hours=1))


def test_a_point_at_which_somebody_is_writing_is_refused(engine):
    """His writes would come to it when he commits; once he has, the answer has them or not."""
    copy = copy_of(engine, "orders")
    with engine.connect() as writer:
        writer.execute(sa.text("UPDATE orders SET state = 'open' WHERE id = 1"))
        when = a_moment_between(engine)
        with pytest.raises(PastUnsettled, match="still open"):
            then(engine, when)
        with engine.connect() as connection:
            loose = as_of(connection, when, final_only=False)
            assert ordered(row.cells for row in loose.rows("orders")) == copy
        writer.commit()
    assert then(engine, when) == copy_of(engine, "orders") != copy


def test_columns_are_those_of_the_time(engine):
    """Added since: not there. Renamed since: by its old name. Dropped since: as last written."""
    run(
        engine,
        "INSERT INTO orders VALUES (3, 'new', 3)",
        "UPDATE orders SET total = 4 WHERE id = 3",
    )
    copy, when = copy_of(engine, "orders"), a_moment_between(engine)
    run(engine, "ALTER TABLE orders RENAME COLUMN state TO status")
    installed(engine)
    run(engine, "UPDATE orders SET status = 'renamed' WHERE id = 1")
    run(engine, "ALTER TABLE orders ADD COLUMN note TEXT DEFAULT 'added'")
    installed(engine)
    assert then(engine, when) == copy
    # SQLite drops no column that a trigger names.
    names = ("insert", "update", "delete")
    run(engine, *(f"DROP TRIGGER shipworthy_audit_1_{name}" for name in names))
    run(engine, "ALTER TABLE orders DROP COLUMN total")
    installed(engine)
    with engine.connect() as connection:
        rows = {row["id"]: dict(row) for row in as_of(connection, when).rows("orders")}
    assert rows == {
        1: {"id": 1, "state": "new", "total": UNKNOWN},
        2: {"id": 2, "state": "new", "total": UNKNOWN},
        3: {"id": 3, "state": "new", "total": 4.0},
    }
    assert str(UNKNOWN) == "(unknown)"


def test_a_table_that_is_gone_can_be_looked_at(engine):
    """Its rows were deleted before it was dropped; dropping alone leaves no entries."""
    copy, when = copy_of(engine, "orders"), a_moment_between(engine)
    run(engine, "DELETE FROM orders")
    run(engine, "DROP TABLE orders")
    assert then(engine, when) == copy


def test_a_change_of_the_primary_key_ends_what_is_known(tmp_path):
    """Rows have other keys since, and nothing says whose is whose."""
    with sqlite_engine(
        tmp_path / "k.db", "CREATE TABLE k (a INTEGER PRIMARY KEY, b INTEGER)"
    ) as it:
        installed(it)
        when = a_moment_between(it)
        run(it, "DROP TABLE k", "CREATE TABLE k (a INTEGER, b INTEGER PRIMARY KEY)")
        installed(it)
        with pytest.raises(PastUnknown, match=r"primary key of k was \(a\) and is \(b\) since"):
            then(it, when, "k")


def test_rows_without_a_key_are_counted_back(tmp_path):
    """Equal rows are as many as they were."""
    with sqlite_engine(tmp_path / "k.db", "CREATE TABLE k (a INTEGER, b TEXT)") as engine:
        installed(engine)
        run(engine, "INSERT INTO k VALUES (1, 'x'), (1, 'x'), (2, 'y')")
        copy, when = copy_of(engine, "k"), a_moment_between(engine)
        run(
            engine,
            "DELETE FROM k WHERE a = 1",
            "UPDATE k SET b = 'z'",
            "INSERT INTO k VALUES (1, 'x')",
        )
        assert then(engine, when, "k") == copy
        run(engine, "ALTER TABLE k ADD COLUMN c TEXT")
        installed(engine)
        with pytest.raises(PastUnknown, match="k has no primary key"):
            then(engine, when, "k")


def test_personal_values_are_read_until_they_are_erased(tmp_path):
    """They lie beside the log; afterwards the row is there without them."""
    people = "CREATE TABLE people (id INTEGER PRIMARY KEY, email TEXT)"
    with sqlite_engine(tmp_path / "p.db", people, "INSERT INTO people VALUES (1, 'a@x')") as engine:
        installed(engine, personal=("people.email = id",))
        when = a_moment_between(engine)
        run(engine, "UPDATE people SET email = 'b@x'")
        with engine.connect() as connection:
            assert as_of(connection, when).get("people", 1)["email"] == "a@x"
        run(engine, "UPDATE shipworthy_audit_personal SET salt = NULL, value = NULL")
        with engine.connect() as connection:
            assert as_of(connection, when).get("people", 1)["email"] is ERASED


def test_what_has_no_trail_is_said(tmp_path, engine):
    """A database without one, a table without one, a row without its key, what is no table."""
    with (
        sqlite_engine(tmp_path / "bare.db") as bare,
        bare.connect() as connection,
        pytest.raises(TrailMissing, match="shipworthy audit install"),
    ):
        as_of(connection, dt.datetime.now(dt.UTC))
    with engine.connect() as connection:
        past = as_of(connection, a_moment_between(engine))
        with pytest.raises(TrailMissing, match="'nothing' has no trail; captured are orders"):
            past.get("nothing", 1)
        with pytest.raises(Misuse, match="which row of orders"):
            past.get("orders")
        with pytest.raises(Misuse, match=r"primary key of orders is \(id\); 2 values"):
            past.get("orders", (1, 2))
        with pytest.raises(Misuse, match="no mapped class"):
            past.get(object(), 1)


@pytest.mark.anyio
async def test_an_async_session_can_ask(tmp_path):
    """The short form for one table, and run_sync for more."""
    with sqlite_engine(
        tmp_path / "a.db", ORDERS, "INSERT INTO orders VALUES (1, 'new', 1)"
    ) as sync:
        installed(sync)
        when = a_moment_between(sync)
        run(sync, "DELETE FROM orders")
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}")
    async with engine.connect() as connection:
        assert [row["id"] for row in await as_of_async(connection, when, "orders")] == [1]
    await engine.dispose()


def write_at_random(engine, chance, *, keys=12):
    """Make one transaction of a few writes of any kind."""
    with engine.begin() as connection:
        for _ in range(chance.randint(1, 5)):
            key, other = chance.randint(1, keys), chance.randint(1, keys)
            free = not connection.scalar(sa.text(f"SELECT count(*) FROM orders WHERE id = {other}"))
            match chance.choice("IIUUMD"):
                case "I" if free:
                    statement = f"INSERT INTO orders VALUES ({other}, 's{chance.random()}', NULL)"
                case "M" if free:
                    statement = f"UPDATE orders SET id = {other} WHERE id = {key}"
                case "D":
                    statement = f"DELETE FROM orders WHERE id = {key}"
                case _:
                    statement = f"UPDATE orders SET total = {chance.random()} WHERE id = {key}"
            connection.execute(sa.text(statement))


def compare_with_copies(engine, seed, transactions=60):
    """Write at random, copy the table now and then, and ask for every copy at the end."""
    chance, copies = random.Random(seed), []
    for _ in range(transactions):
        write_at_random(engine, chance)
        if chance.random() < 0.2:
            copies.append((a_moment_between(engine), copy_of(engine, "orders")))
    for when, copy in copies:
        assert then(engine, when) == copy
    return len(copies)


@pytest.fixture(params=["postgres_url", "mariadb_url"])
def server_engine(request):
    """Each server that has a trail, with the table of orders."""
    engine = sa.create_engine(request.getfixturevalue(request.param))
    run(engine, ORDERS, "INSERT INTO orders VALUES (1, 'new', 1.5), (2, 'new', NULL)")
    installed(engine)
    yield engine
    engine.dispose()


@pytest.mark.slow
def test_every_copy_is_found_again_on_a_server(server_engine):
    """Any writes: what is said about the past equals a copy taken at the time."""
    assert compare_with_copies(server_engine, 7, transactions=40)


@pytest.mark.slow
def test_columns_are_those_of_the_time_on_a_server(server_engine):
    """A renamed column has its old name, one added is not there, one dropped is as last written."""
    engine = server_engine
    run(engine, "INSERT INTO orders VALUES (3, 'new', 3)", "UPDATE orders SET total = 4 WHERE id=3")
    copy, when = copy_of(engine, "orders"), a_moment_between(engine)
    run(engine, "ALTER TABLE orders RENAME COLUMN state TO status")
    installed(engine)
    run(engine, "UPDATE orders SET status = 'renamed' WHERE id = 1")
    run(engine, "ALTER TABLE orders ADD COLUMN note VARCHAR(9) DEFAULT 'added'")
    installed(engine)
    assert then(engine, when) == copy
    # Where a trigger names the column, it goes only without the trigger.
    run(engine, "ALTER TABLE orders DROP COLUMN total")
    installed(engine)
    run(engine, "UPDATE orders SET status = 'later'", "DELETE FROM orders WHERE id = 3")
    with engine.connect() as connection:
        rows = {row["id"]: dict(row) for row in as_of(connection, when).rows("orders")}
    assert rows == {
        1: {"id": 1, "state": "new", "total": UNKNOWN},
        2: {"id": 2, "state": "new", "total": UNKNOWN},
        3: {"id": 3, "state": "new", "total": 4.0},
    }


@pytest.mark.slow
def test_a_point_is_final_or_refused_on_a_server(server_engine):
    """Somebody writes: refused. Another begins to read earlier: what came after is not seen."""
    engine = server_engine
    copy, before = copy_of(engine, "orders"), a_moment_between(engine)
    with engine.connect() as writer:
        writer.execute(sa.text("UPDATE orders SET state = 'open' WHERE id = 1"))
        during = a_moment_between(engine)
        with pytest.raises(PastUnsettled, match="still open"):
            then(engine, during)
        assert then(engine, before) == copy
        writer.commit()
    assert then(engine, during) == copy_of(engine, "orders") != copy
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as reader:
        reader.execute(sa.text("SELECT count(*) FROM shipworthy_audit_entries"))
        run(engine, "UPDATE orders SET state = 'later'")
        with pytest.raises(PastUnsettled):
            as_of(reader, a_moment_between(engine))
    with engine.connect().execution_options(isolation_level="READ COMMITTED") as reader:
        reader.execute(sa.text("SELECT 1"))
        past = as_of(reader, before)
        assert past.get("orders", 1)["state"] == "new"
        with pytest.raises(Misuse, match="must see one state"):
            list(past.rows("orders"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_every_copy_is_found_again_on_sqlite(engine, seed):
    """Any writes: what is said about the past equals a copy taken at the time."""
    assert compare_with_copies(engine, seed)
