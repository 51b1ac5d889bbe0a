"""An expression has the value here that Prometheus shows of the same history."""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pytest

from prometheus_server import Prometheus, load_blocks, prometheus_on
from shipworthy.deploy.promql import promql
from shipworthy.events import (
    Absent,
    Age,
    Both,
    Combined,
    Compared,
    Condition,
    Declared,
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
    kept_apart_by,
    ratio,
)
from shipworthy.telemetry import Snapshot
from shipworthy.telemetry.evaluate import evaluate, holds, widened
from shipworthy.telemetry.history import History

REQUESTS = Metric(
    "t_requests_total", "counter", "Requests.", {"route": Declared(), "code": OneOf("200", "500")}
)
SECONDS = Metric(
    "t_seconds", "histogram", "Length.", {"route": Declared()}, buckets=(0.1, 0.5, 1.0, 5.0)
)
USED = Metric("t_used", "gauge", "Held.", {"pool": Declared(), "state": OneOf("idle", "busy")})
PEAK = Metric(
    "t_peak", "gauge", "Most.", {"pool": Declared(), "state": OneOf("a", "b")}, fold="max"
)
LEAST = Metric(
    "t_least", "gauge", "Least.", {"pool": Declared(), "state": OneOf("a", "b")}, fold="min"
)
BORN = Metric("t_born_seconds", "gauge", "When it began.", fold="min")
NEVER = Metric("t_never_total", "counter", "Never seen.", {"route": Declared()})
BY_ROUTE = {"by": ("route",)}


@dataclass(frozen=True, slots=True)
class Case:
    """An expression or a condition, and the PromQL that means the same."""

    of: Expression | Condition
    promql: str


ALL = Selection(metric=REQUESTS)
BAD = Selection(metric=REQUESTS, by=("route",), where={"code": "500"})
ROUTES = Selection(metric=REQUESTS, by=("route",))
LENGTHS = Selection(metric=SECONDS, by=("route",))

VALUES = {
    "rate": Case(Rate(ROUTES), "sum by (route) (rate(t_requests_total[5m]))"),
    "rate of all": Case(Rate(ALL, 60), "sum(rate(t_requests_total[1m]))"),
    "rate by two labels": Case(
        Rate(Selection(metric=REQUESTS, by=("code", "route")), 120),
        "sum by (code, route) (rate(t_requests_total[2m]))",
    ),
    "rate of one or the other": Case(
        Rate(Selection(metric=REQUESTS, by=("code",), where={"route": ("/a", "/b")}), 600),
        'sum by (code) (rate(t_requests_total{route=~"/a|/b"}[10m]))',
    ),
    "rate of all but one": Case(
        Rate(Selection(metric=REQUESTS, by=("route",), unless={"route": "/a"}), 60),
        'sum by (route) (rate(t_requests_total{route!="/a"}[1m]))',
    ),
    "rate of a histogram": Case(Rate(LENGTHS), "sum by (route) (rate(t_seconds_count[5m]))"),
    "rate in a window without samples enough": Case(
        Rate(ROUTES, 15), "sum by (route) (rate(t_requests_total[15s]))"
    ),
    "increase": Case(Increase(ROUTES, 600), "sum by (route) (increase(t_requests_total[10m]))"),
    "increase in an hour": Case(
        Increase(ROUTES, 3600), "sum by (route) (increase(t_requests_total[1h]))"
    ),
    "increase of a histogram": Case(
        Increase(LENGTHS, 300), "sum by (route) (increase(t_seconds_count[5m]))"
    ),
    "median": Case(
        Quantile(0.5, LENGTHS),
        "histogram_quantile(0.5, sum by (route, le) (rate(t_seconds_bucket[5m])))",
    ),
    "p99": Case(
        Quantile(0.99, LENGTHS, 120),
        "histogram_quantile(0.99, sum by (route, le) (rate(t_seconds_bucket[2m])))",
    ),
    "p01": Case(
        Quantile(0.01, Selection(metric=SECONDS), 120),
        "histogram_quantile(0.01, sum by (le) (rate(t_seconds_bucket[2m])))",
    ),
    "mean": Case(
        Mean(LENGTHS, 120),
        "sum by (route) (rate(t_seconds_sum[2m])) / sum by (route) (rate(t_seconds_count[2m]))",
    ),
    "within": Case(
        Within(0.5, LENGTHS, 120), 'sum by (route) (rate(t_seconds_bucket{le="0.5"}[2m]))'
    ),
    "gauge": Case(Value(Selection(metric=USED, by=("pool",))), "sum by (pool) (t_used)"),
    "largest": Case(Value(Selection(metric=PEAK, by=("pool",))), "max by (pool) (t_peak)"),
    "least": Case(Value(Selection(metric=LEAST, by=("state",))), "min by (state) (t_least)"),
    "total": Case(Value(ROUTES), "sum by (route) (t_requests_total)"),
    "age": Case(Age(Selection(metric=BORN)), "time() - min(t_born_seconds)"),
    "never seen": Case(Rate(Selection(metric=NEVER)), "sum(rate(t_never_total[5m]))"),
    "share": Case(
        ratio(Rate(BAD), Rate(ROUTES)),
        '(sum by (route) (rate(t_requests_total{code="500"}[5m]))'
        " or sum by (route) (rate(t_requests_total[5m])) * 0)"
        " / (sum by (route) (rate(t_requests_total[5m])) != 0)",
    ),
    "share of what was never seen": Case(
        ratio(Rate(Selection(metric=NEVER, by=("route",))), Rate(ROUTES)),
        "(sum by (route) (rate(t_never_total[5m]))"
        " or sum by (route) (rate(t_requests_total[5m])) * 0)"
        " / (sum by (route) (rate(t_requests_total[5m])) != 0)",
    ),
    "difference": Case(
        Combined(Rate(ROUTES), "-", Rate(BAD)),
        "sum by (route) (rate(t_requests_total[5m]))"
        ' - sum by (route) (rate(t_requests_total{code="500"}[5m]))',
    ),
    "sum with what is absent": Case(
        Combined(Rate(BAD), "+", Rate(LENGTHS), absent_zero=True),
        '(sum by (route) (rate(t_requests_total{code="500"}[5m]))'
        " or sum by (route) (rate(t_seconds_count[5m])) * 0)"
        " + (sum by (route) (rate(t_seconds_count[5m]))"
        ' or sum by (route) (rate(t_requests_total{code="500"}[5m])) * 0)',
    ),
    "a number times": Case(
        Combined(Number(100.0), "*", Combined(Rate(ALL), "/", Number(60.0))),
        "100 * (sum(rate(t_requests_total[5m])) / 60)",
    ),
    "numbers only": Case(
        Combined(Rate(ALL), "*", Combined(Number(6.0), "/", Number(4.0))),
        "sum(rate(t_requests_total[5m])) * (6 / 4)",
    ),
}

_BUSY = Compared(Rate(ROUTES), ">", Number(0.5))
_FAILING = Compared(Rate(BAD), ">", Number(0.05))
_SOME = Compared(Value(Selection(metric=USED)), ">", Number(10.0))
_BUSY_TEXT = "sum by (route) (rate(t_requests_total[5m])) > 0.5"
_FAILING_TEXT = 'sum by (route) (rate(t_requests_total{code="500"}[5m])) > 0.05'

CONDITIONS = {
    "above": Case(_BUSY, _BUSY_TEXT),
    "at most": Case(
        Compared(Value(Selection(metric=USED, by=("pool",))), "<=", Number(9.0)),
        "sum by (pool) (t_used) <= 9",
    ),
    "one above the other": Case(
        Compared(Rate(ROUTES, 60), ">=", Rate(ROUTES, 600)),
        "sum by (route) (rate(t_requests_total[1m]))"
        " >= sum by (route) (rate(t_requests_total[10m]))",
    ),
    "equal": Case(
        Compared(
            Value(Selection(metric=USED, by=("pool",), where={"state": "busy"})), "==", Number(4.0)
        ),
        'sum by (pool) (t_used{state="busy"}) == 4',
    ),
    "different": Case(
        Compared(
            Value(Selection(metric=USED, by=("pool",), where={"state": "busy"})), "!=", Number(4.0)
        ),
        'sum by (pool) (t_used{state="busy"}) != 4',
    ),
    "both": Case(Both(_BUSY, _FAILING), f"{_BUSY_TEXT} and {_FAILING_TEXT}"),
    "both on nothing": Case(Both(_BUSY, _SOME, on=()), f"{_BUSY_TEXT} and on () sum(t_used) > 10"),
    "both on some": Case(
        Both(
            Compared(Rate(Selection(metric=REQUESTS, by=("code", "route"))), ">", Number(0.01)),
            _FAILING,
            on=("route",),
        ),
        f"sum by (code, route) (rate(t_requests_total[5m])) > 0.01 and on (route) {_FAILING_TEXT}",
    ),
    "unless": Case(Unless(_BUSY, _FAILING), f"{_BUSY_TEXT} unless {_FAILING_TEXT}"),
    "unless on nothing": Case(
        Unless(_BUSY, _SOME, on=()), f"{_BUSY_TEXT} unless on () sum(t_used) > 10"
    ),
    "absent": Case(
        Absent(Selection(metric=NEVER)), "absent(t_never_total) and on () count(t_born_seconds) > 0"
    ),
    "not absent": Case(Absent(ALL), "absent(t_requests_total) and on () count(t_born_seconds) > 0"),
}


def _series(metric: Metric, sets: Mapping[tuple[str, ...], list[float]]) -> Snapshot:
    return {
        metric.name: {
            "kind": metric.kind,
            "help": metric.help,
            "labels": list(metric.labels),
            "buckets": list(metric.buckets),
            "fold": metric.fold,
            "sets": [(list(labels), list(numbers)) for labels, numbers in sets.items()],
        }
    }


def _lives(begin: float) -> Iterator[tuple[float, Snapshot]]:
    """Two and a half hours of a service: restarts, a pause, routes that come, silence."""
    draw = random.Random(20261130)
    counts: dict[tuple[str, ...], list[float]] = {}
    lengths: dict[tuple[str, ...], list[float]] = {}
    born = begin
    for step in range(900):
        at = begin + 10.0 * step
        if step in (260, 262, 611):  # two restarts close to each other, one later
            counts, lengths, born = {}, {}, at
        if 400 <= step < 445:  # nobody asks, for longer than a sample is good
            continue
        for route, busy in (("/a", 1.0), ("/b", 0.1), ("/c", 3.0 if step > 300 else 0.0)):
            if route == "/c" and step <= 200:
                continue
            numbers = lengths.setdefault((route,), [0.0] * 6)
            for code in ("200", "500"):
                number = counts.setdefault((route, code), [0.0])
                if code == "500" and not 500 < step < 700:
                    continue
                for _ in range(draw.randint(0, round(20 * busy))):
                    number[0] += 1.0
                    seconds = draw.expovariate(2.0 if route == "/a" else 0.3)
                    numbers[
                        next((i for i, b in enumerate(SECONDS.buckets) if seconds <= b), 4)
                    ] += 1
                    numbers[-1] += seconds
        gauges: dict[tuple[str, ...], list[float]] = {
            (pool, state): [float(draw.randint(0, 9))]
            for pool in ("x", "y")
            for state in ("a", "b")
        }
        yield (
            at,
            {
                **_series(REQUESTS, counts),
                **_series(SECONDS, lengths),
                **_series(
                    USED,
                    {
                        (pool, "busy" if state == "a" else "idle"): value
                        for (pool, state), value in gauges.items()
                    },
                ),
                **_series(PEAK, gauges),
                **_series(LEAST, gauges),
                **_series(BORN, {(): [born]}),
            },
        )


# Not a multiple of the interval: whether a window holds the sample at its very start, versions of
# Prometheus see differently.
_STEP_SECONDS = 30.0
_OFFSET_SECONDS = 3.3


@pytest.fixture(scope="module")
def begin() -> float:
    # In the past, and on a second: Prometheus takes no samples of the future.
    return float(int(time.time()) - 4 * 3600)


@pytest.fixture(scope="module")
def lives(begin: float) -> list[tuple[float, Snapshot]]:
    return list(_lives(begin))


@pytest.fixture(scope="module")
def history(lives: list[tuple[float, Snapshot]]) -> History:
    kept = History()
    for at, snapshot in lives:
        assert kept.add(snapshot, at=at, wall=at)
    return kept


@pytest.fixture(scope="module")
def prometheus(
    lives: list[tuple[float, Snapshot]],
    debian: Callable[[str, str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    binary, promtool = debian("prometheus", "prometheus"), debian("promtool", "prometheus")
    load_blocks(promtool, lives, folder)
    with prometheus_on(binary, folder, "--storage.tsdb.retention.time=30d") as running:
        yield running


def _compare(case: Case, history: History, prometheus: Prometheus, begin: float) -> int:
    start, end = begin + _OFFSET_SECONDS, begin + 9000 + 400
    theirs = prometheus.over(case.promql, start, end, _STEP_SECONDS)
    names = kept_apart_by(case.of) or ()
    samples, at = 0, start
    while at <= end:
        condition = isinstance(case.of, Compared | Both | Unless | Absent)
        found = holds(case.of, history, at) if condition else evaluate(case.of, history, at)  # type: ignore[arg-type]
        ours = {frozenset(zip(names, labels, strict=True)): v for labels, v in found.items()}
        assert ours == pytest.approx(theirs.get(round(at, 3), {}), rel=1e-7), at - begin
        samples += len(ours)
        at += _STEP_SECONDS
    return samples


@pytest.mark.slow
@pytest.mark.parametrize("name", VALUES)
def test_a_value_is_the_one_that_prometheus_shows(
    name: str, history: History, prometheus: Prometheus, begin: float
) -> None:
    """At every instant, to seven digits, over restarts, a pause and routes that come late."""
    samples = _compare(VALUES[name], history, prometheus, begin)
    assert (samples == 0) == (name == "never seen")


@pytest.mark.slow
@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_holds_where_prometheus_says_so(
    name: str, history: History, prometheus: Prometheus, begin: float
) -> None:
    """For the same label sets, with the same value."""
    samples = _compare(CONDITIONS[name], history, prometheus, begin)
    assert (samples == 0) == (name == "not absent")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*VALUES, *CONDITIONS} - {"absent", "not absent"}))
def test_what_is_generated_for_prometheus_means_the_same(
    name: str, history: History, prometheus: Prometheus, begin: float
) -> None:
    """The rules and dashboards that we write and the charts that we draw show one value.

    Absence is left out: whether the service was asked, only a Prometheus that scrapes knows.
    """
    case = VALUES.get(name) or CONDITIONS[name]
    _compare(Case(case.of, promql(case.of, window="5m")), history, prometheus, begin)


def test_windows_are_widened_for_points_that_are_far_apart() -> None:
    """To the least that is asked for; an increase stays one of its own length."""
    gauge = Value(Selection(metric=USED))
    assert widened(Rate(ALL, 60.0), 1200.0) == Rate(ALL, 1200.0)
    assert widened(Rate(ALL, 3600.0), 1200.0) == Rate(ALL, 3600.0)
    assert widened(Rate(ALL), 1200.0) == Rate(ALL)
    assert widened(gauge, 1200.0) == gauge
    assert widened(Increase(ALL, 60.0), 1200.0) == Combined(Rate(ALL, 1200.0), "*", Number(60.0))
    assert widened(Increase(ALL), 1200.0) == Increase(ALL)
    both = Combined(Mean(LENGTHS, 60.0), "+", Mean(LENGTHS, 3600.0))
    wide = Combined(Mean(LENGTHS, 1200.0), "+", Mean(LENGTHS, 3600.0))
    assert widened(both, 1200.0) == wide
