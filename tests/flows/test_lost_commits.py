"""COMMITs are cut, servers restart, and everybody wants one row: each unit is applied once.

A sample of what `evidence/lost_commits.py` does 200 times for each driver.
"""

import pytest

from flows.lost_commits import contended, cut_commits, own_server, restarted

pytestmark = pytest.mark.slow

SAMPLE = 24


@pytest.mark.parametrize(
    ("driver", "tokens"),
    [
        ("psycopg", False),
        ("psycopg", True),
        ("psycopg_async", True),
        ("asyncpg", False),
    ],
)
def test_cut_commits_of_postgresql_are_resolved(postgres_url, driver, tokens):
    """By the number that it gave to the transaction, or by a row of ours."""
    told = cut_commits(postgres_url, driver, SAMPLE, tokens=tokens)

    assert told.exact, told


@pytest.mark.parametrize("driver", ["pymysql", "asyncmy"])
def test_cut_commits_of_mariadb_are_resolved(mariadb_url, driver):
    """By a row of ours: it does not tell what became of a transaction."""
    told = cut_commits(mariadb_url, driver, SAMPLE, tokens=True)

    assert told.exact, told


@pytest.mark.timeout(150)
def test_writers_survive_restarts_of_their_server():
    """Ten of them, a restart in order and one without: none fails, nothing twice, nothing lost."""
    with own_server() as server:
        told, again = restarted(server, tokens=False, modes=("fast", "immediate"))

    assert told.exact, told
    assert told.units > 100
    assert again  # else the restarts hit nobody


def test_conflicts_of_serializable_transactions_leave_the_ledger_exact(postgres_url):
    """Each reads two accounts and writes what it computed: without the isolation money is made."""
    well, applied, amounts, again = contended(
        postgres_url, isolation="SERIALIZABLE", writers=6, transfers=10
    )

    assert (well, applied, sum(amounts)) == (60, 60, 3000)
    assert again  # else there was no conflict


def test_deadlocks_leave_the_ledger_exact(mariadb_url):
    """Each locks two accounts, in either order."""
    well, applied, amounts, again = contended(mariadb_url, isolation=None, writers=6, transfers=10)

    assert (well, applied, sum(amounts)) == (60, 60, 3000)
    assert again
