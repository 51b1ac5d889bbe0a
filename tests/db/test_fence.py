"""The commit fence around every COMMIT of a guarded engine, and what is left where it refuses."""

import asyncio
import threading
import time
from contextlib import asynccontextmanager, contextmanager

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from shipworthy.context import RequestRecord, request_scope
from shipworthy.db import Outcome, attempt_scope, classify, protect, run_transaction
from shipworthy.db.guard import CommitUnanswered
from shipworthy.events import listen
from shipworthy.faults import COMMIT, FaultProxy, Silence
from shipworthy.lifecycle import CommitRefused, commits_under_way, refuse_commits
from shipworthy.resilience import BreakerState
from shipworthy.web.answers import answer_for

SERVERS = {
    "asyncpg": ("postgres_url", "postgresql+asyncpg"),
    "psycopg_async": ("postgres_url", "postgresql+psycopg"),
    "psycopg": ("postgres_url", "postgresql+psycopg"),
    "asyncmy": ("mariadb_url", "mariadb+asyncmy"),
    "pymysql": ("mariadb_url", "mariadb+pymysql"),
}
# Most of it against servers.
pytestmark = pytest.mark.slow

INSERT = sa.text("INSERT INTO fenced VALUES (1)")
COUNT = sa.text("SELECT count(*) FROM fenced")


@pytest.fixture
def record():
    return RequestRecord("one", "one", "t", "s")


@pytest.fixture
def heard():
    found = []
    stop = listen(found.append)
    yield found
    stop()


def address(request, driver):
    if driver not in SERVERS:
        folder = request.getfixturevalue("tmp_path")
        return f"sqlite+{driver}:///{folder}/fenced.db"
    fixture, name = SERVERS[driver]
    return sa.make_url(request.getfixturevalue(fixture)).set(drivername=name)


@contextmanager
def engine_of(url, **options):
    engine = sa.create_engine(url, pool_size=1, max_overflow=0, **options)
    protection = protect(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE IF NOT EXISTS fenced (id INTEGER)"))
    try:
        yield engine, protection
    finally:
        protection.undo()
        engine.dispose()


@asynccontextmanager
async def async_engine_of(url):
    engine = create_async_engine(url, pool_size=1, max_overflow=0)
    protection = protect(engine)
    async with engine.begin() as connection:
        await connection.execute(sa.text("CREATE TABLE IF NOT EXISTS fenced (id INTEGER)"))
    try:
        yield engine, protection
    finally:
        protection.undo()
        await engine.dispose()


@contextmanager
def silenced(url):
    """A way to the server on which the answer to the next COMMIT waits until `clear()`."""
    url = sa.make_url(url)
    with FaultProxy.in_thread(url.host, url.port) as proxy:
        yield proxy, url.set(host="127.0.0.1", port=proxy.port)


SILENCE = Silence(answer_to=COMMIT)


def until_under_way(name):
    give_up = time.monotonic() + 10
    while name not in [one.request_id for one in commits_under_way()]:
        assert time.monotonic() < give_up, commits_under_way()
        time.sleep(0.002)


@pytest.mark.parametrize("driver", ["psycopg", "pymysql"])
def test_l07_a_commit_under_way_in_a_thread_is_not_cancelled(request, driver, record):
    """L07: until its answer is there, though it takes its time; then its request may be."""
    with (
        silenced(address(request, driver)) as (proxy, url),
        engine_of(url) as (engine, protection),
    ):

        def serve():
            with request_scope(record), Session(engine) as session:
                session.execute(INSERT)
                proxy.apply(SILENCE)
                session.commit()

        thread = threading.Thread(target=serve)
        thread.start()
        until_under_way("one")
        refused = refuse_commits(record)
        proxy.clear()
        thread.join(10)
        with engine.connect() as connection:
            rows = connection.scalar(COUNT)

    assert not refused
    assert not commits_under_way()
    assert (rows, protection.statistics().unanswered) == (1, 0)


@pytest.mark.anyio
@pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async", "asyncmy"])
async def test_l07_in_a_greenlet_it_is_the_commit_of_the_tasks_request(request, driver, record):
    """L07: SQLAlchemy commits in a greenlet; the request beside it may be cancelled."""
    other = RequestRecord("other", "other", "t", "s")
    with silenced(address(request, driver)) as (proxy, url):
        async with async_engine_of(url) as (engine, _):

            async def serve():
                with request_scope(record):
                    async with AsyncSession(engine) as session:
                        await session.execute(INSERT)
                        proxy.apply(SILENCE)
                        await session.commit()

            task = asyncio.create_task(serve())
            await asyncio.to_thread(until_under_way, "one")
            refused = refuse_commits(record), refuse_commits(other)
            proxy.clear()
            await task
            async with engine.connect() as connection:
                rows = await connection.scalar(COUNT)

    assert refused == (False, True)
    assert not commits_under_way()
    assert rows == 1


@pytest.mark.parametrize(
    ("driver", "way"),
    [
        ("psycopg", "session"),
        ("psycopg", "two phases"),
        ("pymysql", "session"),
        ("pymysql", "two phases"),
        ("pysqlite", "session"),
        ("pysqlite", "connection"),
        ("pysqlite", "text"),
    ],
)
def test_a_refused_commit_is_not_sent_and_leaves_all_as_it_was(request, driver, way, record, heard):
    """Rolled back, the one connection of the pool is usable, and no failure of the database."""
    refuse_commits(record)
    with engine_of(address(request, driver)) as (engine, protection):
        with request_scope(record), attempt_scope() as attempt:
            if way == "session":
                with Session(engine) as session:
                    session.execute(INSERT)
                    with pytest.raises(CommitRefused) as caught:
                        session.commit()
                    session.rollback()
                    assert session.scalar(COUNT) == 0
            else:
                with engine.connect() as connection:
                    begun = connection.begin_twophase() if way == "two phases" else None
                    connection.execute(INSERT)
                    with pytest.raises(CommitRefused) as caught:
                        if begun is not None:
                            begun.commit()
                        elif way == "text":
                            connection.execute(sa.text("COMMIT"))
                        else:
                            connection.commit()
                    (begun or connection).rollback()
        with engine.connect() as connection:
            rows = connection.scalar(COUNT)
        statistics = protection.statistics()

    assert rows == 0
    assert (attempt.commits, attempt.failures) == (0, [caught.value])
    assert (statistics.unanswered, statistics.breaker) == (0, BreakerState.CLOSED)
    assert classify(caught.value).outcome is Outcome.DEADLINE
    assert not [fact for fact in heard if isinstance(fact, CommitUnanswered)]
    answer = answer_for(caught.value)
    assert (answer.status, answer.retry_after) == (503, ((b"retry-after", b"1"),))


@pytest.mark.anyio
@pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async", "asyncmy", "aiosqlite"])
async def test_a_refused_commit_of_an_async_session_as_well(request, driver, record):
    """The session is usable after its rollback, and so is its connection."""
    async with async_engine_of(address(request, driver)) as (engine, _):
        refuse_commits(record)
        async with AsyncSession(engine) as session:
            await session.execute(INSERT)
            with request_scope(record), pytest.raises(CommitRefused):
                await session.commit()
            await session.rollback()
            assert await session.scalar(COUNT) == 0
            await session.execute(INSERT)
            await session.commit()  # for nobody who was cancelled
        async with engine.connect() as connection:
            assert await connection.scalar(COUNT) == 1


@pytest.mark.parametrize("driver", ["psycopg", "pymysql", "pysqlite"])
def test_a_statement_in_autocommit_is_its_own_commit(request, driver, record):
    """So it is not sent for who was cancelled; a SELECT commits nothing, and is."""
    refuse_commits(record)
    options = {"isolation_level": "AUTOCOMMIT"}
    with engine_of(address(request, driver), **options) as (engine, _):
        with request_scope(record), engine.connect() as connection:
            with pytest.raises(CommitRefused):
                connection.execute(INSERT)
            assert connection.scalar(COUNT) == 0
        with engine.connect() as connection:
            connection.execute(INSERT)
            assert connection.scalar(COUNT) == 1


def test_a_unit_whose_commit_is_refused_is_not_run_again(request, record):
    """It would be refused again, for as long as its request is still there."""
    refuse_commits(record)
    runs = []
    with engine_of(address(request, "pysqlite")) as (engine, _):
        with request_scope(record), pytest.raises(CommitRefused) as caught:
            run_transaction(
                sessionmaker(engine),
                lambda session: runs.append(session.execute(INSERT)),
                name="fenced",
            )
        with engine.connect() as connection:
            rows = connection.scalar(COUNT)

    assert (len(runs), rows) == (1, 0)
    assert "is not run again: the process is leaving" in caught.value.__notes__[0]


@pytest.mark.anyio
@pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async", "asyncmy"])
async def test_a_commit_that_is_cut_by_others_is_said_and_counted(request, driver, heard, record):
    """Of a plain session, where nobody asks the database: with the request it was for."""
    with silenced(address(request, driver)) as (proxy, url):
        async with async_engine_of(url) as (engine, protection):

            async def serve():
                with request_scope(record):
                    async with AsyncSession(engine) as session:
                        await session.execute(INSERT)
                        proxy.apply(SILENCE)
                        await session.commit()

            task = asyncio.create_task(serve())
            await asyncio.to_thread(until_under_way, "one")
            task.cancel()
            await asyncio.sleep(0.02)  # it has it; a driver that asks the server to stop waits on
            proxy.clear()
            with pytest.raises(asyncio.CancelledError):
                await task
            statistics = protection.statistics()

    (said,) = [fact for fact in heard if isinstance(fact, CommitUnanswered)]
    assert said.because == "whoever asked did not wait for the answer, during COMMIT"
    assert said.at.rsplit(":", 1)[0].endswith("test_fence.py")
    assert statistics.unanswered == 1
    assert not commits_under_way()


def test_what_was_prepared_is_committed_though_its_work_was_cancelled(mariadb_url, record):
    """Others may have committed their part: to refuse ours would leave half of it."""
    with engine_of(mariadb_url) as (engine, _), engine.connect() as connection:
        with request_scope(record):
            begun = connection.begin_twophase()
            connection.execute(INSERT)
            begun.prepare()
            refuse_commits(record)
            begun.commit()
        assert connection.scalar(COUNT) == 1


def test_a_commit_in_two_phases_that_is_cut_is_counted_once(mariadb_url, heard):
    """Its second phase is a statement to SQLAlchemy."""
    with engine_of(mariadb_url) as (engine, protection), engine.connect() as connection:
        begun = connection.begin_twophase()
        connection.execute(sa.text("SELECT 1"))  # no locks, which would outlive the connection
        begun.prepare()
        number = connection.connection.thread_id()
        with sa.create_engine(mariadb_url).connect() as other:
            other.exec_driver_sql(f"KILL {number}")
        other.engine.dispose()
        with pytest.raises(sa.exc.DBAPIError):
            begun.commit()
        statistics = protection.statistics()

    assert statistics.unanswered == 1
    assert len([fact for fact in heard if isinstance(fact, CommitUnanswered)]) == 1
