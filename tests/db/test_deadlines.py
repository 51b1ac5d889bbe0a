"""The heap of deadlines that are set and lifted far more often than they pass."""

from math import inf

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shipworthy.clock import ManualClock
from shipworthy.db.deadlines import Deadlines, Watched


def guard(deadlines: Deadlines, watched: Watched, at: float) -> None:
    watched.at = at
    if not deadlines.covers(watched):
        deadlines.push(watched)


def test_a_deadline_that_was_lifted_is_not_due():
    """What is not guarded any more when its instant comes is dropped from the heap."""
    deadlines, watched = Deadlines(), Watched()
    guard(deadlines, watched, 10.0)

    watched.at = inf

    assert deadlines.due(11.0) == []
    assert deadlines.next() is None
    assert watched.queued == inf


def test_a_deadline_that_moved_later_is_looked_at_again():
    """The heap looks at the first instant, sees the later one, and is due then."""
    deadlines, watched = Deadlines(), Watched()
    guard(deadlines, watched, 10.0)
    guard(deadlines, watched, 20.0)

    early, then = deadlines.due(10.0), deadlines.next()

    assert (early, then) == ([], 20.0)
    assert deadlines.due(20.0) == [watched]


def test_a_deadline_that_moved_earlier_is_due_then_and_once():
    """The older entry of the same thing is passed over."""
    deadlines, watched = Deadlines(), Watched()
    guard(deadlines, watched, 20.0)
    guard(deadlines, watched, 10.0)

    first = deadlines.due(15.0)
    watched.at = inf

    assert first == [watched]
    assert deadlines.due(30.0) == []
    assert len(deadlines) == 0


def test_pushing_says_whether_the_sleeper_must_wake():
    """Only what comes before all others must wake whoever sleeps until the first."""
    deadlines, one, two = Deadlines(), Watched(), Watched()
    one.at, two.at = 10.0, 20.0

    assert deadlines.push(one) is True
    assert deadlines.push(two) is False


def test_guarding_again_and_again_leaves_one_entry():
    """Ten thousand statements on one connection do not make ten thousand entries."""
    deadlines, watched = Deadlines(), Watched()

    for instant in range(10_000):
        guard(deadlines, watched, 30.0 + instant)
        watched.at = inf

    assert len(deadlines) == 1


class Guarding(RuleBasedStateMachine):
    """Three things, guarded and lifted at will: each is due exactly when its deadline passes."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.deadlines = Deadlines()
        self.things = [Watched() for _ in range(3)]

    @rule(which=st.integers(0, 2), seconds=st.sampled_from((0.0, 0.5, 1.0, 3.0, 30.0)))
    def guard(self, which, seconds):
        guard(self.deadlines, self.things[which], self.clock.now() + seconds)

    @rule(which=st.integers(0, 2))
    def lift(self, which):
        self.things[which].at = inf

    @rule(seconds=st.sampled_from((0.0, 0.25, 0.5, 1.0, 5.0, 60.0)))
    def advance(self, seconds):
        self.clock.advance(seconds)
        expected = {id(thing) for thing in self.things if thing.at <= self.clock.now()}

        over = self.deadlines.due(self.clock.now())

        assert {id(thing) for thing in over} == expected
        assert len(over) == len(expected)
        for thing in over:
            thing.at = inf

    @invariant()
    def somebody_looks_in_time(self):
        for thing in self.things:
            assert thing.at == inf or self.deadlines.next() <= thing.at


TestGuarding = pytest.mark.slow(Guarding.TestCase)
