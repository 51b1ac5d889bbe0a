"""The algebra: what cannot be is refused where it is written, not by the server that evaluates."""

from collections.abc import Callable

import pytest

from shipworthy.events import (
    CALCULATIONS,
    COMPARISONS,
    FOLDS,
    Absent,
    Age,
    Both,
    Combined,
    Compared,
    Expression,
    Increase,
    Mean,
    Metric,
    Number,
    OneOf,
    Quantile,
    Rate,
    Selection,
    Unless,
    Value,
    Within,
    counts,
    kept_apart_by,
    parts,
    ratio,
    selections,
)

CALLS = Metric(
    "calls_total", "counter", "Calls.", {"who": OneOf("a", "b"), "how": OneOf("good", "bad")}
)
ALL = Selection(metric=CALLS)
TOOK = Selection(metric=Metric("took_seconds", "histogram", "S.", buckets=(0.1, 1.0)))
SPENT = Selection(metric=Metric("spent_seconds_total", "counter", "S."))
DEPTH = Selection(metric=Metric("depth", "gauge", "Depth."))
BY_WHO = Selection(metric=CALLS, by=("who",))
BAD = Selection(metric=CALLS, where={"how": "bad"})


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"by": ("whom",)}, "has no label 'whom'; it has who, how"),
        ({"where": {"whom": "a"}}, "no label 'whom'"),
        ({"unless": {"whom": "a"}}, "no label 'whom'"),
        ({"where": {"how": "ugly"}}, "how='ugly' of calls_total can never be"),
        ({"unless": {"how": ("bad", "ugly")}}, "how='ugly'"),
        ({"where": {"how": ()}}, "how of calls_total is asked for no value at all"),
    ],
)
def test_a_selection_of_what_can_never_be_is_refused(arguments: dict, problem: str) -> None:
    """A misspelt label or value would be an alert that never fires."""
    with pytest.raises(ValueError, match=problem):
        Selection(metric=CALLS, **arguments)


def test_what_stands_for_all_others_may_be_selected() -> None:
    """It is no value of any domain, and there are series of it."""
    assert Selection(metric=CALLS, where={"who": "_other"}).where == {"who": "_other"}


def test_a_ratio_is_none_where_nothing_bad_was_seen() -> None:
    """No failure yet is a share of 0, not of nothing."""
    assert ratio(Rate(BAD), Rate(ALL)) == Combined(Rate(BAD), "/", Rate(ALL), absent_zero=True)


def test_every_selection_is_found() -> None:
    """In expressions and conditions, from left to right."""
    share = Compared(ratio(Rate(BAD), Rate(ALL)), ">", Number(0.1))
    absent = Absent(ALL)

    assert list(selections(Both(share, Unless(absent, share)))) == [BAD, ALL, ALL, BAD, ALL]


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: Rate(DEPTH), "Rate is for a counter or a histogram, and depth is a gauge"),
        (lambda: Increase(DEPTH), "Increase is for a counter"),
        (lambda: Value(TOOK), "Value is for a gauge or a counter"),
        (lambda: Quantile(0.5, ALL), "Quantile is for a histogram"),
        (lambda: Mean(ALL), "Mean is for a histogram"),
        (lambda: Within(0.1, ALL), "Within is for a histogram"),
        (lambda: Age(ALL), "Age is for a gauge"),
        (lambda: Rate(ALL, 0), "a window is longer than nothing, this one 0 s"),
        (lambda: Increase(ALL, -1), "this one -1 s"),
        (lambda: Quantile(0.5, TOOK, 0), "longer than nothing, this one 0"),
        (lambda: Mean(TOOK, 0), "is longer than nothing"),
        (lambda: Within(0.1, TOOK, 0), "longer than nothing"),
        (lambda: Quantile(95, TOOK), "between 0 and 1, this one is 95"),
        (lambda: Within(0.5, TOOK), "no bucket that ends at 0.5, .*; the nearest is 0.1"),
        (
            lambda: Combined(Rate(BY_WHO), "/", Rate(ALL)),
            r"apart by \('who',\), the other by \(\)",
        ),
        (lambda: Compared(Rate(BY_WHO), ">", Rate(ALL)), "the other by"),
        (lambda: Compared(Number(1), ">", Rate(ALL)), "on the right"),
        (lambda: Both(Absent(ALL), Compared(Rate(BY_WHO), ">", Number(0))), "say `on` which"),
        (
            lambda: Unless(Compared(Rate(BY_WHO), ">", Number(0)), Absent(ALL), on=("who",)),
            "'who' is not a label of both",
        ),
    ],
)
def test_an_expression_that_no_value_could_come_of_is_refused(
    make: Callable[[], object], problem: str
) -> None:
    """A rate of a gauge, a window of nothing, sides that do not match."""
    with pytest.raises(ValueError, match=problem):
        make()


def test_what_comes_out_is_kept_apart_by_what_went_in() -> None:
    """A number takes the labels of the other side, a condition those of its first."""
    share = Combined(Number(1), "-", Rate(BY_WHO))

    assert kept_apart_by(Number(1)) is None
    assert kept_apart_by(share) == ("who",)
    assert kept_apart_by(Combined(Age(DEPTH), "*", Value(DEPTH))) == ()
    assert kept_apart_by(Both(Compared(share, ">", Number(0)), Absent(ALL), on=())) == ("who",)
    assert kept_apart_by(Within(0.1, TOOK)) == kept_apart_by(Quantile(0.9, TOOK)) == ()
    often = Compared(Rate(BY_WHO), ">", Number(0))
    assert kept_apart_by(Unless(often, often, on=("who",))) == ("who",)


@pytest.mark.parametrize(
    ("of", "counted"),
    [
        (Increase(ALL), True),
        (Increase(TOOK), True),
        (Increase(SPENT), False),
        (Rate(ALL), False),
        (Combined(Increase(ALL), "*", Rate(ALL)), True),
        (Combined(Increase(ALL), "/", Increase(ALL)), False),
        (Combined(Increase(ALL), "+", Increase(ALL)), True),
        (Combined(Increase(ALL), "-", Rate(ALL)), False),
    ],
)
def test_a_number_of_times_is_known_from_a_share_and_a_speed(of: Expression, counted: bool) -> None:
    """An alert says its value whole then: that of what stands first in its condition."""
    first = Compared(of, ">", Number(1.0))
    other = Compared(Rate(ALL), ">", Number(1.0))
    assert [counts(one) for one in (of, first, Both(first, other), Unless(first, other))] == [
        counted
    ] * 4


def test_every_fold_calculation_and_comparison_is_done_the_same_way_everywhere() -> None:
    """Whoever evaluates reads it here; no word of the algebra is left out."""
    assert {name: work(6.0, 3.0) for name, work in FOLDS.items()} == {
        "sum": 9.0, "max": 6.0, "min": 3.0
    }  # fmt: skip
    assert {name: work(6.0, 3.0) for name, work in CALCULATIONS.items()} == {
        "+": 9.0, "-": 3.0, "*": 18.0, "/": 2.0
    }  # fmt: skip
    below, equal, above = (
        {n for n, so in COMPARISONS.items() if so(x, 3.0)} for x in (2.0, 3.0, 4.0)
    )
    assert below == {"<", "<=", "!="}
    assert equal == {"<=", ">=", "=="}
    assert above == {">", ">=", "!="}


def test_a_condition_is_made_of_parts_from_left_to_right() -> None:
    """Numbers are parts, and select nothing."""
    share = Compared(ratio(Rate(BAD), Rate(ALL)), ">", Number(0.5))
    both = Both(share, Unless(Compared(Value(DEPTH), ">", Number(1.0)), Absent(DEPTH)))
    assert list(parts(both)) == [
        Rate(BAD), Rate(ALL), Number(0.5), Value(DEPTH), Number(1.0), Absent(DEPTH)
    ]  # fmt: skip
    assert list(selections(both)) == [BAD, ALL, DEPTH, DEPTH]
