"""A peer that goes silent: whatever driver speaks with it is back by its deadline.

The peer looks alive: a proxy's kernel acknowledges what is sent, so neither keepalives nor the
driver's own timeouts help. SQLite has no peer; there a query takes too long. Tests allow for a
loaded machine; how much of the promise was used is recorded for the evidence.
"""

import time
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from flows.callers import (
    MARIADB,
    POSTGRES,
    SLACK_SECONDS,
    SQLITE,
    ended,
    harmed,
    milliseconds,
    play,
    protected,
)
from lateness import Lateness
from shipworthy.context import deadline_scope
from shipworthy.db import DbSettings, Outcome, classify
from shipworthy.faults import Silence

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

DEADLINE_SECONDS = 0.3
LONG_QUERY = (
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 1000000000) "
    "SELECT count(*) FROM c"
)
NETWORK = POSTGRES + MARIADB
drivers = pytest.mark.parametrize("driver", NETWORK)


@pytest.fixture
def url(request, driver):
    """The URL of a new database on the driver's server."""
    return request.getfixturevalue("postgres_url" if driver in POSTGRES else "mariadb_url")


def in_time(end, late, record_property, *, deadline_seconds=DEADLINE_SECONDS):
    """Hold an end against its deadline, and record how much later it was."""
    record_property("past the deadline, ms", milliseconds(end.seconds - deadline_seconds))
    record_property("an idle timer was late by, ms", milliseconds(late.seconds))
    assert deadline_seconds <= end.seconds
    assert end.seconds < deadline_seconds + late.allowed_seconds + SLACK_SECONDS


@drivers
def test_a_statement_is_over_by_the_deadline_of_the_request(driver, url, record_property):
    """The driver's own error of a lost connection, which says that it was cut, and by whom."""

    def scene():
        with (
            harmed(url) as (proxy, through),
            protected(driver, through) as (engine, _),
            engine.connect() as connection,
        ):
            connection.execute(text("SELECT 1"))
            proxy.apply(Silence())
            with deadline_scope(time.monotonic() + DEADLINE_SECONDS):
                return ended(lambda: connection.execute(text("SELECT 2")))

    with Lateness() as late:
        end = play(driver, scene)

    in_time(end, late, record_property)
    assert isinstance(end.error, DBAPIError)
    assert end.error.connection_invalidated
    assert classify(end.error).outcome is Outcome.DEADLINE
    assert "cut by shipworthy" in "".join(end.error.__notes__)


@drivers
def test_a_statement_is_over_by_the_limit_that_is_set(driver, url, record_property):
    """With no deadline of a request around it, as in a job, the setting holds."""
    settings = DbSettings(statement_seconds=DEADLINE_SECONDS, statement_warn_seconds=0.2)

    def scene():
        with (
            harmed(url) as (proxy, through),
            protected(driver, through, settings=settings) as (engine, _),
            engine.connect() as connection,
        ):
            connection.execute(text("SELECT 1"))
            proxy.apply(Silence())
            return ended(lambda: connection.execute(text("SELECT 2")))

    with Lateness() as late:
        end = play(driver, scene)

    in_time(end, late, record_property)


@drivers
def test_a_commit_is_over_by_its_deadline_and_nobody_guesses_how_it_went(
    driver, url, record_property
):
    """Whether it was applied is unknown, and that is what the error means."""

    def scene():
        with (
            harmed(url) as (proxy, through),
            protected(driver, through) as (engine, _),
            engine.connect() as connection,
        ):
            connection.execute(text("CREATE TABLE noted (n INTEGER)"))
            connection.commit()
            connection.execute(text("INSERT INTO noted VALUES (1)"))
            proxy.apply(Silence())
            with deadline_scope(time.monotonic() + DEADLINE_SECONDS):
                return ended(connection.commit)

    with Lateness() as late:
        end = play(driver, scene)

    in_time(end, late, record_property)
    assert classify(end.error).outcome is Outcome.AMBIGUOUS


@drivers
def test_a_connect_is_over_by_its_limit(driver, url, record_property):
    """The server takes the connection, and the handshake is never answered."""
    settings = DbSettings(connect_seconds=DEADLINE_SECONDS)

    def scene():
        with (
            harmed(url) as (proxy, through),
            protected(driver, through, settings=settings) as (engine, _),
        ):
            proxy.apply(Silence())
            return ended(engine.connect)

    with Lateness() as late:
        end = play(driver, scene)

    # asyncio's own timeouts round down to the clock of the loop.
    in_time(end, late, record_property, deadline_seconds=DEADLINE_SECONDS - 0.002)
    assert classify(end.error).outcome is Outcome.NOT_SENT


@drivers
def test_giving_a_connection_back_is_over_by_its_limit(driver, url, record_property):
    """The rollback is not answered, so the connection is thrown away; its permit is not lost."""
    settings = DbSettings(reset_seconds=DEADLINE_SECONDS)

    def scene():
        with (
            harmed(url) as (proxy, through),
            protected(driver, through, settings=settings) as (engine, protection),
        ):
            connection = engine.connect()
            connection.execute(text("SELECT 1"))
            proxy.apply(Silence())
            return ended(connection.close), protection.statistics().in_use

    with Lateness() as late:
        end, in_use = play(driver, scene)

    in_time(end, late, record_property)
    assert in_use == 0


@pytest.mark.parametrize("driver", SQLITE)
def test_a_long_query_of_sqlite_is_over_by_the_deadline(driver, tmp_path: Path, record_property):
    """It is interrupted where it computes, and the connection lives on."""

    def scene():
        with (
            protected(driver, f"sqlite:///{tmp_path / 'x.db'}") as (engine, _),
            engine.connect() as connection,
        ):
            connection.execute(text("SELECT 1"))
            with deadline_scope(time.monotonic() + DEADLINE_SECONDS):
                end = ended(lambda: connection.execute(text(LONG_QUERY)))
            return end, connection.scalar(text("SELECT 2"))

    with Lateness() as late:
        end, after = play(driver, scene)

    in_time(end, late, record_property)
    assert classify(end.error).outcome is Outcome.DEADLINE
    assert after == 2
