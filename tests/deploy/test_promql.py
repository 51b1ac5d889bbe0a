"""PromQL that is written from the algebra: what it says, and that Prometheus reads all of it."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import promql_parser
import pytest
from hypothesis import given, settings

from deploy.sample import (
    BYTES,
    CAPACITY,
    IN_USE,
    LAG,
    REQUESTS,
    SECONDS,
    SEEN,
    STATE,
    conditions,
    expressions,
)
from shipworthy.deploy import Scope, promql
from shipworthy.deploy.promql import (
    KeptSums,
    Recording,
    bucket_texts,
    number_text,
    range_text,
    recordings,
)
from shipworthy.deploy.windows import shortened
from shipworthy.events import (
    Absent,
    Age,
    Both,
    Combined,
    Compared,
    Condition,
    Expression,
    Increase,
    Mean,
    Number,
    Quantile,
    Rate,
    Selection,
    Unless,
    Value,
    Within,
    ratio,
)

_SERVICE = Scope(matching='job="shop"', apart=("job", "instance"))
_ALL = Selection(metric=REQUESTS)
_FAILED = Selection(metric=REQUESTS, where={"status": ("500", "503")})
_POOL = Selection(metric=IN_USE, by=("pool",))


@pytest.mark.parametrize(
    ("of", "text"),
    [
        (Rate(_ALL, 60.0), "sum (rate(shop_requests_total[1m]))"),
        (Rate(_ALL), "sum (rate(shop_requests_total[$__rate_interval]))"),
        (
            Increase(Selection(metric=REQUESTS, by=("route",), unless={"status": "404"}), 90.0),
            'sum by (route) (increase(shop_requests_total{status!="404"}[90s]))',
        ),
        (
            Rate(Selection(metric=SECONDS), 60.0),
            "sum (rate(shop_request_duration_seconds_count[1m]))",
        ),
        (Value(_POOL), "sum by (pool) (shop_pool_in_use)"),
        (Value(Selection(metric=LAG)), "max (shop_lag_seconds)"),
        (Value(_ALL), "sum (shop_requests_total)"),
        (Age(Selection(metric=SEEN)), "time() - min (shop_seen_timestamp_seconds)"),
        (
            Quantile(0.99, Selection(metric=SECONDS, by=("route",)), 300.0),
            (
                "histogram_quantile(0.99, sum by (le, route) "
                "(rate(shop_request_duration_seconds_bucket[5m])))"
            ),
        ),
        (
            Within(1.0, Selection(metric=SECONDS), 60.0),
            'sum (rate(shop_request_duration_seconds_bucket{le="1.0"}[1m]))',
        ),
        (
            Within(1048576.0, Selection(metric=BYTES), 60.0),
            r'sum (rate(shop_body_bytes_bucket{le=~"1048576\\.0|1\\.048576e\\+06"}[1m]))',
        ),
        (
            Mean(Selection(metric=BYTES), 60.0),
            "sum (rate(shop_body_bytes_sum[1m])) / (sum (rate(shop_body_bytes_count[1m])) > 0)",
        ),
        (
            Combined(Value(_POOL), "/", Combined(Number(1.0), "+", Number(2.0))),
            "sum by (pool) (shop_pool_in_use) / (1 + 2)",
        ),
        (Combined(Number(1.0), "-", Value(_POOL)), "1 - sum by (pool) (shop_pool_in_use)"),
        (Combined(Value(_POOL), "/", Number(-2.5)), "sum by (pool) (shop_pool_in_use) / (-2.5)"),
        (
            Combined(Quantile(0.5, Selection(metric=BYTES), 60.0), "*", Number(2.0)),
            "(histogram_quantile(0.5, sum by (le) (rate(shop_body_bytes_bucket[1m]))) >= -Inf) * 2",
        ),
    ],
)
def test_each_expression_is_written_with_its_trap_avoided(of: Expression, text: str) -> None:
    """A counter is rated before it is summed, and `le` is kept until all buckets are added up."""
    assert promql(of, window="$__rate_interval") == text


def test_no_failure_yet_is_a_share_of_nothing_and_no_traffic_is_no_share() -> None:
    """A part without series is 0 where the whole is there; a whole of 0 gives no sample."""
    failed, every = promql(Rate(_FAILED, 60.0)), promql(Rate(_ALL, 60.0))
    assert promql(ratio(Rate(_FAILED, 60.0), Rate(_ALL, 60.0))) == (
        f"({failed} or {every} * 0) / ({every} != 0)"
    )


def test_a_sum_counts_either_side_that_is_absent_as_0() -> None:
    """`absent_zero` fills both sides, and neither where the other is a number."""
    one, other = Value(_POOL), Value(Selection(metric=CAPACITY, by=("pool",)))
    assert promql(Combined(one, "+", other, absent_zero=True)) == (
        f"({promql(one)} or {promql(other)} * 0) + ({promql(other)} or {promql(one)} * 0)"
    )
    assert promql(Combined(one, "+", Number(1.0), absent_zero=True)) == f"{promql(one)} + 1"


def test_services_and_instances_are_kept_apart_in_everything() -> None:
    """Each selector is of the service, each aggregation and each match keeps its labels."""
    full = Compared(Value(_POOL), ">=", Value(Selection(metric=CAPACITY, by=("pool",))))
    lag = Compared(Value(Selection(metric=LAG)), ">", Number(1.0))
    assert promql(Both(full, lag, on=()), scope=_SERVICE) == (
        '(sum by (job, instance, pool) (shop_pool_in_use{job="shop"}) >= '
        'sum by (job, instance, pool) (shop_pool_capacity{job="shop"})) and on (job, instance) '
        '(max by (job, instance) (shop_lag_seconds{job="shop"}) > 1)'
    )
    assert promql(Unless(lag, lag), scope=_SERVICE).count(" unless (max by (job, instance)") == 1


def test_what_is_absent_is_asked_of_each_instance_that_answers() -> None:
    """An instance that is down is not one whose metric is missing."""
    gone = Absent(Selection(metric=REQUESTS, where={"status": "500"}))
    assert promql(gone, scope=_SERVICE) == (
        '(max by (job, instance) (up{job="shop"}) == 1) unless on (job, instance) '
        'shop_requests_total{job="shop", status="500"}'
    )
    assert promql(gone) == 'absent(shop_requests_total{status="500"})'
    assert promql(Absent(Selection(metric=SECONDS)), scope=Scope(apart=("job",))) == (
        "(max by (job) (up) == 1) unless on (job) shop_request_duration_seconds_count"
    )


def test_windows_are_scaled_and_written_in_the_largest_whole_unit() -> None:
    """A drill divides every window; what is below a millisecond is refused."""
    rate = Rate(_ALL, 3600.0)
    assert promql(shortened(rate, 60.0)) == "sum (rate(shop_requests_total[1m]))"
    assert [range_text(seconds) for seconds in (0.25, 1.0, 90.0, 3600.0, 2592000.0)] == [
        "250ms",
        "1s",
        "90s",
        "1h",
        "30d",
    ]
    with pytest.raises(ValueError, match="less than a millisecond"):
        range_text(0.0004)


@pytest.mark.parametrize(
    ("of", "complaint"),
    [
        (Rate(_ALL), "the window of a rate"),
        (Age(_POOL), "shop_pool_in_use is summed up"),
        (Combined(Value(_POOL), "/", Number(0.0)), "division by 0"),
    ],
)
def test_what_has_no_meaning_is_refused(of: Expression | Condition, complaint: str) -> None:
    """Prometheus would show nothing for these, or nonsense, for ever."""
    with pytest.raises(ValueError, match=complaint):
        promql(of)


_SUMS = KeptSums(every_seconds=300.0, from_seconds=21600.0, matching='job="shop"', apart=("job",))
_LONG = Scope(matching='job="shop"', apart=("job",), sums=_SUMS)


def test_a_window_of_days_is_added_up_from_what_is_recorded() -> None:
    """To read every series for 30 days at every evaluation would be too much for Prometheus."""
    text = promql(Increase(_FAILED, 259200.0), scope=_LONG)
    assert text == (
        'sum by (job) (sum_over_time(job:shop_requests_total:increase5m{job="shop", '
        'selection="status=~\\"500|503\\""}[3d]))'
    )
    assert promql(Rate(_FAILED, 259200.0), scope=_LONG) == f"({text} / 259200)"
    assert recordings(Rate(_FAILED, 259200.0), scope=_LONG) == (
        Recording(
            every_seconds=300.0,
            record="job:shop_requests_total:increase5m",
            selection='status=~"500|503"',
            expr='sum by (job) (increase(shop_requests_total{job="shop", status=~"500|503"}[5m]))',
        ),
    )


def test_what_is_recorded_by_more_labels_has_another_name() -> None:
    """Else both would be added up together."""
    selection = Selection(metric=SECONDS, by=("route",))
    (recorded,) = recordings(Within(0.5, selection, 86400.0), scope=_LONG)
    assert recorded.record == "job_route:shop_request_duration_seconds_bucket:increase5m"
    assert recorded.selection == 'le="0.5"'
    (everything,) = recordings(Rate(selection, 86400.0), scope=_LONG)
    assert everything.selection == "all"
    anybody = Scope(sums=replace(_SUMS, matching="", apart=()))
    assert recordings(Rate(_ALL, 86400.0), scope=anybody)[0].record.startswith("all:")


def test_short_windows_and_quantiles_are_read_from_the_series() -> None:
    """A quantile needs all its buckets, and a short window is read quickly."""
    of = Both(
        Compared(Rate(_ALL, 3600.0), ">", Number(1.0)),
        Compared(Quantile(0.5, Selection(metric=SECONDS), 86400.0), ">", Number(1.0)),
    )
    assert recordings(of, scope=_LONG) == ()
    assert "[1d]" in promql(of, scope=_LONG)


@pytest.mark.parametrize(
    ("bound", "texts"),
    [
        (0.005, ("0.005",)),
        (1.0, ("1.0",)),
        (100000.0, ("100000.0",)),
        (1e6, ("1000000.0", "1e+06")),
        (1234567.5, ("1234567.5", "1.2345675e+06")),
        (-2e6, ("-2000000.0", "-2e+06")),
        (1e16, ("1e+16",)),
        (1e-5, ("1e-05",)),
    ],
)
def test_a_bucket_is_found_however_prometheus_writes_its_bound(
    bound: float, texts: tuple[str, ...]
) -> None:
    """Version 2 keeps the text it was sent, version 3 writes the number anew."""
    assert bucket_texts(bound) == texts


def test_numbers_are_written_as_people_write_them() -> None:
    """Whole numbers have no fraction, and large ones still are the same number."""
    assert [number_text(value) for value in (0.0, 1.0, -2.0, 0.25, 1e20)] == [
        "0",
        "1",
        "-2",
        "0.25",
        "1e+20",
    ]


@pytest.mark.slow
@settings(max_examples=60)
@given(of=expressions | conditions)
def test_a_second_parser_reads_whatever_is_written(of: Expression | Condition) -> None:
    """Awkward label values, windows, folds and matches of every kind parse."""
    for scope in (Scope(), _SERVICE, _LONG, Scope(matching='job=~"$job"', apart=("job",))):
        promql_parser.parse(promql(of, window="5m", scope=scope))


@pytest.mark.slow
def test_prometheus_itself_reads_whatever_is_written(
    debian: Callable[[str, str], str], tmp_path: Path
) -> None:
    """A few hundred generated texts in one file of rules, because a process costs most."""
    texts: list[str] = []

    @settings(max_examples=60)
    @given(of=expressions | conditions)
    def gather(of: Expression | Condition) -> None:
        texts.append(promql(of, window="5m", scope=_SERVICE))

    gather()
    rules = [{"record": "x", "labels": {"n": str(n)}, "expr": text} for n, text in enumerate(texts)]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))
    done = subprocess.run(
        [debian("promtool", "prometheus"), "check", "rules", file],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(texts) >= 50


def test_states_are_folded_by_max_so_that_one_open_breaker_is_seen() -> None:
    """Two instances, one of which has its breaker open, are shown as open once."""
    opened = Selection(metric=STATE, by=("breaker",), where={"state": "open"})
    assert promql(Value(opened)) == 'max by (breaker) (shop_breaker_state{state="open"})'
