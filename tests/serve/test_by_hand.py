"""Breakers that are held open by hand in one process."""

import pytest

from shipworthy.resilience import Breaker, BreakerOpen, BreakerState
from shipworthy.serve.by_hand import ByHand


@pytest.fixture
def breaker():
    """A breaker of this process."""
    return Breaker("by-hand:ledger")


def test_a_breaker_is_held_open_until_it_is_closed(breaker):
    """Every call is refused with the reason; afterwards they pass again."""
    by_hand = ByHand()

    by_hand.isolate(breaker.name, "maintenance")
    with pytest.raises(BreakerOpen, match="maintenance"):
        breaker.admit()
    by_hand.close(breaker.name)

    assert breaker.state is BreakerState.CLOSED
    breaker.admit()


def test_what_is_not_there_is_neither_isolated_nor_remembered():
    """A mistyped name must not meet a breaker of that name later."""
    by_hand = ByHand()

    by_hand.isolate("by-hand:late", "a mistake")
    by_hand.close("by-hand:late")
    late = Breaker("by-hand:late")
    by_hand.carry_out()

    assert late.state is BreakerState.CLOSED


def test_what_was_ordered_before_is_carried_out_when_the_breaker_comes():
    """A worker is told at its start, and makes its breakers when it needs them."""
    by_hand = ByHand()

    by_hand.expect({"by-hand:late": "since yesterday"})
    late = Breaker("by-hand:late")
    before = late.state
    by_hand.carry_out()

    assert before is BreakerState.CLOSED
    assert late.state is BreakerState.ISOLATED
    assert late.statistics().because == "since yesterday"


def test_a_new_breaker_of_an_isolated_name_is_held_open_too(breaker):
    """An engine that is made anew brings a breaker of the same name."""
    by_hand = ByHand()
    by_hand.isolate(breaker.name, "maintenance")

    again = Breaker(breaker.name)
    by_hand.carry_out()

    assert again.state is BreakerState.ISOLATED


def test_what_somebody_else_closed_stays_closed(breaker):
    """The order is carried out once for each breaker, not for ever against the application."""
    by_hand = ByHand()
    by_hand.isolate(breaker.name, "maintenance")

    breaker.close()
    by_hand.carry_out()

    assert breaker.state is BreakerState.CLOSED


@pytest.mark.parametrize("state", [BreakerState.METRICS_ONLY, BreakerState.DISABLED])
def test_a_breaker_goes_back_to_what_its_settings_say(breaker, state):
    """To close it would make it refuse calls from then on; isolated twice changes nothing."""
    by_hand = ByHand()
    breaker.metrics_only() if state is BreakerState.METRICS_ONLY else breaker.disable()

    by_hand.close(breaker.name)
    untouched = breaker.state
    by_hand.isolate(breaker.name, "maintenance")
    by_hand.isolate(breaker.name, "longer maintenance")
    because = breaker.statistics().because
    by_hand.close(breaker.name)

    assert untouched is state
    assert because == "longer maintenance"
    assert breaker.state is state


def test_a_breaker_that_opened_by_itself_is_closed_by_hand(breaker):
    """Whoever knows that the target is back need not wait."""
    breaker.isolate("by the application")

    ByHand().close(breaker.name)

    assert breaker.state is BreakerState.CLOSED
