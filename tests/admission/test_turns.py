"""Who is next, who waits in vain, and how many are let in at once."""

from math import inf

import pytest
from hypothesis import given, strategies as st

from shipworthy.admission import RANKS, SHARES, Stride, Turns
from shipworthy.admission.turns import LEAST, MOST

FREE = {"inside": 0, "limit": inf}


def waits(turns, *names, rank="default", now=10.0):
    return [turns.wait(rank, since=now, now=now, ticket=name) for name in names]


def order(turns, now=10.0, **room):
    told = []
    while (found := turns.next(now, **{**FREE, **room})) is not None:
        told.append(found.ticket)
    return told


def slow(turns, *, now=10.0, interval=0.1):
    """Let the turns learn that one is served every `interval`."""
    waits(turns, *range(20), now=now)
    for number in range(5):
        turns.next(now + number * interval, **FREE)
    turns.look(now + 5 * interval)
    while turns.next(now + 5 * interval, **FREE) is not None:
        pass


def test_they_are_served_in_the_order_they_came_and_the_important_first():
    """As long as there is room for all who wait."""
    turns = Turns(wait_seconds=0.5)
    waits(turns, "a", "b")
    waits(turns, "later", rank="sheddable")
    waits(turns, "first", rank="critical")
    assert len(turns) == 4
    assert turns.oldest() == 10.0
    assert order(turns) == ["first", "a", "b", "later"]
    assert turns.oldest() == inf
    assert not turns


def test_each_rank_fills_its_share_of_the_limit():
    """What is left is for those before it; one at a time is always served."""
    turns = Turns(wait_seconds=0.5)
    waits(turns, "s", rank="sheddable")
    assert turns.next(10.0, inside=7, limit=10.0) is None
    waits(turns, "d")
    assert turns.next(10.0, inside=9, limit=10.0) is None
    waits(turns, "c", rank="critical")
    assert turns.next(10.0, inside=9, limit=10.0).ticket == "c"
    assert turns.next(10.0, inside=8, limit=10.0).ticket == "d"
    assert turns.next(10.0, inside=0, limit=1.0).ticket == "s"


def test_no_more_wait_than_are_served_in_the_time_they_may_wait():
    """At ten a second and half a second five may; the oldest goes, and then the last is first."""
    turns = Turns(wait_seconds=0.5)
    assert turns.room == MOST
    slow(turns)
    assert turns.room == 5
    waits(turns, *"abcdefg", now=20.0)
    waits(turns, "c", rank="critical", now=20.0)
    assert [one.ticket for one in turns.too_many(20.0)] == ["a", "b", "c"]
    assert order(turns, now=20.1) == ["c", "g", "f", "e", "d"]
    waits(turns, "x", "y", now=30.0)
    assert turns.too_many(30.0) == []
    assert order(turns, now=30.0) == ["x", "y"]


def test_the_last_rank_goes_first():
    """However long the others have waited."""
    turns = Turns(wait_seconds=0.5)
    slow(turns)
    waits(turns, "c1", "c2", rank="critical", now=20.0)
    waits(turns, "d1", "d2", "d3", now=20.1)
    waits(turns, "s1", rank="sheddable", now=20.2)
    assert [one.ticket for one in turns.too_many(20.2)] == ["s1"]


def test_however_slow_it_is_a_few_may_wait():
    """Else nobody would be there when the next may go in."""
    turns = Turns(wait_seconds=0.5)
    slow(turns, interval=2.0)
    assert turns.room == LEAST


def test_the_pace_is_believed_by_halves():
    """One slow round does not turn away a crowd, and one fast round does not let it wait."""
    turns = Turns(wait_seconds=0.5)
    slow(turns, interval=0.1)
    slow(turns, now=20.0, interval=0.02)
    assert turns.room == int(0.5 / 0.06)


def test_nothing_is_measured_while_nobody_waits_or_too_few_had_their_turn():
    """A service that is asked seldom is not slow."""
    turns = Turns(wait_seconds=0.5)
    turns.look(10.0)
    waits(turns, "a", "b")
    turns.look(10.5)
    assert turns.room == MOST
    turns.look(11.5)
    assert turns.room == LEAST


def test_in_an_overload_nobody_waits_longer_than_the_bound():
    """Otherwise only until their own deadline."""
    turns = Turns(wait_seconds=0.5)
    waits(turns, "a")
    turns.wait("default", since=10.0, now=10.0, ticket="hurried", deadline=10.2)
    assert [one.ticket for one in turns.in_vain(10.3, overloaded=False)] == ["hurried"]
    assert turns.in_vain(10.49, overloaded=True) == []
    assert turns.in_vain(10.51, overloaded=False) == []
    assert [one.ticket for one in turns.in_vain(10.51, overloaded=True)] == ["a"]
    assert not turns


def test_who_does_not_wait_any_more_is_forgotten():
    """And is not missed when it had its turn."""
    turns = Turns(wait_seconds=0.5)
    (one,) = waits(turns, "a")
    turns.leave(one)
    turns.leave(one)
    assert turns.next(10.0, **FREE) is None


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["wait", "next", "vain", "many", "look"]), st.sampled_from(RANKS)
        ),
        max_size=150,
    )
)
def test_each_has_its_turn_or_goes_once(steps):
    """Nobody is lost or served twice; and who is next is never of a rank behind another's."""
    turns = Turns(wait_seconds=0.3)
    now, waiting = 10.0, {}
    for number, (step, rank) in enumerate(steps):
        now += 0.02
        gone = []
        if step == "wait":
            waiting[turns.wait(rank, since=now, now=now, ticket=number).ticket] = rank
        elif step == "next":
            found = turns.next(now, inside=7, limit=10.0)
            if found is None:
                assert all(SHARES[rank] * 10 <= 7 for rank in waiting.values())
            else:
                gone = [found]
                assert RANKS.index(found.rank) == min(map(RANKS.index, waiting.values()))
        elif step == "vain":
            gone = turns.in_vain(now, overloaded=True)
            assert all(now - one.since >= 0.3 for one in gone)
        elif step == "many":
            gone = turns.too_many(now)
            assert len(turns) <= turns.room
        else:
            turns.look(now)
        for one in gone:
            del waiting[one.ticket]
        assert len(turns) == len(waiting)


def test_the_stride_follows_what_they_take():
    """Many of those that only wait, one of those that compute; half as many at each look."""
    stride = Stride()
    assert stride.turns == 1
    for _ in range(12):
        stride.took(stride.turns, 0.001)
    assert stride.turns == 256
    stride.took(3, 0.001)
    stride.took(256, 0.007)
    assert stride.turns == 256
    for _ in range(9):
        stride.took(stride.turns, 0.025)
    assert stride.turns == 1
