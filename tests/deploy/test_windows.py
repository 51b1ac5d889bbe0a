"""How far back a condition looks, and how it is made shorter for a drill."""

import dataclasses

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
    Expression,
    Increase,
    Number,
    Quantile,
    Rate,
    Selection,
    Slo,
    Unless,
    Value,
    alerts_of,
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


def test_a_drill_divides_windows_and_leaves_thresholds() -> None:
    """Label sets stay, too; a window that is not named stays the usual one."""
    before = Both(Unless(_SLOW, Absent(Selection(metric=CAPACITY))), Both(_MANY, _LATE))
    after = shortened_condition(before, 60.0)
    assert windows_seconds(after, 1.0) == [60.0, 1.0, 5.0]
    assert shortened_condition(after, 1 / 60) == before


@pytest.mark.parametrize(
    ("of", "limit"),
    [
        (Age(Selection(metric=SEEN)), 15.0),
        (Value(Selection(metric=LAG)), 15.0),
        (Value(Selection(metric=IN_USE)), 900.0),
        (Combined(Value(Selection(metric=LAG)), "+", Number(1.0)), 900.0),
        (Increase(_EVERY), 900.0),
    ],
)
def test_a_drill_waits_for_no_age_that_takes_a_quarter_of_an_hour(
    of: Expression, limit: float
) -> None:
    """What grows with the clock is compared with a time that passes in a drill, too."""
    assert shortened_condition(Compared(of, ">", Number(900.0)), 60.0).right == Number(limit)


def test_a_drill_changes_no_condition_of_an_objective_of_time_but_its_windows() -> None:
    """Seconds that stood in it as a number would stay as long as they are, and count too many."""
    slow = Slo(
        name="fast",
        help="Answers are fast.",
        objective_ratio=0.99,
        total=Selection(metric=SECONDS),
        within_seconds=SECONDS.buckets[0],
    )
    numbers: set[float] = set()

    def look(one: object) -> None:
        if isinstance(one, Number):
            numbers.add(one.value)
        elif dataclasses.is_dataclass(one):
            for field in dataclasses.fields(one):
                look(getattr(one, field.name))

    for alert in alerts_of(slow):
        look(alert.when)

    assert {number for number in numbers if number > slow.rules.sustained_failures} == set()
