"""A store that is away is asked by one request at a time, and by fewer the longer it is away."""

import pytest

from shipworthy.clock import ManualClock
from shipworthy.events import listen
from shipworthy.resilience import BreakerChanged, BreakerState, breakers
from shipworthy.store import BucketsUnavailable
from shipworthy.store.bucket_away import RULE, StoreBreaker


@pytest.fixture
def changes():
    said = []
    stop = listen(lambda fact: said.append((fact.before, fact.after)), BreakerChanged)
    yield said
    stop()


def test_the_first_failure_spares_all_others_the_wait(changes):
    """They are told at once, without asking the store, and one event says why."""
    clock = ManualClock()
    breaker = StoreBreaker("shut", clock=clock)
    breaker.failed(breaker.admit(), clock.now())
    for _ in range(100):
        with pytest.raises(BucketsUnavailable, match="breaker 'store:shut' is open"):
            breaker.admit()
    assert changes == [("closed", "open")]
    assert breakers()["store:shut"].state is BreakerState.OPEN


def test_one_request_finds_out_that_the_store_is_back(changes):
    """While it asks nobody else is let through; once it is answered everybody is."""
    clock = ManualClock()
    breaker = StoreBreaker("back", clock=clock)
    breaker.failed(breaker.admit(), clock.now())
    clock.advance(RULE.open_seconds)
    trial = breaker.admit()
    with pytest.raises(BucketsUnavailable):
        breaker.admit()
    breaker.answered(trial, clock.now())
    for _ in range(20):
        breaker.answered(breaker.admit(), clock.now())
    assert changes == [("closed", "open"), ("open", "half-open"), ("half-open", "closed")]


def test_a_store_that_stays_away_costs_ever_less():
    """In two minutes of a hundred requests a second, at most 60 of 12,000 paid for a try."""
    clock = ManualClock()
    breaker = StoreBreaker("away", clock=clock)
    paid = 0
    for _ in range(12_000):
        clock.advance(0.01)
        try:
            ticket = breaker.admit()
        except BucketsUnavailable:
            continue
        paid += 1
        breaker.failed(ticket, clock.now())
    assert 20 < paid < 60


def test_a_lock_that_is_held_now_and_then_is_no_outage(changes):
    """Where several failures are needed, one of them changes nothing."""
    clock = ManualClock()
    breaker = StoreBreaker("file", failures=5, clock=clock)
    for _ in range(50):
        breaker.failed(breaker.admit(), clock.now())
        for _ in range(6):
            clock.advance(0.1)
            breaker.answered(breaker.admit(), clock.now())
    assert changes == []


def test_who_leaves_before_the_answer_says_nothing_of_the_store(changes):
    clock = ManualClock()
    breaker = StoreBreaker("left", clock=clock)
    for _ in range(20):
        breaker.left(breaker.admit(), clock.now())
    assert changes == []
