"""What happens again and again is said now and then, with how often it was not said."""

from itertools import pairwise

from hypothesis import given, strategies as st

from shipworthy.events import Seldom


def test_it_is_said_at_once_and_again_when_its_time_is_over() -> None:
    """The first says that it began, and each later one how often it was since."""
    seldom = Seldom(60.0)

    assert seldom.held_back("write", 0.0) == 0
    assert [seldom.held_back("write", now) for now in (0.0, 30.0, 59.9)] == [None] * 3
    assert seldom.held_back("write", 60.0) == 3
    assert seldom.held_back("write", 120.0) == 0


def test_one_thing_does_not_keep_another_from_being_said() -> None:
    """What fails all the time must not hide what begins to."""
    seldom = Seldom(60.0)
    seldom.held_back("write", 0.0)

    assert seldom.held_back("read", 1.0) == 0


@given(st.lists(st.integers(0, 40), max_size=60))
def test_nothing_is_lost_and_no_two_are_too_near(quarters: list[int]) -> None:
    """All that happened is what was said, what was held back, and what still waits to be told."""
    seldom, now, said, told = Seldom(5.0), 0.0, list[float](), 0
    for step in quarters:
        # Quarters of a second add up exactly, which other fractions do not.
        now += step / 4
        held_back = seldom.held_back("it", now)
        if held_back is not None:
            said.append(now)
            told += 1 + held_back
    waiting = seldom.held_back("it", now + 5.0)

    assert waiting is not None
    assert told + waiting == len(quarters)
    assert all(later - earlier >= 5.0 for earlier, later in pairwise(said))
