"""The ceiling of the wait between attempts."""

import pytest

from shipworthy.resilience import Backoff


def test_the_ceiling_doubles_up_to_its_cap() -> None:
    """50 ms, then twice as long each time, never more than 2 s."""
    ceilings = [Backoff().ceiling(attempt) for attempt in range(1, 9)]

    assert ceilings == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_a_number_beyond_floats_is_the_cap() -> None:
    """An attempt number that no float can hold the power of waits for the cap."""
    assert Backoff().ceiling(100_000) == 2.0


@pytest.mark.parametrize(
    "numbers",
    [(0.0,), (-1.0,), (3.0, 2.0, 2.0), (1.0, 0.5), (1.0, 2.0, float("inf")), (float("nan"),)],
)
def test_numbers_that_cannot_be_waited_for_are_refused(numbers: tuple[float, ...]) -> None:
    """A backoff that is negative, shrinks, or never ends is found when it is made."""
    with pytest.raises(ValueError, match="a backoff"):
        Backoff(*numbers)
