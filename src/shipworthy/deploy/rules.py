"""Rules for Prometheus, and promtool's tests of every alert in them. Pure."""

from collections.abc import Iterable, Mapping
from typing import Final

from shipworthy.deploy.alarm import AlarmRule, Scenario
from shipworthy.deploy.promql import Recording, range_text
from shipworthy.deploy.scenario import series_text
from shipworthy.deploy.yaml import Node, yaml_text

HEAD: Final = "Written by `shipworthy generate monitoring`; a change by hand is asked about there."


RECORDED: Final = "rules/recorded.yml"


def recorded_file(recordings: Iterable[Recording]) -> dict[str, str]:
    """Return the file of recording rules by its path; none where nothing is recorded."""
    groups: dict[str, list[Node]] = {}
    for one in sorted(set(recordings)):
        rule: Node = {
            "record": one.record,
            "expr": one.expr,
            "labels": {"selection": one.selection},
        }
        groups.setdefault(range_text(one.every_seconds), []).append(rule)
    if not groups:
        return {}
    # Evaluated exactly as often as each of them looks back, so that all is counted once.
    written: list[Node] = [
        {"name": f"recorded-{every}", "interval": every, "rules": rules}
        for every, rules in groups.items()
    ]
    return {RECORDED: yaml_text({"groups": written}, head=HEAD)}


def rule_files(alarms: Iterable[AlarmRule], *, runbook_url: str) -> dict[str, str]:
    """Return a file of alerts for each group of alarms, by path."""
    return {
        f"rules/{group}.yml": yaml_text(
            {"groups": [{"name": group, "rules": [_rule(one, runbook_url) for one in alarms]}]},
            head=HEAD,
        )
        for group, alarms in _by_group(alarms).items()
    }


def test_files(alarms: Iterable[AlarmRule]) -> dict[str, str]:
    """Return a file of promtool tests for each alarm: it fires, it does not, it recovers."""
    return {
        f"tests/{alarm.name}.yml": yaml_text(
            {
                "rule_files": [
                    *([f"../{RECORDED}"] if alarm.recordings else []),
                    f"../rules/{alarm.group}.yml",
                ],
                "evaluation_interval": range_text(alarm.scenarios[0].evaluation_seconds),
                "tests": [_test(alarm, scenario) for scenario in alarm.scenarios],
            },
            head=f"{HEAD}\nRun it with: promtool test rules tests/{alarm.name}.yml",
        )
        for alarm in alarms
    }


def _by_group(alarms: Iterable[AlarmRule]) -> dict[str, list[AlarmRule]]:
    groups: dict[str, list[AlarmRule]] = {}
    for alarm in alarms:
        groups.setdefault(alarm.group, []).append(alarm)
    return dict(sorted(groups.items()))


def _rule(alarm: AlarmRule, runbook_url: str) -> Node:
    annotations = {"summary": alarm.summary, "runbook": f"runbooks/{alarm.name}.md"}
    if runbook_url:
        annotations["runbook_url"] = f"{runbook_url.rstrip('/')}/{alarm.name}.md"
    return {
        "alert": alarm.name,
        "expr": alarm.expr,
        **({"for": range_text(alarm.for_seconds)} if alarm.for_seconds else {}),
        **({"keep_firing_for": range_text(alarm.keep_seconds)} if alarm.keep_seconds else {}),
        "labels": {"severity": str(alarm.urgency), **alarm.labels},
        "annotations": annotations,
    }


def _test(alarm: AlarmRule, scenario: Scenario) -> Node:
    return {
        "name": f"{alarm.name}: {scenario.about}",
        "interval": range_text(scenario.interval_seconds),
        "input_series": [
            {"series": series, "values": values} for series, values in scenario.series
        ],
        "promql_expr_test": [
            {
                "expr": f'ALERTS{{alertname="{alarm.name}", alertstate="firing"}}',
                "eval_time": range_text(seconds) if seconds else "0s",
                "exp_samples": [_fired(alarm, labels) for labels in fired],
            }
            for seconds, fired in scenario.checks
        ],
    }


def _fired(alarm: AlarmRule, labels: Mapping[str, str]) -> Node:
    own = {
        "alertname": alarm.name,
        "alertstate": "firing",
        "severity": str(alarm.urgency),
        **alarm.labels,
        **labels,
    }
    return {"labels": series_text("ALERTS", own), "value": 1}
