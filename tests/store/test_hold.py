"""Work under a lease: waits within bounds, counts on its own clock, gives back."""

import pytest

from shipworthy.clock import ManualClock
from shipworthy.store import LeaseBusy, LeaseLost, MemoryLeases, hold_lease
from shipworthy.store.hold import holder_here


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def leases(clock):
    return MemoryLeases(clock)


def test_the_block_has_it_and_gives_it_back_even_when_it_fails(leases, clock):
    with (
        pytest.raises(RuntimeError, match="of the block"),
        hold_lease(leases, "seal", seconds=5, clock=clock) as held,
    ):
        assert held.token == 1
        assert held.left_seconds() == 5
        raise RuntimeError("of the block")
    assert leases.take("seal", holder="b", seconds=5).token == 2


def test_one_who_waits_gets_it_when_the_other_ends(leases, clock):
    """It asks again until then."""
    leases.take("seal", holder="a", seconds=1)
    with hold_lease(
        leases, "seal", seconds=5, wait_seconds=3, clock=clock, wait=clock.advance
    ) as held:
        assert held.token == 2


def test_one_who_waited_in_vain_is_told_who_has_it(leases, clock):
    began = clock.now()
    leases.take("seal", holder="worker 7", seconds=60)
    with (
        pytest.raises(LeaseBusy, match=r"'seal' is held by worker 7; waited 3 s"),
        hold_lease(leases, "seal", seconds=5, wait_seconds=3, clock=clock, wait=clock.advance),
    ):
        pass
    assert clock.now() - began == pytest.approx(3)


def test_keeping_it_renews_once_half_of_it_is_over(leases, clock):
    with hold_lease(leases, "seal", seconds=6, clock=clock) as held:
        first = leases.look("seal").until_microseconds
        clock.advance(2)
        held.keep()
        assert leases.look("seal").until_microseconds == first
        clock.advance(2)
        held.keep()
        assert leases.look("seal").until_microseconds == first + 4_000_000
        assert held.left_seconds() == 6


def test_one_that_was_taken_meanwhile_is_lost_and_not_given_back(leases, clock):
    with hold_lease(leases, "seal", seconds=5, clock=clock) as held:
        clock.advance(5)
        assert held.left_seconds() == 0
        leases.take("seal", holder="b", seconds=60)
        with pytest.raises(LeaseLost, match="is with b now"):
            held.renew()
    assert leases.look("seal").holder == "b"


def test_a_slow_answer_is_taken_from_what_is_left(clock):
    """The time is counted from before the question, so it ends here first."""

    class Slow(MemoryLeases.__mro__[1]):
        def take(self, name, *, holder, seconds):
            lease = inner.take(name, holder=holder, seconds=seconds)
            clock.advance(2)
            return lease

        def give_back(self, lease):
            return inner.give_back(lease)

    inner = MemoryLeases(clock)
    with hold_lease(Slow(), "seal", seconds=5, clock=clock) as held:
        assert held.left_seconds() == 3


def test_two_holders_of_one_process_have_names_of_their_own():
    assert holder_here() != holder_here()
