"""What this process did in the trash, as metrics.

Not here: what is deleted, which the trail counts (`audit`), whether or not somebody looks here."""

from collections import Counter
from collections.abc import Callable, Mapping

from shipworthy.events import Metric, OneOf
from shipworthy.records.plan import ObstacleKind

RESTORES = Metric(
    "shipworthy_trash_restores_total",
    "counter",
    "Restores by how they ended: whole, part of the rows, or refused.",
    {"outcome": OneOf("whole", "part", "refused")},
)
ROWS_RESTORED = Metric(
    "shipworthy_trash_rows_restored_total", "counter", "Rows that were put back."
)
OBSTACLES = Metric(
    "shipworthy_trash_obstacles_total",
    "counter",
    "Restores that were refused, by the first thing that stood in the way.",
    {"obstacle": OneOf(*ObstacleKind)},
)

_restores = Counter[tuple[str, ...]]()
_rows = Counter[tuple[str, ...]]()
_obstacles = Counter[tuple[str, ...]]()


def count_restore(*, rows: int, left: int) -> None:
    """Count a restore that was made."""
    _restores["part" if left else "whole",] += 1
    _rows[()] += rows


def count_refused(obstacle: str) -> None:
    """Count a restore that was refused."""
    _restores["refused",] += 1
    _obstacles[obstacle,] += 1


def records_metrics() -> tuple[tuple[Metric, Callable[[], Mapping[tuple[str, ...], float]]], ...]:
    """Return each metric with how to read it."""
    return (
        (RESTORES, lambda: RESTORES.zeros() | _restores),
        (ROWS_RESTORED, lambda: ROWS_RESTORED.zeros() | _rows),
        (OBSTACLES, lambda: OBSTACLES.zeros() | _obstacles),
    )
