"""What is shown of the trash."""

from shipworthy.events import metrics_of
from shipworthy.records import RECORDS_SHOWN, records_metrics


def test_every_metric_of_the_room_is_shown() -> None:
    """What nobody sees need not be counted."""
    shown = {metric.name for thing in RECORDS_SHOWN for metric in metrics_of(thing)}

    assert {metric.name for metric, _ in records_metrics()} <= shown
