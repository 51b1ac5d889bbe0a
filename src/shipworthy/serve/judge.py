"""What the service's state means for the three questions: live, ready, started. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shipworthy.lifecycle import Answer, Phase

# Two heartbeats of 0.25 s lost to garbage collection or a busy machine are no news; 2 s are.
STALE_SECONDS = 2.0
# Kubernetes restarts on liveness: only for a loop that has stood still for as long as its own
# default probe needs to give up three times.
WEDGED_SECONDS = 30.0


@dataclass(slots=True)
class WorkerSeen:
    """The last a supervisor heard of one worker; times are the supervisor's monotonic seconds."""

    generation: int
    pid: int = 0
    heard_at: float = 0.0
    phase: str = Phase.STARTING
    ready: bool = False
    because: str = "starting"
    in_flight: int = 0
    connections: int = 0
    rss_bytes: int = 0
    serving: bool = False
    health: Mapping[str, Any] = field(default_factory=dict)

    def hear(self, state: Mapping[str, Any]) -> None:
        """Take over what the worker says of itself in a heartbeat."""
        self.phase = state["phase"]
        self.ready = state["ready"]
        self.because = state["because"]
        self.in_flight = state["in_flight"]
        self.connections = state["connections"]
        self.rss_bytes = state["rss_bytes"]
        self.health = state["health"]


def blocked(worker: WorkerSeen, now: float) -> str:
    """Return why the worker's silence is a finding, or '' while it is none."""
    silent_seconds = now - worker.heard_at
    if worker.serving and silent_seconds > STALE_SECONDS:
        return f"its event loop has not moved for {silent_seconds:.1f} s"
    return ""


def live(workers: Sequence[WorkerSeen], now: float) -> Answer:
    """Answer liveness: the supervisor lives, and not every serving worker is wedged."""
    serving = [w for w in workers if w.serving]
    if serving and all(now - w.heard_at > WEDGED_SECONDS for w in serving):
        return Answer(ok=False, because=f"worker {serving[-1].pid}: {blocked(serving[-1], now)}")
    return Answer(ok=True)


def ready(workers: Sequence[WorkerSeen], now: float, *, leaving: bool) -> Answer:
    """Answer readiness: not leaving, and at least one worker says it is ready and moves."""
    if leaving:
        return Answer(ok=False, because="draining")
    because = "no worker runs"
    for worker in workers:
        silence = blocked(worker, now)
        if silence:
            because = f"worker {worker.pid}: {silence}"
        elif not worker.serving:
            because = "starting"
        elif worker.ready:
            return Answer(ok=True)
        else:
            because = worker.because
    return Answer(ok=False, because=because)


def startup(*, ever_ready: bool) -> Answer:
    """Answer start-up: whether a worker has been ready once."""
    if ever_ready:
        return Answer(ok=True)
    return Answer(ok=False, because="starting")
