"""What is shown of the workers, and of the whole service."""

from pathlib import Path

from shipworthy.events import metrics_of
from shipworthy.serve import service_catalogue
from shipworthy.serve.metrics import ENDS, WORKERS
from shipworthy.serve.shown import SERVE_SHOWN
from shipworthy.settings import load


def test_every_metric_of_the_room_is_shown() -> None:
    """What nobody sees need not be counted."""
    shown = {metric for thing in SERVE_SHOWN for metric in metrics_of(thing)}

    assert {ENDS, WORKERS} <= shown


def test_the_catalogue_of_a_service_has_what_every_room_shows(tmp_path: Path) -> None:
    """With the objectives of a service that nobody has told anything."""
    found = service_catalogue(load(environ={}, directory=tmp_path))

    assert {"WorkerCrashLoop", "BreakerOpen", "RouteFails", "TrailBroken"} <= {*found.alerts}
    assert {"availability", "latency"} == {*found.slos}
    assert {"AvailabilityBurn1h", "LatencyBurn3d"} <= {*found.alerts}
    assert "Availability: budget left" in found.panels
