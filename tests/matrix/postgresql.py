"""Faults of PostgreSQL."""

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from matrix.stage import Fault, Stage, free_port, listener, run
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
    import psycopg

    return psycopg.connect(
        host=url.host, port=url.port, user=url.username, password=url.password,
        dbname=url.database, autocommit=True, connect_timeout=5,
    )  # fmt: skip


def prepare(stage: Stage) -> None:
    """Make what the faults work on."""
    stage.sql(
        "CREATE TABLE IF NOT EXISTS account"
        " (id int PRIMARY KEY, amount int NOT NULL CHECK (amount >= 0))",
        "TRUNCATE account CASCADE",
        "INSERT INTO account VALUES (1, 100), (2, 100)",
    )


def late_commit(stage: Stage) -> str:
    """A table whose INSERT makes COMMIT take ten seconds."""
    table = stage.name()
    stage.sql(
        f"CREATE TABLE {table} (id int)",
        f"CREATE FUNCTION {table}_slow() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$BEGIN PERFORM pg_sleep(10); RETURN NULL; END$$",
        f"CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON {table} DEFERRABLE INITIALLY DEFERRED"
        f" FOR EACH ROW EXECUTE FUNCTION {table}_slow()",
    )
    return table


def kill(stage: Stage, pid: int) -> None:
    """End a session, and wait until it is gone."""
    stage.sql(f"SELECT pg_terminate_backend({pid})")
    stage.until(lambda: not stage.sql(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}"))
    stage.pause(0.05)


def pid_of(connection: Any) -> int:
    """The server's process behind a connection."""
    return int(run(connection, "SELECT pg_backend_pid()").scalar_one())


def once_active(stage: Stage, pid: int, then: str) -> None:
    """Run `then` as soon as the session runs something else than its last question."""

    def wait_and_run() -> None:
        for _ in range(300):
            if stage.sql(
                f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND state = 'active'"
                f" AND wait_event = 'PgSleep'"
            ):
                break
            time.sleep(0.02)
        stage.sql(then)

    stage.meanwhile(wait_and_run)


@fault("a row that others changed, repeatable read", Outcome.RERUN)
def _(stage: Stage) -> None:
    with stage.engine(isolation_level="REPEATABLE READ").begin() as connection:
        run(connection, "SELECT * FROM account").all()
        stage.sql("UPDATE account SET amount = amount + 1 WHERE id = 1")
        run(connection, "UPDATE account SET amount = 0 WHERE id = 1")


@fault("write skew found at COMMIT, serializable", Outcome.RERUN)
def _(stage: Stage) -> None:
    other = stage.other()
    with stage.engine(isolation_level="SERIALIZABLE").begin() as connection:
        run(connection, "SELECT sum(amount) FROM account").all()
        other.execute("BEGIN ISOLATION LEVEL SERIALIZABLE")
        other.execute("SELECT sum(amount) FROM account").fetchall()
        run(connection, "UPDATE account SET amount = 1 WHERE id = 1")
        other.execute("UPDATE account SET amount = 1 WHERE id = 2")
        other.execute("COMMIT")


@fault("a deadlock", Outcome.RERUN)
def _(stage: Stage) -> None:
    other, waits = stage.other(), threading.Event()
    other.execute("BEGIN")
    other.execute("UPDATE account SET amount = 1 WHERE id = 2")
    with stage.engine().begin() as connection:
        run(connection, "SET LOCAL deadlock_timeout = '300ms'")
        run(connection, "UPDATE account SET amount = 1 WHERE id = 1")

        def cross() -> None:
            waits.set()
            other.execute("SET LOCAL deadlock_timeout = '20s'")
            other.execute("UPDATE account SET amount = 1 WHERE id = 1")

        stage.meanwhile(cross)
        waits.wait(5)
        run(connection, "UPDATE account SET amount = 1 WHERE id = 2")


@fault("a lock that is held, NOWAIT", Outcome.RERUN)
def _(stage: Stage) -> None:
    other = stage.other()
    other.execute("BEGIN")
    other.execute("UPDATE account SET amount = 1 WHERE id = 1")
    with stage.engine().begin() as connection:
        run(connection, "SELECT * FROM account WHERE id = 1 FOR UPDATE NOWAIT")


@fault("a lock that is held, lock_timeout", Outcome.RERUN)
def _(stage: Stage) -> None:
    other = stage.other()
    other.execute("BEGIN")
    other.execute("UPDATE account SET amount = 1 WHERE id = 1")
    with stage.engine().begin() as connection:
        run(connection, "SET LOCAL lock_timeout = '100ms'")
        run(connection, "UPDATE account SET amount = 2 WHERE id = 1")


@fault("statement_timeout", Outcome.DEADLINE)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "SET LOCAL statement_timeout = '100ms'")
        run(connection, "SELECT pg_sleep(10)")


@fault("cancelled by another session", Outcome.DEADLINE)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        pid = pid_of(connection)
        once_active(stage, pid, f"SELECT pg_cancel_backend({pid})")
        run(connection, "SELECT pg_sleep(10)")


@fault("cancelled while it committed", Outcome.DEADLINE)
def _(stage: Stage) -> None:
    table = late_commit(stage)
    with stage.engine().begin() as connection:
        pid = pid_of(connection)
        run(connection, f"INSERT INTO {table} VALUES (1)")
        once_active(stage, pid, f"SELECT pg_cancel_backend({pid})")


@fault("a caller who does not wait", Outcome.DEADLINE, only=("psycopg_async", "asyncpg"))
def _(stage: Stage) -> None:
    engine = stage.engine()

    def work() -> None:
        with engine.begin() as connection:
            run(connection, "SELECT pg_sleep(2)")

    stage.within(0.3, work)


@fault("command_timeout of the driver", Outcome.DEADLINE, only=("asyncpg",))
def _(stage: Stage) -> None:
    with stage.engine(connect_args={"command_timeout": 0.3}).begin() as connection:
        run(connection, "SELECT pg_sleep(10)")


@fault("a write in a read-only transaction", Outcome.READ_ONLY)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "SET TRANSACTION READ ONLY")
        run(connection, "UPDATE account SET amount = 0")


@fault("a statement in a failed transaction", Outcome.APP_STATE)
def _(stage: Stage) -> None:
    with stage.engine().connect() as connection:
        with contextlib.suppress(DBAPIError):
            run(connection, "SELECT 1/0")
        run(connection, "SELECT 1")


@fault("VACUUM in a transaction", Outcome.APP_STATE)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "VACUUM account")


@fault("a savepoint that is not there", Outcome.APP_STATE)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "ROLLBACK TO SAVEPOINT nowhere")


@fault("killed while idle in a transaction", Outcome.LOST)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        kill(stage, pid_of(connection))
        run(connection, "SELECT 1")


@fault("killed while it ran a statement", Outcome.LOST)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        pid = pid_of(connection)
        once_active(stage, pid, f"SELECT pg_terminate_backend({pid})")
        run(connection, "SELECT pg_sleep(10)")


@fault("killed in the pool, then used", Outcome.LOST)
def _(stage: Stage) -> None:
    engine = stage.engine()
    with engine.connect() as connection:
        pid = pid_of(connection)
    kill(stage, pid)
    with engine.connect() as connection:
        run(connection, "SELECT 1")


@fault("killed while it committed", Outcome.AMBIGUOUS)
def _(stage: Stage) -> None:
    table = late_commit(stage)
    with stage.engine().begin() as connection:
        pid = pid_of(connection)
        run(connection, f"INSERT INTO {table} VALUES (1)")
        once_active(stage, pid, f"SELECT pg_terminate_backend({pid})")


@fault("killed while it wrote in autocommit", Outcome.AMBIGUOUS)
def _(stage: Stage) -> None:
    engine = stage.engine().execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        pid = pid_of(connection)
        once_active(stage, pid, f"SELECT pg_terminate_backend({pid})")
        run(connection, "UPDATE account SET amount = 1 WHERE pg_sleep(10) IS NULL")


@fault("killed while it ran, by an engine nobody protects", Outcome.AMBIGUOUS)
def _(stage: Stage) -> None:
    with stage.engine(protect=False).begin() as connection:
        pid = pid_of(connection)
        once_active(stage, pid, f"SELECT pg_terminate_backend({pid})")
        run(connection, "SELECT pg_sleep(10)")


@fault("idle_in_transaction_session_timeout", Outcome.LOST)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "SET idle_in_transaction_session_timeout = '50ms'")
        stage.pause(0.4)
        run(connection, "SELECT 1")


@fault("idle_session_timeout", Outcome.LOST)
def _(stage: Stage) -> None:
    with stage.engine().connect() as connection:
        run(connection, "SET idle_session_timeout = '50ms'")
        connection.commit()
        stage.pause(0.4)
        run(connection, "SELECT 1")


@fault("a plan whose result has changed", Outcome.STALE_PLAN)
def _(stage: Stage) -> None:
    table = stage.name()
    stage.sql(f"CREATE TABLE {table} (id int)")
    arguments = {"prepare_threshold": 0} if stage.driver.startswith("psycopg") else {}
    with stage.engine(connect_args=arguments).connect() as connection:
        for _ in range(3):
            run(connection, f"SELECT * FROM {table}").all()
        connection.commit()
        stage.sql(f"ALTER TABLE {table} ADD COLUMN name text")
        run(connection, f"SELECT * FROM {table}").all()


@fault("a prepared statement that is gone", Outcome.STALE_PLAN)
def _(stage: Stage) -> None:
    arguments = {"prepare_threshold": 0} if stage.driver.startswith("psycopg") else {}
    with stage.engine(connect_args=arguments).connect() as connection:
        for _ in range(3):
            run(connection, "SELECT amount FROM account").all()
        run(connection, "DO $$BEGIN EXECUTE 'DEALLOCATE ALL'; END$$")
        run(connection, "SELECT amount FROM account").all()


@fault("more temporary files than temp_file_limit", Outcome.OVERLOAD)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "SET LOCAL temp_file_limit = '64kB'")
        run(connection, "SET LOCAL work_mem = '64kB'")
        run(connection, "SELECT g FROM generate_series(1, 200000) g ORDER BY md5(g::text)").all()


@fault("a duplicate key", Outcome.PERMANENT)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "INSERT INTO account VALUES (1, 1)")


@fault("a foreign key, found at COMMIT", Outcome.PERMANENT)
def _(stage: Stage) -> None:
    table = stage.name()
    stage.sql(f"CREATE TABLE {table} (id int REFERENCES account DEFERRABLE INITIALLY DEFERRED)")
    with stage.engine().begin() as connection:
        run(connection, f"INSERT INTO {table} VALUES (77)")


@fault("a CHECK", Outcome.PERMANENT)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "UPDATE account SET amount = -1")


@fault("a NULL where none may be", Outcome.PERMANENT)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "UPDATE account SET amount = NULL")


@fault("a number out of range", Outcome.PERMANENT)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "UPDATE account SET amount = 2147483647 + id")


@fault("text that is no number", Outcome.PERMANENT)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "SELECT CAST('twelve' AS int)")


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
        connection.execute(text("SELECT CAST(:value AS int)"), {"value": object()})


@fault("RAISE in PL/pgSQL", Outcome.PERMANENT)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "DO $$BEGIN RAISE EXCEPTION 'no'; END$$")


@fault("RAISE with a SQLSTATE of the application's own", Outcome.PERMANENT)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "DO $$BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'SHIP1'; END$$")


@fault("a privilege that is missing", Outcome.AUTH_CONFIG)
def _(stage: Stage) -> None:
    role = stage.name()
    stage.sql(f"CREATE ROLE {role}")
    stage.at_the_end(f"DROP ROLE {role}")
    with stage.engine().begin() as connection:
        run(connection, f"SET LOCAL ROLE {role}")
        run(connection, "SELECT * FROM account")


@fault("connect: a role that is not there", Outcome.AUTH_CONFIG)
def _(stage: Stage) -> None:
    stage.engine(stage.url.set(username=stage.name())).connect()


@fault("connect: a database that is not there", Outcome.AUTH_CONFIG)
def _(stage: Stage) -> None:
    stage.engine(stage.url.set(database=stage.name())).connect()


@fault("connect: a setting the server does not know", Outcome.AUTH_CONFIG)
def _(stage: Stage) -> None:
    arguments: dict[str, Any] = (
        {"server_settings": {"no_such_setting": "1"}}
        if stage.driver == "asyncpg"
        else {"options": "-c no_such_setting=1"}
    )
    stage.engine(connect_args=arguments).connect()


@fault("connect: the role has no connection left", Outcome.OVERLOAD)
def _(stage: Stage) -> None:
    role = stage.name()
    stage.sql(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 0")
    stage.at_the_end(f"DROP ROLE {role}")
    stage.engine(stage.url.set(username=role)).connect()


@fault("connect: nobody listens", Outcome.NOT_SENT)
def _(stage: Stage) -> None:
    stage.engine(stage.url.set(port=free_port())).connect()


@fault("connect: nobody listens, by an engine nobody protects", Outcome.NOT_SENT)
def _(stage: Stage) -> None:
    stage.engine(stage.url.set(port=free_port()), protect=False).connect()


@fault("connect: a host without an address", Outcome.NOT_SENT)
def _(stage: Stage) -> None:
    stage.engine(stage.url.set(host="nowhere.invalid")).connect()


@fault("connect: the peer says nothing", Outcome.NOT_SENT)
def _(stage: Stage) -> None:
    port = stage.enter(listener(lambda peer: None))
    arguments = {"timeout": 0.5} if stage.driver == "asyncpg" else {"connect_timeout": 2}
    stage.engine(stage.url.set(port=port), connect_args=arguments).connect()


@fault("connect: the peer hangs up", Outcome.NOT_SENT)
def _(stage: Stage) -> None:
    port = stage.enter(listener(lambda peer: peer.close()))
    stage.engine(stage.url.set(port=port)).connect()


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
