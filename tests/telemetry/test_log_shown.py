"""What is shown of the log is of what the log counts."""

from shipworthy.events import Catalogue
from shipworthy.telemetry import LOG_SHOWN, AccessLog, Registry, log_metrics


def test_everything_that_is_shown_is_counted_from_the_start() -> None:
    """A panel of a counter that is not there yet would be empty, and an alert silent."""
    catalogue, registry = Catalogue(), Registry()
    catalogue.add(*LOG_SHOWN)
    log_metrics(registry, AccessLog(1, human=True))

    snapshot = registry.snapshot()

    assert set(catalogue.metrics) <= set(snapshot)
    assert all(snapshot[name]["sets"] for name in catalogue.metrics)
    assert list(catalogue.alerts) == ["LogLinesDropped"]
