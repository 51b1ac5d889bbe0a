"""The registry: bounded in label sets, strict about declarations, deaf to broken readings."""

import json
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given, strategies as st

from shipworthy.events import Declared, Metric, OneOf
from shipworthy.telemetry import Registry, Series, Snapshot
from shipworthy.telemetry.cells import Slots, memory_slots

BOTH = {"method": Declared(), "status": OneOf("200", "404")}
REQUESTS = Metric("requests_total", "counter", "Requests.", BOTH)
SECONDS = Metric("took_seconds", "histogram", "Seconds.", {"method": Declared()}, (0.1, 1.0, 10.0))
ROOM = Metric("room", "gauge", "Room.")
LANES = Metric("lanes", "gauge", "Lanes.", {"lane": Declared()}, fold="max")
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


def test_label_sets_beyond_the_limit_share_one_cell_and_are_counted() -> None:
    """An attacker who invents label values gets one more cell and raises a counter, no more."""
    registry = Registry(sets_per_metric=3)
    requests = registry.counter(REQUESTS)

    for number in range(40):
        requests.cell(f"M{number}", "200").add()

    found = sets(registry.snapshot(), "requests_total")
    assert list(found) == [("M0", "200"), ("M1", "200"), ("M2", "200"), ("_other", "_other")]
    assert found["_other", "_other"] == [37.0]
    assert sets(registry.snapshot(), OVERFLOW)["requests_total",] == [37.0]


def test_all_metrics_together_have_a_limit_and_each_one_set_beyond_it() -> None:
    """The first ones there are keep what they have; every count is in some set."""
    registry = Registry(sets_in_all=3)
    names = [f"m{number}_total" for number in range(4)]
    for name in names:
        family = registry.counter(Metric(name, "counter", "M.", {"lane": Declared()}))
        for lane in ("left", "right"):
            family.cell(lane).add()

    found = {name: sets(registry.snapshot(), name) for name in names}
    assert found["m0_total"] == {("left",): [1.0], ("right",): [1.0]}
    assert found["m1_total"] == {("left",): [1.0], ("_other",): [1.0]}
    assert found["m3_total"] == {("_other",): [2.0]}
    overflow = sets(registry.snapshot(), OVERFLOW)
    assert [overflow[name,] for name in names] == [[0.0], [1.0], [2.0], [2.0]]


VALUES = st.tuples(st.text(max_size=3), st.sampled_from(["200", "404", "999"]))


@given(st.lists(VALUES, max_size=60))
def test_whatever_values_come_the_sets_stay_within_their_domains(
    asked: list[tuple[str, str]],
) -> None:
    """Each label for itself, and no count is lost: in the domain, of the first, or other."""
    registry = Registry()
    domains = {"lane": Declared(4), "status": OneOf("200", "404")}
    family = registry.counter(Metric("x_total", "counter", "X.", domains))

    for values in asked:
        family.cell(*values).add()

    found = sets(registry.snapshot(), "x_total")
    assert sum(number for (number,) in found.values()) == len(asked)
    assert len({lane for lane, _ in found} - {"_other"}) <= 4
    assert {status for _, status in found} <= {"200", "404", "_other"}
    first = list(dict.fromkeys(lane for lane, _ in asked if lane.isprintable() and lane))[:4]
    expected = {
        (
            lane if lane in first else "_other",
            status if status != "999" else "_other",
        )
        for lane, status in asked
    }
    assert set(found) == expected
    beyond = sum(lane not in first or status == "999" for lane, status in asked)
    assert sets(registry.snapshot(), OVERFLOW)["x_total",] == [beyond]


@pytest.mark.parametrize("value", ["x" * 201, "a\nb", "\ud800", "\x1b[2J", ""])
def test_a_value_that_no_label_should_have_goes_to_other(value: str) -> None:
    """What is too long or not printable costs no memory and reaches no page."""
    registry = Registry()

    registry.counter(REQUESTS).cell(value, "200").add()

    assert list(sets(registry.snapshot(), "requests_total")) == [("_other", "200")]
    assert sets(registry.snapshot(), OVERFLOW)["requests_total",] == [1.0]


def test_a_caller_who_says_other_himself_has_not_overflown() -> None:
    """A room that knows a value to be nobody's may say so."""
    registry = Registry()

    registry.counter(REQUESTS).cell("_other", "_other").add()

    assert sets(registry.snapshot(), "requests_total") == {("_other", "_other"): [1.0]}
    assert sets(registry.snapshot(), OVERFLOW)["requests_total",] == [0.0]


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


def test_a_reading_has_the_domains_and_limits_of_any_metric() -> None:
    """What is too much comes together as the metric is folded, and is counted."""
    registry = Registry(sets_per_metric=2)
    registry.gauge(LANES, read=lambda: {(f"{n}",): float(n) for n in range(5)})
    doors = Metric("doors", "gauge", "Doors.", {"door": OneOf("front")})
    registry.gauge(doors, read=lambda: {("front",): 1.0, ("back",): 2.0, ("side",): 3.0})

    snapshot = registry.snapshot()

    assert sets(snapshot, "lanes") == {("0",): [0.0], ("1",): [1.0], ("_other",): [4.0]}
    assert sets(snapshot, "doors") == {("front",): [1.0], ("_other",): [5.0]}
    assert sets(snapshot, OVERFLOW)["lanes",] == [3.0]
    assert sets(snapshot, OVERFLOW)["doors",] == [2.0]


def test_what_another_registry_counts_is_shown_too() -> None:
    """Added up where both have it, carried to the same store, and told with the rest."""
    hull, process = Registry(), Registry()
    hull.join(process)
    for registry in (hull, process):
        registry.counter(REQUESTS).cell("GET", "200").add()
    process.gauge(ROOM, read=lambda: 7)

    snapshot = hull.snapshot()

    assert sets(snapshot, "requests_total") == {("GET", "200"): [2.0]}
    assert sets(snapshot, "room") == {(): [7.0]}
    assert {"requests_total", OVERFLOW} <= hull.names()


def test_what_another_registry_declares_differently_is_left_out_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What is ours is shown as before."""
    registry, theirs = Registry(), Registry()
    registry.counter(REQUESTS).cell("GET", "200").add()
    theirs.counter(Metric("requests_total", "counter", "Others.")).cell().add(9)
    registry.join(theirs)

    for _ in range(2):
        assert sets(registry.snapshot(), "requests_total") == {("GET", "200"): [1.0]}

    assert caplog.text.count("metric requests_total is not shown") == 1


def test_a_metric_that_is_registered_while_cells_move_waits_for_them() -> None:
    """What the registry counts of itself moves with them, and grows with each metric."""
    registry = Registry()
    registry.counter(REQUESTS)
    late: list[threading.Thread] = []

    class Elsewhere:
        """A store in whose first use somebody else registers a reading."""

        def take(self, series: Series, name: str, values: Sequence[str], count: int) -> Slots:
            if name == OVERFLOW and not late:
                late.append(threading.Thread(target=lambda: registry.gauge(ROOM, read=float)))
                late[0].start()
                late[0].join(0.05)
            return memory_slots(count)

    registry.keep_in(Elsewhere())
    late[0].join()

    assert set(sets(registry.snapshot(), OVERFLOW)) == {("requests_total",), ("room",)}


def test_the_same_declaration_is_the_same_metric_and_a_different_one_is_refused() -> None:
    """Two rooms may share a metric; two that mean different things by one name may not."""
    registry = Registry()
    first = registry.counter(REQUESTS)

    assert registry.counter(Metric("requests_total", "counter", "Requests.", dict(BOTH)))
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
