"""protect(): what a live engine is like under guard, and after."""

import asyncio
import gc
import os
import secrets
import signal
import socket
import sqlite3
import threading
import time
import weakref
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

import pytest
import sqlalchemy
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError, OperationalError, TimeoutError as PoolTimeoutOfSqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool, QueuePool

from lateness import Lateness
from shipworthy.context import RequestRecord, TraceSteps, deadline_scope, request_scope
from shipworthy.db import (
    DbSettings,
    Outcome,
    PoolDeadlock,
    WrongLoop,
    attempt_scope,
    classify,
    guard as guard_module,
    protect,
    protect_all,
)
from shipworthy.db.guard import DeadlineCut, ServerLimitRefused, StatementSlow, protections
from shipworthy.events import listen

GUARD_SECONDS = 20.0

LONG_QUERY = (
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 1000000000) "
    "SELECT count(*) FROM c"
)
DRIVERS = ("psycopg", "psycopg_async", "asyncpg", "pymysql", "asyncmy")


@contextmanager
def guarded(engine, **options):
    """The engine under guard, let go at the end, whatever came between."""
    protection = protect(engine, settings=DbSettings(**options))
    try:
        yield protection
    finally:
        protection.undo()


@pytest.fixture
def heard():
    """The events of the test, in their order."""
    found = []
    stop = listen(found.append)
    yield found
    stop()


@pytest.fixture
def sqlite(tmp_path):
    """An engine on a file, with room for two connections."""
    engine = create_engine(f"sqlite:///{tmp_path / 'one.db'}", pool_size=2, max_overflow=0)
    yield engine
    engine.dispose()


@contextmanager
def silent_server():
    """A server that accepts, reads, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.05)
        taken, over = [], threading.Event()

        def accept():
            while not over.is_set():
                try:
                    taken.append(listening.accept()[0])
                except TimeoutError:
                    continue

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            over.set()
            thread.join()
            for connection in taken:
                connection.close()


def took(work) -> tuple[float, BaseException | None]:
    """How long it took, and what it raised."""
    began = time.monotonic()
    try:
        work()
    except Exception as error:
        return time.monotonic() - began, error
    return time.monotonic() - began, None


def run_bounded(work):
    """Run a coroutine function; the guard's own promise is not what bounds the test."""

    async def bounded():
        async with asyncio.timeout(GUARD_SECONDS):
            return await work()

    return asyncio.run(bounded())


def url_of(driver: str, host: str) -> str:
    """A URL for the driver at the address."""
    database = "mysql" if driver in {"pymysql", "asyncmy"} else "postgres"
    user = "root" if database == "mysql" else "postgres"
    kind = "mariadb" if database == "mysql" else "postgresql"
    return f"{kind}+{driver}://{user}@{host}/{database}"


def is_async(driver: str) -> bool:
    return driver in {"psycopg_async", "asyncpg", "asyncmy", "aiosqlite"}


def call(driver, url, statement, **settings):
    """Run one statement under guard on a new engine, and return how long it took, and the error."""
    if is_async(driver):

        async def work():
            engine = create_async_engine(url, pool_size=1, max_overflow=0)
            with guarded(engine, **settings):
                began = time.monotonic()
                try:
                    async with engine.connect() as connection:
                        began = time.monotonic() if statement else began
                        await connection.execute(text(statement or "SELECT 1"))
                except Exception as error:
                    return time.monotonic() - began, error
                finally:
                    await engine.dispose()
            return time.monotonic() - began, None

        return run_bounded(work)
    engine = create_engine(url, pool_size=1, max_overflow=0)
    with guarded(engine, **settings):
        began = time.monotonic()
        try:
            with engine.connect() as connection:
                began = time.monotonic() if statement else began
                connection.execute(text(statement or "SELECT 1"))
        except Exception as error:
            return time.monotonic() - began, error
        finally:
            engine.dispose()
    return time.monotonic() - began, None


# -- putting on and taking off --


def test_protecting_twice_is_one_protection(sqlite):
    """A second protect() returns the first protection and changes nothing."""
    with guarded(sqlite) as protection:
        before = (type(sqlite.pool), sqlite.dialect.do_execute)

        again = protect(sqlite, name="other")

        assert again is protection
        assert (type(sqlite.pool), sqlite.dialect.do_execute) == before


def test_undoing_leaves_pool_and_dialect_as_they_were(sqlite):
    """After undo() no method, class or attribute of ours is left, and the engine works."""
    pool = sqlite.pool
    with sqlite.connect() as connection:
        connection.execute(text("SELECT 1"))
    theirs = {"_has_events", "dispatch"}  # what SQLAlchemy keeps of who has ever listened
    before = set(sqlite.dialect.__dict__) - theirs
    state = set(pool.__dict__)
    protection = protect(sqlite)
    # Pools are compared by their state, by SQLAlchemy's own suite for one.
    assert set(pool.__dict__) == state
    with sqlite.connect() as connection:
        connection.execute(text("SELECT 1"))

    protection.undo()
    protection.undo()

    assert type(pool) is QueuePool
    assert set(sqlite.dialect.__dict__) - theirs == before
    with sqlite.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1


def test_the_pool_still_says_its_class(sqlite):
    """Whoever asks the pool for its class, or its logger's name, gets SQLAlchemy's."""
    with guarded(sqlite):
        pool = sqlite.pool

        assert pool.__class__ is QueuePool
        assert isinstance(pool, QueuePool)
        assert f"{type(pool).__module__}.{type(pool).__name__}" == "sqlalchemy.pool.impl.QueuePool"


def test_a_disposed_engine_is_still_under_guard(sqlite):
    """dispose() makes a new pool, whose checkouts are counted and bounded as before."""
    with guarded(sqlite, checkout_seconds=0.01, deadlocks="wait") as protection:
        sqlite.dispose()

        with sqlite.connect(), sqlite.connect(), pytest.raises(PoolTimeoutOfSqlalchemy):
            sqlite.connect()

        assert protection.statistics().timeouts == 1


def test_an_engine_that_was_disposed_of_is_let_go_as_well(sqlite):
    """undo() reaches the pool that dispose() made, whether it was used or not."""
    protection = protect(sqlite)
    sqlite.dispose()

    protection.undo()

    assert type(sqlite.pool) is QueuePool
    again = protect(sqlite)
    assert again is not protection
    assert again in protections()
    again.undo()


def test_a_connection_that_was_out_before_comes_back_and_counts(sqlite):
    """A live engine comes under guard with its connections out: they take up room until back."""
    early = sqlite.connect()
    with guarded(sqlite, checkout_seconds=0.01, deadlocks="wait") as protection:
        assert protection.statistics().in_use == 1
        with sqlite.connect(), pytest.raises(PoolTimeoutOfSqlalchemy):
            sqlite.connect()

        early.close()

        assert protection.statistics().in_use == 0
        with sqlite.connect(), sqlite.connect():
            assert protection.statistics().in_use == 2


def test_a_connection_that_is_out_when_the_guard_goes_returns_as_usual(sqlite):
    """undo() with a connection out leaves a pool that has all its connections in the end."""
    protection = protect(sqlite)
    connection = sqlite.connect()

    protection.undo()
    connection.close()

    assert sqlite.pool.checkedout() == 0
    with sqlite.connect(), sqlite.connect():
        assert sqlite.pool.checkedout() == 2


def test_an_engine_that_nobody_has_any_more_is_let_go(tmp_path):
    """Under guard or not, a dropped engine is collected with its pool."""
    engine = create_engine(f"sqlite:///{tmp_path / 'x.db'}")
    protect(engine, name="dropped")
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    engine.dispose()
    watched = weakref.ref(engine.pool)

    del engine, connection
    gc.collect()

    assert watched() is None
    assert "dropped" not in {protection.name for protection in protections()}


def test_all_engines_are_protected_on_first_use_whenever_made(tmp_path):
    """protect_all() reaches engines made before and after, sync and async, and gives all back."""
    made = partial(create_engine, pool_size=1, max_overflow=0)
    early, warm = (made(f"sqlite:///{tmp_path / name}.db") for name in ("early", "warm"))
    with warm.connect() as connection:
        connection.execute(text("SELECT 1"))
    undo = protect_all(DbSettings())
    late = made(f"sqlite:///{tmp_path / 'late'}.db")

    async def use_async():
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'a'}.db", pool_size=1)
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
            count = len(protections())
        await engine.dispose()
        return count

    for engine in (early, warm, late):
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT 1")) == 1
    for engine in (early, warm, late):
        with engine.connect(), pytest.raises(PoolDeadlock):
            engine.connect()
    with_async = run_bounded(use_async)
    names = [protection.name for protection in protections()]
    undo()

    assert with_async == 4
    assert names[:3] == ["main", "main-2", "main-3"]
    assert protections() == ()
    for engine in (early, warm, late):
        assert type(engine.pool) is QueuePool
        engine.dispose()


def test_what_create_engine_hands_on_is_seen_in_the_code_of_the_engine():
    """SQLAlchemy 2.0 looks there, and refuses `echo` and others where it finds no names."""
    before = _names_taken()
    undo = protect_all(DbSettings())
    during = _names_taken()
    engine = create_engine("sqlite://", echo=False, hide_parameters=True, logging_name="shop")
    undo()
    engine.dispose()

    assert during == before >= {"pool", "dialect", "url", "echo", "hide_parameters"}
    assert (engine.hide_parameters, engine.logging_name) == (True, "shop")
    assert _names_taken() == before


def _names_taken() -> set[str]:
    code = Engine.__init__.__code__
    return set(code.co_varnames[: code.co_argcount])


def test_a_wrapper_of_somebody_else_is_left_as_it_is(monkeypatch):
    """It takes anything, and so do we then."""
    plain = Engine.__init__

    def theirs(engine, *args, **options):
        plain(engine, *args, **options)

    monkeypatch.setattr(Engine, "__init__", theirs)
    undo = protect_all(DbSettings())
    engine = create_engine("sqlite://")
    found = [one.name for one in protections()]
    undo()
    engine.dispose()

    assert found == ["main"]
    assert Engine.__init__ is theirs


def test_a_pool_made_without_an_engine_is_guarded_by_its_permits(tmp_path):
    """protect_all() also reaches a bare pool, which has no dialect to put spans around."""
    import sqlite3

    pool = QueuePool(lambda: sqlite3.connect(tmp_path / "x.db"), pool_size=1, max_overflow=0)
    undo = protect_all(DbSettings())
    pool.connect().close()

    first = pool.connect()
    with pytest.raises(PoolDeadlock):
        pool.connect()

    first.close()
    undo()
    pool.dispose()


# -- errors stay what they were --


def test_an_error_keeps_its_class_and_says_its_phase(sqlite):
    """A constraint is still an IntegrityError, with the phase it arose in."""
    with guarded(sqlite), sqlite.connect() as connection:
        connection.execute(text("CREATE TABLE t (id INTEGER PRIMARY KEY)"))
        connection.execute(text("INSERT INTO t VALUES (1)"))

        with pytest.raises(sqlalchemy.exc.IntegrityError) as caught:
            connection.execute(text("INSERT INTO t VALUES (1)"))

    assert caught.value.__shipworthy_phase__ == "statement"
    assert caught.value.orig.__shipworthy_phase__ == "statement"
    assert not hasattr(caught.value, "__shipworthy_cut__")


def test_a_failed_commit_says_that_it_was_the_commit(sqlite):
    """What fails in COMMIT is told apart from what fails in a statement."""
    with guarded(sqlite), sqlite.connect() as connection:
        connection.execute(text("PRAGMA foreign_keys = ON"))
        connection.execute(text("CREATE TABLE p (id INTEGER PRIMARY KEY)"))
        connection.execute(
            text("CREATE TABLE c (p INTEGER REFERENCES p(id) DEFERRABLE INITIALLY DEFERRED)")
        )
        connection.commit()
        connection.execute(text("INSERT INTO c VALUES (1)"))

        with pytest.raises(sqlalchemy.exc.IntegrityError) as caught:
            connection.commit()

        connection.rollback()
    assert caught.value.__shipworthy_phase__ == "commit"


def test_a_connect_that_fails_says_so_on_the_error(tmp_path):
    """What never reached the database is told apart, too."""
    engine = create_engine(f"sqlite:///{tmp_path / 'no' / 'such' / 'folder.db'}")
    with guarded(engine), pytest.raises(OperationalError) as caught:
        engine.connect()

    assert caught.value.__shipworthy_phase__ == "connect"


def test_an_error_of_the_applications_own_listener_says_nothing_of_the_database(sqlite):
    """A check of its own at checkout raises what it likes; the breaker stays closed."""

    def no_tenant(*_):
        raise LookupError("no tenant")

    event.listen(sqlite, "checkout", no_tenant)
    with guarded(sqlite) as protection:
        for _ in range(40):
            with pytest.raises(LookupError) as caught:
                sqlite.connect()

        assert protection.statistics().breaker == "closed"
        assert not hasattr(caught.value, "__shipworthy_phase__")
        event.remove(sqlite, "checkout", no_tenant)
        sqlite.connect().close()


# -- what was applied --


def test_a_commit_as_text_on_a_connection_that_was_out_before_is_noted(sqlite):
    """It has no deadline, and is applied all the same."""
    early = sqlite.connect()
    early.execute(text("CREATE TABLE t (id INTEGER)"))
    early.execute(text("INSERT INTO t VALUES (1)"))
    with guarded(sqlite), attempt_scope() as attempt:
        early.exec_driver_sql("COMMIT")
        early.close()

    assert attempt.commits == 1


@pytest.mark.parametrize("prepares", [False, True])
def test_a_commit_in_two_phases_is_one_commit(mariadb_url, prepares):
    """SQLAlchemy sends the second phase as a statement, which is a COMMIT all the same."""
    engine = create_engine(mariadb_url)
    with guarded(engine), engine.connect() as connection:
        connection.execute(text("CREATE TABLE t (id INT) ENGINE=InnoDB"))
        connection.commit()
        with attempt_scope() as attempt:
            begun = connection.begin_twophase()
            connection.execute(text("INSERT INTO t VALUES (1)"))
            if prepares:
                begun.prepare()
            before = attempt.commits
            begun.commit()

    assert (before, attempt.commits) == (0, 1)
    engine.dispose()


def test_where_nothing_is_prepared_it_is_a_commit_like_any_other(postgres_url):
    """And counts once."""
    engine = create_engine(postgres_url)
    with guarded(engine), engine.connect() as connection, attempt_scope() as attempt:
        begun = connection.begin_twophase()
        connection.execute(text("CREATE TABLE t (id int)"))
        begun.commit()

    assert attempt.commits == 1
    engine.dispose()


def test_a_second_phase_that_fails_is_a_commit_that_failed(mariadb_url):
    """What the statement's own phase says would have it run again."""
    engine = create_engine(mariadb_url)
    with guarded(engine), engine.connect() as connection, attempt_scope() as attempt:
        begun = connection.begin_twophase()
        connection.execute(text("SELECT 1"))
        begun.prepare()
        number = connection.connection.thread_id()
        with create_engine(mariadb_url).connect() as other:
            other.exec_driver_sql(f"KILL {number}")
        other.engine.dispose()
        with pytest.raises(DBAPIError) as caught:
            begun.commit()

    assert caught.value.__shipworthy_phase__ == "commit"
    assert classify(caught.value).outcome is Outcome.AMBIGUOUS
    assert [classify(error).outcome for error in attempt.failures] == [Outcome.AMBIGUOUS]
    assert attempt.commits == 0
    engine.dispose()


# -- the server's own limit --


def test_a_limit_that_the_server_refuses_is_not_asked_for_again_and_said(postgres_url, heard):
    """It would refuse it on each new connection."""
    role = f"ship_{secrets.token_hex(6)}"
    owner = create_engine(postgres_url)
    with owner.begin() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN")
        connection.exec_driver_sql(
            "REVOKE EXECUTE ON FUNCTION set_config(text, text, boolean) FROM PUBLIC"
        )
    engine = create_engine(owner.url.set(username=role), poolclass=NullPool)
    with guarded(engine):
        for _ in range(2):
            with engine.connect() as connection:
                assert connection.scalar(text("SHOW statement_timeout")) == "0"
    engine.dispose()
    with owner.begin() as connection:
        connection.exec_driver_sql(f"DROP ROLE {role}")
    owner.dispose()

    (refused,) = [fact for fact in heard if isinstance(fact, ServerLimitRefused)]
    assert (refused.engine, refused.because) == ("main", "a privilege is missing (42501)")


def test_a_limit_that_failed_once_is_asked_for_on_the_next_connection(postgres_url, heard):
    """An operator may have cancelled just that statement."""
    engine = create_engine(postgres_url, poolclass=NullPool)
    with guarded(engine, statement_seconds=10.0) as protection:
        limit = protection._limit
        protection._limit = "DO $$ BEGIN RAISE query_canceled; END $$"
        engine.connect().close()
        assert protection._limit is not None
        protection._limit = limit
        with engine.connect() as connection:
            assert connection.scalar(text("SHOW statement_timeout")) == "9750ms"

    assert [fact for fact in heard if isinstance(fact, ServerLimitRefused)] == []
    engine.dispose()


def test_a_listener_finds_room_on_a_connection_of_our_own(sqlite):
    """As on a record of the pool."""

    def remember(dialect, record, *_):
        record.info["seen"] = True

    event.listen(sqlite, "do_connect", remember)
    with guarded(sqlite) as protection:
        own = protection.own_connection()
        own.ping(5.0)
        own.close()

    assert own.info == {"seen": True}


# -- deadlines --


@pytest.mark.parametrize("driver", ["pysqlite", "aiosqlite"])
def test_what_a_request_asks_of_a_database_is_counted_with_it(driver, tmp_path):
    """Statements, those that fail too; the seconds of all of them and of the COMMIT."""
    record = RequestRecord("r", "c", "t", "s")
    url = f"sqlite+{driver}:///{tmp_path / 'one.db'}"

    def work(connection):
        connection.execute(text("CREATE TABLE t (n INTEGER)"))
        connection.execute(text("INSERT INTO t VALUES (1)"))
        with pytest.raises(OperationalError):
            connection.execute(text("SELECT * FROM nowhere"))
        connection.commit()

    async def async_work(engine):
        async with engine.connect() as connection:
            await connection.run_sync(work)
        await engine.dispose()

    if driver == "aiosqlite":
        engine = create_async_engine(url)
        with guarded(engine), request_scope(record):
            asyncio.run(async_work(engine))
    else:
        engine = create_engine(url)
        with guarded(engine):
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
            with request_scope(record), engine.connect() as connection:
                work(connection)
        engine.dispose()

    assert record.work is not None
    assert record.work.db_calls == 3
    assert 0 < record.work.db_seconds < GUARD_SECONDS
    assert 0 < record.work.db_wait_seconds < GUARD_SECONDS


def test_a_wait_for_a_connection_in_vain_is_counted_too(sqlite):
    """Whoever was refused had waited, and its line says so."""
    record = RequestRecord("r", "c", "t", "s")
    with (
        guarded(sqlite, checkout_seconds=0.05, deadlocks="report"),
        sqlite.connect(),
        sqlite.connect(),
        request_scope(record),
        pytest.raises(PoolTimeoutOfSqlalchemy),
    ):
        sqlite.connect()
    assert record.work is not None
    assert (record.work.db_calls, record.work.db_seconds) == (0, 0.0)
    assert record.work.db_wait_seconds >= 0.05


def test_a_slow_statement_is_named_and_let_finish(sqlite, heard):
    """Past the length of warning the line is named; the result is delivered all the same."""
    with guarded(sqlite, statement_warn_seconds=1e-9) as protection, sqlite.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1

        slow = next(fact for fact in heard if isinstance(fact, StatementSlow))
        assert "test_guard.py" in slow.at
        assert protection.statistics().slow == 1


def test_the_deadline_of_the_request_cuts_sooner_than_the_setting(sqlite, heard):
    """A statement ends with the request it works for; SQLite's connection lives on."""
    with guarded(sqlite) as protection, sqlite.connect() as connection:
        with deadline_scope(time.monotonic() + 0.1), Lateness() as late:
            seconds, error = took(lambda: connection.execute(text(LONG_QUERY)))

        assert isinstance(error, OperationalError)
        assert seconds < 0.1 + late.allowed_seconds
        assert error.__shipworthy_cut__ > 0.05
        assert "was not done after" in error.__notes__[0]
        assert connection.scalar(text("SELECT 1")) == 1
        assert protection.statistics().cuts == 1
        assert [fact.phase for fact in heard if isinstance(fact, DeadlineCut)] == ["statement"]


@pytest.mark.slow
@pytest.mark.parametrize("driver", ["pysqlite", "aiosqlite"])
def test_a_long_query_of_sqlite_is_interrupted_at_its_deadline(driver, tmp_path):
    """Both SQLite drivers come back in time with SQLite's own error."""
    with Lateness() as late:
        seconds, error = call(
            driver,
            f"sqlite+{driver}:///{tmp_path / 'x.db'}",
            LONG_QUERY,
            statement_seconds=0.3,
            statement_warn_seconds=0.2,
        )

    assert "interrupted" in str(error)
    assert 0.3 <= seconds < 0.3 + late.allowed_seconds


@pytest.mark.slow
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_silent_peer_at_connect_costs_the_deadline_and_no_more(driver):
    """The server takes the connection and says nothing: each driver is back in time."""
    with silent_server() as port, Lateness() as late:
        seconds, error = call(driver, url_of(driver, f"127.0.0.1:{port}"), "", connect_seconds=0.5)

    assert isinstance(error, (DBAPIError, TimeoutError))
    assert error.__shipworthy_phase__ == "connect"
    assert 0.5 <= seconds < 0.5 + late.allowed_seconds


# -- the process forks, the loop is another --


@contextmanager
def all_guarded():
    """Every engine that is made, as `shipworthy run` has it."""
    undo = protect_all()
    try:
        yield
    finally:
        undo()


@pytest.mark.parametrize("by", ["protect", "protect_all"])
def test_a_child_of_a_fork_makes_connections_of_its_own(postgres_url, by):
    """After a fork the child does not use the parent's socket, and the parent goes on."""
    with ExitStack() as ends:
        if by == "protect_all":
            ends.enter_context(all_guarded())
        engine = create_engine(postgres_url, pool_size=1, max_overflow=0)
        if by == "protect":
            ends.enter_context(guarded(engine))
        with engine.connect() as connection:
            mine = connection.scalar(text("SELECT pg_backend_pid()"))
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with engine.connect() as connection:
                    os.write(
                        writing, str(connection.scalar(text("SELECT pg_backend_pid()"))).encode()
                    )
                status = 0
            finally:
                os._exit(status)
        os.close(writing)
        _, status = os.waitpid(child, 0)
        theirs = int(os.read(reading, 100) or 0)
        os.close(reading)
        with engine.connect() as connection:
            again = connection.scalar(text("SELECT pg_backend_pid()"))
        engine.dispose()

    assert os.waitstatus_to_exitcode(status) == 0
    assert theirs not in {0, mine}
    assert again == mine


def test_a_child_can_protect_though_somebody_else_did_at_the_fork():
    """Whoever held the lock is not in the child, and would never let go."""
    taken, over = threading.Event(), threading.Event()

    def hold():
        with guard_module._lock:
            taken.set()
            over.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait(10)
    child = os.fork()
    if child == 0:
        signal.alarm(5)  # its default ends the process
        try:
            protect(create_engine("sqlite://"))
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    over.set()
    thread.join()

    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.slow
@pytest.mark.parametrize("pre_ping", [False, True])
def test_a_connection_that_needs_no_loop_is_guarded_in_each(tmp_path, pre_ping):
    """SQLite's lives on in the next asyncio.run(), whose loop keeps its deadline."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}", pool_pre_ping=pre_ping)

    async def first():
        async with engine.connect() as connection:
            return await connection.scalar(text("SELECT 1"))

    async def second():
        try:
            async with engine.connect() as connection:
                with deadline_scope(time.monotonic() + 0.1), pytest.raises(DBAPIError) as caught:
                    await connection.execute(text(LONG_QUERY))
                return caught.value, await connection.scalar(text("SELECT 1"))
        finally:
            await engine.dispose()

    with guarded(engine, connect_seconds=0.3):
        before = run_bounded(first)
        error, after = run_bounded(second)

    assert (before, after) == (1, 1)
    assert error.__shipworthy_cut__ > 0.05


@pytest.mark.slow
def test_a_connection_of_another_running_loop_is_refused_with_both_named(postgres_url):
    """One engine in two loops at once: a sentence, in place of a hang or a torn protocol."""
    url = postgres_url.replace("+psycopg", "+asyncpg")
    engine = create_async_engine(url, pool_size=1, max_overflow=0)
    ready, over = threading.Event(), threading.Event()

    async def first():
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
        ready.set()
        while not over.is_set():
            await asyncio.sleep(0.01)
        await engine.dispose()

    async def second():
        async with engine.connect():
            pass

    with guarded(engine) as protection:
        thread = threading.Thread(target=asyncio.run, args=(first(),), name="the first loop")
        thread.start()
        ready.wait(10)
        with pytest.raises(WrongLoop, match=r"the first loop.*MainThread") as caught:
            run_bounded(second)
        assert protection.statistics().in_use == 0
        over.set()
        thread.join(10)

    assert isinstance(caught.value, RuntimeError)


@pytest.mark.slow
# What the first loop leaves open is said by asyncpg and asyncio, with the guard and without.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_connection_of_a_loop_that_is_over_is_replaced(postgres_url, caplog):
    """Two asyncio.run() one after the other on one engine: the second connects anew, quietly."""
    url = postgres_url.replace("+psycopg", "+asyncpg")
    engine = create_async_engine(url, pool_size=1, max_overflow=0)

    async def ask():
        async with engine.connect() as connection:
            return await connection.scalar(text("SELECT pg_backend_pid()"))

    async def ask_and_close():
        try:
            return await ask()
        finally:
            await engine.dispose()

    with guarded(engine):
        first, second = run_bounded(ask), run_bounded(ask_and_close)

    assert first != second
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    gc.collect()


def test_pools_without_a_limit_are_guarded_too(tmp_path):
    """A NullPool has no permits to wait for, and its statements have deadlines all the same."""
    engine = create_engine(f"sqlite:///{tmp_path / 'x.db'}", poolclass=NullPool)
    with guarded(engine) as protection:
        with engine.connect(), engine.connect():
            assert protection.statistics().in_use == 2
        with deadline_scope(time.monotonic() + 0.05), engine.connect() as connection:
            _, error = took(lambda: connection.execute(text(LONG_QUERY)))

    assert error.__shipworthy_cut__ > 0
    assert protection.statistics().capacity is None


def test_a_memory_database_of_one_thread_nests_as_ever():
    """SingletonThreadPool hands its one connection out again and again."""
    engine = create_engine("sqlite://")
    with guarded(engine), engine.connect() as outer, engine.connect() as inner:
        outer.execute(text("CREATE TABLE t (id INTEGER)"))
        assert inner.scalar(text("SELECT count(*) FROM t")) == 0
    engine.dispose()


@pytest.mark.slow
@pytest.mark.parametrize("driver", ["pysqlite", "aiosqlite"])
def test_a_locked_file_of_sqlite_holds_nobody_beyond_the_deadline(tmp_path, driver):
    """Its own wait for a lock is not woken by a cut, so it is made shorter, for as long."""
    path = tmp_path / "a.db"
    blocker = sqlite3.connect(path)
    blocker.execute("CREATE TABLE t (id INTEGER)")
    blocker.execute("BEGIN IMMEDIATE")

    def write(connection):
        began = time.monotonic()
        with deadline_scope(began + 0.3), pytest.raises(OperationalError, match="locked"):
            connection.execute(text("INSERT INTO t VALUES (1)"))
        took = time.monotonic() - began
        connection.rollback()
        connection.execute(text("SELECT 1"))
        return took, connection.exec_driver_sql("PRAGMA busy_timeout").scalar()

    if driver == "pysqlite":
        engine = create_engine(f"sqlite:///{path}")
        protection = protect(engine)
        with engine.connect() as connection:
            took, after = write(connection)
        engine.dispose()
    else:

        async def scene():
            engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
            protection = protect(engine)
            async with engine.connect() as connection:
                found = await connection.run_sync(write)
            await engine.dispose()
            return protection, *found

        protection, took, after = asyncio.run(scene())
    protection.undo()
    blocker.close()

    assert took < 3.0  # its own wait is 5 s
    assert after == 5000


def traced():
    """A request whose trace may be kept."""
    record = RequestRecord("r", "c", "a" * 32, "b" * 16)
    record.steps = TraceSteps()
    return record


def test_what_is_done_for_a_traced_request_is_noted_with_it(tmp_path):
    """Connect, statements and the end of the transaction, each with its time and its error; nothing
    of it for a request that leaves no trace, and nothing of what is bound to a statement."""
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}", poolclass=QueuePool)
    record = traced()
    with guarded(engine):
        with request_scope(record), pytest.raises(OperationalError), engine.begin() as connection:
            connection.execute(text("SELECT :it"), {"it": "bound"})
            connection.execute(text("SELECT * FROM nowhere"))
        with request_scope(traced()) as other, engine.begin() as connection:
            other.steps = None
            connection.execute(text("SELECT 1"))
    engine.dispose()

    done = [(it.kind, it.facts.get("db.query.text"), it.failed) for it in record.steps]
    assert [one for one in done if one[1] != "ROLLBACK"] == [
        ("connect", None, ""),
        ("statement", "SELECT ?", ""),
        ("statement", "SELECT * FROM nowhere", "OperationalError"),
    ]
    assert done[-1] == ("statement", "ROLLBACK", "")
    assert {it.facts["db.system.name"] for it in record.steps} == {"sqlite"}
    assert all(it.began <= it.ended for it in record.steps)
    assert "bound" not in repr(record.steps)


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_wait_for_a_connection_is_noted_with_its_end(tmp_path, comes_back):
    """How long it took, and that it was in vain."""
    engine = create_engine(
        f"sqlite:///{tmp_path / 'app.db'}", poolclass=QueuePool, pool_size=1, max_overflow=0
    )
    record = traced()
    taken, over = threading.Event(), threading.Event()

    def hold():
        with engine.connect():
            taken.set()
            over.wait(0.1 if comes_back else GUARD_SECONDS)

    with guarded(engine, checkout_seconds=GUARD_SECONDS if comes_back else 0.1):
        holder = threading.Thread(target=hold)
        holder.start()
        assert taken.wait(GUARD_SECONDS)
        with request_scope(record), suppress(PoolTimeoutOfSqlalchemy), engine.connect():
            pass
        over.set()
        holder.join()
    engine.dispose()

    (wait,) = [it for it in record.steps if it.kind == "wait"]
    assert wait.failed == ("" if comes_back else "PoolTimeout")
    assert wait.ended - wait.began > 0.01
