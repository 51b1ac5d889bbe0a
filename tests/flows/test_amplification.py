"""Retries while everything fails: what reaches the server, counted where connections arrive.

Every call makes a connection of its own, through a proxy that ends it in the handshake; the proxy
counts. Three layers that each make three attempts would send 27 for one.
"""

import threading
import time

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from flows.callers import harmed, protected
from shipworthy.db import DatabaseRefused, judge
from shipworthy.faults import Cut, Direction
from shipworthy.resilience import Backoff, Pipeline, ResilienceSettings, RetryBudget, RetryRule

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

CALLS = 1_200
CALLERS = 8
PACE_SECONDS = 1 / 250
BY_HAND = 12
# What is promised. The reserve of one retry a second is part of it, so the calls must come quickly.
MOST = 1.21
NAIVE = 27


class Tally:
    """Calls that are handed out to callers, at a pace, and how each of them ended."""

    def __init__(self, calls):
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._left = calls
        self._calls = calls
        self.errors = []

    def take(self):
        """Take the next call when its time has come; false when there is none."""
        with self._lock:
            if not self._left:
                return False
            at = self._began + (self._calls - self._left) * PACE_SECONDS
            self._left -= 1
        time.sleep(max(0.0, at - time.monotonic()))
        return True


def layered(work, layers):
    """The call within so many pipelines that retry, each with a budget of its own."""
    rule = RetryRule(attempts=3, backoff=Backoff(base_seconds=0.001, cap_seconds=0.002))
    kept = []
    for layer in range(layers):
        # With an end in time: without one a caller waits until the breaker lets it try again.
        pipeline = Pipeline(
            f"layer {layer}", judge=judge, retry=rule, budget=RetryBudget(), timeout_seconds=0.4
        )
        kept.append(pipeline)
        work = pipeline(work)
    return work, kept


def sent(url, layers, breaker):
    """Connections that reached the proxy for each call, and the errors the callers got."""
    resilience = ResilienceSettings(breaker=breaker)
    with (
        harmed(url) as (proxy, through),
        protected("psycopg", through, resilience=resilience, poolclass=NullPool) as (engine, _),
    ):
        proxy.apply(Cut(direction=Direction.DOWN, after_bytes=1))

        def ask():
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))

        call, kept = layered(ask, layers)
        tally = Tally(CALLS)

        def run():
            while tally.take():
                try:
                    call()
                except Exception as error:
                    tally.errors.append(error)

        threads = [threading.Thread(target=run) for _ in range(CALLERS)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.monotonic() - began
        del kept
        return proxy.accepted / CALLS, tally.errors, took


@pytest.mark.parametrize("layers", [1, 3])
def test_retries_add_a_fifth_to_what_reaches_the_server(layers, postgres_url, record_property):
    """Without a breaker, so that the budget alone has to hold: 1.21 in one layer and in three."""
    ratio, errors, took = sent(postgres_url, layers, "off")

    record_property("connections for each call", round(ratio, 3))
    record_property("from call to call, ms", round(1000 * took / CALLS, 1))
    assert len(errors) == CALLS
    # A machine that is too slow for the pace gets the reserve of the seconds it takes longer.
    assert 1.1 < ratio <= MOST + 1.0 * (took - CALLS * PACE_SECONDS) / CALLS


def test_with_a_breaker_next_to_nothing_reaches_a_server_that_fails(postgres_url, record_property):
    """As it is by default: the server is left alone, and callers are refused at once."""
    ratio, errors, _ = sent(postgres_url, 3, "enforce")

    record_property("connections for each call", round(ratio, 3))
    assert len(errors) == CALLS
    assert ratio < 0.1
    assert sum(isinstance(error, DatabaseRefused) for error in errors) > 0.9 * CALLS


def test_layers_that_know_nothing_of_each_other_multiply(postgres_url, record_property):
    """The control: three layers written by hand, three attempts each."""

    def thrice(work):
        def again():
            for attempt in range(3):
                try:
                    return work()
                except DBAPIError:
                    if attempt == 2:
                        raise
            return None

        return again

    with (
        harmed(postgres_url) as (proxy, through),
        protected(
            "psycopg",
            through,
            resilience=ResilienceSettings(breaker="off"),
            poolclass=NullPool,
        ) as (engine, _),
    ):
        proxy.apply(Cut(direction=Direction.DOWN, after_bytes=1))
        call = thrice(thrice(thrice(engine.connect)))
        for _ in range(BY_HAND):
            with pytest.raises(DBAPIError):
                call()
        ratio = proxy.accepted / BY_HAND

    record_property("connections for each call", ratio)
    assert ratio == NAIVE
