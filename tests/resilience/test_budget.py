"""Retries as a share of the traffic."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shipworthy.resilience import RetryBudget


def test_one_retry_for_five_calls() -> None:
    """Without a reserve, five first attempts pay for one retry, and four for none."""
    budget = RetryBudget(reserve_per_second=0)
    for _ in range(4):
        budget.deposit(0.0)
    after_four = budget.spend(0.0)
    budget.deposit(0.0)

    assert [after_four, budget.spend(0.0), budget.spend(0.0)] == [False, True, False]


def test_a_quiet_process_may_retry_from_the_reserve() -> None:
    """One a second, saved for the time to live and no longer."""
    budget = RetryBudget(ratio=0.0)

    at_once = [budget.spend(0.0) for _ in range(2)]
    a_second_on = [budget.spend(1.0) for _ in range(2)]
    much_later = [budget.spend(1000.0) for _ in range(12)]

    assert at_once == [True, False]
    assert a_second_on == [True, False]
    assert much_later == [True] * 10 + [False] * 2


def test_what_was_saved_expires() -> None:
    """Calls older than the time to live pay for nothing."""
    budget = RetryBudget(reserve_per_second=0)
    for _ in range(100):
        budget.deposit(0.0)

    young = budget.statistics(9.9).available
    old = budget.statistics(11.1).available

    assert (young, old) == (20.0, 0.0)


def test_statistics_add_up() -> None:
    """What was put in, taken out and refused is counted for good."""
    budget = RetryBudget(reserve_per_second=0)
    for second in range(50):
        budget.deposit(float(second))
    taken = [budget.spend(49.0) for _ in range(5)]

    seen = budget.statistics(49.0)

    assert (seen.deposits_total, seen.spent_total, seen.refused_total) == (50, 2, 3)
    assert taken == [True, True, False, False, False]


@pytest.mark.parametrize(
    "numbers", [(-0.1,), (1.1,), (0.2, -1.0), (0.2, float("inf")), (0.2, 1.0, 0.0), (float("nan"),)]
)
def test_impossible_numbers_are_refused(numbers: tuple[float, ...]) -> None:
    """A share lies between nothing and all, and times are finite."""
    with pytest.raises(ValueError, match="retry budget"):
        RetryBudget(*numbers)


class Spending(RuleBasedStateMachine):
    """Whatever the order of calls, retries and time: the promise of the class holds."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = RetryBudget()
        self.now = 0.0
        self.deposits = 0
        self.spent = 0

    @rule(times=st.integers(1, 30))
    def call(self, times: int) -> None:
        for _ in range(times):
            self.budget.deposit(self.now)
        self.deposits += times

    @rule(times=st.integers(1, 30))
    def retry(self, times: int) -> None:
        self.spent += sum(self.budget.spend(self.now) for _ in range(times))

    @rule(seconds=st.sampled_from([0.01, 0.4, 1.0, 3.0, 9.99, 10.0, 11.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def retries_are_a_share(self) -> None:
        assert self.spent <= 0.2 * self.deposits + 1.0 * (1 + self.now) + 1e-6

    @invariant()
    def the_books_agree(self) -> None:
        seen = self.budget.statistics(self.now)
        assert seen.available >= 0
        assert (seen.deposits_total, seen.spent_total) == (self.deposits, self.spent)


TestSpending = Spending.TestCase
