"""What is shown of the trail."""

from shipworthy.audit import AUDIT_SHOWN, binding_metrics, coverage_metrics, ledger_metrics
from shipworthy.events import metrics_of


def test_every_metric_of_the_room_is_shown() -> None:
    """What nobody sees need not be counted."""
    counted = (*binding_metrics(), *coverage_metrics(), *ledger_metrics())
    shown = {metric.name for thing in AUDIT_SHOWN for metric in metrics_of(thing)}

    assert {metric.name for metric, _ in counted} <= shown
