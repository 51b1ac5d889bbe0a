"""Cells and the registry: exact between threads, bounded in label sets, deaf to broken readings."""

import json
import sys
import threading

import pytest
from hypothesis import given, strategies as st

from shipworthy.events import Metric
from shipworthy.telemetry import Cell, HistogramCell, Registry, Snapshot

REQUESTS = Metric("requests_total", "counter", "Requests.", ("method", "status"))
SECONDS = Metric("took_seconds", "histogram", "Seconds.", ("method",), (0.1, 1.0, 10.0))
ROOM = Metric("room", "gauge", "Room.")
LANES = Metric("lanes", "gauge", "Lanes.", ("lane",), fold="max")
OVERFLOW = "shipworthy_metrics_overflow_total"
UNREAD = "shipworthy_metrics_unread_total"


def sets(snapshot: Snapshot, name: str) -> dict[tuple[str, ...], list[float]]:
    return {tuple(values): numbers for values, numbers in snapshot[name]["sets"]}


def test_a_cell_adds_up_and_is_found_again() -> None:
    """The same label set is the same cell; another one is not."""
    requests = Registry().counter(REQUESTS)

    requests.cell("GET", "200").add()
    requests.cell("GET", "200").add(2.5)
    requests.cell("GET", "404").add()

    assert requests.cell("GET", "200") is requests.cell("GET", "200")
    assert [cell.value for cell in (requests.cell("GET", "200"), requests.cell("GET", "404"))] == [
        3.5,
        1.0,
    ]


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


@pytest.mark.parametrize("kind", ["counter", "histogram"])
def test_no_count_is_lost_between_threads(kind: str) -> None:
    """Four threads that are switched as often as the interpreter can lose nothing."""
    cell, histogram = Cell(), HistogramCell((0.5,))

    def work() -> None:
        for _ in range(20_000):
            if kind == "counter":
                cell.add()
            else:
                histogram.observe(1.0)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)

    assert (cell.value if kind == "counter" else histogram.numbers()) == (
        80_000 if kind == "counter" else [0, 80_000, 80_000]
    )


def test_label_sets_beyond_the_limit_share_one_cell_and_are_counted() -> None:
    """An attacker who invents label values gets one more cell and raises a counter, no more."""
    registry = Registry(label_sets=3)
    requests = registry.counter(REQUESTS)

    for number in range(1000):
        requests.cell(f"M{number}", "200").add()

    found = sets(registry.snapshot(), "requests_total")
    assert list(found) == [("M0", "200"), ("M1", "200"), ("M2", "200"), ("_other", "_other")]
    assert found["_other", "_other"] == [997.0]
    assert sets(registry.snapshot(), OVERFLOW)["requests_total",] == [997.0]


@pytest.mark.parametrize("value", ["x" * 201, "a\nb", "\ud800", "\x1b[2J"])
def test_a_value_that_no_label_should_have_goes_to_other(value: str) -> None:
    """What is too long or not printable costs no memory and reaches no page."""
    registry = Registry()

    registry.counter(REQUESTS).cell(value, "200").add()

    assert list(sets(registry.snapshot(), "requests_total")) == [("_other", "_other")]
    assert sets(registry.snapshot(), OVERFLOW)["requests_total",] == [1.0]


def test_a_wrong_label_set_is_refused_on_its_first_use() -> None:
    """Too few values, too many, and values that are no text: an error that names the metric."""
    requests = Registry().counter(REQUESTS)

    with pytest.raises(ValueError, match=r"requests_total has the labels .*, got 1 values"):
        requests.cell("GET")
    with pytest.raises(ValueError, match="got 3 values"):
        requests.cell("GET", "200", "x")
    with pytest.raises(TypeError, match="a label value is text, got int"):
        requests.cell("GET", 200)  # type: ignore[arg-type]


def test_a_metric_without_labels_shows_from_the_start() -> None:
    """There is a 0 before the first count, so that a rate has something to begin at."""
    registry = Registry()
    registry.counter(Metric("plain_total", "counter", "Plain."))

    assert sets(registry.snapshot(), "plain_total") == {(): [0.0]}


def test_a_snapshot_is_plain_data_that_survives_json() -> None:
    """What comes out of the pipe equals what went in, with all kinds of metrics."""
    registry = Registry()
    registry.counter(REQUESTS).cell("GET", "200").add(3)
    registry.histogram(SECONDS).cell("GET").observe(0.5)
    registry.gauge(ROOM, read=lambda: 7)

    snapshot = registry.snapshot()

    again = json.loads(json.dumps(snapshot))
    assert sets(again, "requests_total") == {("GET", "200"): [3.0]}
    assert sets(again, "took_seconds") == {("GET",): [0.0, 1.0, 0.0, 0.0, 0.5]}
    assert sets(again, "room") == {(): [7.0]}
    assert again["took_seconds"]["buckets"] == [0.1, 1.0, 10.0]
    assert (again["room"]["kind"], again["room"]["help"]) == ("gauge", "Room.")


def test_a_reading_is_asked_on_each_snapshot_and_may_answer_for_many_label_sets() -> None:
    """A gauge is as it is at the time of the scrape."""
    registry = Registry()
    depth = {("left",): 1.0, ("right",): 2.0}
    registry.gauge(LANES, read=lambda: depth)

    before = sets(registry.snapshot(), "lanes")
    depth["left",] = 5.0

    assert before == {("left",): [1.0], ("right",): [2.0]}
    assert sets(registry.snapshot(), "lanes") == {("left",): [5.0], ("right",): [2.0]}


def test_a_running_total_is_a_counter_that_somebody_else_keeps() -> None:
    """The kernel's CPU time is shown as a counter, without a cell."""
    registry = Registry()
    registry.running_total(Metric("cpu_seconds_total", "counter", "CPU."), read=lambda: 1.5)

    snapshot = registry.snapshot()

    assert snapshot["cpu_seconds_total"]["kind"] == "counter"
    assert sets(snapshot, "cpu_seconds_total") == {(): [1.5]}


def test_a_broken_reading_is_left_out_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The other metrics of the scrape are there all the same."""
    registry = Registry()
    registry.gauge(ROOM, read=lambda: 1 / 0)
    registry.gauge(LANES, read=lambda: {("left",): 1.0, ("l", "r"): 1.0, ("x",): float("nan")})

    snapshot = registry.snapshot()

    assert sets(snapshot, "room") == {}
    assert sets(snapshot, "lanes") == {("left",): [1.0]}
    assert sets(snapshot, UNREAD) == {("room",): [1.0], ("lanes",): [2.0]}
    assert "the reading of metric room failed" in caplog.text


def test_a_reading_has_as_many_label_sets_as_any_metric() -> None:
    """What a reading has too much of is left out and counted."""
    registry = Registry(label_sets=2)
    registry.gauge(LANES, read=lambda: {(f"{n}",): 1.0 for n in range(5)})

    snapshot = registry.snapshot()

    assert list(sets(snapshot, "lanes")) == [("0",), ("1",)]
    assert sets(snapshot, OVERFLOW)["lanes",] == [3.0]


def test_the_same_declaration_is_the_same_metric_and_a_different_one_is_refused() -> None:
    """Two rooms may share a metric; two that mean different things by one name may not."""
    registry = Registry()
    first = registry.counter(REQUESTS)

    assert registry.counter(Metric("requests_total", "counter", "Requests.", ("method", "status")))
    assert registry.counter(REQUESTS) is first
    assert registry.histogram(SECONDS) is registry.histogram(SECONDS)
    with pytest.raises(ValueError, match="declared twice, and differently"):
        registry.counter(Metric("requests_total", "counter", "Other."))


def test_a_metric_is_registered_as_what_it_is_and_read_in_one_place() -> None:
    """A gauge is no counter, and two readings of one gauge would hide each other."""
    registry = Registry()
    registry.gauge(ROOM, read=lambda: 1)
    registry.counter(REQUESTS)

    with pytest.raises(ValueError, match="declared as a gauge, not a counter"):
        registry.counter(ROOM)
    with pytest.raises(ValueError, match="read in one place"):
        registry.gauge(ROOM, read=lambda: 2)
    with pytest.raises(ValueError, match="read in one place"):
        registry.running_total(REQUESTS, read=lambda: 2)
