"""Alarms about the watching itself; that they fire is shown by promtool in `test_monitoring`."""

from shipworthy.deploy.alarms import Prometheus
from shipworthy.deploy.watching import watching_alarms
from shipworthy.events import Urgency

_SHOP = Prometheus(job="shop", scrape_interval_seconds=15.0)


def test_pages_are_escalated_only_where_somebody_hears_it() -> None:
    """Without a receiver the alert would only be noise."""
    without = [alarm.name for alarm in watching_alarms(_SHOP, escalate_after_seconds=None)]
    with_it = [alarm.name for alarm in watching_alarms(_SHOP, escalate_after_seconds=1800.0)]
    assert {*with_it} - {*without} == {"PageUnanswered"}
    assert "Watchdog" in without


def test_an_escalation_does_not_keep_itself_going() -> None:
    """It is a page too, and asks for all pages but itself."""
    (alarm,) = (
        alarm
        for alarm in watching_alarms(_SHOP, escalate_after_seconds=1800.0)
        if alarm.name == "PageUnanswered"
    )
    assert 'alertname!="PageUnanswered"' in alarm.expr
    assert alarm.summary.endswith("for 30m.")


def test_every_page_is_one_that_is_escalated() -> None:
    """Those about Prometheus too: an escalation asks for the pages of the job."""
    for alarm in watching_alarms(_SHOP, escalate_after_seconds=60.0):
        if alarm.urgency is Urgency.PAGE and alarm.name != "PageUnanswered":
            (scenario, *_) = alarm.scenarios
            fired = {
                name: text
                for _, sets in scenario.checks
                for one in sets
                for name, text in one.items()
            }
            assert {**fired, **alarm.labels}.get("job") == "shop", alarm.name


def test_each_says_what_to_do() -> None:
    """They are written by hand, so nobody else checks that."""
    for alarm in watching_alarms(_SHOP, escalate_after_seconds=60.0):
        assert all((alarm.summary, alarm.cause, alarm.look, alarm.act, alarm.scenarios))
