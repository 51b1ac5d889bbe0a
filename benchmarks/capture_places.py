"""Databases to measure writes in: which, and how much CPU their servers use for us.

`CAPTURE_DATABASES` names them, separated by commas; servers are those of `TEST_POSTGRES_URL` and
`TEST_MARIADB_URL`, else of 127.0.0.1, and must run on this machine, or their CPU is not seen.
"""

import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from uuid import uuid4

import sqlalchemy as sa
from capture_work import in_process, of_process

POSTGRES = os.environ.get(
    "TEST_POSTGRES_URL", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"
)
MARIADB = os.environ.get("TEST_MARIADB_URL", "mysql+pymysql://root@127.0.0.1:3306/mysql")

Place = tuple[sa.Engine, Callable[[], float]]


def databases() -> list[str]:
    """Return the names of the databases to measure in."""
    return os.environ.get("CAPTURE_DATABASES", "SQLite").split(",")


def place(database: str, stack: ExitStack) -> Place:
    """Make an empty database of that kind, which goes with `stack`; and what its server costs."""
    return {"SQLite": _sqlite, "PostgreSQL": _postgresql, "MariaDB": _mariadb}[database](stack)


def _sqlite(stack: ExitStack) -> Place:
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    engine = sa.create_engine(f"sqlite:///{folder}/capture.db")
    stack.callback(engine.dispose)
    return engine, in_process


def _postgresql(stack: ExitStack) -> Place:
    engine = _on_server(POSTGRES, stack)
    # One connection: its backend is a process of its own.
    with engine.connect() as connection:
        return engine, partial(of_process, connection.scalar(sa.text("SELECT pg_backend_pid()")))


def _mariadb(stack: ExitStack) -> Place:
    engine = _on_server(MARIADB, stack)
    # One connection: a thread of the server is its own.
    with engine.connect() as connection:
        thread = connection.scalar(
            sa.text("SELECT TID FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID()")
        )
    return engine, partial(_of_thread, Path(f"/proc/{thread}/task/{thread}/schedstat"))


def _of_thread(schedule: Path) -> float:
    """Return the CPU seconds that a thread has used; its times are in nanoseconds there."""
    return int(schedule.read_text().split()[0]) / 1e9


def _on_server(url: str, stack: ExitStack) -> sa.Engine:
    name = f"capture_{uuid4().hex[:12]}"
    server = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine = sa.create_engine(sa.make_url(url).set(database=name), pool_size=1, max_overflow=0)

    def drop() -> None:
        engine.dispose()
        with server.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name}")
        server.dispose()

    stack.callback(drop)
    return engine
