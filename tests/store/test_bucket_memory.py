"""Buckets in memory: what is decided, what is kept, and what a million made-up keys can do."""

import asyncio
import random
import threading
import tracemalloc
from hashlib import blake2b

import pytest
from hypothesis import given, settings, strategies as st

from shipworthy.store.bucket import Algorithm, Ask, Quota, judge
from shipworthy.store.bucket_memory import SLOTS, MemoryBuckets

SECOND = 1_000_000_000


def quota(
    algorithm: Algorithm = Algorithm.GCRA, count: int = 10, burst: int | None = None
) -> Quota:
    return Quota(algorithm=algorithm, count=count, period_ns=10 * SECOND, burst=burst or count)


def key_of(number: int) -> str:
    return blake2b(b"%d" % number, digest_size=16).hexdigest()


class Hand:
    """A clock that is moved by hand."""

    def __init__(self, at: int = 100 * SECOND) -> None:
        self.at = at

    def __call__(self) -> int:
        return self.at


def test_the_next_instants_are_those_of_the_judges():
    """The way of one bucket that is known, and the one of several, are the same decision."""
    for algorithm in Algorithm:
        clock, state = Hand(), None
        buckets, again = MemoryBuckets(now_ns=clock), MemoryBuckets(now_ns=clock)
        draw = random.Random(7)
        other = Ask("other", quota(count=1_000_000))
        for _ in range(500):
            clock.at += draw.randrange(3 * SECOND)
            ask = Ask("key", quota(algorithm), draw.choice((1, 1, 2, 5)))
            state, taken = judge(state, ask.quota, ask.cost, clock.at)
            assert buckets.take_now([ask]) == (taken,)
            both = again.take_now([ask, other])
            assert both[0] == taken


def test_of_several_buckets_all_are_taken_from_or_none_is():
    """A request that one limit refuses costs nothing under another."""
    buckets = MemoryBuckets(now_ns=Hand())
    wide, narrow = Ask("wide", quota(count=10)), Ask("narrow", quota(Algorithm.EXACT, 2))
    for left in (9, 8):
        assert [taken.remaining for taken in buckets.take_now([wide, narrow])] == [left, left - 8]
    for _ in range(5):
        first, second = buckets.take_now([wide, narrow])
        assert (first.allowed, first.remaining) == (True, 8)
        assert (second.allowed, second.retry_after_ns) == (False, 10 * SECOND)
    assert buckets.take_now([wide])[0].remaining == 7


def test_a_cost_counts_for_as_many_and_comes_back_when_it_is_put_back():
    """Whether the key is known or in the sketch."""
    for keys_most in (10, 0):
        buckets = MemoryBuckets(keys_most, now_ns=Hand())
        for algorithm in Algorithm:
            ask = Ask(f"key {algorithm}", quota(algorithm), 4)
            assert buckets.take_now([ask])[0].allowed
            while buckets.take_now([ask])[0].allowed:
                pass
            buckets.give_back_now([ask])
            assert buckets.take_now([ask])[0].allowed
            assert not buckets.take_now([ask])[0].allowed
        buckets.give_back_now([Ask("never seen", quota(count=77))])


def test_the_port_is_the_same_for_whoever_waits():
    """Stores that have to be waited for stand behind the same three calls."""

    async def use() -> None:
        buckets = MemoryBuckets(now_ns=Hand())
        ask = Ask("key", quota(count=1))
        assert (await buckets.take([ask]))[0].allowed
        assert not (await buckets.take([ask]))[0].allowed
        await buckets.give_back([ask])
        assert (await buckets.take([ask]))[0].allowed
        await buckets.close()

    asyncio.run(use())


def test_keys_that_count_no_longer_are_forgotten_as_new_ones_come():
    """A few are looked at for each new one, which is enough for them to be no more than need be."""
    for algorithm in Algorithm:
        clock = Hand()
        buckets = MemoryBuckets(1_000, now_ns=clock)
        for number in range(3000):
            clock.at += SECOND // 10
            buckets.take_now([Ask(key_of(number), quota(algorithm))])
        # One each tenth of a second, of which at most 200 count; half of a thousand is few.
        assert 500 <= buckets.statistics().keys <= 510
        assert buckets.statistics().sketched_total == 0


@pytest.mark.slow
def test_an_active_key_is_not_forgotten_under_a_flood_of_new_ones():
    """An attacker who has spent all cannot get rid of that by touching thousands of others."""
    for algorithm in Algorithm:
        buckets = MemoryBuckets(1000, now_ns=Hand())
        attacker = Ask(key_of(-1), quota(algorithm))
        for _ in range(10):
            assert buckets.take_now([attacker])[0].allowed
        for number in range(20_000):
            buckets.take_now([Ask(key_of(number), quota(algorithm))])
            if number % 1000 == 0:
                assert not buckets.take_now([attacker])[0].allowed
        found = buckets.statistics()
        assert (found.keys, found.keys_most) == (1000, 1000)
        assert found.sketched_total >= 19_001


def test_a_key_without_a_place_gains_nothing_when_there_is_one():
    """What it spent in the sketch counts on, also when the flood has ended."""
    for algorithm in Algorithm:
        clock = Hand()
        buckets = MemoryBuckets(1, now_ns=clock)
        assert buckets.take_now([Ask("first", quota(count=1))])[0].allowed
        late, admitted = Ask("late", quota(algorithm)), []
        for step in range(400):
            clock.at += SECOND // 10
            if buckets.take_now([late])[0].allowed:
                admitted.append(clock.at)
            if step == 20:
                # The place is free from here on.
                clock.at += 8 * SECOND
        most = max(sum(a <= at < a + 10 * SECOND for at in admitted) for a in admitted)
        assert most <= late.quota.worst_in(10 * SECOND)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(Algorithm),
    st.integers(1, 12),
    st.lists(st.tuples(st.integers(0, 10 * SECOND), st.integers(1, 3)), max_size=60),
)
def test_the_sketch_admits_in_no_window_more_than_the_quota_can(algorithm, count, steps):
    """Also where keys meet in a slot: then each gets less, and all of them that much together."""
    asked, clock = quota(algorithm, count), Hand()
    buckets, admitted = MemoryBuckets(0, now_ns=clock), []
    for gap, cost in steps:
        clock.at += gap
        cost = min(cost, count)
        if buckets.take_now([Ask("key", asked, cost)])[0].allowed:
            admitted.append((clock.at, cost))
    for start, _ in admitted:
        within = sum(cost for at, cost in admitted if start <= at < start + asked.period_ns)
        assert within <= asked.worst_in(asked.period_ns)


def test_what_is_refused_in_the_sketch_is_told_when_it_will_be_admitted():
    """The instant is as true as for a key that is known."""
    for algorithm in Algorithm:
        clock = Hand()
        buckets = MemoryBuckets(0, now_ns=clock)
        ask = Ask("key", quota(algorithm))
        while (taken := buckets.take_now([ask])[0]).allowed:
            pass
        clock.at += taken.retry_after_ns - 1
        assert not buckets.take_now([ask])[0].allowed
        clock.at += 1
        assert buckets.take_now([ask])[0].allowed


def test_a_request_that_has_no_place_in_a_slot_is_refused_and_is_no_error():
    """Half of an exact quota is all that a slot gives at once."""
    buckets = MemoryBuckets(0, now_ns=Hand())
    taken = buckets.take_now([Ask("key", quota(Algorithm.EXACT), 6)])[0]
    assert (taken.allowed, taken.retry_after_ns) == (False, 10 * SECOND)


def test_sketches_of_limits_that_were_changed_do_not_add_up():
    """Each takes half a megabyte; the oldest goes."""
    buckets = MemoryBuckets(0, now_ns=Hand())
    tracemalloc.start()
    for count in range(1, 101):
        buckets.take_now([Ask("key", quota(count=count))])
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 40 * 8 * SLOTS


def test_threads_take_no_more_together_than_one_would():
    """The buckets of a process are used by all its event loops."""
    buckets = MemoryBuckets(now_ns=Hand())
    exact, even = Ask("exact", quota(Algorithm.EXACT, 100)), Ask("even", quota(count=1000))
    allowed: list[int] = []
    # From here on the others are not the first, so every one of their decisions takes the lock.
    assert buckets.take_one("other", quota()).allowed

    def hammer() -> None:
        allowed.append(sum(buckets.take_now([exact, even])[0].allowed for _ in range(200)))
        allowed.append(0 * sum(buckets.take_now([even])[0].allowed for _ in range(200)))

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(allowed) == 100
    assert buckets.take_now([even])[0].remaining == 1000 - 100 - 800 - 1


def test_what_is_held_does_not_grow_with_the_keys_that_are_thrown_at_it():
    """2,000 places: once they are taken, and the sketches made, no key costs memory."""
    buckets = MemoryBuckets(2_000, now_ns=Hand())
    asked = [quota(algorithm, 100) for algorithm in Algorithm]
    keys = [key_of(number) for number in range(9_000)]
    tracemalloc.start()
    held = []
    for number, key in enumerate(keys):
        buckets.take_now([Ask(key, asked[number % 3])])
        if number in (2_999, 8_999):
            held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert held[1] - held[0] < 10_000
    assert buckets.statistics().keys == 2_000
