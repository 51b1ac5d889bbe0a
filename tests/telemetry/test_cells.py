"""Cells: exact between threads, also while they are carried to other slots."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, strategies as st

from shipworthy.telemetry import Cell, HistogramCell
from shipworthy.telemetry.cells import memory_slots


@contextmanager
def restless() -> Iterator[None]:
    """Have the interpreter switch threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@given(st.lists(st.floats(0, 20)))
def test_an_observation_is_counted_below_the_first_bound_it_does_not_pass(
    values: list[float],
) -> None:
    """A bucket counts what is at most its bound and above the one before, the last everything."""
    cell = HistogramCell((0.1, 1.0, 10.0))

    for value in values:
        cell.observe(value)

    *counts, total = cell.numbers()
    assert counts == [
        sum(low < value <= high for value in values)
        for low, high in ((-1, 0.1), (0.1, 1.0), (1.0, 10.0), (10.0, float("inf")))
    ]
    assert total == pytest.approx(sum(values))


@pytest.mark.parametrize("kind", ["counter", "histogram", "traced"])
def test_no_count_is_lost_between_threads(kind: str) -> None:
    """Four threads that are switched as often as the interpreter can lose nothing."""
    cell, histogram = Cell(), HistogramCell((0.5,))

    def work() -> None:
        for _ in range(20_000):
            if kind == "counter":
                cell.add()
            elif kind == "histogram":
                histogram.observe(1.0)
            else:
                histogram.observe_traced(1.0, "t")

    with restless():
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert (cell.value if kind == "counter" else histogram.numbers()) == (
        80_000 if kind == "counter" else [0, 80_000, 80_000]
    )


def test_no_count_is_lost_while_cells_are_carried_elsewhere() -> None:
    """Threads add, and the cells go to new slots a thousand times meanwhile."""
    cell, histogram = Cell(), HistogramCell((0.5,))

    def work() -> None:
        for _ in range(50_000):
            cell.add()
            histogram.observe(1.0)

    with restless():
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            cell.move(memory_slots(1))
            histogram.move(memory_slots(3))
        for thread in threads:
            thread.join()

    assert cell.value == 150_000
    assert histogram.numbers() == [0, 150_000, 150_000]


def test_the_last_trace_of_each_bucket_is_kept() -> None:
    """As many examples as buckets, however many requests; what has no trace leaves none."""
    histogram = HistogramCell((0.5, 1.0))

    histogram.observe(0.1)
    histogram.observe_traced(0.7, "first")
    histogram.observe_traced(0.8, "second")
    histogram.observe_traced(3.0, "third")

    assert [kept[:3] for kept in histogram.exemplars()] == [(1, "second", 0.8), (2, "third", 3.0)]
    assert histogram.numbers() == [1, 2, 1, pytest.approx(4.6)]
    assert Cell().exemplars() == []
