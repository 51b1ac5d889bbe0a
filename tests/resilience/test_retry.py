"""What follows a failed attempt."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st

from shipworthy.resilience import (
    Again,
    AskFirst,
    Decision,
    Effect,
    Failure,
    GiveUp,
    RetryRule,
    is_retrying,
    retrying_scope,
)

PASSING = Failure(transient=True, effect=Effect.NONE, because="it was busy")
LOST = Failure(transient=True, effect=Effect.UNKNOWN, because="the answer was lost")
LASTING = Failure(transient=False, effect=Effect.NONE, because="no such table")


def never_asked() -> bool:
    raise AssertionError("the budget was asked, and asking spends it")


def after(
    failure: Failure,
    *,
    attempt: int = 1,
    left_seconds: float = math.inf,
    budget: Callable[[], bool] = lambda: True,
    draw: float = 0.5,
) -> Decision:
    return RetryRule().after(
        failure, attempt=attempt, left_seconds=left_seconds, budget=budget, draw=lambda: draw
    )


def test_a_passing_failure_is_tried_again_after_a_drawn_wait() -> None:
    """The wait is the draw's part of the ceiling: full jitter."""
    assert after(PASSING, draw=0.5) == Again(0.025)
    assert after(PASSING, attempt=2, draw=0.0) == Again(0.0)


def test_a_lost_answer_is_never_run_again_unasked() -> None:
    """Where the effect is unknown, somebody has to find out first."""
    assert after(LOST) == AskFirst(0.025)


def test_a_lasting_failure_costs_no_budget() -> None:
    """What would fail again is not tried again."""
    assert after(LASTING, budget=never_asked) == GiveUp(
        "another attempt would fail as this one did", Effect.NONE
    )


def test_the_last_attempt_is_the_last() -> None:
    """Three attempts are three, and giving up says what the last one may have done."""
    assert after(LOST, attempt=3, budget=never_asked) == GiveUp("3 attempts failed", Effect.UNKNOWN)


def test_a_hopeless_retry_costs_no_budget() -> None:
    """An attempt that would begin after the deadline is not paid for."""
    decision = after(PASSING, left_seconds=0.02, budget=never_asked)

    assert decision == GiveUp(
        "the deadline is 0.02 s away and the next attempt would start in 0.03 s", Effect.NONE
    )


def test_a_target_that_names_a_time_is_given_it_and_the_jitter() -> None:
    """Its callers were all told the same, so the draw is added."""
    failure = Failure(
        transient=True, effect=Effect.NONE, because="too many", retry_after_seconds=2.0
    )

    assert after(failure, draw=0.5) == Again(2.025)


def test_without_budget_there_is_no_retry() -> None:
    """The decision says that it was the budget, for whoever counts."""
    assert after(PASSING, budget=lambda: False) == GiveUp(
        "the retry budget is spent", Effect.NONE, budget_spent=True
    )


@given(
    failure=st.sampled_from([PASSING, LOST, LASTING]),
    attempt=st.integers(1, 10),
    left_seconds=st.floats(-10, 10),
    draw=st.floats(0, 1, exclude_max=True),
    granted=st.booleans(),
)
def test_no_decision_breaks_the_rule(
    failure: Failure, attempt: int, left_seconds: float, draw: float, granted: bool
) -> None:
    """Whatever happens: no wait past the deadline, no attempt too many, none without budget."""
    decision = after(
        failure, attempt=attempt, left_seconds=left_seconds, budget=lambda: granted, draw=draw
    )

    if isinstance(decision, GiveUp):
        assert decision.effect is failure.effect
    else:
        assert isinstance(decision, AskFirst) is (failure is LOST)
        assert granted
        assert failure.transient
        assert attempt < 3
        assert 0 <= decision.wait_seconds < left_seconds


def test_a_rule_makes_at_least_one_attempt() -> None:
    """No attempt at all would be no call."""
    with pytest.raises(ValueError, match="at least one attempt"):
        RetryRule(attempts=0)


def test_only_the_outermost_layer_retries() -> None:
    """A scope says whether there was one around it, and is gone with its block."""
    with retrying_scope() as outer:
        with retrying_scope() as inner:
            inside = is_retrying()
        still = is_retrying()

    assert (outer, inner, inside, still, is_retrying()) == (True, False, True, True, False)
