"""Segments added up as whole rows: the same as label set by label set, whatever their order."""

from typing import Any

from hypothesis import given, strategies as st

from shipworthy.telemetry import Snapshot, folded
from shipworthy.telemetry.layout import Layout, SegmentMetric, slots_of

KINDS: list[tuple[str, str, list[float]]] = [
    ("a_total", "counter", []),
    ("b_seconds", "histogram", [0.1, 1.0]),
    ("b_seconds", "histogram", [0.1, 2.0]),
    ("c_total", "counter", []),
]


def declared(kind: str, buckets: list[float]) -> Any:
    return {
        "kind": kind,
        "help": "Help.",
        "labels": ["name"],
        "buckets": buckets,
        "fold": "sum",
        "sets": [],
    }


@st.composite
def segments(draw: st.DrawFn) -> tuple[list[SegmentMetric], list[float]]:
    """A segment with some metrics, each once, and some label sets in any order."""
    placed: list[SegmentMetric] = []
    row: list[float] = []
    for name, kind, buckets in draw(st.permutations(KINDS)):
        if any(one.name == name for one in placed):
            continue
        one = SegmentMetric(name, declared(kind, buckets), [])
        placed.append(one)
        size = slots_of(one.declared)
        for value in draw(st.lists(st.sampled_from("xyz"), unique=True)):
            one.places.append(([value], len(row), len(row) + size))
            row += [float(draw(st.integers(0, 99))) for _ in range(size)]
    return placed, row


def snapshot(placed: list[SegmentMetric], row: list[float]) -> Snapshot:
    return {
        one.name: {
            **one.declared,
            "sets": [(values, row[at:end]) for values, at, end in one.places],
        }
        for one in placed
    }


def plain(told: Snapshot) -> dict[str, Any]:
    return {name: (one["kind"], one["buckets"], sorted(one["sets"])) for name, one in told.items()}


@given(st.lists(segments(), max_size=5))
def test_rows_added_up_are_what_snapshots_added_up_are(
    several: list[tuple[list[SegmentMetric], list[float]]],
) -> None:
    """And what is declared differently is left out or kept in the same way."""
    layout = Layout([placed for placed, _ in several])

    told = layout.total([row for _, row in several])

    expected = folded(snapshot(placed, row) for placed, row in several)
    assert plain(folded(told)) == plain(expected)
    every = sum(sum(row) for _, row in several)
    assert sum(sum(n) for each in told for one in each.values() for _, n in one["sets"]) == every


def test_a_layout_is_used_again_with_other_numbers() -> None:
    """As long as no label set has come; slots beyond those it knows do no harm."""
    placed = [SegmentMetric("a_total", declared("counter", []), [(["x"], 0, 1)])]
    layout = Layout([placed, placed])

    totals = [layout.total(rows)[0]["a_total"]["sets"] for rows in ([[1], [2]], [[3, 9], [4]])]

    assert totals == [[(["x"], [3])], [(["x"], [7])]]
    assert Layout([]).total([]) == []


def test_a_label_set_that_one_segment_has_twice_is_one_set_with_both() -> None:
    """Two registries of one process count it; in another process only one does."""
    once = [(["x"], 0, 1)]
    placed = [
        [SegmentMetric("a_total", declared("counter", []), places)]
        for places in ([*once, (["x"], 1, 2)], once)
    ]

    assert Layout(placed).total([[1, 2], [4]])[0]["a_total"]["sets"] == [(["x"], [7])]
