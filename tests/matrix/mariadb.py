"""Faults of MariaDB."""

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

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
    import pymysql

    return pymysql.connect(
        host=url.host, port=url.port or 3306, user=url.username or "root",
        password=url.password or "", database=url.database, autocommit=True, connect_timeout=5,
    )  # fmt: skip


def prepare(stage: Stage) -> None:
    """Make what the faults work on."""
    stage.sql(
        "CREATE TABLE IF NOT EXISTS account (id int PRIMARY KEY,"
        " amount int NOT NULL CHECK (amount >= 0)) ENGINE InnoDB",
        "DELETE FROM account",
        "INSERT INTO account VALUES (1, 100), (2, 100)",
    )


def do(connection: Any, statement: str) -> None:
    """Run one statement on a connection beside the driver."""
    with contextlib.closing(connection.cursor()) as cursor:
        cursor.execute(statement)


def held_row(stage: Stage) -> None:
    """Have somebody else hold the lock of the first account."""
    other = stage.other()
    do(other, "BEGIN")
    do(other, "UPDATE account SET amount = 1 WHERE id = 1")


def id_of(connection: Any) -> int:
    """The server's number of a connection."""
    return int(run(connection, "SELECT CONNECTION_ID()").scalar_one())


def alive(stage: Stage, number: int) -> bool:
    """Whether the server still has that connection."""
    return bool(
        stage.sql(f"SELECT count(*) FROM information_schema.processlist WHERE id = {number}")
    )


def once_sleeping(stage: Stage, number: int, then: str) -> None:
    """Run `then` as soon as the connection is in SLEEP()."""

    def wait_and_run() -> None:
        for _ in range(300):
            if stage.sql(
                "SELECT count(*) FROM information_schema.processlist"
                f" WHERE id = {number} AND state = 'User sleep'"
            ):
                break
            time.sleep(0.02)
        stage.sql(then)

    stage.meanwhile(wait_and_run)


@fault("a deadlock", Outcome.RERUN)
def _(stage: Stage) -> None:
    other, waits = stage.other(), threading.Event()
    do(other, "BEGIN")
    # It has written more, so that it is not the one to be given up.
    do(other, "INSERT INTO account SELECT seq, 1 FROM seq_10_to_60")
    do(other, "UPDATE account SET amount = 1 WHERE id = 2")
    with stage.engine().begin() as connection:
        run(connection, "UPDATE account SET amount = 1 WHERE id = 1")

        def cross() -> None:
            waits.set()
            do(other, "UPDATE account SET amount = 1 WHERE id = 1")

        stage.meanwhile(cross)
        waits.wait(5)
        stage.pause(0.2)
        run(connection, "UPDATE account SET amount = 1 WHERE id = 2")


@fault("a lock that is held, innodb_lock_wait_timeout", Outcome.RERUN)
def _(stage: Stage) -> None:
    held_row(stage)
    with stage.engine().begin() as connection:
        run(connection, "SET innodb_lock_wait_timeout = 1")
        run(connection, "UPDATE account SET amount = 2 WHERE id = 1")


@fault("a lock that is held, NOWAIT", Outcome.RERUN)
def _(stage: Stage) -> None:
    held_row(stage)
    with stage.engine().begin() as connection:
        run(connection, "SELECT * FROM account WHERE id = 1 FOR UPDATE NOWAIT")


@fault("a row that others changed, snapshot isolation", Outcome.RERUN)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "SET innodb_snapshot_isolation = ON")
        run(connection, "SELECT * FROM account").all()
        stage.sql("UPDATE account SET amount = 50 WHERE id = 1")
        run(connection, "UPDATE account SET amount = 2 WHERE id = 1")


@fault("a table that others changed since the snapshot", Outcome.RERUN)
def _(stage: Stage) -> None:
    table = stage.name()
    stage.sql(f"CREATE TABLE {table} (id int)")
    with stage.engine().begin() as connection:
        run(connection, "SELECT * FROM account").all()
        stage.sql(f"ALTER TABLE {table} ADD COLUMN name text, ALGORITHM=COPY")
        run(connection, f"SELECT * FROM {table}").all()


@fault("max_statement_time", Outcome.DEADLINE)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "SET max_statement_time = 0.2")
        run(connection, "SELECT SLEEP(10) FROM account")


@fault("KILL QUERY by another session", Outcome.DEADLINE)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        number = id_of(connection)
        once_sleeping(stage, number, f"KILL QUERY {number}")
        run(connection, "UPDATE account SET amount = 1 WHERE SLEEP(10) = 0")


@fault("a caller who does not wait", Outcome.DEADLINE, only=("asyncmy",))
def _(stage: Stage) -> None:
    engine = stage.engine()

    def work() -> None:
        with engine.begin() as connection:
            run(connection, "SELECT SLEEP(3)")

    stage.within(0.3, work)


@fault("read_timeout of the driver", Outcome.LOST, only=("pymysql",))
def _(stage: Stage) -> None:
    with stage.engine(connect_args={"read_timeout": 1}).begin() as connection:
        run(connection, "SELECT SLEEP(10)")


@fault("a write in a read-only transaction", Outcome.READ_ONLY)
def _(stage: Stage) -> None:
    with stage.engine().connect() as connection:
        run(connection, "SET SESSION TRANSACTION READ ONLY")
        connection.commit()
        run(connection, "UPDATE account SET amount = 0")


@fault("the isolation changed inside a transaction", Outcome.APP_STATE)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "SELECT * FROM account").all()
        run(connection, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")


@fault("killed while idle in a transaction", Outcome.LOST)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        number = id_of(connection)
        stage.sql(f"KILL {number}")
        stage.until(lambda: not alive(stage, number))
        stage.pause(0.05)
        run(connection, "SELECT 1")


@fault("killed while it ran a statement", Outcome.LOST)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        number = id_of(connection)
        once_sleeping(stage, number, f"KILL {number}")
        run(connection, "SELECT SLEEP(10)")


@fault("killed in the pool, then used", Outcome.LOST)
def _(stage: Stage) -> None:
    engine = stage.engine()
    with engine.connect() as connection:
        number = id_of(connection)
    stage.sql(f"KILL {number}")
    stage.until(lambda: not alive(stage, number))
    stage.pause(0.05)
    with engine.connect() as connection:
        run(connection, "SELECT 1")


@fault("killed before it committed", Outcome.AMBIGUOUS)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "UPDATE account SET amount = 5")
        number = id_of(connection)
        stage.sql(f"KILL {number}")
        stage.until(lambda: not alive(stage, number))
        stage.pause(0.05)


@fault("killed while it wrote in autocommit", Outcome.AMBIGUOUS)
def _(stage: Stage) -> None:
    engine = stage.engine().execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        number = id_of(connection)
        once_sleeping(stage, number, f"KILL {number}")
        run(connection, "UPDATE account SET amount = 1 WHERE SLEEP(10) = 0")


@fault("killed while it ran, by an engine nobody protects", Outcome.AMBIGUOUS)
def _(stage: Stage) -> None:
    with stage.engine(protect=False).begin() as connection:
        number = id_of(connection)
        once_sleeping(stage, number, f"KILL {number}")
        run(connection, "SELECT SLEEP(10)")


@fault("wait_timeout", Outcome.LOST)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "SET wait_timeout = 1")
        stage.pause(1.6)
        run(connection, "SELECT 1")


@fault("a table that is full", Outcome.STORAGE)
def _(stage: Stage) -> None:
    table = stage.name()
    with stage.engine().begin() as connection:
        run(connection, "SET max_heap_table_size = 16384")
        run(connection, f"CREATE TABLE {table} (name char(200)) ENGINE MEMORY")
        run(connection, f"INSERT INTO {table} SELECT seq FROM seq_1_to_2000")


@fault("a duplicate key", Outcome.PERMANENT)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "INSERT INTO account VALUES (1, 1)")


@fault("a foreign key", Outcome.PERMANENT)
def _(stage: Stage) -> None:
    table = stage.name()
    stage.sql(f"CREATE TABLE {table} (id int, FOREIGN KEY (id) REFERENCES account (id))")
    stage.at_the_end(f"DROP TABLE {table}")
    with stage.engine().begin() as connection:
        run(connection, f"INSERT INTO {table} VALUES (77)")


@fault("a row that others point to", Outcome.PERMANENT)
def _(stage: Stage) -> None:
    table = stage.name()
    stage.sql(
        f"CREATE TABLE {table} (id int, FOREIGN KEY (id) REFERENCES account (id))",
        f"INSERT INTO {table} VALUES (1)",
    )
    stage.at_the_end(f"DROP TABLE {table}")
    with stage.engine().begin() as connection:
        run(connection, "DELETE FROM account WHERE id = 1")


@fault("a CHECK", Outcome.PERMANENT)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "UPDATE account SET amount = -1")


@fault("a NULL where none may be", Outcome.PERMANENT)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "UPDATE account SET amount = NULL WHERE id = 1")


@fault("a number out of range", Outcome.PERMANENT)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "UPDATE account SET amount = 2147483647 + id")


@fault("text that is no number", Outcome.PERMANENT)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "UPDATE account SET amount = 'twelve'")


@fault("text that is too long", Outcome.PERMANENT)
def _(stage: Stage) -> None:
    table = stage.name()
    stage.sql(f"CREATE TABLE {table} (name varchar(3))")
    with stage.engine().begin() as connection:
        run(connection, f"INSERT INTO {table} VALUES ('twelve')")


@fault("a table that is not there", Outcome.PERMANENT)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "SELECT * FROM nowhere")


@fault("a column that is not there", Outcome.PERMANENT)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "SELECT nothing FROM account")


@fault("a syntax error", Outcome.PERMANENT)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "SELEC 1")


@fault("SIGNAL in SQL", Outcome.PERMANENT)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'")


@fault("a privilege that is missing", Outcome.AUTH_CONFIG)
def _(stage: Stage) -> None:
    user = member(stage)
    stage.sql("CREATE TABLE IF NOT EXISTS secret (id int)")
    stage.sql(f"GRANT SELECT ON account TO {user}@'%'")
    with stage.engine(stage.url.set(username=user, password="pass")).begin() as connection:
        run(connection, "SELECT * FROM secret")


def member(stage: Stage, limits: str = "") -> str:
    """A user of no rights."""
    user = stage.name()
    stage.sql(f"CREATE USER {user}@'%' IDENTIFIED BY 'pass' {limits}")
    stage.at_the_end(f"DROP USER {user}@'%'")
    return user


@fault("connect: a wrong password", Outcome.AUTH_CONFIG)
def _(stage: Stage) -> None:
    user = member(stage)
    stage.engine(stage.url.set(username=user, password="wrong")).connect()


@fault("connect: a database the user may not see", Outcome.AUTH_CONFIG)
def _(stage: Stage) -> None:
    user = member(stage)
    stage.engine(stage.url.set(username=user, password="pass")).connect()


@fault("connect: a database that is not there", Outcome.AUTH_CONFIG)
def _(stage: Stage) -> None:
    stage.engine(stage.url.set(database=stage.name())).connect()


@fault("connect: the user has no connection left", Outcome.OVERLOAD)
def _(stage: Stage) -> None:
    user = member(stage, "WITH MAX_USER_CONNECTIONS 1")
    stage.sql(f"GRANT ALL ON {stage.url.database}.* TO {user}@'%'")
    engine = stage.engine(stage.url.set(username=user, password="pass"))
    with engine.connect():
        engine.connect()


@fault("the user has no query left in this hour", Outcome.OVERLOAD)
def _(stage: Stage) -> None:
    user = member(stage, "WITH MAX_QUERIES_PER_HOUR 20")
    stage.sql(f"GRANT ALL ON {stage.url.database}.* TO {user}@'%'")
    with stage.engine(stage.url.set(username=user, password="pass")).begin() as connection:
        for _ in range(25):
            run(connection, "SELECT 1")


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
    url = stage.url.set(port=stage.enter(listener(lambda peer: None)))
    if stage.is_async:
        stage.within(0.5, lambda: stage.engine(url).connect())
    else:
        stage.engine(url, connect_args={"connect_timeout": 1, "read_timeout": 1}).connect()


@fault("connect: the peer hangs up", Outcome.NOT_SENT)
def _(stage: Stage) -> None:
    port = stage.enter(listener(lambda peer: peer.close()))
    stage.engine(stage.url.set(port=port)).connect()


@fault("connect: the peer speaks something else", Outcome.NOT_SENT)
def _(stage: Stage) -> None:
    port = stage.enter(listener(lambda peer: peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")))
    arguments = {} if stage.is_async else {"connect_timeout": 1, "read_timeout": 1}
    engine = stage.engine(stage.url.set(port=port), connect_args=arguments)
    if stage.is_async:
        stage.within(1.0, engine.connect)
    else:
        engine.connect()


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
