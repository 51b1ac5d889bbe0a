"""No trace of requests, however chosen, admits more in any window than a quota says it can."""

from fractions import Fraction

import pytest
from hypothesis import example, given, settings, strategies as st

from shipworthy.store.bucket import (
    UNSPENT,
    Algorithm,
    Quota,
    Spent,
    State,
    Taken,
    judge,
    put_back,
    unspent_at_ns,
)

SECOND = 1_000_000_000
PERIODS = {"s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND, "d": 86_400 * SECOND}


def quota(
    algorithm: Algorithm = Algorithm.GCRA,
    count: int = 10,
    period_ns: int = 10 * SECOND,
    burst: int | None = None,
) -> Quota:
    return Quota(algorithm=algorithm, count=count, period_ns=period_ns, burst=burst or count)


@st.composite
def quotas(draw: st.DrawFn) -> Quota:
    algorithm = draw(st.sampled_from(Algorithm))
    count = draw(st.integers(1, 12))
    burst = draw(st.integers(1, count)) if algorithm is Algorithm.GCRA else count
    # Small ones that nothing divides, so that traces meet every edge; and those that people write.
    period = draw(st.integers(12_000, 30_000) | st.sampled_from(sorted(PERIODS.values())))
    return quota(algorithm, count, period, burst)


@st.composite
def traces(draw: st.DrawFn) -> tuple[Quota, list[tuple[int, int]]]:
    """Return a quota and requests as (nanoseconds after the one before, cost), often at edges."""
    found = draw(quotas())
    gaps = st.one_of(
        st.just(0),
        st.integers(0, 2 * found.period_ns),
        st.integers(0, found.period_ns // found.count + 1),
        st.sampled_from([1, found.interval_ns, found.period_ns - 1, found.period_ns]),
    )
    costs = st.just(1) | st.integers(1, found.burst)
    return found, draw(st.lists(st.tuples(gaps, costs), max_size=40))


class Bucket:
    """A bucket as a store keeps it, and all that it ever admitted."""

    def __init__(self, kept: Quota, at: int = 0) -> None:
        self.quota = kept
        self.at = at
        self.state: State | None = None
        self.admitted: list[tuple[int, int]] = []

    def ask(self, cost: int = 1, after_ns: int = 0) -> Taken:
        self.at += after_ns
        self.state, taken = judge(self.state, self.quota, cost, self.at)
        if taken.allowed:
            self.admitted.append((self.at, cost))
        return taken

    def would(self, cost: int, at: int) -> bool:
        return judge(self.state, self.quota, cost, at)[1].allowed

    def most_in(self, window_ns: int) -> int:
        """Return the most that was admitted in any window: one begins at one of them."""
        return max(
            (
                sum(cost for at, cost in self.admitted if start <= at < start + window_ns)
                for start, _ in self.admitted
            ),
            default=0,
        )


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(traces(), st.integers(0, 10**18), st.integers(1, 40))
def test_no_window_admits_more_than_the_worst_that_the_quota_names(trace, start, tenths):
    """Of any length, however the requests come, whatever they cost, wherever the clock stands."""
    found, steps = trace
    bucket = Bucket(found, start)
    for gap, cost in steps:
        bucket.ask(cost, gap)
    for window in (found.period_ns, max(1, found.period_ns * tenths // 10)):
        assert bucket.most_in(window) <= found.worst_in(window)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(traces(), st.integers(0, 10**18))
def test_who_is_refused_is_admitted_when_it_was_told_and_not_a_nanosecond_before(trace, start):
    """So waiting exactly as long as one was told is right, whatever was asked before."""
    found, steps = trace
    bucket = Bucket(found, start)
    for gap, cost in steps:
        before = bucket.state
        taken = bucket.ask(cost, gap)
        assert taken.allowed == (taken.retry_after_ns == 0)
        if not taken.allowed:
            assert bucket.state is before or before is None
            assert bucket.would(cost, bucket.at + taken.retry_after_ns)
            assert not bucket.would(cost, bucket.at + taken.retry_after_ns - 1)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(traces(), st.integers(0, 10**18))
def test_what_remains_is_admitted_at_once_and_one_more_is_not(trace, start):
    """`remaining` is neither a hope nor a reserve."""
    found, steps = trace
    bucket = Bucket(found, start)
    for gap, cost in steps:
        left = bucket.ask(cost, gap).remaining
        assert not left or bucket.would(left, bucket.at)
        assert left == found.burst or not bucket.would(left + 1, bucket.at)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(traces(), st.integers(0, 10**18))
def test_at_its_reset_a_bucket_is_one_that_nobody_asked(trace, start):
    """So a store may forget the key from then on, and not before."""
    found, steps = trace
    bucket = Bucket(found, start)
    for gap, cost in steps:
        taken = bucket.ask(cost, gap)
        full = bucket.at + taken.reset_ns
        if taken.allowed:
            assert bucket.state is not None
            assert unspent_at_ns(bucket.state, found) == full
        assert judge(bucket.state, found, 1, full)[1] == judge(None, found, 1, full)[1]
        if taken.reset_ns:
            assert not bucket.would(found.burst, full - 1)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(traces())
def test_an_exact_quota_admits_precisely_what_a_list_of_all_admissions_would(trace):
    """The model remembers everything; the bucket remembers as many as it allows."""
    found, steps = trace
    found = quota(Algorithm.EXACT, found.count, found.period_ns)
    bucket, at = Bucket(found), 0
    for gap, cost in steps:
        at += gap
        spent = sum(taken for when, taken in bucket.admitted if when > at - found.period_ns)
        assert bucket.ask(cost, gap).allowed == (spent + cost <= found.count)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(traces())
def test_gcra_admits_precisely_what_a_bucket_of_tokens_in_fractions_would(trace):
    """The model holds a burst of tokens and gets one for each interval, in exact fractions."""
    found, steps = trace
    found = quota(Algorithm.GCRA, found.count, found.period_ns, found.burst)
    bucket, tokens = Bucket(found), Fraction(found.burst)
    for gap, cost in steps:
        tokens = min(Fraction(found.burst), tokens + Fraction(gap, found.interval_ns))
        allowed = tokens >= cost
        tokens -= cost if allowed else 0
        assert bucket.ask(cost, gap).allowed == allowed


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("unit", PERIODS)
def test_a_burst_is_exact_for_every_count_and_unit(algorithm, unit):
    """Exactly so many at once, at an odd instant; no rounding takes or gives one."""
    counts = range(1, 101) if algorithm is Algorithm.EXACT else (*range(1, 101), 333, 997, 1000)
    for count in counts:
        bucket = Bucket(quota(algorithm, count, PERIODS[unit]), at=1_700_000_000_123_456_789)
        assert bucket.ask(count).allowed
        assert not bucket.ask().allowed
        bucket = Bucket(quota(algorithm, count, PERIODS[unit]), at=1_700_000_000_123_456_789)
        assert bucket.ask().remaining == count - 1


def test_the_worst_that_is_named_for_gcra_and_exact_does_happen():
    """A bound that nothing reaches would say little: a client that asks at the right times does."""
    for found in (quota(burst=3), quota(count=7, burst=1), quota(count=7), quota(Algorithm.EXACT)):
        bucket = Bucket(found)
        assert all(bucket.ask().allowed for _ in range(found.burst))
        for _ in range(100):
            told = bucket.ask()
            assert told.allowed or bucket.ask(after_ns=told.retry_after_ns).allowed
        for window in (found.period_ns, 3 * found.period_ns // 2, 4 * found.period_ns):
            assert bucket.most_in(window) == found.worst_in(window)


def test_the_worst_that_is_named_for_a_sliding_quota_does_happen():
    """All at the end of one window, the rest at the end of the next: 19 where 10 are written."""
    found = quota(Algorithm.SLIDING)
    bucket = Bucket(found, at=found.period_ns - 1)
    assert bucket.ask(10).allowed
    assert bucket.ask(9, after_ns=found.period_ns - 1).allowed
    assert bucket.most_in(found.period_ns) == found.worst_in(found.period_ns) == 19
    # Of one, none is left while the one before counts at all.
    single = quota(Algorithm.SLIDING, 1)
    bucket = Bucket(single, at=single.period_ns - 1)
    assert bucket.ask().allowed
    assert not bucket.ask(after_ns=single.period_ns).allowed
    assert bucket.ask(after_ns=1).allowed
    assert (single.worst_in(single.period_ns), single.worst_in(2 * single.period_ns)) == (1, 2)


def test_a_refusal_is_no_reason_to_wait_longer():
    """Whoever hammers is admitted at the same instant as whoever waits."""
    for algorithm in Algorithm:
        patient, hammering = Bucket(quota(algorithm)), Bucket(quota(algorithm))
        for bucket in (patient, hammering):
            assert bucket.ask(10).allowed
        told = patient.ask().retry_after_ns
        step = told // 50
        assert not any(hammering.ask(after_ns=step).allowed for _ in range(49))
        assert hammering.ask(after_ns=told - 49 * step).allowed


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(traces(), st.integers(0, 10**15))
def test_what_was_put_back_is_as_if_it_had_never_been_taken(trace, start):
    """Of requests that follow at once: what is put back later may come too late, and harms none."""
    found, steps = trace
    bucket = Bucket(found, start)
    for gap, cost in steps:
        bucket.at += gap
        before = bucket.state
        known = judge(before, found, 1, bucket.at)[1].remaining
        if bucket.ask(cost).allowed:
            bucket.state = put_back(bucket.state, found, cost)
            assert judge(bucket.state, found, 1, bucket.at)[1].remaining == known
        bucket.state = before
        bucket.ask(cost)


def test_more_than_was_taken_cannot_be_put_back():
    """Nobody gains by a request that is paid back twice."""
    for algorithm in Algorithm:
        bucket = Bucket(quota(algorithm), at=25 * SECOND)
        bucket.ask(3)
        bucket.state = put_back(put_back(bucket.state, bucket.quota, 3), bucket.quota, 3)
        assert bucket.ask().remaining == 9
        bucket.state = put_back(None, bucket.quota, 5)
        assert bucket.ask().remaining == 9
    # What was taken in the window before and is put back in this one.
    assert put_back(Spent(3, 5, 1), quota(Algorithm.SLIDING), 3) == Spent(3, 3, 0)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(traces(), st.lists(st.integers(-3, 0), min_size=40, max_size=40))
@example((quota(Algorithm.SLIDING), [(0, 10), (0, 1), (5 * SECOND, 1)]), [0, -1, *[0] * 38])
def test_a_clock_that_goes_back_opens_no_bucket(trace, steps_back):
    """In the time that really passed no window admits more, however often the clock is set back."""
    found, steps = trace
    bucket = Bucket(found, start := 100 * found.period_ns)
    really = start
    admitted = Bucket(found)
    for (gap, cost), back in zip(steps, steps_back, strict=False):
        really += gap
        if bucket.ask(cost, gap + back * found.period_ns // 2).allowed:
            admitted.admitted.append((really, cost))
    assert admitted.most_in(found.period_ns) <= found.worst_in(found.period_ns)


def test_a_bucket_whose_policy_counts_in_another_way_begins_anew():
    """A live change of the algorithm finds states of the one before."""
    for earlier in Algorithm:
        state, _ = judge(None, quota(earlier), 10, SECOND)
        for later in Algorithm:
            taken = judge(state, quota(later), 1, SECOND)[1]
            assert taken.allowed == (later is not earlier)


def test_a_lower_limit_holds_at_once_and_is_told_truly():
    """Half used under 100, then 10 are allowed: what was spent stays spent."""
    for algorithm in Algorithm:
        state, _ = judge(None, quota(algorithm, 100), 50, 20 * SECOND)
        taken = judge(state, quota(algorithm, 10), 1, 20 * SECOND)[1]
        if algorithm is Algorithm.GCRA:
            assert (taken.allowed, taken.remaining) == (True, 4)
            continue
        assert (taken.allowed, taken.remaining) == (False, 0)
        at = 20 * SECOND + taken.retry_after_ns
        assert judge(state, quota(algorithm, 10), 1, at)[1].allowed
        assert not judge(state, quota(algorithm, 10), 1, at - 1)[1].allowed


def test_a_bucket_that_holds_nothing_is_one_nobody_asked():
    """What is left of a bucket when everything in it was put back."""
    assert unspent_at_ns(SECOND, quota()) == SECOND
    assert unspent_at_ns((), quota(Algorithm.EXACT)) == 0
    assert unspent_at_ns(UNSPENT, quota(Algorithm.SLIDING)) == 0
    assert unspent_at_ns(Spent(7, 1, 0), quota(Algorithm.SLIDING)) == 80 * SECOND


@pytest.mark.parametrize("cost", [0, -1, 11])
@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_cost_that_would_never_be_admitted_is_an_error_and_no_refusal(algorithm, cost):
    """A refusal would name an instant at which it is admitted, and there is none."""
    with pytest.raises(ValueError, match=f"between 1 and the burst of its quota, 10, not {cost}"):
        judge(None, quota(algorithm), cost, SECOND)


@pytest.mark.parametrize(
    ("algorithm", "count", "period_ns", "burst", "told"),
    [
        ("gcra", 1, 0, 1, "a period of up to 366 days, not for 0 ns"),
        ("gcra", 1, 367 * 86_400 * SECOND, 1, "a period of up to 366 days"),
        ("gcra", 0, SECOND, 1, "one in its period and one in each microsecond, not 0"),
        ("gcra", 1_000_001, SECOND, 1, "one in each microsecond, not 1000001"),
        ("gcra", 10, SECOND, 11, "between 1 and the count, 10, not 11"),
        ("gcra", 10, SECOND, 0, "between 1 and the count, 10, not 0"),
        ("exact", 101, SECOND, 101, "at most 100, because each is remembered, not 101"),
        ("exact", 10, SECOND, 2, "with exact the burst is the count, 10, not 2"),
        ("sliding", 10, SECOND, 2, "with sliding the burst is the count, 10, not 2"),
    ],
)
def test_a_quota_that_cannot_be_kept_is_refused_in_one_sentence(
    algorithm, count, period_ns, burst, told
):
    """With the figure that was given and what would do."""
    with pytest.raises(ValueError, match=told):
        Quota(algorithm=Algorithm(algorithm), count=count, period_ns=period_ns, burst=burst)
