"""Databases are asked on connections of their own, and what they answer is a health check."""

import asyncio
import threading
import time

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from shipworthy.db import Prober, protect, protect_all
from shipworthy.db.prober import INTERVAL_SECONDS, THREAD, TIMEOUT_SECONDS, _Asked
from shipworthy.faults import FaultProxy, Silence
from shipworthy.resilience import BreakerOpen, BreakerState, Ended

pytestmark = pytest.mark.slow


class Watched:
    """A prober with the checks that it added."""

    def __init__(self, *required):
        self.checks = {}
        self.prober = Prober(required, lambda check: self.checks.setdefault(check.name, check))

    async def __aenter__(self):
        await self.prober.start()
        await asyncio.sleep(0)  # it looks once
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_):
        await self.prober.stop()

    async def answer(self, name):
        return await self.checks[f"database {name}"].ask()


@pytest.fixture
def protected():
    """Make and protect engines; undone afterwards."""
    made = []

    def make(url, name="main", **options):
        engine = sa.create_engine(url, **options)
        made.append((engine, protect(engine, name=name)))
        return engine, made[-1][1]

    yield make
    for engine, protection in made:
        protection.undo()
        engine.dispose()


def test_a_required_database_that_nobody_made_is_a_failure_that_names_what_there_is(protected):
    """A misspelt name must not be ready by accident."""
    protected("sqlite://", name="orders")

    async def scene():
        async with Watched("order") as watched:
            return watched.checks["database order"].kinds, await watched.answer("order")

    kinds, answer = asyncio.run(scene())

    assert kinds == {"ready"}
    assert "no engine of that name" in answer
    assert "orders" in answer


def test_a_database_that_is_not_required_decides_nothing_and_is_left_in_peace(protected, tmp_path):
    """No connection is opened while its breaker is closed."""
    url = f"sqlite:///{tmp_path / 'no' / 'such.db'}"
    protected(url)

    async def scene():
        async with Watched() as watched:
            return watched.checks["database main"].kinds, await watched.answer("main")

    assert asyncio.run(scene()) == (frozenset(), None)


def test_a_required_database_is_asked_although_its_pool_is_exhausted(protected, postgres_url):
    """Its own connection does not queue behind users."""
    engine, _ = protected(postgres_url, pool_size=1, max_overflow=0)

    async def scene():
        async with Watched("main") as watched:
            return [await watched.answer("main") for _ in range(3)]

    with engine.connect():
        assert asyncio.run(scene()) == [None, None, None]


def test_a_thread_that_asks_ends_though_its_closing_is_cancelled(protected, tmp_path):
    """A prober is stopped at any moment, also while it lets go of what it has opened."""
    _, protection = protected(f"sqlite:///{tmp_path}/asked.db")
    kept = []

    async def scene():
        kept.append(asked := _Asked(protection))
        await asked.ask()
        closing = asyncio.create_task(asked.close())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait({closing})
        assert closing.cancelled()

    asyncio.run(scene())
    give_up = time.monotonic() + 2
    while asking() and time.monotonic() < give_up:
        time.sleep(0.005)

    assert asking() == []


def asking():
    return [one.name for one in threading.enumerate() if one.name.startswith(THREAD)]


def test_a_database_of_run_is_asked_where_every_engine_is_protected(postgres_url):
    """What protects each engine on its first connect lets the prober's own connection be."""
    undo = protect_all()
    engine = sa.create_engine(postgres_url)

    async def scene():
        async with Watched("main") as watched:
            return await watched.answer("main")

    try:
        assert asyncio.run(scene()) is None
    finally:
        undo()
        engine.dispose()


def test_an_asynchronous_database_is_asked_in_the_loop(postgres_url):
    """And its connection is let go at the end."""

    async def scene():
        engine = create_async_engine(postgres_url.replace("+psycopg", "+asyncpg"))
        protection = protect(engine, name="main")
        async with Watched("main") as watched:
            answers = [await watched.answer("main") for _ in range(2)]
        protection.undo()
        await engine.dispose()
        return answers

    assert asyncio.run(scene()) == [None, None]


def test_a_silent_database_is_a_failure_within_the_time_of_the_check(protected, postgres_url):
    """The watchdog cuts the question; the next one is asked on a new connection."""
    url = sa.engine.make_url(postgres_url)

    with FaultProxy.in_thread(url.host, url.port or 5432) as proxy:
        engine, _ = protected(url.set(host="127.0.0.1", port=proxy.port))

        async def scene():
            async with Watched("main") as watched:
                well = await watched.answer("main")
                proxy.apply(Silence())
                began = time.monotonic()
                ill = await watched.answer("main")
                took = time.monotonic() - began
                proxy.clear()
                return well, ill, took, await watched.answer("main")

        well, ill, took, after = asyncio.run(scene())
        engine.dispose()

    assert well is None
    assert ill
    assert took < TIMEOUT_SECONDS + 1.0
    assert after is None
    assert 2 * (INTERVAL_SECONDS + TIMEOUT_SECONDS) < 5.0


def test_the_prober_finds_a_database_back_before_a_request_has_to(protected, postgres_url):
    """While the breaker is open it is asked, and the first answer begins the trials."""
    engine, protection = protected(postgres_url)
    breaker = protection.breaking.breaker
    for _ in range(30):
        breaker_is_told_of_a_failure(breaker)
    opened = breaker.state

    async def scene():
        async with Watched() as watched:
            return await watched.answer("main")

    answer = asyncio.run(scene())

    assert opened is BreakerState.OPEN
    assert "half" in answer
    assert breaker.state is BreakerState.HALF_OPEN
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT 1")) == 1


def breaker_is_told_of_a_failure(breaker):
    try:
        breaker.record(breaker.admit(), Ended.REFUSED, 0.0)
    except BreakerOpen:
        return
