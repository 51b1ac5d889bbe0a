"""Files of rules and of their tests."""

import yaml

from shipworthy.deploy.alarm import AlarmRule, Scenario
from shipworthy.deploy.promql import Recording
from shipworthy.deploy.rules import recorded_file, rule_files, test_files as files_of_tests
from shipworthy.events import Urgency

_ALARM = AlarmRule(
    name="PoolFull",
    group="database",
    expr="pool_free == 0",
    for_seconds=120.0,
    keep_seconds=300.0,
    urgency=Urgency.PAGE,
    labels={"slo": "checkout"},
    summary="{{ $labels.pool }} is full.",
    cause="c",
    look="l",
    act="a",
    drill="d",
    scenarios=(
        Scenario(
            about="it fires",
            interval_seconds=15.0,
            evaluation_seconds=15.0,
            series=(("pool_free", "1+0x9"),),
            checks=((0.0, ()), (90.0, ({"pool": "main"},))),
        ),
    ),
)
_AT_ONCE = AlarmRule(
    name="Alone",
    group="service",
    expr="x > 0",
    for_seconds=0.0,
    keep_seconds=0.0,
    urgency=Urgency.INFO,
    summary="s",
    cause="c",
    look="l",
    act="a",
    drill="d",
    scenarios=_ALARM.scenarios,
)


def test_a_rule_says_when_how_urgent_and_where_its_page_is() -> None:
    """Each group is a file; what is not waited for is not written."""
    files = rule_files([_ALARM, _AT_ONCE], runbook_url="https://wiki.example/runbooks/")
    assert list(files) == ["rules/database.yml", "rules/service.yml"]
    (group,) = yaml.safe_load(files["rules/database.yml"])["groups"]
    assert group["rules"] == [
        {
            "alert": "PoolFull",
            "expr": "pool_free == 0",
            "for": "2m",
            "keep_firing_for": "5m",
            "labels": {"severity": "page", "slo": "checkout"},
            "annotations": {
                "summary": "{{ $labels.pool }} is full.",
                "runbook": "runbooks/PoolFull.md",
                "runbook_url": "https://wiki.example/runbooks/PoolFull.md",
            },
        }
    ]
    (group,) = yaml.safe_load(rule_files([_AT_ONCE], runbook_url="")["rules/service.yml"])["groups"]
    assert "for" not in group["rules"][0]
    assert "runbook_url" not in group["rules"][0]["annotations"]


def test_a_test_asks_for_the_alert_with_all_its_labels() -> None:
    """Also for those that are the same in every alert, so that a route can rely on them."""
    tests = yaml.safe_load(files_of_tests([_ALARM])["tests/PoolFull.yml"])
    assert tests["rule_files"] == ["../rules/database.yml"]
    assert tests["evaluation_interval"] == "15s"
    early, late = tests["tests"][0]["promql_expr_test"]
    assert (early["eval_time"], early["exp_samples"]) == ("0s", [])
    assert late["eval_time"] == "90s"
    assert late["exp_samples"] == [
        {
            "labels": 'ALERTS{alertname="PoolFull",alertstate="firing",pool="main",'
            'severity="page",slo="checkout"}',
            "value": 1,
        }
    ]


def test_what_is_recorded_is_evaluated_as_often_as_it_looks_back() -> None:
    """Else some of it would be counted twice, or never; each only once, whoever relies on it."""
    five = Recording(300.0, "job:x:increase5m", "all", "sum (increase(x[5m]))")
    hour = Recording(3600.0, "job:x:increase1h", "all", "sum (increase(x[1h]))")
    groups = yaml.safe_load(recorded_file([hour, five, hour])["rules/recorded.yml"])["groups"]
    assert [(one["name"], one["interval"], len(one["rules"])) for one in groups] == [
        ("recorded-5m", "5m", 1),
        ("recorded-1h", "1h", 1),
    ]
    assert groups[0]["rules"][0]["labels"] == {"selection": "all"}
    assert recorded_file([]) == {}
