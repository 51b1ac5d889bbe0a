"""What is shown of the history and of the service's own alerts."""

from pathlib import Path

from shipworthy.events import Catalogue, metrics_of
from shipworthy.settings import load
from shipworthy.telemetry import Memory, Registry
from shipworthy.telemetry.memory_shown import MEMORY_SHOWN


def test_every_metric_of_remembering_is_shown(tmp_path: Path) -> None:
    """None of what it counts is counted for nobody."""
    shown = {metric.name for thing in MEMORY_SHOWN for metric in metrics_of(thing)}
    registry = Registry()
    Memory(load(directory=tmp_path, environ={}), registry, tmp_path, Catalogue())
    counted = {name for name in registry.snapshot() if "_metrics_" not in name}
    assert counted == shown
