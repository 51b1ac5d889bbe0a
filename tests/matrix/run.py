"""Run the faults of one driver and print them as JSON: `python -m matrix.run DRIVER URL`."""

import faulthandler
import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from matrix import mariadb, network, postgresql, sqlite
from matrix.stage import Fault, Row, Stage, parsed, perform

DRIVERS: dict[str, Any] = {
    "psycopg": postgresql,
    "psycopg_async": postgresql,
    "asyncpg": postgresql,
    "pymysql": mariadb,
    "asyncmy": mariadb,
    "sqlite3": sqlite,
    "aiosqlite": sqlite,
}
LIMIT_SECONDS = 40.0


def faults_of(driver: str) -> list[Fault]:
    """The faults that can be provoked through a driver."""
    module = DRIVERS[driver]
    every = module.FAULTS if module is sqlite else [*module.FAULTS, *network.FAULTS]
    return [fault for fault in every if not fault.only or driver in fault.only]


def rows_of(driver: str, url: str, faults: Iterable[Fault]) -> Iterator[Row]:
    """Provoke faults one after the other, each on a fresh stage."""
    module = DRIVERS[driver]
    for fault in faults:
        stage = Stage(parsed(url), driver, module.plain)
        module.prepare(stage)
        yield perform(fault, stage)


def main(driver: str, url: str, *names: str) -> None:
    """Print one line of JSON for each fault. What hangs ends the process, with all stacks."""
    for fault in faults_of(driver):
        if names and fault.name not in names:
            continue
        faulthandler.dump_traceback_later(LIMIT_SECONDS, exit=True)
        for row in rows_of(driver, url, [fault]):
            print(json.dumps(row.to_dict()), flush=True)
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main(*sys.argv[1:])
