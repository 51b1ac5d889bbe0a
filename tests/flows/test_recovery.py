"""A database comes back: how soon callers are served again, and how many tried it before.

As under `run`: the engine is protected, and a prober looks after it in an event loop. Callers come
at a steady pace, whatever became of those before them, as clients do.
"""

import asyncio
import threading
import time
from contextlib import contextmanager

import pytest
from sqlalchemy import text

from flows.callers import (
    MARIADB,
    SLACK_SECONDS,
    ended,
    harmed,
    milliseconds,
    protected,
)
from lateness import Lateness
from shipworthy.db import DatabaseRefused, DbSettings, Prober
from shipworthy.faults import Delay, Refuse, Silence
from shipworthy.resilience import BreakerState, ResilienceSettings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

CALLERS = 16
PACE_SECONDS = 0.01
WAY_SECONDS = 0.01
AWAY_SECONDS = 2.0
BACK_SECONDS = 2.0
SEEN_SECONDS = 4.0
TRIALS = 3  # as set by default in `resilience.trials`


@contextmanager
def probed():
    """A prober in a loop of its own that asks each database that it finds, as a service does."""
    over = asyncio.Event()
    started = threading.Event()
    loops = []

    async def serve():
        tasks = []

        def add(check):
            tasks.append(asyncio.create_task(ask(check)))

        prober = Prober((), add)
        await prober.start()
        loops.append(asyncio.get_running_loop())
        started.set()
        await over.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await prober.stop()

    async def ask(check):
        while True:
            await check.ask()
            await asyncio.sleep(check.interval_seconds)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(5)
    try:
        yield
    finally:
        loops[0].call_soon_threadsafe(over.set)
        thread.join(10)


class Traffic:
    """Callers that come at a pace; what each of them met is kept with the time it came."""

    def __init__(self, engine, protection):
        self._engine = engine
        self._protection = protection
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._next = time.monotonic()
        self.met = []
        self.served = 0
        self.at_once = 0
        self._threads = [threading.Thread(target=self._run) for _ in range(CALLERS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join(20)

    def _run(self):
        while not self._over.is_set():
            with self._lock:
                at = self._next
                self._next = max(at, time.monotonic() - 1.0) + PACE_SECONDS
            time.sleep(max(0.0, at - time.monotonic()))
            began = time.monotonic()
            end = ended(self._ask)
            self.met.append((began, end))

    def _ask(self):
        with self._engine.connect() as connection:
            breaker = self._protection.breaking.breaker
            if breaker.state is BreakerState.HALF_OPEN:
                trials = self._protection.statistics().in_use
                self.at_once = max(self.at_once, trials)
            connection.execute(text("SELECT 1"))
            self.served += 1

    def until(self, condition, seconds=15.0):
        give_up = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < give_up, self._protection.statistics()
            time.sleep(0.005)

    def after(self, instant):
        """How each call ended that came after an instant, in the order they came."""
        return sorted(
            ((began - instant, end) for began, end in self.met if began >= instant),
            key=lambda item: item[0],
        )


def served_from(calls):
    """From when on 99 of 100 calls are served: of those that came then or later, 100 at least."""
    failed = 0
    found = float("inf")
    for count, (came, end) in enumerate(reversed(calls), 1):
        failed += end.error is not None
        if count >= 100 and failed <= 0.01 * count:
            found = came
    return found


@pytest.mark.parametrize(
    ("driver", "fault"),
    [(driver, fault) for driver in ("psycopg", "pymysql") for fault in (Refuse(), Silence())],
    ids=str,
)
def test_callers_are_served_again_two_seconds_after_the_database_is_back(
    driver, fault, request, record_property
):
    """Three trials at once at most, and no wait for the half minute of other breakers."""
    url = request.getfixturevalue("mariadb_url" if driver in MARIADB else "postgres_url")
    settings = DbSettings(statement_seconds=0.5, statement_warn_seconds=0.4)
    # Not the ten seconds there are by default: in them it lets a part of the callers through.
    resilience = ResilienceSettings()
    with (
        harmed(url) as (proxy, through),
        protected(
            driver,
            through,
            settings=settings,
            resilience=resilience,
            pool_size=CALLERS,
            max_overflow=0,
        ) as (engine, protection),
        probed(),
        Traffic(engine, protection) as traffic,
    ):
        # So slow that several callers are let through side by side.
        proxy.apply(Delay(WAY_SECONDS))
        traffic.until(lambda: traffic.served > 100 and protection.statistics().breaker == "closed")
        proxy.apply(fault)
        if isinstance(fault, Refuse):
            proxy.cut_all()
        away = time.monotonic()
        traffic.until(lambda: protection.statistics().breaker == "open")
        opened = time.monotonic()
        traffic.until(lambda: time.monotonic() > opened + AWAY_SECONDS)
        proxy.apply(Delay(WAY_SECONDS))
        proxy.cut_all()
        back = time.monotonic()
        with Lateness() as late:
            traffic.until(lambda: time.monotonic() > back + SEEN_SECONDS)

    while_away = [end for came, end in traffic.after(opened) if came < back - opened]
    refused = [end for end in while_away if isinstance(end.error, DatabaseRefused)]
    calls = traffic.after(back)
    served = served_from(calls)
    record_property("it opened after, s", round(opened - away, 2))
    through = len(while_away) - len(refused)
    record_property("let through while away, of 100", round(100 * through / len(while_away), 1))
    record_property("99 of 100 are served after, s", round(served, 2))
    record_property("trials at once", traffic.at_once)
    record_property("an idle timer was late by, ms", milliseconds(late.seconds))
    assert len(refused) > 0.8 * len(while_away)
    assert served < BACK_SECONDS + late.seconds + SLACK_SECONDS
    assert 1 <= traffic.at_once <= TRIALS
