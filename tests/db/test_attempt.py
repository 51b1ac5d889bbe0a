"""What databases did in one piece of work is noted for whoever would run it again."""

import asyncio
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import create_async_engine

from shipworthy.context import RequestRecord, request_scope
from shipworthy.db import attempt_scope, current_attempt, protect
from shipworthy.db.attempt import KEPT_FAILURES, strays


@pytest.fixture
def engine(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    protection = protect(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t (id INTEGER PRIMARY KEY)"))
    yield engine
    protection.undo()
    engine.dispose()


def insert(engine, key=1):
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO t VALUES (:key)"), {"key": key})


def fail(engine):
    with engine.connect() as connection, pytest.raises(OperationalError):
        connection.execute(sa.text("SELECT * FROM nowhere"))


def test_a_commit_is_counted_and_a_rollback_is_not(engine):
    """Only what was applied for good keeps a piece of work from being run again."""
    with attempt_scope() as attempt:
        insert(engine)
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))

    assert (attempt.commits, attempt.failures) == (1, [])
    assert current_attempt() is None


def test_a_statement_in_autocommit_is_a_commit(engine):
    """Nothing takes it back."""
    with attempt_scope() as attempt, engine.connect() as connection:
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(sa.text("INSERT INTO t VALUES (7)"))

    assert attempt.commits == 1


def test_a_failure_is_kept_as_the_driver_raised_it(engine):
    """With the phase that the guard has noted on it."""
    with attempt_scope() as attempt:
        fail(engine)

    assert [type(error).__name__ for error in attempt.failures] == ["OperationalError"]
    assert attempt.failures[0].__shipworthy_phase__ == "statement"


def test_a_connect_that_fails_is_a_failure(tmp_path):
    """Nothing was sent; whoever runs the work again has to know that too."""
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'no' / 'such' / 'folder.db'}")
    protection = protect(engine)
    with attempt_scope() as attempt, pytest.raises(OperationalError):
        engine.connect()
    protection.undo()

    assert attempt.failures[0].__shipworthy_phase__ == "connect"


def test_whoever_stands_around_is_told_too(engine):
    """A transaction that is run within a request is also the request's."""
    with attempt_scope() as request:
        with attempt_scope() as first:
            insert(engine)
        with attempt_scope() as second:
            fail(engine)

    assert (first.commits, second.commits, request.commits) == (1, 0, 1)
    assert (len(second.failures), len(request.failures)) == (1, 1)


def test_a_thread_that_works_for_it_notes_there(engine):
    """Frameworks run handlers in threads, with the context of the request."""
    with attempt_scope() as attempt, ThreadPoolExecutor(1) as pool:
        pool.submit(copy_context().run, insert, engine).result()
        threading.Thread(target=insert, args=(engine, 2)).start()

    assert attempt.commits == 1


def test_an_asynchronous_engine_notes_as_well(tmp_path):
    """Its statements run in a greenlet of SQLAlchemy's."""

    async def work():
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}")
        protection = protect(engine)
        with attempt_scope() as attempt:
            async with engine.begin() as connection:
                await connection.execute(sa.text("CREATE TABLE t (id INTEGER)"))
        protection.undo()
        await engine.dispose()
        return attempt

    assert asyncio.run(work()).commits == 1


def of_sqlite(code: int) -> sqlite3.OperationalError:
    """What the driver raises for an error of that number."""
    error = sqlite3.OperationalError("it did")
    error.sqlite_errorcode = code
    return error


def test_failures_without_end_are_kept_to_a_few():
    """What is remembered of a piece of work has a bound."""
    with attempt_scope() as attempt:
        for code in range(KEPT_FAILURES + 5):
            attempt.failed(of_sqlite(code))

    assert len(attempt.failures) == KEPT_FAILURES


def test_a_failure_that_comes_again_and_again_hides_no_other():
    """A loop that skips duplicates, and then one that means something else."""
    with attempt_scope() as request, attempt_scope() as attempt:
        for code in (19, *[5] * (KEPT_FAILURES + 5), 19, 11):
            attempt.failed(of_sqlite(code))

    assert [error.sqlite_errorcode for error in attempt.failures] == [19, 5, 11]
    assert request.failures == attempt.failures


def test_the_same_failure_in_another_phase_is_another():
    """In COMMIT it means that something may have been applied."""
    before, during = ConnectionResetError(), ConnectionResetError()
    before.__shipworthy_phase__, during.__shipworthy_phase__ = "statement", "commit"

    with attempt_scope() as attempt:
        attempt.failed(before)
        attempt.failed(during)

    assert attempt.failures == [before, during]


def test_a_commit_that_is_sent_as_text_is_a_commit(engine):
    """SQLAlchemy does not notice it, and commits once more: nothing, as it happens."""
    with attempt_scope() as attempt, engine.connect() as connection:
        connection.execute(sa.text("INSERT INTO t VALUES (7)"))
        connection.exec_driver_sql("COMMIT")

    assert attempt.commits == 1


def test_a_commit_that_nobody_stands_for_is_counted_for_the_process(engine):
    """A plain thread carries nothing of the request it works for, so it may have been any's."""
    record = RequestRecord("r", "c", "t", "s")
    before = strays()
    with attempt_scope():
        insert(engine, 1)
    with request_scope(record):
        insert(engine, 2)
    known = strays()

    thread = threading.Thread(target=insert, args=(engine, 3))
    thread.start()
    thread.join()

    assert (known - before, strays() - before) == (0, 1)
