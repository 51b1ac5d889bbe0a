"""Who has a lease is decided by the row, the store's time and the token, and by nothing else."""

import pytest
from hypothesis import given, settings, strategies as st

from shipworthy.store.lease import Lease, LeaseRow, give_back, held, renew, take

SECOND = 1_000_000


def row(holder: str = "a", token: int = 1, until: int = 10 * SECOND) -> LeaseRow:
    return LeaseRow(name="seal", holder=holder, token=token, until_microseconds=until)


def lease(holder: str = "a", token: int = 1) -> Lease:
    return Lease(name="seal", holder=holder, token=token)


def asked(found: LeaseRow | None, holder: str, now: int) -> LeaseRow | None:
    return take(found, name="seal", holder=holder, now_microseconds=now, seconds=5)


def test_a_lease_nobody_ever_had_is_given_with_the_first_token():
    assert asked(None, "a", 0) == row(until=5 * SECOND)


def test_one_that_is_held_is_given_to_nobody_not_even_to_its_holder():
    """Two threads of one name would both go on under the same token."""
    assert asked(row(), "b", 9 * SECOND) is None
    assert asked(row(), "a", 9 * SECOND) is None


def test_at_its_end_it_may_be_taken_under_the_next_token():
    assert asked(row(), "b", 10 * SECOND) == row("b", 2, 15 * SECOND)


def test_one_that_was_given_back_is_free_at_once_and_its_token_is_not_given_again():
    free = give_back(row(token=7), lease(token=7))
    assert free is not None
    assert not held(free, now_microseconds=0)
    assert asked(free, "b", 0) == row("b", 8, 5 * SECOND)
    assert renew(free, lease(token=7), now_microseconds=0, seconds=5) is None


def test_who_lost_it_neither_renews_nor_gives_it_back():
    taken = row("b", 2)
    assert renew(taken, lease(), now_microseconds=0, seconds=5) is None
    assert give_back(taken, lease()) is None
    assert renew(None, lease(), now_microseconds=0, seconds=5) is None
    assert give_back(None, lease()) is None


def test_one_that_ran_out_and_that_nobody_took_is_renewed():
    assert renew(row(), lease(), now_microseconds=60 * SECOND, seconds=5) == row(until=65 * SECOND)


def test_a_clock_that_went_back_takes_nothing_of_the_time_that_was_given():
    assert renew(row(), lease(), now_microseconds=0, seconds=5) == row()


@pytest.mark.parametrize(
    ("name", "holder"), [("", "a"), ("n" * 101, "a"), ("n", ""), ("n", "h" * 201)]
)
def test_names_that_the_table_cannot_hold_are_refused(name, holder):
    with pytest.raises(ValueError, match="has a name of 1 to"):
        take(None, name=name, holder=holder, now_microseconds=0, seconds=5)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_a_lease_for_no_time_is_refused(seconds):
    with pytest.raises(ValueError, match="longer than 0 s"):
        take(None, name="seal", holder="a", now_microseconds=0, seconds=seconds)


steps = st.lists(
    st.tuples(
        st.sampled_from(["take", "renew", "back", "pass"]), st.integers(0, 2), st.integers(1, 9)
    ),
    max_size=60,
)


@given(steps=steps)
@settings(max_examples=200)
def test_tokens_only_grow_and_no_two_hold_it_at_one_time(steps):
    """Whatever three of them try, in any order and with time passing."""
    now, found = 0, None
    had: dict[int, Lease] = {}
    last = 0
    for what, who, seconds in steps:
        if what == "pass":
            now += seconds * SECOND
            continue
        before = found
        if what == "take":
            after = take(
                found, name="seal", holder=f"h{who}", now_microseconds=now, seconds=seconds
            )
            if after is not None:
                assert before is None or not held(before, now_microseconds=now)
                assert after.token == last + 1
                last, had[who] = (
                    after.token,
                    Lease(name="seal", holder=f"h{who}", token=after.token),
                )
                found = after
        elif who in had:
            after = (
                renew(found, had[who], now_microseconds=now, seconds=seconds)
                if what == "renew"
                else give_back(found, had[who])
            )
            if after is not None:
                assert had[who].token == last
                found = after
        assert found is None or found.token == last
