"""The breaker as callers share it."""

import gc
import threading
import traceback
import tracemalloc

import pytest

from shipworthy.clock import ManualClock
from shipworthy.errors import Rejected
from shipworthy.events import Event, listen
from shipworthy.resilience import (
    Breaker,
    BreakerChanged,
    BreakerOpen,
    BreakerRule,
    BreakerState,
    BreakerWouldOpen,
    Ended,
    breakers,
)


def breaker(clock: ManualClock, name: str = "ledger") -> Breaker:
    return Breaker(name, clock=clock, draw=lambda: 1.0)


def call(target: Breaker, ended: Ended, seconds: float = 0.01) -> None:
    target.record(target.admit(), ended, seconds)


def open_it(target: Breaker) -> None:
    for _ in range(5):
        call(target, Ended.REFUSED)


def test_a_refusal_says_which_breaker_why_and_when(clock: ManualClock) -> None:
    """The call was never made, so whoever catches it may send it again, and knows when."""
    target = breaker(clock)
    open_it(target)

    with pytest.raises(BreakerOpen) as refused:
        target.admit()

    assert isinstance(refused.value, Rejected)
    assert str(refused.value) == (
        "breaker 'ledger' is open: the last 5 calls were refused; try again in 1.0 s"
    )
    assert (refused.value.name, refused.value.because, refused.value.retry_after_seconds) == (
        "ledger",
        "the last 5 calls were refused",
        1.0,
    )


def test_every_change_is_stated(clock: ManualClock, facts: list[Event]) -> None:
    """From closed and back, with the reasons; an event each, after the lock was let go."""
    target = breaker(clock)
    open_it(target)
    clock.advance(1.0)
    for _ in range(3):
        call(target, Ended.SUCCESS)

    seen = [
        (fact.before, fact.after, fact.because)
        for fact in facts
        if isinstance(fact, BreakerChanged)
    ]

    assert seen == [
        ("closed", "open", "the last 5 calls were refused"),
        ("open", "half-open", "the wait is over"),
        ("half-open", "closed", "3 trial calls went well"),
    ]


def test_the_hands_and_the_prober_are_heard(clock: ManualClock, facts: list[Event]) -> None:
    """Isolate, close, disable, metrics-only, and what a prober found."""
    target = breaker(clock)
    states = []
    open_it(target)
    for act in (
        target.probe_failed,
        target.probe_ok,
        lambda: target.isolate("maintenance"),
        target.close,
        target.disable,
        target.metrics_only,
        target.close,
    ):
        act()
        states.append(target.state)

    assert states == [
        "open",
        "half-open",
        "isolated",
        "closed",
        "disabled",
        "metrics-only",
        "closed",
    ]
    assert len(facts) == 7
    assert target.rule == BreakerRule()


def test_metrics_only_says_that_it_would_have_opened(
    clock: ManualClock, facts: list[Event]
) -> None:
    """It is stated, and no call is refused."""
    target = breaker(clock)
    target.metrics_only()

    open_it(target)
    call(target, Ended.SUCCESS)

    assert isinstance(facts[-1], BreakerWouldOpen)
    assert facts[-1].because == "the last 5 calls were refused"
    assert target.statistics().opened_total == 0


def test_an_outage_is_one_opening(clock: ManualClock) -> None:
    """However often its trial calls fail: what opens again and again works in between."""
    target = breaker(clock)
    open_it(target)
    for _ in range(8):
        clock.advance(target.statistics().retry_after_seconds)
        call(target, Ended.REFUSED)

    assert target.statistics().state is BreakerState.OPEN
    assert target.statistics().opened_total == 1


def test_statistics_tell_the_window_and_the_totals(clock: ManualClock) -> None:
    """What a page about the breaker shows."""
    target = breaker(clock)
    call(target, Ended.SUCCESS)
    call(target, Ended.SUCCESS, 9.0)
    call(target, Ended.FAILURE)
    call(target, Ended.NEUTRAL)
    clock.advance(60.0)
    call(target, Ended.SUCCESS)
    kept = target.admit()
    open_it(target)
    target.record(kept, Ended.SUCCESS, 0.1)
    with pytest.raises(BreakerOpen):
        target.admit()

    seen = target.statistics()

    assert seen.state is BreakerState.OPEN
    assert (seen.success_total, seen.failure_total, seen.neutral_total) == (3, 6, 1)
    assert (seen.slow_total, seen.refused_total, seen.late_total, seen.opened_total) == (1, 1, 1, 1)
    assert (seen.window_calls, seen.in_flight, seen.generation) == (0, 0, 1)
    assert (seen.for_seconds, seen.retry_after_seconds) == (0.0, 1.0)


def test_the_newest_breaker_of_a_name_is_found(clock: ManualClock) -> None:
    """The list holds nobody alive."""
    first = breaker(clock, "b")
    second = breaker(clock, "a")
    third = breaker(clock, "b")
    named = {name: found for name, found in breakers().items() if name in {"a", "b"}}
    gone = set(breakers())

    del first, named
    assert breakers()["a"] is second
    assert breakers()["b"] is third
    assert {"a", "b"} <= gone


def test_each_rejection_is_a_fresh_exception(clock: ManualClock) -> None:
    """Its traceback holds the two frames it went through, and no rejection before it."""
    target = breaker(clock)
    target.isolate("test")
    lengths, contexts = set(), set()

    for _ in range(1000):
        try:
            target.admit()
        except BreakerOpen as refused:
            lengths.add(len(traceback.extract_tb(refused.__traceback__)))
            contexts.add(refused.__context__)

    assert (lengths, contexts) == ({2}, {None})


@pytest.mark.slow
def test_a_hundred_thousand_rejections_leave_nothing(clock: ManualClock) -> None:
    """What a rejection takes is given back with it, without the collector of cycles."""
    target = breaker(clock)
    target.isolate("test")

    def reject(times: int) -> None:
        for _ in range(times):
            try:
                target.admit()
            except BreakerOpen:
                continue

    gc.disable()
    try:
        tracemalloc.start()
        reject(100)
        before = tracemalloc.get_traced_memory()[0]
        reject(100_000)
        kept_bytes = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
        gc.enable()

    assert kept_bytes < 10_000


def test_a_listener_may_ask_the_breaker(clock: ManualClock) -> None:
    """What hears of a change is called outside of the lock, and in the thread that made it."""
    target = breaker(clock)
    asked = []

    def ask(_: BreakerChanged) -> None:
        other = threading.Thread(target=lambda: asked.append(target.statistics().state))
        other.start()
        other.join(5)

    stop = listen(ask, BreakerChanged)
    open_it(target)
    stop()

    assert asked == [BreakerState.OPEN]


def test_calls_run_side_by_side(clock: ManualClock) -> None:
    """No lock is held during a call: two threads are inside at once."""
    target = breaker(clock)
    both = threading.Barrier(2)

    def work() -> None:
        ticket = target.admit()
        both.wait(5)
        target.record(ticket, Ended.SUCCESS, 0.01)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert not both.broken
    assert target.statistics().success_total == 2


def test_no_call_is_lost_between_threads(clock: ManualClock) -> None:
    """Four threads, ten thousand calls each: every one is counted and none stays in flight."""
    target = breaker(clock)

    def work() -> None:
        for number in range(10_000):
            call(target, Ended.NEUTRAL if number % 10 == 0 else Ended.SUCCESS)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    seen = target.statistics()

    assert (seen.success_total, seen.neutral_total, seen.in_flight) == (36_000, 4_000, 0)
