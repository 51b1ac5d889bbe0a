"""Who a write was made for reaches the log: on every engine, and nobody else's name does."""

import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import services
from audit.conftest import ASYNC_DRIVERS, ENGINES, NOTES
from db.migrate.projects import make_project
from shipworthy.audit import bind, bind_all, install, look_again, unattributed_writes, uninstall
from shipworthy.audit.binding import LOOK_AGAIN_SECONDS, TrailBinding
from shipworthy.audit.unattributed import WriteUnattributed
from shipworthy.clock import ManualClock
from shipworthy.context import RequestRecord, actor, noted, request_scope
from shipworthy.db import run_migrations
from shipworthy.events import listen

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

every_engine = pytest.mark.parametrize("kind", ENGINES)


def add(connection, *numbers):
    """Insert notes, a statement for each."""
    for number in numbers:
        connection.execute(sa.insert(NOTES).values(id=number, text=f"n{number}"))


class Sent:
    """Counts what an engine sends as statements, below all listeners."""

    def __init__(self, engine):
        self.statements = []
        # What SQLAlchemy asks on a first connection is over then.
        engine.connect().close()
        dialect = engine.dialect
        for name in ("do_execute", "do_executemany", "do_execute_no_params"):
            setattr(dialect, name, self._counted(getattr(dialect, name)))

    def _counted(self, original):
        def execute(cursor, statement, *rest, **options):
            self.statements.append(statement)
            return original(cursor, statement, *rest, **options)

        return execute


@every_engine
def test_what_an_actor_writes_in_one_transaction_has_one_context(kind, trail_database):
    """Two statements share it, the next transaction has another."""
    database = trail_database(kind)
    engine = database.engine()

    with actor("ana", on_behalf_of="ben"):
        with engine.begin() as connection:
            add(connection, 1, 2)
        with engine.begin() as connection:
            add(connection, 3)

    rows = database.recorded()
    assert [(row.actor, row.actor_kind, row.on_behalf_of) for row in rows] == [
        ("ana", "user", "ben")
    ] * 3
    assert rows[0].tx == rows[1].tx != rows[2].tx
    assert [len(row.tx) for row in rows] == [32] * 3


@every_engine
def test_a_transaction_that_reads_sends_nothing_more_and_one_that_writes_at_most_one(
    kind, trail_database
):
    """SQLite needs no statement at all."""
    engine = trail_database(kind).engine()
    sent = Sent(engine)

    with actor("ana"), engine.begin() as connection:
        connection.execute(sa.select(NOTES))
        connection.execute(sa.select(NOTES))
        reads = len(sent.statements)
        add(connection, 1, 2, 3)
        connection.execute(sa.select(NOTES))

    assert reads == 2
    assert len(sent.statements) == (6 if kind == "sqlite" else 7)


@every_engine
def test_an_actor_who_changes_within_a_transaction_continues_it(kind, trail_database):
    """The second context names the first; whoever comes back has his first one again."""
    database = trail_database(kind)

    with database.engine().begin() as connection:
        with actor("ana"):
            add(connection, 1)
        with actor("ben"):
            add(connection, 2)
        with actor("ana"):
            add(connection, 3)

    first, second, third = database.recorded()
    assert [first.actor, second.actor, third.actor] == ["ana", "ben", "ana"]
    assert (first.continues, second.continues) == ("", first.tx)
    assert third.tx == first.tx


@every_engine
def test_a_savepoint_that_is_rolled_back_takes_no_context_with_it(kind, trail_database):
    """What is written after it is still the actor's, in the same context."""
    database = trail_database(kind)

    with actor("ana"), database.engine().begin() as connection:
        savepoint = connection.begin_nested()
        add(connection, 1)
        savepoint.rollback()
        add(connection, 2)
        with connection.begin_nested():
            add(connection, 3)
        add(connection, 4)

    rows = database.recorded()
    assert [row.actor for row in rows] == ["ana"] * 3
    assert len({row.tx for row in rows}) == 1


@every_engine
def test_a_rolled_back_transaction_leaves_nothing_for_the_next_one(kind, trail_database):
    """The same connection then writes for somebody else, and under another name."""
    database = trail_database(kind)
    engine = database.engine(pool_size=1, max_overflow=0)

    with engine.connect() as connection:
        with actor("ana"):
            add(connection, 1)
            connection.rollback()
        with actor("ben"):
            add(connection, 2)
            connection.commit()

    (row,) = database.recorded()
    assert (row.actor, row.continues) == ("ben", "")


@every_engine
def test_a_write_for_nobody_is_the_services_and_is_counted(kind, trail_database):
    """Never NULL: the service's name, its own kind, and the number by its reason."""
    database = trail_database(kind)
    before = unattributed_writes()
    record = RequestRecord("r" * 8, "c" * 8, "0" * 31 + "1", "0" * 16, client="10.0.0.9")
    record.route = "/notes/{id}"

    with database.engine().begin() as connection:
        add(connection, 1)
    with request_scope(record), database.engine().begin() as connection:
        add(connection, 2)

    alone, asked = database.recorded()
    assert alone.actor.startswith("service:")
    assert [alone.actor_kind, asked.actor_kind] == ["service", "service"]
    assert (asked.route, asked.address, asked.correlation_id) == (
        "/notes/{id}",
        "10.0.0.9",
        "c" * 8,
    )
    after = unattributed_writes()
    grown = {name: after[name] - before.get(name, 0) for name in ("elsewhere", "request")}
    assert grown == {"elsewhere": 1, "request": 1}


def test_that_nobody_is_known_is_said_once_for_each_reason(trail_database, monkeypatch):
    """The event names the route; the rest is a number."""
    from shipworthy.audit import unattributed

    unattributed_counts = type(unattributed._counts)()
    monkeypatch.setattr(unattributed, "_counts", unattributed_counts)
    engine = trail_database("sqlite").engine()
    heard = []
    stop = listen(heard.append)
    try:
        with engine.begin() as connection:
            add(connection, 1)
        with engine.begin() as connection:
            add(connection, 2)
    finally:
        stop()

    said = [fact for fact in heard if isinstance(fact, WriteUnattributed)]
    assert [fact.because for fact in said] == ["elsewhere"]
    assert unattributed_counts == {"elsewhere": 2}


@every_engine
def test_a_job_is_named_by_its_environment(kind, trail_database, monkeypatch):
    """SHIPWORTHY_ACTOR, of kind job; `actor` in the code comes first."""
    database = trail_database(kind)
    monkeypatch.setenv("SHIPWORTHY_ACTOR", "nightly-report")

    with database.engine().begin() as connection:
        add(connection, 1)
        with actor("ana", kind="service"):
            add(connection, 2)

    assert [(row.actor, row.actor_kind) for row in database.recorded()] == [
        ("nightly-report", "job"),
        ("ana", "service"),
    ]


@every_engine
def test_what_is_noted_of_a_transaction_is_in_its_context(kind, trail_database):
    """As a restore says what it restores."""
    database = trail_database(kind)

    with actor("ana"), noted('{"restores": 7}'), database.engine().begin() as connection:
        add(connection, 1)

    assert [row.note for row in database.recorded()] == ['{"restores": 7}']


@every_engine
def test_in_autocommit_each_write_is_attributed_or_counted_as_not(kind, trail_database):
    """PostgreSQL forgets what was set before the write: its user stands there, and it is counted.

    No transaction is put around a statement whose author asked for none.
    """
    database = trail_database(kind)
    engine = database.engine(isolation_level="AUTOCOMMIT")
    before = unattributed_writes().get("autocommit", 0)

    with actor("ana"), engine.connect() as connection:
        add(connection, 1, 2)

    rows = database.recorded()
    lost = unattributed_writes().get("autocommit", 0) - before
    assert rows[0].tx != rows[1].tx
    if kind == "postgresql":
        assert [row.actor_kind for row in rows] == ["database"] * 2
        assert (rows[0].db_user, lost) == ("postgres", 2)
    else:
        assert [row.actor for row in rows] == ["ana", "ana"]
        assert lost == 0


@every_engine
def test_a_driver_cursor_writes_under_no_name_of_ours(kind, trail_database):
    """Not under that of who had the connection before: it is a stranger to us."""
    database = trail_database(kind)
    engine = database.engine(pool_size=1, max_overflow=0)
    with actor("ana"), engine.begin() as connection:
        add(connection, 1)

    raw = engine.raw_connection()
    with actor("ben"):
        raw.cursor().execute("INSERT INTO notes (id, text) VALUES (2, 'raw')")
        raw.commit()
    raw.close()

    ana, stranger = database.recorded()
    assert ana.actor == "ana"
    assert not stranger.actor
    assert stranger.tx != ana.tx
    assert stranger.actor_kind in {None, "database"}


def test_a_driver_cursor_after_a_bound_transaction_is_not_its_actors_on_sqlite(trail_database):
    """The connection was not given back yet; who wrote before has nothing to do with it."""
    database = trail_database("sqlite")
    with database.engine().connect() as connection:
        with actor("ana"):
            connection.execute(sa.insert(NOTES).values(id=1))
            connection.commit()
        raw = connection.connection
        raw.cursor().execute("INSERT INTO notes (id) VALUES (2)")
        raw.commit()

    assert database.actors() == ["ana", ""]


@every_engine
def test_a_driver_cursor_within_a_bound_transaction_is_the_actors(kind, trail_database):
    """The database knows who the transaction is for, whoever sends the statement."""
    database = trail_database(kind)

    with actor("ana"), database.engine().begin() as connection:
        add(connection, 1)
        cursor = connection.connection.cursor()
        cursor.execute("INSERT INTO notes (id, text) VALUES (2, 'raw')")
        cursor.close()

    assert database.actors() == ["ana", "ana"]


@every_engine
def test_another_client_is_recorded_as_the_user_of_the_database(kind, trail_database):
    """A shell, for instance; where the engine has users, by its name."""
    database = trail_database(kind)

    with database.engine(bound=False).begin() as connection, actor("ana"):
        add(connection, 1)

    (row,) = database.recorded()
    assert not row.actor
    if kind != "sqlite":  # which has no users, and keeps no context for a stranger
        assert row.actor_kind == "database"
        assert row.db_user.partition("@")[0] in {"postgres", "root"}


@every_engine
def test_connections_that_were_open_before_the_install_are_found_at_their_next_checkout(
    kind, bare_database
):
    """`install` in this process has all look again."""
    database = bare_database(kind)
    engine = database.engine(pool_size=1, max_overflow=0)
    with actor("ana"), engine.begin() as connection:
        add(connection, 1)

    database.install()
    with actor("ana"), engine.begin() as connection:
        add(connection, 2)

    assert database.actors() == ["ana"]


@every_engine
def test_an_install_in_the_callers_own_transaction_is_found_when_it_commits(kind, bare_database):
    """Who installs by a connection looked at the database when that was checked out."""
    database = bare_database(kind)
    engine = database.engine()

    with engine.begin() as connection:
        install(connection, say=lambda _: None)
    with actor("ana"), engine.begin() as connection:
        add(connection, 1)

    assert database.actors() == ["ana"]


@every_engine
def test_an_install_by_another_process_is_found_when_the_answer_is_old(
    kind, bare_database, monkeypatch
):
    """Ten seconds later at the latest; until then nobody asks again."""
    database = bare_database(kind)
    clock = ManualClock()
    engine = database.engine(bound=False, pool_size=1, max_overflow=0)
    end = TrailBinding(service="shop", now=clock.now).listen(engine, engine)
    with engine.connect() as connection:
        connection.execute(sa.select(NOTES))
    monkeypatch.setattr("shipworthy.audit.installation.look_again", lambda: None)
    database.install()

    with actor("ana"):
        with engine.begin() as connection:
            add(connection, 1)
        clock.advance(LOOK_AGAIN_SECONDS)
        with engine.begin() as connection:
            add(connection, 2)
    end()

    unknown, known = database.actors()
    assert (unknown, known) == ("", "ana")


@every_engine
def test_a_database_without_a_trail_is_told_nothing(kind, bare_database):
    """Not one statement more, and writes go on after an uninstall too."""
    database = bare_database(kind)
    database.install()
    engine = database.engine()
    with actor("ana"), engine.begin() as connection:
        add(connection, 1)
    uninstall(database.outside, say=lambda _: None)
    sent = Sent(engine)

    with actor("ana"), engine.begin() as connection:
        add(connection, 2, 3)

    assert len(sent.statements) == 2


class _Base(DeclarativeBase):
    pass


class Note(_Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(sa.String(200))


@every_engine
def test_rows_in_bulk_are_the_actors_by_whatever_way(kind, trail_database):
    """The unit of work, executemany, insertmanyvalues with RETURNING, plain SQL."""
    database = trail_database(kind)
    engine = database.engine()

    with actor("ana"), Session(engine) as session, session.begin():
        session.add_all([Note(id=number, text="a") for number in range(1, 4)])
    with actor("ben"), engine.begin() as connection:
        connection.execute(sa.insert(NOTES), [{"id": n, "text": "b"} for n in range(4, 7)])
    with actor("cleo"), engine.begin() as connection:
        returning = sa.insert(NOTES).returning(NOTES.c.id)
        connection.execute(returning, [{"id": n, "text": "c"} for n in range(7, 10)])
    with actor("dora"), engine.begin() as connection:
        connection.exec_driver_sql("UPDATE notes SET text = 'd' WHERE id > 7")

    assert database.actors() == ["ana"] * 3 + ["ben"] * 3 + ["cleo"] * 3 + ["dora"] * 2


@pytest.mark.parametrize("driver", ASYNC_DRIVERS)
async def test_an_async_engine_carries_the_actor_of_its_task(driver, trail_database):
    """The names of others, and that of the connection's last user, stay where they were."""
    kind = {"aiosqlite": "sqlite", "asyncmy": "mariadb"}.get(driver, "postgresql")
    database = trail_database(kind)
    engine = database.async_engine(driver, pool_size=1, max_overflow=0)

    async with actor("ana"), engine.begin() as connection:
        await connection.execute(sa.insert(NOTES).values(id=1, text="a"))
    async with actor("ben"), engine.begin() as connection:
        await connection.execute(sa.insert(NOTES).values(id=2, text="b"))
    async with engine.begin() as connection:
        await connection.execute(sa.insert(NOTES).values(id=3, text="c"))
    await engine.dispose()

    rows = database.recorded()
    assert [row.actor for row in rows[:2]] == ["ana", "ben"]
    assert rows[2].actor_kind == "service"


@every_engine
def test_a_connection_that_was_invalidated_carries_the_actor_again(kind, trail_database):
    """What was known of the old one is not taken for true of the new one."""
    database = trail_database(kind)
    engine = database.engine(pool_size=1, max_overflow=0)

    with actor("ana"), engine.connect() as connection:
        add(connection, 1)
        connection.commit()
        connection.invalidate()
        add(connection, 2)
        connection.commit()

    assert database.actors() == ["ana", "ana"]


@every_engine
def test_engines_that_share_a_pool_share_what_it_carries(kind, trail_database):
    """As `execution_options` makes them; a pool made anew by `dispose` is found too."""
    database = trail_database(kind)
    engine = database.engine()
    other = engine.execution_options(schema_translate_map=None)

    with actor("ana"), other.begin() as connection:
        add(connection, 1)
    engine.dispose()
    with actor("ben"), engine.begin() as connection:
        add(connection, 2)

    assert database.actors() == ["ana", "ben"]


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_two_phases_are_one_transaction(kind, trail_database):
    """Prepared where the server allows it, which PostgreSQL does not before it is told to."""
    database = trail_database(kind)

    with actor("ana"), database.engine().connect() as connection:
        transaction = connection.begin_twophase()
        add(connection, 1, 2)
        if kind == "mariadb":
            transaction.prepare()
        transaction.commit()
        add(connection, 3)
        connection.commit()

    rows = database.recorded()
    assert [row.actor for row in rows] == ["ana"] * 3
    assert rows[0].tx == rows[1].tx != rows[2].tx


@every_engine
def test_what_a_client_sent_is_bounded_and_has_no_control_characters(kind, trail_database):
    """Names, routes and ids come from outside."""
    database = trail_database(kind)
    record = RequestRecord("r" * 8, "c\n" * 400, "t" * 40, "0" * 16, client="1\r.2" * 40)
    record.route = "/x\x1b[31m" * 100

    engine = database.engine()
    with request_scope(record), actor("a\u202eb\x00" + "ü" * 300), engine.begin() as connection:
        add(connection, 1)

    (row,) = database.recorded()
    assert row.actor == "ab" + "ü" * 198
    assert row.correlation_id == "c" * 128
    assert (len(row.trace_id), len(row.route), len(row.address)) == (32, 200, 64)
    assert row.route.startswith("/x[31m/x")


def test_functions_that_write_are_the_actors_where_reads_are_bound(trail_database):
    """A SELECT may write through a function; who has such functions says so."""
    database = trail_database("postgresql")
    with database.outside.begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION note_it(n int) RETURNS int LANGUAGE sql AS "
            "$$ INSERT INTO notes VALUES (n, 'f') RETURNING id $$"
        )
    plain = database.engine()
    eager = database.engine(bound=False)
    end = bind(eager, service="shop", bind_reads=True)

    with actor("ana"):
        with plain.begin() as connection:
            connection.execute(sa.text("SELECT note_it(1)"))
        with eager.begin() as connection:
            connection.execute(sa.text("SELECT note_it(2)"))
    end()

    assert database.actors() == ["", "ana"]


@every_engine
def test_threads_that_share_a_pool_write_under_their_own_names(kind, trail_database):
    """Fifty of them, on five connections."""
    database = trail_database(kind)
    engine = database.engine(pool_size=5, max_overflow=0)

    def work(number):
        with actor(f"t{number}"), engine.begin() as connection:
            add(connection, number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 51)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted((row.key, row.actor) for row in database.recorded()) == sorted(
        (_key(kind, number), f"t{number}") for number in range(1, 51)
    )


def _key(kind, number):
    return f'["i{number}"]' if kind == "sqlite" else f'["{number}"]'


def test_what_is_bound_does_not_keep_a_connection_that_nobody_closed(trail_database):
    """A connection that is forgotten comes back to its pool as it would without us."""
    engine = trail_database("sqlite").engine(pool_size=1, max_overflow=0)
    connection = engine.connect()
    with actor("ana"):
        add(connection, 1)

    del connection
    gc.collect()

    assert engine.pool.checkedout() == 0


def test_looking_again_is_for_every_engine(trail_database):
    """Twice is as good as once."""
    look_again()
    look_again()
    database = trail_database("sqlite")
    with actor("ana"), database.engine().begin() as connection:
        add(connection, 1)

    assert database.actors() == ["ana"]


@every_engine
def test_a_statement_that_failed_takes_no_context_with_it(kind, trail_database):
    """What its triggers had written is gone; the next one is the actor's all the same."""
    database = trail_database(kind)

    with actor("ana"), database.engine().begin() as connection:
        with pytest.raises(sa.exc.IntegrityError), connection.begin_nested():
            connection.exec_driver_sql("INSERT INTO notes (id, text) VALUES (1, 'a'), (1, 'b')")
        if kind != "postgresql":  # where a failure ends the transaction or its savepoint
            with pytest.raises(sa.exc.IntegrityError):
                connection.exec_driver_sql("INSERT INTO notes (id, text) VALUES (1, 'a'), (1, 'b')")
        add(connection, 1)

    assert database.actors() == ["ana"]


@pytest.fixture
def pooler(trail_database, debian):
    """The database with its trail, and an engine that reaches it through PgBouncer."""
    debian("pgbouncer", "pgbouncer")
    database = trail_database("postgresql")
    with services.pgbouncer(database.url) as url:
        # Prepared statements belong to a session, which such a pooler does not give.
        engine = sa.create_engine(
            url, pool_size=20, connect_args={"prepare_threshold": None}, pool_use_lifo=False
        )
        yield database, engine
        engine.dispose()


def test_clients_that_share_two_connections_write_under_their_own_names(pooler):
    """Twenty threads, ten transactions each; every third names nobody."""
    database, engine = pooler
    end = bind(engine, service="shop")

    def work(number):
        for turn in range(10):
            row = number * 10 + turn
            if turn % 3:
                with actor(f"user-{row}"), engine.begin() as connection:
                    connection.execute(sa.insert(NOTES).values(id=row, text="named"))
            else:
                with engine.begin() as connection:
                    connection.execute(sa.insert(NOTES).values(id=row, text="nobody's"))

    with ThreadPoolExecutor(20) as threads:
        list(threads.map(work, range(20)))
    end()

    rows = database.recorded()
    assert len(rows) == 200
    for row in rows:
        number = int(row.key.strip('["]'))
        named = number % 10 % 3 != 0
        assert row.actor_kind == ("user" if named else "service")
        if named:
            assert row.actor == f"user-{number}"


def test_a_client_that_is_not_bound_gets_nobodys_name_from_the_connection(pooler):
    """What was set for one transaction is not there in the next one of that connection."""
    database, engine = pooler
    end = bind(engine, service="shop")
    with actor("ana"), engine.begin() as connection:
        connection.execute(sa.insert(NOTES).values(id=1, text="a"))
    end()

    for number in range(2, 8):
        with engine.begin() as connection:
            connection.execute(sa.insert(NOTES).values(id=number, text="b"))

    ana, *strangers = database.recorded()
    assert ana.actor == "ana"
    assert {(row.actor, row.actor_kind) for row in strangers} == {("", "database")}


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_a_migration_changes_is_recorded_as_its_own_work(kind, bare_database, tmp_path):
    """By the name of its revision."""
    database = bare_database(kind)
    database.install()
    project = make_project(
        tmp_path, database.url, "op.execute(\"INSERT INTO notes (id, text) VALUES (1, 'm')\")"
    )

    # Its env.py makes an engine of its own.
    end = bind_all(service="migrate")
    run_migrations(database.engine(bound=False), project, say=lambda _: None)
    end()

    (row,) = database.recorded()
    assert row.actor_kind == "migration"
    assert row.actor.startswith("migration:")
