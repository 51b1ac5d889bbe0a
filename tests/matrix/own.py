"""Faults that harm a whole server, each driver with one of its own: `matrix.own DRIVER`."""

import faulthandler
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import services
from matrix import mariadb, postgresql
from matrix.run import LIMIT_SECONDS
from matrix.stage import Fault, Row, Stage, parsed, perform, run
from shipworthy.db import Outcome

NOWHERE = "scheme://nobody@127.0.0.1:1/nothing"
POSTGRES: list[Fault] = []
MARIADB: list[Fault] = []


def fault(where: list[Fault], name: str, expected: Outcome) -> Callable[[Any], Any]:
    """Add a fault; those of one server run in this order, and the last ones end it."""

    def add(provoke: Callable[[Stage], object]) -> Callable[[Stage], object]:
        where.append(Fault(name, expected, provoke))
        return provoke

    return add


def pid_of_server(stage: Stage, statement: str) -> int:
    """The first process of a server, from the file where it says so."""
    place = Path(str(stage.sql(statement)))
    return int((place / "postmaster.pid" if place.is_dir() else place).read_text().split()[0])


def hold_all(stage: Stage) -> None:
    """Take every connection there is."""
    with suppress(Exception):
        for _ in range(1000):
            stage.other()


@fault(POSTGRES, "connect: a wrong password", Outcome.AUTH_CONFIG)
def _(stage: Stage) -> None:
    role, rules = stage.name(), Path(str(stage.sql("SHOW hba_file")))
    stage.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'right'")
    rules.write_text(f"host all {role} 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
    stage.sql("SELECT pg_reload_conf()")
    stage.pause(0.3)
    stage.engine(stage.url.set(username=role, password="wrong")).connect()


@fault(POSTGRES, "connect: a role that pg_hba.conf rejects", Outcome.AUTH_CONFIG)
def _(stage: Stage) -> None:
    role, rules = stage.name(), Path(str(stage.sql("SHOW hba_file")))
    stage.sql(f"CREATE ROLE {role} LOGIN")
    rules.write_text(f"host all {role} 127.0.0.1/32 reject\n{rules.read_text()}")
    stage.sql("SELECT pg_reload_conf()")
    stage.pause(0.3)
    stage.engine(stage.url.set(username=role)).connect()


@fault(POSTGRES, "transaction_timeout", Outcome.DEADLINE)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "SET transaction_timeout = '200ms'")
        run(connection, "SELECT pg_sleep(10)")


@fault(POSTGRES, "transaction_timeout passes before COMMIT", Outcome.AMBIGUOUS)
def _(stage: Stage) -> None:
    with stage.engine().begin() as connection:
        run(connection, "SET transaction_timeout = '200ms'")
        run(connection, "UPDATE account SET amount = 3")
        stage.pause(0.6)


@fault(POSTGRES, "connect: the server has no slot left", Outcome.OVERLOAD)
def _(stage: Stage) -> None:
    hold_all(stage)
    stage.engine().connect()


@fault(POSTGRES, "connect: the server shuts down", Outcome.NOT_SENT)
def _(stage: Stage) -> None:
    server = pid_of_server(stage, "SHOW data_directory")
    stage.other()
    os.kill(server, signal.SIGTERM)
    stage.pause(0.5)
    stage.engine().connect()


@fault(MARIADB, "a write on a server that only reads", Outcome.READ_ONLY)
def _(stage: Stage) -> None:
    user = mariadb.member(stage)
    stage.sql(f"GRANT ALL ON {stage.url.database}.* TO {user}@'%'", "SET GLOBAL read_only = 1")
    stage.at_the_end("SET GLOBAL read_only = 0")
    with stage.engine(stage.url.set(username=user, password="pass")).begin() as connection:
        run(connection, "UPDATE account SET amount = 3")


@fault(MARIADB, "connect: the server has no slot left", Outcome.OVERLOAD)
def _(stage: Stage) -> None:
    stage.sql("SET GLOBAL max_connections = 10")
    hold_all(stage)
    stage.engine().connect()


@fault(MARIADB, "the server shuts down under a statement", Outcome.LOST)
def _(stage: Stage) -> None:
    server = pid_of_server(stage, "SELECT @@pid_file")
    with stage.engine().begin() as connection:
        run(connection, "UPDATE account SET amount = 3")
        stage.meanwhile(lambda: os.kill(server, signal.SIGTERM), after_seconds=0.3)
        run(connection, "SELECT SLEEP(10)")


def rows_of(driver: str) -> Iterator[Row]:
    """Start a server, harm it for a driver, and let it go."""
    # So that none is found that somebody else needs.
    os.environ |= {"TEST_POSTGRES_URL": NOWHERE, "TEST_MARIADB_URL": NOWHERE}
    postgres = driver in ("psycopg", "psycopg_async", "asyncpg")
    faults = POSTGRES if postgres else MARIADB
    with services.postgres() if postgres else services.mariadb() as server:
        module: Any = postgresql if postgres else mariadb
        url = parsed(server.url)
        if not postgres:
            server.execute(server.url, "CREATE DATABASE ship_test")
            url = url.set(database="ship_test")
        for each in faults:
            stage = Stage(url, driver, module.plain)
            module.prepare(stage)
            yield perform(each, stage)
            time.sleep(0.3)


def main(driver: str) -> None:
    """Print one line of JSON for each fault. What hangs ends the process, with all stacks."""
    faulthandler.dump_traceback_later(2 * LIMIT_SECONDS, exit=True)
    for row in rows_of(driver):
        print(json.dumps(row.to_dict()), flush=True)
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main(*sys.argv[1:])
