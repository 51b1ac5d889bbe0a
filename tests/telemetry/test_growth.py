"""How a count grew, in the cases that a look at the numbers decides."""

import math

import pytest

from shipworthy.telemetry import Snapshot
from shipworthy.telemetry.growth import grown, quantile
from shipworthy.telemetry.history import History

BOUNDS = (0.1, 1.0)


def _history(*numbers: float | None) -> History:
    history = History()
    for step, number in enumerate(numbers):
        snapshot: Snapshot = {
            "t_total": {
                "kind": "counter",
                "help": "A number.",
                "labels": [],
                "buckets": [],
                "fold": "sum",
                "sets": [] if number is None else [([], [number])],
            }
        }
        history.add(snapshot, at=10.0 * step, wall=10.0 * step)
    return history


def _grown(history: History, start: float, end: float) -> list[float]:
    return grown(history.kept("t_total")[()], history, start, end, buckets=False)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((100.0, 110.0, 120.0, 130.0), 40.0),  # to both ends of the window
        ((0.0, 10.0, 20.0, 30.0), 35.0),  # not to below 0 before its start
        ((100.0, 110.0, 5.0, 15.0), 25.0 * 4 / 3),  # a fall is a new beginning at 0
        ((None, 100.0, 110.0, None), 20.0),  # half an interval beyond where it came and went
    ],
)
def test_growth_is_extrapolated_to_the_window(
    numbers: tuple[float | None, ...], expected: float
) -> None:
    """From five seconds before the first sample to five after the last of four."""
    assert _grown(_history(*numbers), -5.0, 35.0) == pytest.approx([expected])


@pytest.mark.parametrize(("start", "end"), [(-5.0, 5.0), (50.0, 90.0), (5.0, 11.0)])
def test_one_sample_tells_no_growth(start: float, end: float) -> None:
    """Fewer than two samples in the window are no line."""
    assert _grown(_history(1.0, 2.0, 3.0), start, end) == []


def test_what_was_not_there_in_the_window_did_not_grow() -> None:
    """A set that came after the window, or went before it, has no growth in it."""
    assert _grown(_history(None, None, None, 1.0), -5.0, 25.0) == []
    assert _grown(_history(1.0, None, None, None), 5.0, 35.0) == []
    assert _grown(_history(None, None, 1.0), -5.0, 25.0) == []


@pytest.mark.parametrize(
    ("share_ratio", "counts", "expected"),
    [
        (0.5, (10.0, 10.0, 10.0), 0.05),  # the first bucket begins at 0
        (0.5, (0.0, 10.0, 10.0), 0.55),
        (1.0, (5.0, 10.0, 10.0), 1.0),
        (0.99, (0.0, 0.0, 10.0), 1.0),  # beyond the last bound nothing is known
        (0.5, (6.0, 5.0, 10.0), 0.1 * 5 / 6),  # counts that do not ascend are made to
    ],
)
def test_a_quantile_is_linear_in_its_bucket(
    share_ratio: float, counts: tuple[float, ...], expected: float
) -> None:
    """Where in its bucket the observation lies is not known, so it is taken for even."""
    assert quantile(share_ratio, BOUNDS, counts) == pytest.approx(expected)


def test_a_first_bucket_below_zero_is_its_bound() -> None:
    """Nobody knows where a bucket of negative values begins."""
    assert quantile(0.5, (-1.0, 1.0), (10.0, 10.0, 10.0)) == -1.0
    assert math.isclose(quantile(0.5, (-1.0, 1.0), (0.0, 10.0, 10.0)), 0.0, abs_tol=1e-9)


def test_counts_that_began_anew_are_growth_even_where_they_are_higher() -> None:
    """A process that counted more before it was first seen than the one before it in all."""
    history = _history(5.0, 6.0)
    later = {name: {**series, "sets": [([], [9.0])]} for name, series in _LATER.items()}
    history.add(later, at=20.0, wall=20.0, anew=True)  # type: ignore[arg-type]
    history.add(later, at=30.0, wall=30.0)  # type: ignore[arg-type]
    assert _grown(history, -0.5, 30.0) == pytest.approx([10.0], rel=0.05)
    again = History(span_seconds=100.0)
    for step in range(200):
        again.add(later, at=10.0 * step, wall=0.0, anew=step == 0)  # type: ignore[arg-type]
    assert not again.began_anew(0, 200)


def test_a_gap_in_between_is_bridged() -> None:
    """What it grew by while nobody saw it counts, as there was one sample before and one after."""
    assert _grown(_history(100.0, None, 120.0, 130.0), -0.5, 30.5) == pytest.approx([31.0])


def test_what_is_below_zero_is_extrapolated_as_far_as_anything() -> None:
    """A sum of negative observations has no zero that it came from."""
    assert _grown(_history(-50.0, -40.0, -30.0), -5.0, 20.0) == pytest.approx([25.0])


_LATER: Snapshot = {
    "t_total": {
        "kind": "counter",
        "help": "A number.",
        "labels": [],
        "buckets": [],
        "fold": "sum",
        "sets": [],
    }
}
