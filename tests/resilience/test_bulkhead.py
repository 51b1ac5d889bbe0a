"""So many calls at once, and who waits in which order."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shipworthy.errors import Rejected
from shipworthy.events import Event
from shipworthy.resilience import Bulkhead, BulkheadFilled, BulkheadFull
from shipworthy.resilience.bulkhead import Queued


def nobody() -> None:
    raise AssertionError("woken without having queued")


def test_one_more_than_the_limit_is_refused() -> None:
    """Without a queue at once, with a sentence that says so."""
    bulkhead = Bulkhead("payments", 2)
    bulkhead.enter(nobody)
    bulkhead.enter(nobody)

    with pytest.raises(BulkheadFull) as refused:
        bulkhead.enter(nobody)

    assert isinstance(refused.value, Rejected)
    assert (
        str(refused.value)
        == "bulkhead 'payments' is full: 2 calls are under way and none may wait for a place"
    )


def test_a_place_is_handed_to_the_first_in_the_queue() -> None:
    """Nobody overtakes, and the queue is bounded too."""
    bulkhead = Bulkhead("payments", 1, queue=2)
    woken: list[str] = []
    bulkhead.enter(nobody)
    first = bulkhead.enter(lambda: woken.append("first"))
    bulkhead.enter(lambda: woken.append("second"))
    with pytest.raises(BulkheadFull, match="2 wait already"):
        bulkhead.enter(nobody)

    bulkhead.leave()

    assert woken == ["first"]
    assert first is not None
    assert first.granted
    assert bulkhead.statistics().in_use == 1


def test_who_gives_up_leaves_the_queue_or_gives_the_place_back() -> None:
    """A place granted in the moment of giving up goes to the next."""
    bulkhead = Bulkhead("payments", 1, queue=3)
    woken: list[str] = []
    bulkhead.enter(nobody)
    first = bulkhead.enter(lambda: woken.append("first"))
    second = bulkhead.enter(lambda: woken.append("second"))
    bulkhead.enter(lambda: woken.append("third"))
    assert first is not None
    assert second is not None

    bulkhead.abandon(first)
    bulkhead.leave()
    bulkhead.abandon(second)

    assert woken == ["second", "third"]
    assert (bulkhead.statistics().in_use, bulkhead.statistics().waiting) == (1, 0)


def test_that_it_is_full_is_stated_once_until_a_place_is_free(facts: list[Event]) -> None:
    """A thousand refusals are one line, and the count is kept."""
    bulkhead = Bulkhead("payments", 1)
    for _ in range(2):
        bulkhead.enter(nobody)
        for _ in range(3):
            with pytest.raises(BulkheadFull):
                bulkhead.enter(nobody)
        bulkhead.leave()

    assert [type(fact) for fact in facts] == [BulkheadFilled, BulkheadFilled]
    assert bulkhead.statistics().refused_total == 6


def test_the_refusal_of_one_who_waited_says_how_long() -> None:
    """So that a log tells a short queue from a slow target."""
    assert str(Bulkhead("payments", 3, queue=1).overdue(0.5)) == (
        "bulkhead 'payments' is full: 3 calls are under way and none ended within 0.50 s"
    )


@pytest.mark.parametrize("numbers", [(0, 0, 1.0), (1, -1, 1.0), (1, 0, 0.0), (1, 0, float("inf"))])
def test_impossible_numbers_are_refused(numbers: tuple[int, int, float]) -> None:
    """A bulkhead without a place would let nothing through."""
    with pytest.raises(ValueError, match="bulkhead 'payments'"):
        Bulkhead("payments", numbers[0], numbers[1], queue_seconds=numbers[2])


class Entering(RuleBasedStateMachine):
    """Any order of entering, leaving and giving up: no place is lost, none is invented."""

    def __init__(self) -> None:
        super().__init__()
        self.bulkhead = Bulkhead("any", 3, queue=4)
        self.inside = 0
        self.queue: list[Queued] = []
        self.woken = 0

    def _wake(self) -> None:
        self.woken += 1

    @rule()
    def enter(self) -> None:
        try:
            queued = self.bulkhead.enter(self._wake)
        except BulkheadFull:
            assert self.inside == 3
            assert len(self.queue) == 4
            return
        if queued is None:
            self.inside += 1
        else:
            assert self.inside == 3
            self.queue.append(queued)

    @precondition(lambda self: self.inside)
    @rule()
    def leave(self) -> None:
        self.bulkhead.leave()
        if self.queue:
            first = self.queue.pop(0)
            assert first.granted
        else:
            self.inside -= 1

    @precondition(lambda self: self.queue)
    @rule(which=st.integers(0, 3))
    def give_up(self, which: int) -> None:
        self.bulkhead.abandon(self.queue.pop(which % len(self.queue)))

    @invariant()
    def the_books_agree(self) -> None:
        seen = self.bulkhead.statistics()
        assert (seen.in_use, seen.waiting) == (self.inside, len(self.queue))
        assert not any(queued.granted for queued in self.queue)


TestEntering = Entering.TestCase
