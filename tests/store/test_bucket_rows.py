"""Many requests are decided from the rows that were read, each as if it had been alone."""

import pytest
from hypothesis import given, strategies as st

from shipworthy.store import Algorithm, Ask, Quota
from shipworthy.store.bucket import Spent, judge
from shipworthy.store.bucket_rows import (
    BucketRow,
    Wish,
    answer_of,
    keys_of,
    kind_of,
    row_of,
    settle,
    state_of,
)

SECOND = 1_000_000_000
NOW = 1_700_000_000 * SECOND
GCRA, EXACT, SLIDING = Algorithm.GCRA, Algorithm.EXACT, Algorithm.SLIDING


def quota(algorithm, count=3, period_ns=60 * SECOND):
    return Quota(algorithm=algorithm, count=count, period_ns=period_ns, burst=count)


def take(*asks):
    return Wish(tuple(asks))


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_batch_admits_what_the_same_requests_one_by_one_would(algorithm):
    """Five requests for three: the first three have it, whether they come together or not."""
    ask = Ask("k", quota(algorithm))
    together = settle([take(ask)] * 5, {}, NOW)
    rows = {}
    alone = []
    for _ in range(5):
        settled = settle([take(ask)], rows, NOW)
        rows.update(settled.rows)
        alone += settled.answers
    assert together.answers == alone
    assert [answer[0].allowed for answer in alone] == [True, True, True, False, False]
    assert together.rows == rows


def test_a_request_takes_from_all_of_its_buckets_or_from_none():
    """What one bucket refuses is not charged to the others, which still have all of it."""
    wide, narrow = Ask("wide", quota(GCRA, 10)), Ask("narrow", quota(EXACT, 1))
    first = settle([take(wide, narrow)], {}, NOW)
    second = settle([take(wide, narrow)], first.rows, NOW)

    assert second.rows == {}
    assert [taken.allowed for taken in second.answers[0]] == [True, False]
    assert second.answers[0][0].remaining == 9


def test_a_refusal_writes_nothing():
    ask = Ask("k", quota(GCRA, 1))
    rows = settle([take(ask)], {}, NOW).rows
    assert settle([take(ask)] * 3, rows, NOW + 1).rows == {}


def test_a_key_that_a_request_names_twice_is_charged_twice():
    ask = Ask("k", quota(EXACT, 3))
    settled = settle([take(ask, ask), take(ask, ask)], {}, NOW)
    assert [all(one.allowed for one in answer) for answer in settled.answers] == [True, False]


@pytest.mark.parametrize("algorithm", Algorithm)
def test_what_was_taken_can_be_put_back(algorithm):
    """The request after it is admitted again; of a key that nobody knows there is nothing."""
    ask = Ask("k", quota(algorithm, 1))
    settled = settle([take(ask), take(ask), Wish((ask,), back=True), take(ask)], {}, NOW)
    assert settled.answers[2] == ()
    assert [answer[0].allowed for answer in settled.answers if answer] == [True, False, True]
    assert settle([Wish((ask,), back=True)], {}, NOW).rows == {}


def test_a_cost_that_could_never_be_paid_is_told_to_its_request_alone():
    dear, fair = Ask("k", quota(GCRA), cost=4), Ask("k", quota(GCRA))
    settled = settle([take(dear), take(fair)], {}, NOW)
    assert isinstance(settled.answers[0], ValueError)
    assert settled.answers[1][0].allowed
    assert isinstance(answer_of([dear], {}, NOW), ValueError)


def test_all_lock_in_one_order():
    """Two requests that name the same keys in other orders cannot wait for one another."""
    a, b = Ask("a", quota(GCRA)), Ask("b", quota(GCRA))
    assert keys_of([take(b, a), take(a, b)]) == ["a", "b"]


@given(
    algorithm=st.sampled_from(Algorithm),
    count=st.integers(1, 100),
    period_ns=st.integers(10**6, 10**16),
    costs=st.lists(st.integers(1, 5), max_size=30),
    step_ns=st.integers(0, 10**12),
)
def test_a_row_holds_all_of_a_state(algorithm, count, period_ns, costs, step_ns):
    """Whatever was spent, what is read from the row is what was written to it."""
    given_quota = quota(algorithm, count, period_ns)
    state, now = None, NOW
    for cost in costs:
        if cost <= count:
            state, _ = judge(state, given_quota, cost, now)
            assert state_of(row_of(state, given_quota)) == state
        now += step_ns


def test_a_row_that_nobody_knows_is_a_bucket_that_was_never_used():
    """A version of ours that writes rows in another way does not stop this one."""
    assert state_of(BucketRow(NOW, b"?12345678")) is None
    assert state_of(BucketRow(NOW, b"s12345678")) is None
    assert state_of(BucketRow(NOW, None)) == NOW
    assert state_of(row_of(Spent(1, 2, 3), quota(SLIDING))) == Spent(1, 2, 3)


def test_each_way_to_count_has_a_letter():
    assert [kind_of(quota(one)) for one in (GCRA, EXACT, SLIDING)] == ["g", "e", "s"]
