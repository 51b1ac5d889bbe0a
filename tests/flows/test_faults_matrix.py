"""Faults are provoked for real on every driver, and each is taken for what it is.

Every change runs a sample: each fault on at least one driver of its server. All faults on all
drivers and both lines of SQLAlchemy are in the evidence (`evidence/faults_matrix.py`).
"""

from pathlib import Path

import pytest

from matrix.run import DRIVERS, faults_of, rows_of

pytestmark = pytest.mark.slow

POSTGRES = ("psycopg", "psycopg_async", "asyncpg")
MARIADB = ("pymysql", "asyncmy")


def wrong(driver: str, url: str, drivers: tuple[str, ...]) -> list[str]:
    """Provoke the share of `driver` among `drivers`; return what was taken for something else."""
    share = drivers.index(driver)
    shared = [fault for fault in faults_of(driver) if not fault.only]
    own = [fault for fault in faults_of(driver) if fault.only]

    rows = list(rows_of(driver, url, [*shared[share :: len(drivers)], *own]))

    assert len(rows) > 10
    return [
        f"{row.provoked}: seen {row.seen}, {row.phase}: {row.outcome}, not {row.expected}"
        for row in rows
        if not row.right
    ]


@pytest.mark.parametrize("driver", POSTGRES)
def test_faults_of_postgresql_are_taken_for_what_they_are(driver, postgres_url):
    """Whether the server, the network or the application failed, each driver shows it anyhow."""
    assert wrong(driver, postgres_url, POSTGRES) == []


@pytest.mark.parametrize("driver", MARIADB)
def test_faults_of_mariadb_are_taken_for_what_they_are(driver, mariadb_url):
    """Whether the server, the network or the application failed, each driver shows it anyhow."""
    assert wrong(driver, mariadb_url, MARIADB) == []


@pytest.mark.parametrize("driver", ["sqlite3", "aiosqlite"])
# The interpreter reports what the driver's thread says to a loop that is over.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_faults_of_sqlite_are_taken_for_what_they_are(driver, tmp_path: Path):
    """There is no server: what fails is a lock, the file, or the application."""
    assert wrong(driver, f"sqlite:///{tmp_path}/first.db", (driver,)) == []


@pytest.mark.parametrize("driver", sorted(DRIVERS))
def test_there_are_as_many_faults_as_were_promised(driver):
    """25 for a driver over the network, 10 for one of SQLite."""
    assert len(faults_of(driver)) >= (10 if "sqlite" in driver else 25)
