"""What the supervisor counts of its workers."""

from typing import Final

from shipworthy.events import Metric, OneOf
from shipworthy.serve.supervision import EndReason, Stage, Supervision

WANTED: Final = "wanted"
SPARE: Final = "spare"

WORKERS: Final = Metric(
    "shipworthy_serve_workers",
    "gauge",
    "Workers by state: wanted (none before one was ready, nor in a drain), starting, ready, "
    "leaving; and spare processes.",
    {"state": OneOf(*(stage.value for stage in Stage), WANTED, SPARE)},
)
ENDS: Final = Metric(
    "shipworthy_serve_worker_ends_total",
    "counter",
    "Worker processes that ended, by why.",
    {"reason": OneOf(*EndReason)},
)


def workers_by_state(supervision: Supervision, *, spare: bool) -> dict[tuple[str, ...], float]:
    """Return the numbers of `WORKERS`: who leaves in order wants nobody, and misses nobody.

    So does who begins. A start has its time (`lifecycle.start`) and the process ends when it is
    over; an instance of a new release that needs all of it is no reason to wake anybody.
    """
    stages = [worker.stage for worker in supervision.workers.values()]
    counts: dict[tuple[str, ...], float]
    counts = {(stage.value,): float(stages.count(stage)) for stage in Stage}
    wants = supervision.ever_ready and not supervision.leaving
    counts[WANTED,] = float(supervision.wanted) if wants else 0.0
    counts[SPARE,] = float(spare)
    return counts
