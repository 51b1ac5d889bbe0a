"""What the supervisor counts of its workers."""

from typing import Final

from shipworthy.events import Metric, OneOf
from shipworthy.serve.supervision import EndReason, Stage, Supervision

WANTED: Final = "wanted"
SPARE: Final = "spare"

WORKERS: Final = Metric(
    "shipworthy_serve_workers",
    "gauge",
    "Workers by state: wanted (none in a drain), starting, ready, leaving; and spare processes.",
    {"state": OneOf(*(stage.value for stage in Stage), WANTED, SPARE)},
)
ENDS: Final = Metric(
    "shipworthy_serve_worker_ends_total",
    "counter",
    "Worker processes that ended, by why.",
    {"reason": OneOf(*EndReason)},
)


def workers_by_state(supervision: Supervision, *, spare: bool) -> dict[tuple[str, ...], float]:
    """Return the numbers of `WORKERS`: who leaves in order wants nobody, and misses nobody."""
    stages = [worker.stage for worker in supervision.workers.values()]
    counts: dict[tuple[str, ...], float]
    counts = {(stage.value,): float(stages.count(stage)) for stage in Stage}
    counts[WANTED,] = 0.0 if supervision.leaving else float(supervision.wanted)
    counts[SPARE,] = float(spare)
    return counts
