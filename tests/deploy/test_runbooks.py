"""A page for each alert."""

from deploy.sample import catalogue
from shipworthy.deploy import MonitoringSettings
from shipworthy.deploy.monitoring import monitoring_alarms
from shipworthy.deploy.runbooks import runbook_files


def test_a_page_says_what_it_means_where_to_look_and_what_to_do() -> None:
    """And when it fires, in the words of Prometheus, with places for what is filled in."""
    pages = runbook_files(monitoring_alarms(catalogue(), MonitoringSettings(job="shop")))
    page = pages["runbooks/PoolExhausted.md"]
    assert page.startswith("<!-- Written by")
    assert "\n`pool` is full.\n" in page
    assert "- Severity: page: it wakes somebody\n" in page
    assert "- Fires: for 2m, and is kept for 5m after it ends\n" in page
    assert "`rules/database.yml`" in page
    assert "\n## What to do\n\nDo this.\n" in page
    assert "\n## Try it\n\nBeside production, and with a scale so that nobody waits: " in page
    assert "```promql\n((sum by (job, instance, pool)" in page
    assert "happens: `value`." in pages["runbooks/SlowRoute.md"]
    assert "- Fires: at once\n" in pages["runbooks/Errors.md"]
