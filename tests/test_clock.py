"""Clocks that can be handed in."""

import time

import pytest

from shipworthy.clock import SYSTEM_CLOCK, ManualClock


def test_the_system_clock_reads_the_machine():
    """`now` is monotonic time and `wall` is Unix time."""
    assert SYSTEM_CLOCK.now() == pytest.approx(time.monotonic(), abs=1)
    assert SYSTEM_CLOCK.wall() == pytest.approx(time.time(), abs=1)


def test_a_manual_clock_moves_only_when_told():
    """Both readings go forward by the same length, and stand still otherwise."""
    clock = ManualClock(now=10.0, wall=100.0)

    clock.advance(2.5)

    assert (clock.now(), clock.wall()) == (12.5, 102.5)
    assert (clock.now(), clock.wall()) == (12.5, 102.5)


def test_a_manual_clock_does_not_go_back():
    """A negative length is a mistake of the test that asks for it."""
    clock = ManualClock()

    with pytest.raises(ValueError, match=r"asked to advance by -1 s"):
        clock.advance(-1)
