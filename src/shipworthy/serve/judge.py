"""What the service's state means for the three questions: live, ready, started. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shipworthy.lifecycle import Answer, Phase

# Two heartbeats of 0.25 s lost to garbage collection or a busy machine are no news; 2 s are.
STALE_SECONDS = 2.0
# Kubernetes restarts on liveness: only for a loop that has stood still for as long as its own
# default probe needs to give up three times.
WEDGED_SECONDS = 30.0
# A supervisor that looks ten times a second and has not for this long did not run.
PAUSE_SECONDS = 1.0
# What others wrote is shown, and no novel of it.
_WORDS_MAX = 300


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
    requests: int = 0
    # With how many requests it has served its time; 0 is never.
    requests_max: int = 0
    serving: bool = False
    health: Mapping[str, Any] = field(default_factory=dict)
    # Since when its own watcher has seen its loop stand, and where.
    stands_since: float = math.inf
    stands_at: str = ""

    def hear(self, state: Mapping[str, Any]) -> None:
        """Take over what the worker says of itself in a heartbeat."""
        self.phase = state["phase"]
        self.ready = state["ready"]
        self.because = state["because"]
        self.in_flight = state["in_flight"]
        self.connections = state["connections"]
        self.rss_bytes = state["rss_bytes"]
        self.requests = state["requests"]
        self.stands_since, self.stands_at = math.inf, ""
        self.health = state["health"]

    def pardon(self, seconds: float, now: float) -> None:
        """Forget `seconds` of silence in which we ourselves did not listen."""
        self.heard_at = min(self.heard_at + seconds, now)
        if self.stands_since < math.inf:
            self.stands_since = min(self.stands_since + seconds, now)

    def watch(self, found: Mapping[str, Any], now: float) -> None:
        """Take over what its watcher says of its loop: for how long it has stood, and where."""
        seconds = float(found["blocked_seconds"])
        self.stands_since = now - seconds if seconds > 0 else math.inf
        self.stands_at = _standing(found) if seconds > 0 else ""


def requests_max(most: int, *, jitter_ratio: float, draw: float) -> int:
    """Return with how many requests a worker has served its time; 0 is never.

    `draw` is from [0, 1): workers that began together are not due together.
    """
    return max(1, round(most * (1.0 - jitter_ratio * draw))) if most else 0


def worn(worker: WorkerSeen) -> str:
    """Return why the worker has served its time, or '' while it has not."""
    if 0 < worker.requests_max <= worker.requests:
        return f"it has served {worker.requests:,} requests"
    return ""


def pause(last_look: float, now: float) -> float:
    """Return for how many seconds we ourselves did not run, by when we last looked.

    The silence of that time is nobody's fault: after a SIGSTOP, in a frozen container or on a
    machine that was suspended, all that was said meanwhile is still to be read.
    """
    gap = now - last_look
    return gap if gap > PAUSE_SECONDS else 0.0


def silent_seconds(worker: WorkerSeen, now: float) -> float:
    """Return for how long nothing was heard of a serving worker."""
    return now - worker.heard_at if worker.serving else 0.0


def blocked(worker: WorkerSeen, now: float) -> str:
    """Return what is known of a loop that stands, or '' while nothing is.

    Its own watcher says it early, silence says it after `STALE_SECONDS`.
    """
    seconds = silent_seconds(worker, now)
    if seconds <= STALE_SECONDS:
        seconds = now - worker.stands_since
    if not worker.serving or seconds <= 0:
        return ""
    stands = f"; it stands at {worker.stands_at}" if worker.stands_at else ""
    return f"its event loop has not moved for {seconds:.1f} s{stands}"


def standing(workers: Sequence[WorkerSeen], now: float) -> dict[int, tuple[float, str]]:
    """Return the workers whose loop stands by generation: for how long, and what is known."""
    return {
        worker.generation: (silent_seconds(worker, now), because)
        for worker in workers
        if (because := blocked(worker, now))
    }


def phase(workers: Sequence[WorkerSeen], *, leaving: bool) -> Phase:
    """Return the phase of the whole: ready with the first, as far on its way out as the last."""
    if leaving:
        return min((Phase(w.phase) for w in workers), key=tuple(Phase).index, default=Phase.STOPPED)
    return Phase.READY if any(w.phase == Phase.READY for w in workers) else Phase.STARTING


def live(workers: Sequence[WorkerSeen], now: float) -> Answer:
    """Answer liveness: the supervisor lives, and not every serving worker is wedged."""
    serving = [w for w in workers if w.serving]
    if serving and all(now - w.heard_at > WEDGED_SECONDS for w in serving):
        return Answer(ok=False, because=f"worker {serving[-1].pid}: {blocked(serving[-1], now)}")
    return Answer(ok=True)


def ready(
    workers: Sequence[WorkerSeen], now: float, *, leaving: bool, last_end: str = ""
) -> Answer:
    """Answer readiness: not leaving, and at least one worker says it is ready and moves.

    `last_end` is how the last worker ended that nobody had told to; it explains why none serves.
    """
    if leaving:
        return Answer(ok=False, because="draining")
    after = f"; the last one ended because {last_end}" if last_end else ""
    because = f"no worker runs{after}"
    for worker in workers:
        if silent_seconds(worker, now) > STALE_SECONDS:
            because = f"worker {worker.pid}: {blocked(worker, now)}"
        elif not worker.serving:
            because = f"starting{after}"
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


def _standing(found: Mapping[str, Any]) -> str:
    where = str(found.get("where", ""))[:_WORDS_MAX]
    route = str(found.get("route", ""))[:_WORDS_MAX]
    request_id = str(found.get("request_id", ""))[:_WORDS_MAX]
    request = " ".join(part for part in (route, request_id) if part)
    return f"{where} (request {request})" if where and request else where
