from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from shipworthy.db import Outcome
from shipworthy.resilience import RetryRule
from shipworthy.web.again import FAILURES, RUNS, RunFacts, Withheld, after

LOST = RunFacts(
    number=1,
    outcomes=(Outcome.LOST,),
    commits=0,
    strays=0,
    calls_out=0,
    begun=False,
    torn=False,
    gone=False,
)
UNDONE = [Outcome.RERUN, Outcome.STALE_PLAN, Outcome.LOST, Outcome.NOT_SENT]


def verdict(run, *, left_seconds=10.0, budget=lambda: True, draw=0.5):
    return after(
        run,
        rule=RetryRule(attempts=RUNS),
        left_seconds=left_seconds,
        budget=budget,
        draw=lambda: draw,
    )


@pytest.mark.parametrize("outcome", UNDONE)
def test_a_run_of_which_nothing_is_left_is_run_again(outcome):
    """After a wait that is drawn from a ceiling that doubles."""
    run = replace(LOST, outcomes=(outcome,))

    assert verdict(run) == 0.025
    assert verdict(replace(run, number=3)) == 0.1


@pytest.mark.parametrize("outcome", sorted(set(Outcome) - set(UNDONE)))
def test_a_run_that_may_have_left_something_or_would_fail_again_is_not(outcome):
    """One such failure is enough."""
    assert verdict(replace(LOST, outcomes=(Outcome.LOST, outcome))) is Withheld.OUTCOME


def test_a_run_in_which_everything_fails_is_not():
    """More failures than are noted of a run would be overlooked otherwise."""
    assert verdict(replace(LOST, outcomes=(Outcome.LOST,) * FAILURES)) == 0.025
    assert verdict(replace(LOST, outcomes=(Outcome.LOST,) * (FAILURES + 1))) is Withheld.OUTCOME


@pytest.mark.parametrize(
    ("fact", "because"),
    [
        ({"begun": True}, Withheld.BEGUN),
        ({"commits": 1}, Withheld.COMMITTED),
        ({"strays": 1}, Withheld.STRAY),
        ({"calls_out": 1}, Withheld.CALLED_OUT),
        ({"torn": True}, Withheld.TORN),
        ({"gone": True}, Withheld.GONE),
        ({"number": RUNS}, Withheld.RUNS),
        ({"retry_after_seconds": 10.0}, Withheld.TIME),
    ],
)
def test_each_reason_by_itself_is_enough(fact, because):
    """And is the one that is told."""
    assert verdict(replace(LOST, **fact)) is because


def test_a_database_that_names_a_time_is_given_it():
    """On top of the draw, because what it names is the same for all."""
    assert verdict(replace(LOST, retry_after_seconds=1.0)) == 1.025


def test_the_budget_is_asked_last_and_its_no_holds():
    """A replay that is not made anyway takes nothing from the others."""
    asked = []

    assert verdict(replace(LOST, commits=1), budget=lambda: asked.append(1)) is Withheld.COMMITTED
    assert verdict(LOST, left_seconds=0.0, budget=lambda: asked.append(1)) is Withheld.TIME
    assert asked == []
    assert verdict(LOST, budget=lambda: False) is Withheld.BUDGET


RUN = st.builds(
    RunFacts,
    number=st.integers(1, 6),
    outcomes=st.lists(st.sampled_from(Outcome), min_size=1, max_size=16),
    commits=st.integers(0, 2),
    calls_out=st.integers(0, 2),
    begun=st.booleans(),
    torn=st.booleans(),
    gone=st.booleans(),
    retry_after_seconds=st.floats(0, 30),
)


@given(RUN, st.floats(-1, 60), st.booleans())
def test_no_run_with_an_effect_is_ever_run_again(run, left_seconds, has_budget):
    """Whatever else is true; and none begins after the time is over."""
    said = verdict(run, left_seconds=left_seconds, budget=lambda: has_budget)

    if isinstance(said, float):
        assert set(run.outcomes) <= set(UNDONE)
        assert not any((run.commits, run.calls_out, run.begun, run.torn, run.gone))
        assert run.number < RUNS
        assert said < left_seconds
        assert has_budget
