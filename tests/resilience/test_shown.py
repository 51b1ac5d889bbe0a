"""What is shown of breakers, retries, fallbacks and bulkheads."""

from shipworthy.events import metrics_of
from shipworthy.resilience import RESILIENCE_SHOWN, resilience_metrics


def test_every_metric_of_the_room_is_shown() -> None:
    """What nobody sees need not be counted."""
    shown = {metric.name for thing in RESILIENCE_SHOWN for metric in metrics_of(thing)}

    assert {metric.name for metric, _ in resilience_metrics()} <= shown
