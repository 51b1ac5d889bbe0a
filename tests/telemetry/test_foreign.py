"""The application's `prometheus_client` metrics on our page, read back by that library."""

import subprocess
import sys

import orjson
import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, Summary
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, UnknownMetricFamily
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from shipworthy.events import Metric
from shipworthy.telemetry import ForeignMetrics, Form, Registry, Snapshot, exposition


class Clock:
    """A time that is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> CollectorRegistry:
    """The library's default registry, an empty one for each test."""
    registry = CollectorRegistry()
    monkeypatch.setattr(prometheus_client, "REGISTRY", registry)
    return registry


def told(taken: set[str] | None = None) -> Snapshot:
    return ForeignMetrics(lambda: taken or set(), now=Clock()).snapshot()


def samples(*snapshots: Snapshot) -> dict[str, float]:
    text = exposition(snapshots, Form.OPEN_METRICS).decode()
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_kind_of_metric_is_shown_as_the_library_shows_it(theirs: CollectorRegistry) -> None:
    """Read back from our text, sample by sample; when a metric was created is all that is gone."""
    orders = Counter("orders", "Orders.", ["channel"], registry=theirs)
    orders.labels("web").inc(3)
    orders.labels('a "quoted" one').inc()
    Gauge("depth", "Depth.", registry=theirs).set(2.5)
    took = Histogram("took_seconds", "Took.", ["channel"], buckets=(0.1, 1e6), registry=theirs)
    for value in (0.05, 0.5, 0.7, 1e7):
        took.labels("web").observe(value)
    Summary("size_bytes", "Size.", registry=theirs).observe(12)
    Info("build", "Build.", registry=theirs).info({"version": "1"})
    Enum("state", "State.", states=["up", "down"], registry=theirs).state("down")

    expected = {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in theirs.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }
    assert samples(told()) == expected


def test_several_workers_add_up_and_the_mode_of_a_gauge_is_followed(
    theirs: CollectorRegistry,
) -> None:
    """Without their multiprocess mode; a gauge that says nothing is a sum."""
    Counter("orders", "Orders.", registry=theirs).inc(3)
    Summary("size_bytes", "Size.", registry=theirs).observe(12)
    Gauge("depth", "Depth.", registry=theirs).set(2)
    Gauge("most", "Most.", multiprocess_mode="livemax", registry=theirs).set(2)
    Gauge("least", "Least.", multiprocess_mode="min", registry=theirs).set(2)
    Info("build", "Build.", registry=theirs).info({"version": "1"})

    found = samples(told(), told())

    assert found["orders_total[]"] == 6
    assert (found["size_bytes_count[]"], found["size_bytes_sum[]"]) == (2, 24)
    assert (found["depth[]"], found["most[]"], found["least[]"]) == (4, 2, 2)
    assert found["build_info[('version', '1')]"] == 1


def test_exemplars_with_a_trace_are_kept(theirs: CollectorRegistry) -> None:
    """Others have no place to lead to."""
    took = Histogram("took_seconds", "Took.", buckets=(0.1, 1.0), registry=theirs)
    took.observe(0.05, {"trace_id": "abc"})
    took.observe(0.5, {"user": "7"})

    (exemplar,) = told()["took_seconds"]["exemplars"]

    assert exemplar[:4] == ([], 0, "abc", 0.05)


def test_a_name_that_is_ours_is_left_out_and_said_once(
    theirs: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """Also one whose samples would be taken for ours; what both say of the process is no news."""
    Counter("orders", "Orders.", registry=theirs)
    Histogram("took", "Took.", registry=theirs)
    Counter("process_cpu_seconds", "CPU.", registry=theirs)
    Gauge("depth", "Depth.", registry=theirs)
    foreign = ForeignMetrics(
        lambda: {"orders_total", "took_count", "process_cpu_seconds_total"}, now=Clock()
    )

    assert [set(foreign.snapshot()) for _ in range(2)] == [{"depth"}, {"depth"}]
    assert [one.getMessage() for one in caplog.records] == [
        (
            "the application's metric orders_total is not shown: we have orders_total; give it "
            "another name"
        ),
        "the application's metric took is not shown: we have took_count; give it another name",
    ]


class Odd:
    """A collector of the application's own, with what such collectors do."""

    def collect(self):  # type: ignore[no-untyped-def]
        """Yield metrics that nobody checks."""
        mixed = GaugeMetricFamily("mixed", "", labels=["a"])
        mixed.add_metric(["1"], 1.0)
        mixed.add_sample("mixed", {"b": "2"}, 2.0)
        mixed.add_sample("mixed", {"b": "nan"}, float("nan"))
        yield mixed
        open_ended = HistogramMetricFamily("open_ended", "No infinite bucket.")
        open_ended.add_sample("open_ended_bucket", {"le": "1.0"}, 1.0)
        yield open_ended
        yield UnknownMetricFamily("whatever", "Whatever.", value=7)


def test_odd_collectors_are_shown_as_far_as_they_make_sense(theirs: CollectorRegistry) -> None:
    """A set that lacks a label has it empty, which Prometheus takes for the same."""
    theirs.register(Odd())

    found = samples(told())

    assert found == {
        "mixed[('a', '1'), ('b', '')]": 1.0,
        "mixed[('a', ''), ('b', '2')]": 2.0,
        "whatever[]": 7.0,
    }
    assert b"# TYPE whatever untyped" in exposition([told()])


def test_a_collector_that_fails_or_explodes_spoils_nothing(
    theirs: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """Its label sets are cut, its errors logged; ours are shown either way."""
    paths = Counter("paths", "Paths.", ["path"], registry=theirs)
    for number in range(2100):
        paths.labels(f"/{number}").inc()
    cut = told()

    class Failing:
        def collect(self):  # type: ignore[no-untyped-def]
            raise RuntimeError("the database is away")

        def describe(self):  # type: ignore[no-untyped-def]
            return []

    theirs.register(Failing())

    assert len(cut["paths_total"]["sets"]) == 2000
    assert "has 2100 label sets, and only 2000 are shown" in caplog.text
    assert told() == {}
    assert "the database is away" in caplog.text


def test_what_is_counted_with_both_is_not_counted_twice(
    theirs: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """An application on its way from that library to ours, in a registry of its own."""
    hull, application = Registry(), Registry()
    hull.join(application)
    hull.join(ForeignMetrics(hull.names, now=Clock()))
    application.counter(Metric("orders_total", "counter", "Orders.")).cell().add(3)
    Counter("orders", "Orders.", registry=theirs).inc(3)

    assert samples(hull.snapshot())["orders_total[]"] == 3
    assert "orders_total is not shown" in caplog.text


def test_a_label_that_json_cannot_say_is_said_as_near_as_can_be(
    theirs: CollectorRegistry,
) -> None:
    """A file name that is no UTF-8: the gauges of the worker are written all the same."""
    Counter("files", "Files.", ["name"], registry=theirs).labels("caf\udce9 \u2615").inc()

    snapshot = told()

    assert orjson.loads(orjson.dumps(snapshot)) == snapshot | {
        "files_total": snapshot["files_total"] | {"sets": [[["caf? \u2615"], [1.0]]]}
    }


def test_between_scrapes_they_are_read_every_ten_seconds(theirs: CollectorRegistry) -> None:
    """Each series of theirs costs microseconds, and a collector of the user's may do anything."""
    clock = Clock()
    foreign = ForeignMetrics(set, now=clock)
    orders = Counter("orders", "Orders.", registry=theirs)
    seen = []
    for now, asked in ((0.0, False), (5.0, False), (6.0, True), (15.0, False), (16.5, False)):
        orders.inc()
        clock.now = now
        seen.append(foreign.rest(asked=asked)["orders_total"]["sets"][0][1][0])

    assert seen == [1, 1, 3, 3, 5]
    assert foreign.names() == set()
    foreign.keep_in(None)


def test_who_does_not_use_the_library_does_not_load_it() -> None:
    """It is no dependency of ours."""
    code = (
        "import sys; from shipworthy.telemetry import ForeignMetrics as F\n"
        "assert F(set, now=lambda: 0.0).snapshot() == {}\n"
        "assert 'prometheus_client' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
