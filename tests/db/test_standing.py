"""What is told of the databases of a process."""

import subprocess
import sys

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from shipworthy.context import RequestRecord, request_scope
from shipworthy.db import protect
from shipworthy.db.standing import SHOWN_HOLDERS, describe_databases, pool_numbers


@pytest.fixture
def engine(tmp_path):
    """An engine of 30 connections under guard, named `shop`."""
    made = create_engine(f"sqlite:///{tmp_path / 'a.db'}", pool_size=30)
    protection = protect(made, name="shop")
    yield made
    protection.undo()
    made.dispose()


def test_a_glance_has_the_numbers_of_the_moment(engine):
    """Name, capacity, what is out, who waits, and the breaker."""
    with engine.connect():
        (numbers,) = pool_numbers()

    assert numbers == {
        "name": "shop",
        "capacity": 40,
        "in_use": 1,
        "waiting": 0,
        "breaker": "closed",
        "exceeds": "",
    }


def test_a_holder_is_named_by_its_line_its_request_and_for_how_long(engine):
    """The line that took the connection, the line it stands at now, the id of the request."""
    with request_scope(RequestRecord("r-1", "c-1", "t" * 32, "s" * 16)), engine.connect():
        (database,) = describe_databases()
        (holder,) = database["holders"]

    here = "test_a_holder_is_named_by_its_line_its_request_and_for_how_long"
    assert holder["taken_at"].endswith(f"in {here}")
    assert holder["stands_at"].endswith(f"in {here}")
    assert 0 <= holder["held_seconds"] < 5
    assert holder["request_id"] == "r-1"
    assert database["name"] == "shop"
    assert describe_databases()[0]["holders"] == []


def test_of_many_holders_those_are_named_that_hold_the_longest(engine):
    """The list has a bound, and the oldest come first."""
    connections = [engine.connect() for _ in range(SHOWN_HOLDERS + 5)]
    (database,) = describe_databases()
    for connection in connections:
        connection.close()

    ages = [holder["held_seconds"] for holder in database["holders"]]
    assert database["in_use"] == SHOWN_HOLDERS + 5
    assert len(ages) == SHOWN_HOLDERS
    assert ages == sorted(ages, reverse=True)
    assert {holder["request_id"] for holder in database["holders"]} == {""}


def test_the_breaker_of_a_database_says_why_and_when_to_come_again(engine):
    """What an isolated breaker was isolated for stands with its database."""
    from shipworthy.resilience import breakers

    breakers()["db:shop"].isolate("maintenance")
    (database,) = describe_databases()
    (numbers,) = pool_numbers()

    assert (database["breaker"], database["because"]) == ("isolated", "maintenance")
    assert database["retry_after_seconds"] > 0
    assert numbers["breaker"] == "isolated"


def test_a_pool_that_nobody_used_yet_and_one_without_a_limit_are_told_too(tmp_path):
    """It has its gate from the beginning; no limit is None."""
    engines = [create_engine(f"sqlite:///{tmp_path / n}", poolclass=NullPool) for n in "ab"]
    protections = [protect(engine, name=name) for engine, name in zip(engines, "ab", strict=True)]
    with engines[1].connect():
        told = pool_numbers()
        holders = [len(database["holders"]) for database in describe_databases()]
    for protection in protections:
        protection.undo()

    assert [(one["name"], one["capacity"], one["in_use"]) for one in told] == [
        ("a", None, 0),
        ("b", None, 1),
    ]
    assert holders == [0, 1]


def test_a_service_without_a_database_pays_nothing():
    """SQLAlchemy is not loaded to say that there is none."""
    script = (
        "import sys; from shipworthy.db.standing import describe_databases, pool_numbers\n"
        "print(describe_databases(), pool_numbers(), 'sqlalchemy' in sys.modules)"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[] [] False"
