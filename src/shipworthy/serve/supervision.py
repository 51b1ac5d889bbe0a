"""What the supervisor does next: what happened and when goes in, actions come out.

Pure: no process, pipe, signal or clock is touched here. The shell in `supervisor.py` reports what
it sees and does what it is told, in order.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from enum import Enum, StrEnum

from shipworthy.lifecycle import Exit

# A worker bounds its own start-up; ours is for one that cannot, so it comes a little later.
_START_SLACK_SECONDS = 1.0
_SAME_SIGNAL_SECONDS = 0.1


class Word(StrEnum):
    """What a worker can be told over its pipe."""

    DRAIN = "drain"  # the whole service leaves
    RETIRE = "retire"  # this worker leaves, another serves on
    ESCALATE = "escalate"  # one stage further, now


class Blow(Enum):
    """How a worker is ended when words do not reach it."""

    TERM = "SIGTERM"
    ABORT = "SIGABRT"  # faulthandler writes every stack, even with the GIL held
    KILL = "SIGKILL"


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a worker of this generation."""

    generation: int


@dataclass(frozen=True, slots=True)
class Tell:
    """Send the worker a word."""

    generation: int
    word: Word


@dataclass(frozen=True, slots=True)
class Strike:
    """Send the worker a signal."""

    generation: int
    blow: Blow


@dataclass(frozen=True, slots=True)
class Leave:
    """End the supervisor with this exit code."""

    code: Exit
    because: str


Action = Spawn | Tell | Strike | Leave


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisionRule:
    """The bounds the supervisor keeps."""

    start_seconds: float
    grace_seconds: float
    # SIGABRT comes this long before SIGKILL: faulthandler needs a moment to write the stacks.
    abort_seconds: float = 0.5
    # What a start-up gets to roll itself back (scenario L09).
    start_abort_seconds: float = 5.0
    # OTP's restart intensity: more crashes than this in the window, and a person must look.
    crash_limit: int = 5
    crash_window_seconds: float = 60.0
    # Under --reload a broken start waits for the next change instead of ending the service.
    waits_for_change: bool = False


class Stage(Enum):
    """A worker as the supervisor sees it."""

    STARTING = "starting"
    READY = "ready"
    LEAVING = "leaving"


@dataclass(slots=True)
class _Worker:
    stage: Stage
    deadline: float
    heard: bool = False  # its loop runs, so words reach it
    served: bool = False
    aborted: bool = False
    killed: bool = False
    because: str = ""


@dataclass(slots=True)
class Supervision:
    """Decide about workers: start, replace, drain, escalate, end.

    Every method takes the time (monotonic seconds) and returns the actions to do, in order. Once a
    signal has come no worker is started; `Leave` is returned exactly once. Not thread-safe.
    """

    rule: SupervisionRule
    workers: dict[int, _Worker] = field(default_factory=dict)
    signals: int = 0
    leaving: bool = False
    ever_ready: bool = False
    left: bool = False
    _generation: int = 0
    _forced: bool = False
    _crashes: deque[float] = field(default_factory=deque)
    _respawn_at: float = math.inf

    def begin(self, now: float) -> list[Action]:
        """Start the first worker."""
        return [self._spawn(now)]

    def heard(self, generation: int, now: float) -> list[Action]:
        """Note that the worker's event loop runs, and that words reach it from now on."""
        worker = self.workers.get(generation)
        if worker is None:
            return []
        worker.heard = True
        if self.leaving and worker.stage is Stage.STARTING:
            worker.stage = Stage.LEAVING
            worker.deadline = now + self.rule.start_abort_seconds
            return [Tell(generation, Word.DRAIN)]
        if worker.stage is Stage.STARTING:
            # The import is over; the start-up that follows bounds itself, and names what hangs.
            worker.deadline = self._start_bound(now)
        return []

    def ready(self, generation: int, now: float) -> list[Action]:
        """Note that the worker serves; those before it retire."""
        worker = self.workers.get(generation)
        if worker is None or worker.stage is not Stage.STARTING:
            return []
        if self.leaving:
            # Its word crossed ours: it is told again, now that it hears.
            return self.heard(generation, now)
        worker.stage = Stage.READY
        worker.served = True
        worker.deadline = math.inf
        self.ever_ready = True
        actions: list[Action] = []
        for other, old in self.workers.items():
            if other < generation and old.stage is not Stage.LEAVING:
                old.stage = Stage.LEAVING
                old.deadline = now + self.rule.grace_seconds
                actions.append(Tell(other, Word.RETIRE))
        return actions

    def going(self, generation: int, now: float) -> list[Action]:
        """Note that a serving worker leaves though nobody here told it to: somebody else did.

        No crash, but it needs a successor now, not when its last request is over; a moment later,
        because a signal to the whole group reaches the worker first as often as us.
        """
        worker = self.workers.get(generation)
        if self.leaving or worker is None or worker.stage is not Stage.READY:
            return []
        worker.stage = Stage.LEAVING
        worker.deadline = now + self.rule.grace_seconds
        if not self._somebody_comes():
            self._respawn_at = now + _SAME_SIGNAL_SECONDS
        return []

    def failed(self, generation: int, because: str) -> list[Action]:
        """Keep why the worker could not start; its exit follows."""
        worker = self.workers.get(generation)
        if worker is not None:
            worker.because = because
        return []

    def exited(self, generation: int, status: str, now: float, *, clean: bool) -> list[Action]:
        """Decide what follows the end of a worker process; `status` is how it ended, in words."""
        worker = self.workers.pop(generation, None)
        if worker is None or self.left:
            return []
        # One that was ended while it imported had nothing to leave in order.
        if worker.aborted or (worker.served and not clean):
            self._forced = True
        if self.leaving:
            return [] if self.workers else [self._leave_after_drain()]
        if worker.stage is Stage.LEAVING or self._somebody_comes():
            # Expected, or somebody else serves or is about to.
            self._forced = False
            return []
        because = worker.because or status
        if not self.ever_ready:
            if self.rule.waits_for_change:
                return []
            return [self._leave(Exit.START_FAILED, because)]
        return self._crashed(because, now)

    def drain(self, now: float) -> list[Action]:
        """Begin to leave in order; again changes nothing.

        Not a signal: a platform that asks for the drain beforehand (a preStop hook) sends its
        first SIGTERM afterwards, and that must not cut anything short.
        """
        if self.left or self.leaving:
            return []
        self.leaving = True
        self._respawn_at = math.inf
        if not self.workers:
            return [self._leave_after_drain()]
        return [self._drain(generation, now) for generation in self.workers]

    def signalled(self, now: float) -> list[Action]:
        """Leave in order on the first SIGTERM or SIGINT, one stage faster with each further one."""
        if self.left:
            return []
        self.signals += 1
        if self.signals == 1:
            return self.drain(now)
        if self.signals == 2:
            return [Tell(generation, Word.ESCALATE) for generation in self.workers]
        actions: list[Action] = []
        for generation, worker in self.workers.items():
            # Never later than it was: impatience does not win a worker time.
            worker.deadline = min(worker.deadline, now + self.rule.abort_seconds)
            if not worker.aborted:
                worker.aborted = True
                actions.append(Strike(generation, Blow.ABORT))
        return actions

    def changed(self, now: float) -> list[Action]:
        """Replace the worker by one with new code; the old serves until the new one is ready."""
        if self.leaving or self.left:
            return []
        actions: list[Action] = []
        for generation, worker in self.workers.items():
            if worker.stage is Stage.STARTING:
                worker.stage = Stage.LEAVING
                worker.deadline = now + self.rule.abort_seconds
                actions.append(Strike(generation, Blow.TERM))
        self._respawn_at = math.inf
        return [*actions, self._spawn(now)]

    def tick(self, now: float) -> list[Action]:
        """Enforce what time enforces: start-up bounds, the grace period, postponed restarts."""
        if self.left:
            return []
        actions: list[Action] = []
        for generation, worker in self.workers.items():
            if now >= worker.deadline and not worker.killed:
                worker.aborted = worker.killed = True
                actions.append(Strike(generation, Blow.KILL))
            elif now >= worker.deadline - self.rule.abort_seconds and not worker.aborted:
                worker.aborted = True
                if worker.stage is Stage.STARTING:
                    worker.because = f"not ready within {self.rule.start_seconds:g} s"
                actions.append(Strike(generation, Blow.ABORT))
        if now >= self._respawn_at:
            self._respawn_at = math.inf
            actions.append(self._spawn(now))
        return actions

    def _somebody_comes(self) -> bool:
        return any(other.stage is not Stage.LEAVING for other in self.workers.values())

    def _spawn(self, now: float) -> Spawn:
        self._generation += 1
        self.workers[self._generation] = _Worker(Stage.STARTING, self._start_bound(now))
        return Spawn(self._generation)

    def _start_bound(self, now: float) -> float:
        return now + self.rule.start_seconds + self.rule.abort_seconds + _START_SLACK_SECONDS

    def _drain(self, generation: int, now: float) -> Action:
        worker = self.workers[generation]
        if worker.stage is Stage.STARTING:
            worker.deadline = now + self.rule.start_abort_seconds
            if not worker.heard:
                # Still importing: no loop reads the pipe, and there is nothing to roll back.
                return Strike(generation, Blow.TERM)
        elif worker.stage is Stage.READY:
            worker.deadline = now + self.rule.grace_seconds
        worker.stage = Stage.LEAVING
        return Tell(generation, Word.DRAIN)

    def _crashed(self, because: str, now: float) -> list[Action]:
        self._forced = False
        self._crashes.append(now)
        while self._crashes[0] <= now - self.rule.crash_window_seconds:
            self._crashes.popleft()
        count = len(self._crashes)
        if count >= self.rule.crash_limit:
            return [
                self._leave(
                    Exit.SETTINGS,
                    f"the worker ended {count} times within {self.rule.crash_window_seconds:g} s, "
                    f"the last time because: {because}",
                )
            ]
        # At once after the first crash, then 0.5, 1, 2 s: enough to keep a broken one from
        # burning a core, short enough that one bad request costs no noticeable outage.
        self._respawn_at = now if count == 1 else now + 0.25 * 2 ** (count - 1)
        return self.tick(now)

    def _leave_after_drain(self) -> Leave:
        if not self.ever_ready:
            return self._leave(Exit.START_FAILED, "told to stop before it was ready")
        if self._forced:
            return self._leave(Exit.FORCED, "a worker had to be ended by force")
        return self._leave(Exit.CLEAN, "drained")

    def _leave(self, code: Exit, because: str) -> Leave:
        self.left = True
        return Leave(code, because)
