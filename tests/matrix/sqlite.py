"""Faults of SQLite."""

import contextlib
import resource
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import URL, text
from sqlalchemy.util import await_only

from matrix.stage import Fault, Stage, run
from shipworthy.db import Outcome

FAULTS: list[Fault] = []


def fault(name: str, expected: Outcome, *, only: tuple[str, ...] = ()) -> Callable[[Any], Any]:
    """Add a fault."""

    def add(provoke: Callable[[Stage], object]) -> Callable[[Stage], object]:
        FAULTS.append(Fault(name, expected, provoke, frozenset(only)))
        return provoke

    return add


def plain(url: Any) -> Any:
    """A connection beside the driver that is looked at."""
    return sqlite3.connect(url.database, isolation_level=None, timeout=1, check_same_thread=False)


def prepare(stage: Stage) -> None:
    """Make what the faults work on: a file of its own for each."""
    folder = Path(str(stage.url.database)).parent
    stage.url = stage.url.set(database=str(folder / f"{stage.name()}.db"))
    stage.sql(
        "CREATE TABLE account (id INTEGER PRIMARY KEY, amount INT NOT NULL CHECK (amount >= 0))",
        "INSERT INTO account VALUES (1, 100), (2, 100)",
        "CREATE TABLE entry (id INTEGER PRIMARY KEY,"
        " account INT REFERENCES account DEFERRABLE INITIALLY DEFERRED, code INT UNIQUE)",
    )


def brief(stage: Stage, url: URL | None = None, **arguments: Any) -> Any:
    """An engine that waits 0.1 s for a lock."""
    return stage.engine(url, connect_args={"timeout": 0.1, **arguments})


LONG = (
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000000)"
    " SELECT count(*) FROM n"
)


@fault("the file is locked by a writer", Outcome.RERUN)
def _(stage: Stage) -> None:
    other = stage.other()
    other.execute("BEGIN IMMEDIATE")
    with brief(stage).begin() as connection:
        run(connection, "UPDATE account SET amount = 1")


@fault("others wrote since the transaction read, WAL", Outcome.RERUN)
def _(stage: Stage) -> None:
    stage.sql("PRAGMA journal_mode = WAL")
    with brief(stage).begin() as connection:
        run(connection, "BEGIN")
        run(connection, "SELECT * FROM account").all()
        stage.sql("UPDATE account SET amount = 7 WHERE id = 2")
        run(connection, "UPDATE account SET amount = 1")


@fault("COMMIT meets a reader, rollback journal", Outcome.RERUN)
def _(stage: Stage) -> None:
    other = stage.other()
    with brief(stage).begin() as connection:
        run(connection, "UPDATE account SET amount = 1")
        reading = other.execute("SELECT * FROM account")
        reading.fetchone()


@fault("a table is locked in a shared cache", Outcome.RERUN)
def _(stage: Stage) -> None:
    shared = stage.url.set(
        database=f"file:{stage.url.database}", query={"cache": "shared", "uri": "true"}
    )
    other = sqlite3.connect(
        f"file:{stage.url.database}?cache=shared", uri=True, isolation_level=None
    )
    try:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE account SET amount = 1")
        with brief(stage, shared).begin() as connection:
            run(connection, "SELECT * FROM account").all()
    finally:
        other.close()


@fault("a write through a read-only connection", Outcome.READ_ONLY)
def _(stage: Stage) -> None:
    url = stage.url.set(database=f"file:{stage.url.database}", query={"mode": "ro", "uri": "true"})
    with stage.engine(url).begin() as connection:
        run(connection, "UPDATE account SET amount = 1")


@fault("a write with query_only", Outcome.READ_ONLY)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "PRAGMA query_only = ON")
        run(connection, "UPDATE account SET amount = 1")


@fault("interrupted", Outcome.DEADLINE)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        raw: Any = connection.connection.driver_connection
        raw = getattr(raw, "_conn", raw)
        stage.meanwhile(raw.interrupt, after_seconds=0.3)
        run(connection, LONG).all()


@fault("a caller who does not wait", Outcome.DEADLINE, only=("aiosqlite",))
def _(stage: Stage) -> None:
    engine = stage.engine()
    found: list[Any] = []

    def work() -> None:
        with engine.begin() as connection:
            found.append(connection.connection.driver_connection._conn)
            stage.meanwhile(found[0].interrupt, after_seconds=0.6)
            run(connection, LONG).all()

    stage.within(0.3, work)


@fault("the file may grow no more", Outcome.STORAGE)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "PRAGMA max_page_count = 8")
        run(connection, "CREATE TABLE blob AS SELECT zeroblob(1000000) AS data")


@fault("the file is no database", Outcome.STORAGE)
def _(stage: Stage) -> None:
    Path(str(stage.url.database)).write_bytes(b"no database at all " * 100)
    with stage.engine().begin() as connection:
        run(connection, "SELECT * FROM account").all()


@fault("the file is corrupted", Outcome.STORAGE)
def _(stage: Stage) -> None:
    stage.sql("INSERT INTO entry (code) SELECT value FROM json_each('[1,2,3]')")
    path = Path(str(stage.url.database))
    data = bytearray(path.read_bytes())
    data[4096:] = bytes([0xAB]) * (len(data) - 4096)
    path.write_bytes(data)
    with stage.engine().begin() as connection:
        run(connection, "SELECT * FROM account").all()


@fault("the file is cut short under the connection", Outcome.STORAGE)
def _(stage: Stage) -> None:
    engine = stage.engine()
    with engine.connect() as connection:
        run(connection, "PRAGMA cache_size = 1")
        run(connection, "BEGIN")
        run(connection, "SELECT count(*) FROM account").all()
        path = Path(str(stage.url.database))
        with path.open("r+b") as file:
            file.truncate(5000)
        run(connection, "SELECT * FROM entry ORDER BY code").all()


@fault("the file system fails a write", Outcome.STORAGE)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection, files_of(20_000):
        run(connection, "PRAGMA cache_size = 1")
        run(connection, "CREATE TABLE blob AS SELECT zeroblob(1000000) AS data")


@fault("the file system fails COMMIT", Outcome.AMBIGUOUS)
def _(stage: Stage) -> None:
    stage.sql("CREATE TABLE blob (data)")
    with stage.engine().connect() as connection:
        run(connection, "INSERT INTO blob VALUES (zeroblob(1000000))")
        with files_of(20_000):
            connection.commit()


@contextlib.contextmanager
def files_of(limit_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond a limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@fault("connect: a folder that is not there", Outcome.NOT_SENT)
def _(stage: Stage) -> None:
    stage.engine(stage.url.set(database="/nowhere/at/all.db")).connect()


@fault("a duplicate key", Outcome.PERMANENT)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "INSERT INTO account VALUES (1, 1)")


@fault("a duplicate in a unique column", Outcome.PERMANENT)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "INSERT INTO entry (code) VALUES (1), (1)")


@fault("a foreign key, found at COMMIT", Outcome.PERMANENT)
def _(stage: Stage) -> None:
    with stage.engine().connect() as connection:
        run(connection, "PRAGMA foreign_keys = ON")
        connection.commit()
        run(connection, "INSERT INTO entry (account) VALUES (77)")
        connection.commit()


@fault("a CHECK", Outcome.PERMANENT)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "UPDATE account SET amount = -1")


@fault("a NULL where none may be", Outcome.PERMANENT)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "UPDATE account SET amount = NULL")


@fault("text that is no number", Outcome.PERMANENT)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "INSERT INTO account VALUES ('twelve', 1)")


@fault("a value that is too large", Outcome.PERMANENT)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "SELECT zeroblob(2000000000)").all()


@fault("a table that is not there", Outcome.PERMANENT)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "SELECT * FROM nowhere")


@fault("a syntax error", Outcome.PERMANENT)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "SELEC 1")


@fault("a value the driver cannot send", Outcome.PERMANENT)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        connection.execute(text("SELECT :value"), {"value": object()})


@fault("the connection was closed under the application", Outcome.LOST)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        _close(stage, connection)
        run(connection, "SELECT 1")


# With aiosqlite SQLAlchemy 2.1 commits a closed connection without a word.
@fault("the connection was closed before COMMIT", Outcome.LOST, only=("sqlite3",))
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "UPDATE account SET amount = 1")
        _close(stage, connection)


@fault("the connection was closed, in an engine nobody protects", Outcome.LOST)
def _(stage: Stage) -> None:
    with stage.engine(protect=False).begin() as connection:
        _close(stage, connection)
        run(connection, "SELECT 1")


@fault("another thread uses the connection", Outcome.PERMANENT, only=("sqlite3",))
def _(stage: Stage) -> None:
    errors: list[BaseException] = []
    with stage.engine(connect_args={"check_same_thread": True}).connect() as connection:

        def use() -> None:
            try:
                run(connection, "SELECT 1")
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
    raise errors[0]


@fault("connect: an option the driver does not know", Outcome.AUTH_CONFIG)
def _(stage: Stage) -> None:
    stage.engine(connect_args={"no_such_option": 1}).connect()


@fault("the pool has no connection left", Outcome.NOT_SENT)
def _(stage: Stage) -> None:
    engine = stage.engine(pool_size=1, max_overflow=0, pool_timeout=0.2)
    with engine.connect():
        engine.connect()


@fault("a closed connection is used", Outcome.APP_STATE)
def _(stage: Stage) -> None:
    connection = stage.engine().connect()
    connection.close()
    run(connection, "SELECT 1")


def _close(stage: Stage, connection: Any) -> None:
    raw = connection.connection.driver_connection
    if stage.is_async:
        await_only(raw.close())
    else:
        raw.close()
