"""What is shown of databases, and when somebody is called."""

from pathlib import Path

import pytest
from sqlalchemy import create_engine

from shipworthy.db import DB_SHOWN, db_metrics, protect
from shipworthy.db.shown import DB_ALERTS
from shipworthy.events import metrics_of
from shipworthy.telemetry import Snapshot
from shipworthy.telemetry.evaluate import holds
from shipworthy.telemetry.history import History
from shipworthy.telemetry.snapshot import folded

ALERTS = {alert.name: alert for alert in DB_ALERTS}


def test_every_metric_of_the_room_is_shown() -> None:
    """What nobody sees need not be counted."""
    shown = {metric.name for thing in DB_SHOWN for metric in metrics_of(thing)}

    assert {metric.name for metric, _ in db_metrics()} <= shown


@pytest.mark.parametrize("waiting", [0, 2])
@pytest.mark.parametrize("idle_processes", [0, 7])
def test_one_full_pool_among_eight_processes_is_told_of(
    tmp_path: Path, idle_processes: int, waiting: int
) -> None:
    """Free connections of another process help nobody; a full pool nobody waits for is full use."""
    busy, idle = _numbers(tmp_path, held=4, waiting=waiting), _numbers(tmp_path, held=0, waiting=0)
    history = History()
    history.add(folded([busy, *[idle] * idle_processes]), at=100.0, wall=100.0)

    told = holds(ALERTS["PoolExhausted"].when, history, 100.0)

    assert [bool(one) for one in told.values()] == ([True] if waiting else [])


def _numbers(folder: Path, *, held: int, waiting: int) -> Snapshot:
    """Return what a process says whose pool of four has `held` out; `waiting` is written over."""
    engine = create_engine(f"sqlite:///{folder / 'a.db'}", pool_size=3, max_overflow=1)
    protection = protect(engine, name="main")
    connections = [engine.connect() for _ in range(held)]
    try:
        return {
            metric.name: {
                "kind": metric.kind,
                "help": metric.help,
                "labels": list(metric.labels),
                "buckets": [],
                "fold": metric.fold,
                "sets": [
                    (list(labels), [float(waiting) if "waiting" in metric.name else number])
                    for labels, number in read().items()
                ],
            }
            for metric, read in db_metrics()
            if "engine" in metric.labels
        }
    finally:
        for connection in connections:
            connection.close()
        protection.undo()
        engine.dispose()
