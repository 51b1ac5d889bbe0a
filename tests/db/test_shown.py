"""What is shown of databases."""

from shipworthy.db import DB_SHOWN, db_metrics
from shipworthy.events import metrics_of


def test_every_metric_of_the_room_is_shown() -> None:
    """What nobody sees need not be counted."""
    shown = {metric.name for thing in DB_SHOWN for metric in metrics_of(thing)}

    assert {metric.name for metric, _ in db_metrics()} <= shown
