"""A history holds what was, in bounded memory, whatever comes."""

import math
import tracemalloc
from enum import StrEnum

from hypothesis import given, settings, strategies as st

from shipworthy.telemetry import Snapshot
from shipworthy.telemetry.history import Histories, History


def _snapshot(
    kind: str, sets: dict[str, list[float]], *, name: str = "t_total", fold: str = "sum"
) -> Snapshot:
    return {
        name: {
            "kind": kind,
            "help": "A number.",
            "labels": ["route"],
            "buckets": [],
            "fold": fold,
            "sets": [([label], numbers) for label, numbers in sets.items()],
        }
    }


def _fill(history: History, steps: int, *, sets: int, moving: bool = True, first: int = 0) -> None:
    for step in range(first, first + steps):
        numbers = {f"/{n}": [float(step * moving)] for n in range(sets)}
        assert history.add(_snapshot("counter", numbers), at=10.0 * step, wall=10.0 * step)


@given(
    st.lists(
        st.dictionaries(st.sampled_from("abc"), st.integers(0, 3).map(float), max_size=3),
        min_size=1,
        max_size=40,
    ),
    st.sampled_from(["counter", "gauge"]),
)
def test_every_snapshot_of_the_span_is_as_it_was(lives: list[dict[str, float]], kind: str) -> None:
    """What stands still, falls, goes and comes back is there at each instant, and nothing else."""
    history = History(interval_seconds=1.0, span_seconds=100.0)
    for at, life in enumerate(lives):
        history.add(
            _snapshot(kind, {label: [number] for label, number in life.items()}),
            at=float(at),
            wall=at + 5.0,
        )
    for at, life in enumerate(lives):
        snapshot = history.present(float(at))
        assert snapshot is not None
        assert history.time(snapshot) == at
        rows = {labels: kept.row(snapshot) for labels, kept in history.kept("t_total").items()}
        assert {key[0]: row[0] for key, row in rows.items() if row is not None} == life
        for labels, kept in history.kept("t_total").items():
            there = [labels[0] in life for life in lives[at:]]
            numbers = [life.get(labels[0], -1.0) for life in lives[at:]]
            smooth = all(there) and (kind == "gauge" or numbers == sorted(numbers))
            assert kept.is_smooth(snapshot, len(lives) - 1) == smooth
            pieces = list(kept.rows(snapshot, len(lives) - 1))
            walked = [
                None if row is None else row[0] for a, b, row in pieces for _ in range(a, b + 1)
            ]
            expected = [life.get(labels[0]) for life in lives[at:]]
            assert walked == expected[len(expected) - len(walked) :]
            assert not any(expected[: len(expected) - len(walked)])
    assert history.offset_seconds == 5.0


def test_a_time_that_was_is_not_taken_again() -> None:
    """A snapshot of the same time or an earlier one changes nothing."""
    history = History()
    assert history.add(_snapshot("gauge", {"a": [1.0]}), at=10.0, wall=10.0)
    for at in (10.0, 9.0):
        assert not history.add(_snapshot("gauge", {"a": [2.0]}), at=at, wall=at)
    assert history.snapshots == 1
    assert history.begin == history.end == 10.0


def test_an_empty_history_has_no_times() -> None:
    """Nothing has been seen: no metric, no present snapshot, no begin and no end."""
    history = History()
    assert history.begin == math.inf
    assert history.end == -math.inf
    assert history.present(1000.0) is None
    assert history.shape("t_total") is None
    assert not history.kept("t_total")


def test_what_is_older_than_the_span_goes() -> None:
    """Label sets and metrics that were gone before the span began go with it."""
    history = History(span_seconds=600.0)
    history.add(_snapshot("counter", {"old": [1.0]}), at=-10.0, wall=0.0)
    history.add(_snapshot("gauge", {"x": [1.0]}, name="gone"), at=-5.0, wall=0.0)
    _fill(history, 1000, sets=2)
    assert 60 <= history.snapshots <= 60 + 60
    assert set(history.kept("t_total")) == {("/0",), ("/1",)}
    assert history.shape("gone") is None
    assert history.sets == 2


def test_memory_ends_before_the_span_does() -> None:
    """The oldest snapshots go when the bound is met, the latest never."""
    history = History(bytes_max=100_000)
    _fill(history, 2000, sets=20)
    assert history.size_bytes <= 100_000
    assert history.shortened > 0
    assert history.snapshots > 100
    assert history.end == 19990.0


def test_the_bound_is_one_on_memory() -> None:
    """What the history says it takes is what Python says, within a fifth."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        history = History()
        _fill(history, 1000, sets=100)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.8 < (after - before) / history.size_bytes < 1.2


def test_what_stands_still_costs_nothing() -> None:
    """A label set that never changes takes the same after an hour as after a minute."""
    short, long = History(span_seconds=600.0), History(span_seconds=600.0)
    _fill(short, 60, sets=50, moving=False)
    _fill(long, 360, sets=50, moving=False)
    assert long.size_bytes <= short.size_bytes + 8 * (long.snapshots - 60)


def test_more_label_sets_than_may_be_are_counted_and_left_out() -> None:
    """An attack on the labels does not become one on the memory of the supervisor."""
    history = History(sets_max=10)
    _fill(history, 3, sets=12)
    assert history.sets == 10
    assert history.untaken == 6


def test_a_metric_that_is_declared_anew_begins_anew() -> None:
    """A version with another kind or other labels does not continue the old numbers."""
    history = History()
    history.add(_snapshot("counter", {"a": [1.0], "b": [1.0]}), at=0.0, wall=0.0)
    history.add(_snapshot("gauge", {"a": [7.0]}), at=10.0, wall=10.0)
    assert history.shape("t_total") == ("gauge", ("route",), ())
    assert set(history.kept("t_total")) == {("a",)}
    assert history.sets == 1


@given(st.integers(0, 10**6))
@settings(max_examples=50)
def test_the_finest_history_that_spans_a_window_answers(seconds: int) -> None:
    """A window longer than all is asked of the longest."""
    fine, coarse = History(span_seconds=3600.0), History(span_seconds=86400.0)
    both = Histories(fine, coarse)
    assert both.reaching(float(seconds)) is (fine if seconds <= 3600 else coarse)
    assert fine.reaching(float(seconds)) is fine


def test_of_a_young_service_the_finest_history_answers_for_any_window() -> None:
    """Until it has not the beginning: what came before a coarse one's first is in no growth."""
    fine = History(span_seconds=3600.0)
    coarse = History(interval_seconds=300.0, span_seconds=86400.0)
    both = Histories(fine, coarse)
    _fill(fine, 60, sets=1)
    coarse.add(_snapshot("counter", {"/0": [30.0]}), at=300.0, wall=300.0)
    assert both.reaching(86400.0) is fine
    _fill(fine, 940, sets=1, first=60)
    assert both.reaching(86400.0) is coarse
    assert both.reaching(1800.0) is fine


def test_a_history_that_memory_has_shortened_answers_for_what_it_holds() -> None:
    """The next one answers for longer windows, as far as it is fine enough."""
    fine = History(span_seconds=6 * 3600.0, bytes_max=100_000)
    coarse = History(interval_seconds=300.0, span_seconds=86400.0)
    _fill(fine, 2000, sets=20)
    both = Histories(fine, coarse)
    held = fine.end - fine.begin
    assert 1200.0 < held < 6 * 3600.0
    assert both.reaching(held) is fine
    assert both.reaching(held + 1.0) is coarse
    too_coarse = Histories(fine, History(interval_seconds=held, span_seconds=86400.0))
    assert too_coarse.reaching(2 * held) is fine


def test_a_label_may_be_a_member_of_an_enumeration() -> None:
    """As those of metrics that are read in this process are."""

    class End(StrEnum):
        LOST = "lost"

    history = History()
    history.add(_snapshot("counter", {End.LOST: [1.0]}), at=0.0, wall=0.0)
    history.add(_snapshot("counter", {"lost": [2.0]}), at=10.0, wall=10.0)
    assert [type(label) for (label,) in history.kept("t_total")] == [str]
