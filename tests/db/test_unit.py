"""What follows a failed attempt of a unit is decided from facts, and always comes to an end."""

from math import inf

import pytest
from hypothesis import given, strategies as st

from shipworthy.db.outcome import Outcome
from shipworthy.db.unit import (
    CONTENTION,
    WAITS_WITHOUT_DEADLINE,
    AskDatabase,
    CommitAnswer,
    Done,
    Unit,
    UnitFailure,
    UnitOver,
)
from shipworthy.resilience import Again, RetryRule

AGAIN = (Outcome.RERUN, Outcome.LOST, Outcome.NOT_SENT, Outcome.STALE_PLAN)
NEVER_AGAIN = tuple(outcome for outcome in Outcome if outcome not in AGAIN)


def failure(outcome: Outcome = Outcome.RERUN, **facts: object) -> UnitFailure:
    return UnitFailure(outcome=outcome, because="it did", **facts)  # type: ignore[arg-type]


def lost_in_commit(**facts: object) -> UnitFailure:
    return failure(Outcome.AMBIGUOUS, in_commit=True, **({"askable": True} | facts))


class Told:
    """What is asked of a unit, with plenty of time and budget where nothing else is said."""

    def __init__(self, *, attempts: int = 3, repeats: bool = True) -> None:
        self.unit = Unit(RetryRule(attempts=attempts), repeats=repeats)
        self.left_seconds = inf
        self.paid: list[Outcome] = []
        self.rich = True

    def spend(self, outcome: Outcome) -> bool:
        self.paid.append(outcome)
        return self.rich

    def failed(self, what: UnitFailure) -> object:
        return self.unit.failed(
            what, left_seconds=self.left_seconds, spend=self.spend, draw=lambda: 0.5
        )

    def answered(self, answer: CommitAnswer) -> object:
        return self.unit.answered(
            answer, left_seconds=self.left_seconds, spend=self.spend, draw=lambda: 0.5
        )


@pytest.mark.parametrize("outcome", AGAIN)
def test_what_was_not_applied_is_run_again_after_a_wait_and_paid_for(outcome):
    """Half of the ceiling of 50 ms, because 0.5 was drawn."""
    told = Told()

    assert told.failed(failure(outcome)) == Again(0.025)
    assert told.paid == [outcome]


@pytest.mark.parametrize("outcome", NEVER_AGAIN)
def test_everything_else_is_raised_as_it_is(outcome):
    """A deadline, a constraint, a full disk: another attempt would meet it again, or do harm."""
    told = Told()

    assert told.failed(failure(outcome)) == UnitOver("it did")
    assert told.paid == []


def test_without_a_deadline_the_waiting_for_a_connect_has_an_end():
    """A host that does not exist will not exist in an hour either."""
    told, away = Told(), failure(Outcome.NOT_SENT, connected=False)
    further = 0
    while isinstance(told.failed(away), Again):
        further += 1
    told.left_seconds = 60.0

    assert further == WAITS_WITHOUT_DEADLINE - 1
    assert isinstance(told.failed(away), Again)


def test_without_a_deadline_the_asking_has_an_end():
    """Then the COMMIT is lost."""
    told = Told()
    told.failed(lost_in_commit())
    asked = 1
    while isinstance(follows := told.answered(CommitAnswer.OPEN), AskDatabase):
        asked += 1

    assert asked == WAITS_WITHOUT_DEADLINE
    assert isinstance(follows, UnitOver)
    assert follows.lost


def test_what_is_ambiguous_somewhere_else_is_not_asked_about():
    """A statement of another engine in autocommit: its outcome is not in our hands."""
    assert Told().failed(failure(Outcome.AMBIGUOUS, askable=True)) == UnitOver("it did")


def test_attempts_come_to_an_end():
    """Three attempts are two further ones."""
    told = Told()

    assert [type(told.failed(failure())) for _ in range(3)] == [Again, Again, UnitOver]


def test_a_stale_plan_is_made_anew_once():
    """The second time it is no coincidence."""
    told = Told(attempts=10)

    assert isinstance(told.failed(failure(Outcome.STALE_PLAN)), Again)
    assert told.failed(failure(Outcome.STALE_PLAN)) == UnitOver("a new plan did not fit either")


def test_a_spent_budget_ends_it():
    """Conflicts and losses are paid from different budgets: the outcome says which."""
    told = Told()
    told.rich = False

    assert told.failed(failure(Outcome.LOST)) == UnitOver("the retry budget is spent")
    assert told.paid == [Outcome.LOST]
    assert Outcome.LOST not in CONTENTION


def test_no_wait_goes_beyond_the_deadline():
    """The next attempt would start in 25 ms, and there are 20."""
    told = Told()
    told.left_seconds = 0.02

    assert isinstance(told.failed(failure()), UnitOver)
    assert told.paid == []


def test_inside_a_layer_that_retries_there_is_one_attempt():
    """Layers that all retry multiply."""
    told = Told(repeats=False)

    assert told.failed(failure()) == UnitOver("whoever called it retries already")


def test_while_nobody_can_connect_only_the_deadline_ends_it():
    """Ten refused connects are no ten attempts, and cost no budget."""
    told = Told()
    told.rich = False

    for _ in range(10):
        assert isinstance(told.failed(failure(Outcome.NOT_SENT, connected=False)), Again)
    told.left_seconds = 0.2
    assert isinstance(told.failed(failure(Outcome.NOT_SENT, connected=False)), UnitOver)
    assert told.paid == []


def test_whoever_says_when_is_waited_for():
    """Its time, and the jitter on top."""
    told_when = failure(Outcome.NOT_SENT, retry_after_seconds=1.0)

    assert Told().failed(told_when) == Again(1.025)


def test_while_nobody_can_connect_no_wait_is_longer_than_half_a_second():
    """A restart is over in a second or two, and nobody shall sleep on."""
    told = Told()
    waits = [told.failed(failure(Outcome.NOT_SENT, connected=False)) for _ in range(8)]

    assert waits[0] == Again(0.025)
    assert waits[-1] == Again(0.25)


def test_a_unit_that_committed_something_is_not_run_again():
    """Whether it failed afterwards, or its own COMMIT was lost and found not to have happened."""
    told = Told()
    applied = UnitOver("it has committed something by itself", applied=True)

    assert told.failed(failure(applied=True)) == applied
    assert told.failed(lost_in_commit(applied=True)) == AskDatabase(0.0)
    assert told.answered(CommitAnswer.NEVER) == applied
    assert told.failed(failure(Outcome.PERMANENT, applied=True)) == UnitOver("it did")


def test_a_lost_commit_of_nothing_is_a_lost_connection():
    """What wrote nothing may run twice."""
    told = Told()

    assert isinstance(told.failed(lost_in_commit(writes=False)), Again)
    assert told.paid == [Outcome.LOST]


def test_a_lost_commit_that_nobody_can_ask_about_is_lost():
    """It is never guessed."""
    ended = Told().failed(lost_in_commit(askable=False))

    assert isinstance(ended, UnitOver)
    assert ended.lost


def test_a_lost_commit_is_asked_about_and_the_answer_decides():
    """At once first; then again while it is open; committed is done."""
    told = Told()

    assert told.failed(lost_in_commit()) == AskDatabase(0.0)
    assert told.answered(CommitAnswer.OPEN) == AskDatabase(0.05 * 0.75)
    assert told.answered(CommitAnswer.OPEN) == AskDatabase(0.1 * 0.75)
    assert told.answered(CommitAnswer.COMMITTED) == Done()
    assert told.paid == []


def test_what_was_not_committed_is_run_again_and_paid_for_as_a_conflict():
    """A database that has just answered is not overloaded."""
    told = Told()
    told.failed(lost_in_commit())

    assert told.answered(CommitAnswer.NEVER) == Again(0.025)
    assert told.paid == [Outcome.RERUN]


def test_each_lost_commit_is_asked_about_anew():
    """The wait between questions begins at once again."""
    told = Told()
    told.failed(lost_in_commit())
    told.answered(CommitAnswer.OPEN)
    told.answered(CommitAnswer.NEVER)

    assert told.failed(lost_in_commit()) == AskDatabase(0.0)
    assert told.answered(CommitAnswer.OPEN) == AskDatabase(0.05 * 0.75)


def test_a_database_that_cannot_say_leaves_it_lost():
    """After a failover the number of a transaction means nothing."""
    told = Told()
    told.failed(lost_in_commit())
    ended = told.answered(CommitAnswer.UNKNOWN)

    assert isinstance(ended, UnitOver)
    assert ended.lost


def test_no_answer_by_the_deadline_leaves_it_lost():
    """Nobody asks beyond it."""
    told = Told()
    told.failed(lost_in_commit())
    told.left_seconds = 0.03
    ended = told.answered(CommitAnswer.OPEN)

    assert isinstance(ended, UnitOver)
    assert ended.lost
    assert "asked 1 times" in ended.because


FAILURES = st.builds(
    UnitFailure,
    outcome=st.sampled_from(Outcome),
    because=st.just("it did"),
    connected=st.booleans(),
    in_commit=st.booleans(),
    writes=st.booleans(),
    askable=st.booleans(),
    applied=st.booleans(),
    retry_after_seconds=st.none() | st.floats(0.0, 5.0),
)


@pytest.mark.slow
@given(
    failures=st.lists(st.tuples(FAILURES, st.lists(st.sampled_from(CommitAnswer)))),
    attempts=st.integers(1, 5),
    total_seconds=st.floats(0.0, 10.0),
    repeats=st.booleans(),
    drawn=st.floats(0.0, 0.999),
)
def test_whatever_happens_nothing_is_applied_twice_and_it_ends(
    failures, attempts, total_seconds, repeats, drawn
):
    """A simulated database is true to its answers; the unit must be true to its promise."""
    unit = Unit(RetryRule(attempts=attempts), repeats=repeats)
    left, paid, runs = total_seconds, 0, 1

    def spend(outcome: Outcome) -> bool:
        nonlocal paid
        paid += 1
        return paid < 20

    for what, answers in failures:
        follows: object = unit.failed(what, left_seconds=left, spend=spend, draw=lambda: drawn)
        open_commit = what.in_commit and what.outcome is Outcome.AMBIGUOUS and what.writes
        said: CommitAnswer | None = None
        replies = iter(answers)
        while isinstance(follows, AskDatabase):
            assert open_commit
            assert what.askable
            assert follows.wait_seconds <= left or follows.wait_seconds == 0.0
            left -= follows.wait_seconds
            said = next(replies, CommitAnswer.UNKNOWN)
            follows = unit.answered(said, left_seconds=left, spend=spend, draw=lambda: drawn)
        if isinstance(follows, Done):
            assert said is CommitAnswer.COMMITTED
            return
        if isinstance(follows, UnitOver):
            assert follows.lost == (open_commit and said is not CommitAnswer.NEVER)
            return
        assert isinstance(follows, Again)
        # Run again: only what cannot have been applied, in time, and once for each layer.
        assert not what.applied
        assert repeats
        assert follows.wait_seconds < left
        lost_for_nothing = what.outcome is Outcome.AMBIGUOUS and what.in_commit and not what.writes
        assert what.outcome in AGAIN or lost_for_nothing or said is CommitAnswer.NEVER
        left -= follows.wait_seconds
        runs += what.connected
    assert runs <= attempts
