"""Alerts of the catalogue as rules."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from deploy.sample import ALERTS, PANELS, REQUESTS
from shipworthy.deploy.alarm import AlarmRule
from shipworthy.deploy.alarms import VALUE, WHOLE_VALUE, Prometheus, Unwritable, catalogue_alarms
from shipworthy.events import (
    Alert,
    Compared,
    Number,
    Rate,
    Selection,
    Urgency,
    ratio,
    value_text,
)

_PROMETHEUS = Prometheus(job="shop", scrape_interval_seconds=15.0)


def _alarms(prometheus: Prometheus = _PROMETHEUS) -> dict[str, AlarmRule]:
    return {alarm.name: alarm for alarm in catalogue_alarms(ALERTS, PANELS, prometheus)}


def test_what_is_counted_is_of_the_service_and_a_state_is_of_an_instance() -> None:
    """One full pool among ten instances is an alarm; errors are counted together."""
    alarms = _alarms()
    assert "by (job) (rate(" in alarms["ErrorsHigh"].expr
    assert "by (job, instance, pool) (shop_pool_in_use" in alarms["PoolExhausted"].expr
    assert all('{job="shop"' in alarm.expr for alarm in alarms.values())


def test_an_alert_stands_in_the_file_of_the_board_that_shows_its_metric() -> None:
    """Who looks at the board finds its alerts in the rules of that name."""
    groups = {name: alarm.group for name, alarm in _alarms().items()}
    assert groups["ErrorsHigh"] == "overview"
    assert groups["PoolExhausted"] == "database"
    assert groups["Behind"] == "service"
    assert groups["BreakerOpen"] == "service"


def test_a_summary_becomes_a_template() -> None:
    """Prometheus fills in labels and the value, which people can read."""
    alarms = _alarms()
    assert alarms["PoolExhausted"].summary == "{{ $labels.pool }} is full."
    assert alarms["SlowRoute"].summary == f"SlowRoute happens: {VALUE}."


def test_prometheus_writes_a_value_as_the_service_does(
    tmp_path: Path, debian: Callable[[str, str], str]
) -> None:
    """The same alert reads the same in both; nobody is told of 25.6667 failures."""
    values = [25.6667, 0.0833333, 9.4, 10.0, 12_345_678.0, 1.5e9, 0.0000123, 0.0, -3.0]
    rules = [
        {"alert": f"A{number}", "expr": f"vector({value})", "annotations": {"said": VALUE}}
        for number, value in enumerate(values)
    ]
    tests = [
        {
            "eval_time": "1m",
            "alertname": f"A{number}",
            "exp_alerts": [{"exp_annotations": {"said": value_text(value)}}],
        }
        for number, value in enumerate(values)
    ]
    rules += [
        {"alert": f"W{number}", "expr": f"vector({value})", "annotations": {"said": WHOLE_VALUE}}
        for number, value in enumerate(values)
    ]
    tests += [
        {
            "eval_time": "1m",
            "alertname": f"W{number}",
            "exp_alerts": [{"exp_annotations": {"said": value_text(value, whole=True)}}],
        }
        for number, value in enumerate(values)
    ]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "a", "rules": rules}]}))
    (tmp_path / "test.yml").write_text(
        yaml.safe_dump(
            {
                "rule_files": ["rules.yml"],
                "evaluation_interval": "1m",
                "tests": [{"interval": "1m", "alert_rule_test": tests}],
            }
        )
    )
    promtool = debian("promtool", "prometheus")
    done = subprocess.run(
        [promtool, "test", "rules", "test.yml"], cwd=tmp_path, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert [value_text(value) for value in values[:4]] == ["26", "0.0833", "9.4", "10"]


def test_a_drill_divides_every_wait() -> None:
    """Windows, `for` and `keep` alike; a rate that names no window has a sixtieth of the usual."""
    shop = Prometheus(job="shop", scrape_interval_seconds=1.0, scale=60.0)
    alarms = _alarms(shop)
    assert "[10s]" in alarms["ErrorsHigh"].expr
    assert "[5s]" in alarms["SlowOnAverage"].expr
    assert (alarms["PoolExhausted"].for_seconds, alarms["PoolExhausted"].keep_seconds) == (2.0, 5.0)


def _alert(when: Compared) -> Alert:
    return Alert(
        name="Mine",
        when=when,
        for_seconds=0.0,
        urgency=Urgency.PAGE,
        summary="s",
        cause="c",
        look="l",
        act="a",
        drill="d",
    )


@pytest.mark.parametrize(
    ("when", "complaint"),
    [
        (
            Compared(Rate(Selection(metric=REQUESTS), 30.0), ">", Number(1.0)),
            r"Mine: a window of 30s is shorter than four scrapes \(1m\): .* at most 7500ms",
        ),
        (
            Compared(
                ratio(Rate(Selection(metric=REQUESTS)), Rate(Selection(metric=REQUESTS))),
                ">",
                Number(2.0),
            ),
            "alert Mine: no behaviour of shop_requests_total was found for which it fires",
        ),
    ],
)
def test_an_alert_that_could_not_work_is_refused_by_its_name(
    when: Compared, complaint: str
) -> None:
    """It is found when the rules are written, and not in the night it should have fired."""
    with pytest.raises(Unwritable, match=complaint):
        list(catalogue_alarms([_alert(when)], PANELS, _PROMETHEUS))


def test_an_alert_of_an_objective_has_its_label_and_a_file_of_its_own() -> None:
    """By the label a page keeps the tickets of the same objective silent."""
    (alert,) = (alert for alert in ALERTS if alert.name == "ErrorsForDays")
    (alarm,) = catalogue_alarms([alert], PANELS, _PROMETHEUS, {"ErrorsForDays": "checkout"})
    assert (alarm.labels, alarm.group) == ({"slo": "checkout"}, "slo-ErrorsForDays")
    assert {one.every_seconds for one in alarm.recordings} == {300.0}


def test_a_window_of_weeks_is_added_up_of_hours() -> None:
    """A month of five minutes is 8,640 samples to read each time; of hours it is 720."""
    month = Compared(Rate(Selection(metric=REQUESTS), 30 * 86400.0), ">", Number(1.0))
    (alarm,) = catalogue_alarms([_alert(month)], PANELS, _PROMETHEUS)
    assert [one.record for one in alarm.recordings] == ["job:shop_requests_total:increase1h"]
    assert {scenario.evaluation_seconds for scenario in alarm.scenarios} == {3600.0}
