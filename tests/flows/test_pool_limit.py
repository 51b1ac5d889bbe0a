"""The pool at its limit, with holders that never return: nobody hangs, and everybody is told why.

The stock pool lets such a test hang for its `pool_timeout` of 30 s, and names nobody.
"""

import time
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import TimeoutError as PoolTimeoutOfSqlalchemy

from flows.callers import (
    ASYNC,
    MARIADB,
    POSTGRES,
    SLACK_SECONDS,
    SQLITE,
    Gate,
    engine_of,
    milliseconds,
    play,
    protected,
    together,
)
from lateness import Lateness
from shipworthy.context import deadline_scope
from shipworthy.db import (
    CheckoutTimedOut,
    ConnectionLeaked,
    DbSettings,
    PoolDeadlock,
    PoolTimeout,
)
from shipworthy.events import listen

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

SIZE, OVERFLOW, MORE = 5, 10, 20
CAPACITY = SIZE + OVERFLOW
# Long enough for a loaded machine to make as many connections as there may be.
DEADLINE_SECONDS = 1.0
NESTED = 4
DRIVERS = POSTGRES + MARIADB + SQLITE
drivers = pytest.mark.parametrize("driver", DRIVERS)


@pytest.fixture
def url(request, driver, tmp_path: Path):
    """The URL of a new database for the driver."""
    if driver in SQLITE:
        return f"sqlite:///{tmp_path / 'x.db'}"
    return request.getfixturevalue("postgres_url" if driver in POSTGRES else "mariadb_url")


@pytest.fixture
def heard():
    """The events of the test, in their order."""
    found = []
    stop = listen(found.append)
    yield found
    stop()


def line_of(mark):
    """Where a line of this file stands that ends with a comment."""
    lines = Path(__file__).read_text().splitlines()
    [number] = [at for at, line in enumerate(lines, 1) if line.endswith(f"# {mark}")]
    return f"test_pool_limit.py:{number} in "


@pytest.mark.parametrize(
    ("driver", "by"),
    [
        *((driver, "the setting") for driver in DRIVERS),
        *((driver, "the request") for driver in ("psycopg", "asyncpg")),
    ],
)
def test_callers_over_the_limit_end_by_their_deadline_and_learn_who_holds(
    driver, by, url, heard, record_property
):
    """Capacity + 20 ask at once, and who gets a connection keeps it until all others are gone."""
    settings = DbSettings(
        checkout_seconds=DEADLINE_SECONDS if by == "the setting" else 60.0,
        leak_after_seconds=DEADLINE_SECONDS / 2,
    )

    def scene():
        over, gone = Gate(driver), []
        with protected(driver, url, settings=settings, pool_size=SIZE, max_overflow=OVERFLOW) as (
            engine,
            protection,
        ):

            def within():
                try:
                    with engine.connect():  # the line that takes
                        over.wait()
                except PoolTimeout:
                    gone.append(1)
                    if len(gone) == MORE:
                        during.append(protection.statistics())
                        over.open()
                    raise

            def work():
                if by == "the setting":
                    return within()
                with deadline_scope(time.monotonic() + DEADLINE_SECONDS):
                    return within()

            during = []
            ends = together(driver, *[work] * (CAPACITY + MORE))
            return ends, during, protection.statistics()

    with Lateness() as late:
        ends, [during], after = play(driver, scene)

    refused = [end for end in ends if end.error is not None]
    longest = max(end.seconds for end in refused)
    record_property(
        "the last caller, past its deadline, ms", milliseconds(longest - DEADLINE_SECONDS)
    )
    record_property("an idle timer was late by, ms", milliseconds(late.seconds))
    assert len(refused) == MORE
    for end in refused:
        assert isinstance(end.error, PoolTimeout)
        assert isinstance(end.error, PoolTimeoutOfSqlalchemy)
        assert f"QueuePool limit of size {SIZE} overflow {OVERFLOW} reached" in str(end.error)
        assert line_of("the line that takes") in str(end.error)
        assert f"({CAPACITY} times, for " in str(end.error)
    assert longest < DEADLINE_SECONDS + late.allowed_seconds + SLACK_SECONDS
    assert (during.in_use, during.timeouts) == (CAPACITY, MORE)
    assert (after.in_use, after.waiting) == (0, 0)
    told = [fact for fact in heard if isinstance(fact, CheckoutTimedOut)]
    assert len(told) == MORE
    leaks = [fact for fact in heard if isinstance(fact, ConnectionLeaked)]
    assert len(leaks) == CAPACITY
    assert all(line_of("the line that takes") in fact.taken_at for fact in leaks)
    if driver not in ASYNC:
        assert all(".py:" in fact.stands_at for fact in leaks)


@drivers
def test_a_nested_checkout_with_all_connections_taken_fails_at_most_once(
    driver, url, record_property
):
    """Four callers hold all four and each wants one more: one is refused at once, three go on."""

    def scene():
        all_hold, holding, waits = Gate(driver), [], []
        with protected(driver, url, pool_size=NESTED, max_overflow=0) as (engine, _):

            def work():
                with engine.connect() as outer:  # the line that holds
                    outer.execute(text("SELECT 1"))
                    holding.append(1)
                    if len(holding) == NESTED:
                        all_hold.open()
                    all_hold.wait()
                    began = time.monotonic()
                    try:
                        with engine.connect() as inner:  # the line that asks for one more
                            inner.execute(text("SELECT 1"))
                    finally:
                        waits.append(time.monotonic() - began)

            return together(driver, *[work] * NESTED), max(waits)

    with Lateness() as late:
        ends, longest = play(driver, scene)

    [refused] = [end.error for end in ends if end.error is not None]
    record_property("the slowest of the four, ms", milliseconds(longest))
    record_property("an idle timer was late by, ms", milliseconds(late.seconds))
    assert type(refused) is PoolDeadlock
    assert line_of("the line that holds") in str(refused)
    assert line_of("the line that asks for one more") in str(refused)
    assert longest < late.allowed_seconds + SLACK_SECONDS


@drivers
def test_without_a_guard_nested_checkouts_wait_for_the_whole_timeout_and_name_nobody(
    driver, url, record_property
):
    """The control: the same four on the stock pool."""
    timeout_seconds = 0.5

    def scene():
        all_hold, holding = Gate(driver), []
        with engine_of(
            driver, url, pool_size=NESTED, max_overflow=0, pool_timeout=timeout_seconds
        ) as engine:

            def work():
                with engine.connect():
                    holding.append(1)
                    if len(holding) == NESTED:
                        all_hold.open()
                    all_hold.wait()
                    with engine.connect():
                        pass

            return together(driver, *[work] * NESTED)

    ends = play(driver, scene)

    failed = [end for end in ends if end.error is not None]
    record_property("stock: of the four fail", len(failed))
    assert len(failed) >= 1
    assert min(end.seconds for end in failed) >= timeout_seconds
    assert all(isinstance(end.error, PoolTimeoutOfSqlalchemy) for end in failed)
    assert not any("test_pool_limit.py" in str(end.error) for end in failed)
