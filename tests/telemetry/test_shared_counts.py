"""Processes without a supervisor count in one directory."""

from pathlib import Path

import pytest

from shipworthy.errors import SettingsInvalid
from shipworthy.events import Metric
from shipworthy.telemetry import Registry, SharedCounts, folded

ASKED = Metric("t_asked_total", "counter", "Asked.")
HELD = Metric("t_held", "gauge", "Held.")


def _worker(directory: Path, held: float) -> tuple[SharedCounts, Registry]:
    registry = Registry()
    registry.gauge(HELD, read=lambda: held)
    shared = SharedCounts(directory, registry)
    return shared, registry


def _number(shared: SharedCounts, metric: Metric) -> float:
    ((_, (number,)),) = folded(shared.told())[metric.name]["sets"]
    return number


def test_each_tells_of_all(tmp_path: Path) -> None:
    """Counts at once, gauges as they were said last; what was counted before it began, too."""
    (one, first), (two, second) = (_worker(tmp_path / "a" / "b", held) for held in (1.0, 2.0))
    assert one.told() == []
    first.counter(ASKED).cell().add(5.0)
    for shared in (one, two):
        shared.begin()
        shared.begin()
        shared.say()
    second.counter(ASKED).cell().add(2.0)
    for shared in (one, two):
        assert _number(shared, ASKED) == 7.0
        assert _number(shared, HELD) == 3.0
    assert (tmp_path / "a" / "b").stat().st_mode & 0o077 == 0


def test_a_place_that_is_no_directory_is_named(tmp_path: Path) -> None:
    """With the setting and what the system says."""
    (tmp_path / "file").write_text("")
    shared, _ = _worker(tmp_path / "file", 0.0)
    with pytest.raises(SettingsInvalid, match=r"metrics\.shared_directory: .*file cannot be used"):
        shared.begin()
