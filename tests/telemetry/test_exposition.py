"""The Prometheus text: read back by Prometheus' own parsers."""

import math
import os
import shutil
import subprocess

import pytest
from hypothesis import given, strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as opened_families
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.utils import floatToGoString

from shipworthy.events import Declared, Metric, Routes
from shipworthy.telemetry import (
    EXPOSITION_TYPE,
    Form,
    Registry,
    Snapshot,
    exposition,
    negotiated,
    process_metrics,
    retired,
)
from shipworthy.telemetry.exposition import bound_text

BY_ROUTE = {"method": Declared(), "route": Routes()}
REQUESTS = Metric("requests_total", "counter", "Requests,\nby \\ way.", BY_ROUTE)
SECONDS = Metric("took_seconds", "histogram", "Seconds.", {"method": Declared()}, (0.1, 1))
DEPTH = Metric("depth", "gauge", "Depth.", {"lane": Declared()})
MOST = Metric("most", "gauge", "Most.", fold="max")
LEAST = Metric("least", "gauge", "Least.", fold="min")


def samples(text: bytes) -> dict[str, float]:
    """Return the samples as Prometheus reads them, `name{labels}` -> value."""
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def worker(scale: float) -> Snapshot:
    registry = Registry()
    registry.counter(REQUESTS).cell("GET", "/a").add(scale)
    registry.histogram(SECONDS).cell("GET").observe(scale)
    registry.gauge(DEPTH, read=lambda: {("left",): scale})
    registry.gauge(MOST, read=lambda: scale)
    registry.gauge(LEAST, read=lambda: scale)
    return registry.snapshot()


def test_the_text_of_one_process() -> None:
    """The whole page, as people read it."""
    registry = Registry()
    registry.counter(REQUESTS).cell("GET", '/"a"\\').add(3)
    registry.histogram(SECONDS).cell("GET").observe(0.05)
    registry.histogram(SECONDS).cell("GET").observe(2.5)
    registry.gauge(MOST, read=lambda: 0.25)

    text = exposition([registry.snapshot()]).decode()

    assert text == (
        "# HELP most Most.\n"
        "# TYPE most gauge\n"
        "most 0.25\n"
        "# HELP requests_total Requests,\\nby \\\\ way.\n"
        "# TYPE requests_total counter\n"
        'requests_total{method="GET",route="/\\"a\\"\\\\"} 3\n'
        "# HELP shipworthy_metrics_overflow_total Requests for a label set that was counted as "
        "another, because a value was outside of what its label may be, or the metric or the "
        "process had as many sets as it may have.\n"
        "# TYPE shipworthy_metrics_overflow_total counter\n"
        'shipworthy_metrics_overflow_total{metric="most"} 0\n'
        'shipworthy_metrics_overflow_total{metric="requests_total"} 0\n'
        'shipworthy_metrics_overflow_total{metric="took_seconds"} 0\n'
        "# HELP shipworthy_metrics_unread_total Readings that were left out of a scrape, "
        "because they failed or gave no finite number.\n"
        "# TYPE shipworthy_metrics_unread_total counter\n"
        'shipworthy_metrics_unread_total{metric="most"} 0\n'
        "# HELP took_seconds Seconds.\n"
        "# TYPE took_seconds histogram\n"
        'took_seconds_bucket{method="GET",le="0.1"} 1\n'
        'took_seconds_bucket{method="GET",le="1.0"} 1\n'
        'took_seconds_bucket{method="GET",le="+Inf"} 2\n'
        'took_seconds_sum{method="GET"} 2.55\n'
        'took_seconds_count{method="GET"} 2\n'
    )
    assert EXPOSITION_TYPE == "text/plain; version=0.0.4; charset=utf-8"


def test_workers_add_up_and_gauges_are_folded_as_declared() -> None:
    """Counters and histograms are sums; a gauge is the sum, the most or the least."""
    seen = samples(exposition([worker(0.5), worker(3.0)]))

    get = "[('method', 'GET')]"
    assert seen["requests_total[('method', 'GET'), ('route', '/a')]"] == 3.5
    assert seen["took_seconds_bucket[('le', '1.0'), ('method', 'GET')]"] == 1
    assert seen[f"took_seconds_count{get}"] == 2
    assert seen[f"took_seconds_sum{get}"] == 3.5
    assert seen["depth[('lane', 'left')]"] == 3.5
    assert (seen["most[]"], seen["least[]"]) == (3.0, 0.5)


def test_counters_do_not_go_back_when_a_worker_is_replaced() -> None:
    """What a worker counted stays after its end; its gauges end with it."""
    first, second = worker(2.0), worker(1.0)
    before = samples(exposition([first, second]))

    kept = retired([first])
    after = samples(exposition([kept, second]))

    counts = {name for name in before if name.startswith(("requests", "took", "shipworthy"))}
    assert {name: after[name] for name in counts} == {name: before[name] for name in counts}
    assert (before["depth[('lane', 'left')]"], after["depth[('lane', 'left')]"]) == (3.0, 1.0)
    assert exposition([retired([kept, second])]) == exposition([retired([first, second])])


def test_folding_changes_no_snapshot() -> None:
    """The same snapshots may be shown again and again."""
    first, second = worker(2.0), worker(1.0)

    assert exposition([first, second]) == exposition([first, second])
    assert first["requests_total"]["sets"] == [(["GET", "/a"], [2.0])]


def test_a_metric_that_another_version_declares_differently_is_left_out_and_said() -> None:
    """While an old and a new worker run side by side, one declaration holds."""
    old, new = Registry(), Registry()
    old.histogram(SECONDS).cell("GET").observe(0.5)
    new.histogram(
        Metric("took_seconds", "histogram", "Seconds.", {"method": Declared()}, (1, 2))
    ).cell("GET").observe(0.5)

    text = exposition([old.snapshot(), new.snapshot()])

    assert samples(text)["took_seconds_count[('method', 'GET')]"] == 1
    assert b"# took_seconds is declared differently by another process" in text


@given(st.lists(st.tuples(st.text(max_size=20), st.floats(0, 1e18)), max_size=5))
def test_any_label_value_and_any_number_is_read_back(counts: list[tuple[str, float]]) -> None:
    """Whatever text a label holds, Prometheus' parser gives it back, or `_other`."""
    registry = Registry()
    expected: dict[str, float] = {}
    for route, count in counts:
        registry.counter(REQUESTS).cell("GET", route).add(count)
        key = route if route.isprintable() and route else "_other"
        expected[key] = expected.get(key, 0.0) + count

    families = text_string_to_metric_families(exposition([registry.snapshot()]).decode())

    seen = {
        sample.labels["route"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == "requests_total"
    }
    assert seen.keys() == expected.keys()
    assert all(math.isclose(seen[route], expected[route]) for route in expected)


def test_the_open_text_of_one_process() -> None:
    """The whole page: families without `_total`, units, the example of a bucket, and an end."""
    registry = Registry()
    registry.counter(REQUESTS).cell("GET", '/"a"').add(3)
    took = registry.histogram(SECONDS).cell("GET")
    took.observe(0.05)
    took.observe_traced(0.5, "0af7651916cd43dd8448eb211c80319c")
    snapshot = {name: registry.snapshot()[name] for name in ("requests_total", "took_seconds")}
    ((*_, at),) = snapshot["took_seconds"]["exemplars"]

    text = exposition([snapshot], Form.OPEN_METRICS).decode()

    assert text == (
        "# HELP requests Requests,\\nby \\\\ way.\n"
        "# TYPE requests counter\n"
        'requests_total{method="GET",route="/\\"a\\""} 3\n'
        "# HELP took_seconds Seconds.\n"
        "# TYPE took_seconds histogram\n"
        "# UNIT took_seconds seconds\n"
        'took_seconds_bucket{method="GET",le="0.1"} 1\n'
        'took_seconds_bucket{method="GET",le="1.0"} 2 '
        f'# {{trace_id="0af7651916cd43dd8448eb211c80319c"}} 0.5 {at:.3f}\n'
        'took_seconds_bucket{method="GET",le="+Inf"} 2\n'
        'took_seconds_sum{method="GET"} 0.55\n'
        'took_seconds_count{method="GET"} 2\n'
        "# EOF\n"
    )
    assert b"trace_id" not in exposition([snapshot])


LABELS = st.text(max_size=20)


@given(
    st.dictionaries(LABELS, st.floats(0, 1e12), max_size=5), st.text(min_size=1).filter(str.strip)
)
def test_both_formats_say_the_same_to_strict_parsers(counts: dict[str, float], text: str) -> None:
    """Any label, any number, any help, with examples of traces in between."""
    registry = Registry()
    requests = registry.counter(Metric("requests_total", "counter", text, BY_ROUTE))
    took = registry.histogram(Metric("took_bytes", "histogram", text, BY_ROUTE, (0.1, 1e6, 2.5e7)))
    for route, count in counts.items():
        requests.cell("GET", route).add(count)
        took.cell("GET", route).observe_traced(count, "0af7651916cd43dd8448eb211c80319c")
    snapshot = registry.snapshot()

    plain = text_string_to_metric_families(exposition([snapshot]).decode())
    opened = list(opened_families(exposition([snapshot], Form.OPEN_METRICS).decode()))

    read = [
        sorted(
            (one.name, sorted(one.labels.items()), one.value)
            for family in families
            for one in family.samples
        )
        for families in (plain, opened)
    ]
    assert read[0] == read[1]
    assert {family.unit for family in opened if family.name == "took_bytes"} == {"bytes"}
    assert sum(one.exemplar is not None for family in opened for one in family.samples) == sum(
        len(series.get("exemplars", ())) for series in snapshot.values()
    )


@given(
    st.one_of(st.floats(1e-9, 1e18), st.integers(1, 10**15), st.sampled_from([1e6, 2.5e6, 123456]))
)
def test_bounds_are_written_as_every_client_writes_them(bound: float) -> None:
    """A bound that is written in another way is another series, for it is a label's text."""
    assert bound_text(bound) == floatToGoString(bound)


def test_the_same_declared_differently_has_no_place_in_a_format_without_comments() -> None:
    """The strict parser takes the page all the same."""
    old, new = Registry(), Registry()
    old.gauge(Metric("depth", "gauge", "Depth."), read=lambda: 1)
    new.gauge(Metric("depth", "gauge", "Depth.", fold="max"), read=lambda: 2)

    text = exposition([old.snapshot(), new.snapshot()], Form.OPEN_METRICS).decode()

    assert next(iter(opened_families(text))).samples[0].value == 1


PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;"
    "escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (PROMETHEUS_2, Form.OPEN_METRICS),
        (PROMETHEUS_3, Form.OPEN_METRICS),
        ("", Form.TEXT),
        ("*/*", Form.TEXT),
        ("text/html,*/*;q=0.8", Form.TEXT),
        ("text/plain;version=0.0.4", Form.TEXT),
        ("application/openmetrics-text", Form.OPEN_METRICS),
        ("Application/OpenMetrics-Text ; Version=1.0.0 ; q=1", Form.OPEN_METRICS),
        ("application/openmetrics-text;version=2.0.0", Form.TEXT),
        ("application/openmetrics-text;q=0", Form.TEXT),
        ("application/openmetrics-text;q=0.4,text/plain;q=0.5", Form.TEXT),
        ("application/openmetrics-text;q=nonsense", Form.TEXT),
        (",;=,application/json;q=", Form.TEXT),
    ],
)
def test_the_scraper_gets_the_format_it_prefers(accept: str, form: Form) -> None:
    """As Prometheus asks, as people ask with curl, and nonsense."""
    assert negotiated(accept) is form


@given(st.text(alphabet="apliction/enmrs-tx;v=1.0,q *", max_size=80))
def test_no_header_makes_negotiation_fail(accept: str) -> None:
    """It is what a client sends."""
    assert negotiated(accept) in Form


def test_no_snapshot_is_an_empty_page() -> None:
    """Before the first worker answers there is nothing to show, and that is valid."""
    assert exposition([]) == b""
    assert exposition([], Form.OPEN_METRICS) == b"# EOF\n"


@pytest.mark.skipif(
    shutil.which("promtool") is None and os.environ.get("CI") != "true",
    reason="promtool is not installed (Debian has it in the package prometheus)",
)
def test_promtool_finds_nothing_to_complain_about() -> None:
    """Prometheus' own linter accepts names, types and helps of what we ship."""
    registry = Registry()
    process_metrics(registry)
    registry.histogram(SECONDS).cell("GET").observe(0.5)

    said = subprocess.run(
        ["promtool", "check", "metrics"],
        input=exposition([registry.snapshot()]),
        capture_output=True,
        check=False,
    )

    assert (said.returncode, said.stdout, said.stderr) == (0, b"", b"")
