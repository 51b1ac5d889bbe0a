"""Routes, silences by other alerts, and receivers; amtool judges them in `test_monitoring`."""

from typing import Any

import yaml

from shipworthy.deploy import MonitoringSettings
from shipworthy.deploy.alertmanager import alertmanager_file


def _written(settings: MonitoringSettings) -> dict[str, Any]:
    written: dict[str, Any] = yaml.safe_load(alertmanager_file(settings))
    return written


def test_a_page_keeps_the_tickets_of_its_objective_silent_and_no_others() -> None:
    """Two alerts without a label are equal in it, so both sides must have the label compared."""
    rules = _written(MonitoringSettings())["inhibit_rules"]
    assert rules[0] == {
        "source_matchers": ['severity="page"', 'slo=~".+"'],
        "target_matchers": ['severity="ticket"', 'slo=~".+"'],
        "equal": ["job", "slo"],
    }
    # A ticket for one instance of ten is no reason to let the page on the others go unheard.
    assert rules[1]["source_matchers"] == ['alertname="AllTargetsDown"']
    assert rules[1]["target_matchers"] == ['slo=~".+"']


def test_each_way_is_written_as_alertmanager_names_it() -> None:
    """Keys stay in files of their own, and what is over is told too."""
    written = _written(
        MonitoringSettings(
            page=("https://pager.example/hook", "pagerduty:/k/p", "https://chat.example/hook"),
            ticket=("mailto:ops@shop.example", "slack:/k/s"),
            smtp="mail.example:587",
            mail_from="a@shop.example",
        )
    )
    assert written["global"] == {
        "smtp_smarthost": "mail.example:587",
        "smtp_from": "a@shop.example",
    }
    receivers = {one["name"]: one for one in written["receivers"]}
    assert receivers["page"] == {
        "name": "page",
        "webhook_configs": [
            {"url": "https://pager.example/hook", "send_resolved": True},
            {"url": "https://chat.example/hook", "send_resolved": True},
        ],
        "pagerduty_configs": [{"routing_key_file": "/k/p", "send_resolved": True}],
    }
    assert receivers["ticket"]["email_configs"][0]["to"] == "ops@shop.example"
    assert receivers["ticket"]["slack_configs"][0]["api_url_file"] == "/k/s"
    assert receivers["info"] == {"name": "info"}


def test_a_page_is_sent_at_once_and_a_drill_waits_for_nothing() -> None:
    """Waits are those of the receiver, divided by the scale."""
    routes = {
        route["receiver"]: route for route in _written(MonitoringSettings())["route"]["routes"]
    }
    assert routes["page"]["group_wait"] == "10s"
    assert routes["heartbeat"]["repeat_interval"] == "1m"
    drill = _written(MonitoringSettings(scale=60.0))["route"]["routes"]
    assert {route["receiver"]: route for route in drill}["page"]["repeat_interval"] == "1m"
    assert "global" not in _written(MonitoringSettings())
