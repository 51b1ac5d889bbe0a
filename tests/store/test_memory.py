"""Leases in memory: what all stores of leases do is in test_port, here is what only this one is."""

from shipworthy.clock import ManualClock
from shipworthy.store import MemoryLeases


def test_two_stores_know_nothing_of_each_other():
    """A lease is worth what is shared: two that live in memory share nothing."""
    clock = ManualClock()
    first, second = MemoryLeases(clock), MemoryLeases(clock)
    assert first.take("seal", holder="a", seconds=5)
    assert second.look("seal") is None
    assert second.take("seal", holder="b", seconds=5).token == 1


def test_its_end_is_told_by_the_clock_it_was_given():
    """In microseconds, as in a table."""
    clock = ManualClock()
    leases = MemoryLeases(clock)
    leases.take("seal", holder="a", seconds=5)
    row = leases.look("seal")
    assert (row.holder, row.until_microseconds) == ("a", int((clock.now() + 5) * 1_000_000))


def test_a_lease_that_is_not_held_is_neither_renewed_nor_given_back():
    """And nothing is written by that."""
    clock = ManualClock()
    leases = MemoryLeases(clock)
    lease = leases.take("seal", holder="a", seconds=5)
    other = MemoryLeases(clock)
    assert not other.renew(lease, seconds=5)
    assert not other.give_back(lease)
    assert other.look("seal") is None
