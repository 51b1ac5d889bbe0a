"""How far back a condition looks, and how it is made shorter for a drill."""

import pytest

from deploy.sample import CAPACITY, IN_USE, LAG, REQUESTS, SECONDS, SEEN
from shipworthy.deploy.windows import shortened_condition, windows_seconds
from shipworthy.events import (
    Absent,
    Age,
    Both,
    Combined,
    Compared,
    Condition,
    Increase,
    Number,
    Quantile,
    Rate,
    Selection,
    Unless,
    Value,
)

_EVERY = Selection(metric=REQUESTS)
_SLOW = Compared(Quantile(0.5, Selection(metric=SECONDS), 3600.0), ">", Number(1.0))
_MANY = Compared(Combined(Rate(_EVERY), "*", Increase(_EVERY, 300.0)), ">", Number(3.0))
_LATE = Compared(Age(Selection(metric=SEEN)), ">", Value(Selection(metric=LAG)))


@pytest.mark.parametrize(
    ("of", "windows"),
    [
        (Both(_SLOW, _MANY), [3600.0, 60.0, 300.0]),
        (_LATE, []),
        (Absent(_EVERY), []),
        (Unless(_LATE, Absent(Selection(metric=IN_USE))), []),
    ],
)
def test_each_window_is_known_and_a_missing_one_is_the_usual(
    of: Condition, windows: list[float]
) -> None:
    """What asks of the moment looks back for nothing."""
    assert windows_seconds(of, 60.0) == windows


def test_a_drill_divides_windows_and_nothing_else() -> None:
    """Thresholds and label sets stay; a window that is not named stays the usual one."""
    before = Both(Unless(_SLOW, Absent(Selection(metric=CAPACITY))), Both(_MANY, _LATE))
    after = shortened_condition(before, 60.0)
    assert windows_seconds(after, 1.0) == [60.0, 1.0, 5.0]
    assert shortened_condition(after, 1 / 60) == before
