"""What the supervisor does next: what happened and when goes in, actions come out.

Pure: no process, pipe, signal or clock is touched here. The shell in `supervisor.py` reports what
it sees and does what it is told, in order.

The service wants a number of workers, each in a place of its own, counted from 1. Whoever ends in a
place is followed there. To replace a worker is to start its successor in the same place and, once
that one serves, to retire it: one place at a time, whatever the replacement is for. Where there is
no room for both, and others serve, it is retired first.
"""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum

from shipworthy.lifecycle import Exit

# Beyond it a typing error would take the machine down before it was noticed.
WORKERS_MAX = 256
# A worker bounds its own start-up; ours is for one that cannot, so it comes a little later.
_START_SLACK_SECONDS = 1.0
_SAME_SIGNAL_SECONDS = 0.1
# What a worker gets to follow the last word before it is struck: its loop may not turn any more.
_HEAR_SECONDS = 0.1
# Workers that end this close together ended of one cause: the kernel short of memory, a database
# that sent all of them the same answer.
_AT_ONCE_SECONDS = 1.0
_BACKOFF_SECONDS_MAX = 30.0
_SERVICE_LEAVES = "the service leaves"


def workers_wanted(asked: int, *, cpus: int) -> int:
    """Return how many workers `serve.workers` asks for: for 0 one a CPU, at most `WORKERS_MAX`."""
    return asked or min(cpus, WORKERS_MAX)


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


class EndReason(StrEnum):
    """Why a worker is no more; a label of metrics, so there are no others."""

    LOST = "lost"  # it served, and nobody had told it to end
    FAILED = "failed"  # it ended before it served
    REPLACED = "replaced"  # by new code
    RECYCLED = "recycled"  # it had served its time
    WEDGED = "wedged"  # its event loop stood
    FORCED = "forced"  # it was told to leave, and did not in time, or not with all its work
    DROPPED = "dropped"  # it was starting when newer code came
    SURPLUS = "surplus"  # fewer were wanted
    TOLD = "told"  # by somebody else than its supervisor
    DRAINED = "drained"  # with the whole service


# How a worker ends that was replaced: with a successor beside it, or to make room for one. There is
# never a second one of these.
_BY_SUCCESSOR = frozenset({EndReason.REPLACED, EndReason.RECYCLED})


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
    """The bounds the supervisor keeps.

    `start_seconds` bounds the import, and both times a worker that has not said its own.
    """

    start_seconds: float
    grace_seconds: float
    workers: int = 1
    # SIGABRT comes this long before SIGKILL: faulthandler needs a moment to write the stacks.
    abort_seconds: float = 0.5
    # What a start-up gets to roll itself back (scenario L09).
    start_abort_seconds: float = 5.0
    # OTP's restart intensity: so often in the window was nobody left, and a person must look.
    crash_limit: int = 5
    crash_window_seconds: float = 60.0
    # How long the loop of a serving worker may stand; 0 is for ever.
    wedged_seconds: float = 10.0
    # From one worker that is recycled, or ended because its loop stands, to the next.
    recycle_interval_seconds: float = 10.0
    # Under --reload a broken start waits for the next change instead of ending the service.
    waits_for_change: bool = False


class Stage(Enum):
    """A worker as the supervisor sees it."""

    STARTING = "starting"
    READY = "ready"
    LEAVING = "leaving"


@dataclass(slots=True)
class _Worker:
    place: int
    stage: Stage
    deadline: float
    # By the settings that it has read, once it has said so; until then by ours.
    start_seconds: float
    grace_seconds: float
    restarts: int = 0  # how many were in this place before it
    heard: bool = False  # its loop runs, so words reach it
    served: bool = False
    aborted: bool = False
    killed: bool = False
    because: str = ""  # why it ends
    end: EndReason | None = None  # set with the stage LEAVING
    leaving_at: float = math.inf
    followed: bool = False  # its successor is started when it is gone


@dataclass(frozen=True, slots=True)
class _Wish:
    """Why a worker is to be replaced."""

    end: EndReason
    because: str
    emergency: bool = False
    retire_first: bool = False


@dataclass(slots=True)
class _Loss:
    """One or more workers that ended at once, and whether nobody served then."""

    since: float
    outage: bool
    together: int = 1


@dataclass(slots=True)
class Supervision:
    """Decide about workers: start, replace, recycle, drain, escalate, end.

    Every method takes the time (monotonic seconds) and returns the actions to do, in order. Once a
    signal has come no worker is started; `Leave` is returned exactly once. Not thread-safe.
    """

    rule: SupervisionRule
    workers: dict[int, _Worker] = field(default_factory=dict)
    wanted: int = 0
    signals: int = 0
    leaving: bool = False
    ever_ready: bool = False
    left: bool = False
    _generation: int = 0
    _starts: dict[int, int] = field(default_factory=dict)  # by place
    _queue: dict[int, _Wish] = field(default_factory=dict)  # to be replaced, by generation
    _verdict: Leave | None = None
    _forced: bool = False
    # Within the window. A failed start beside one who serves is none.
    _losses: deque[_Loss] = field(default_factory=deque)
    _failed_starts: int = 0
    _respawn_at: float = math.inf
    _recycled_at: float = -math.inf
    _successor_failed_at: float = -math.inf
    _wedged_at: float = -math.inf

    # What is asked.

    @property
    def replacing(self) -> int:
        """Return how many workers are still to be replaced, the one whose turn it is included."""
        return len(self._queue)

    @property
    def renewing(self) -> int:
        """Return how many of them wait for newer code; the others have only served their time."""
        return sum(wish.end is EndReason.REPLACED for wish in self._queue.values())

    @property
    def at_rest(self) -> bool:
        """Say whether all who are wanted serve, and nobody waits for newer code."""
        starts = any(worker.stage is Stage.STARTING for worker in self.workers.values())
        return self.ever_ready and not (self.leaving or starts or self.renewing or self._missing())

    def end_of(self, generation: int, *, clean: bool) -> EndReason:
        """Return how the worker ends, if it ends now; `clean`: it says that nothing is left behind.

        One that gives up by itself when its time is over (exit code 70) was as little ready to
        leave as one that had to be struck.
        """
        worker = self.workers[generation]
        if worker.end is EndReason.WEDGED:
            return EndReason.WEDGED
        if not worker.served:
            return worker.end or EndReason.FAILED
        if worker.aborted or (worker.stage is Stage.LEAVING and not clean):
            return EndReason.FORCED
        return worker.end or EndReason.LOST

    def is_replacing(self, generation: int) -> bool:
        """Say whether the worker is to be replaced, or leaves because it was."""
        worker = self.workers.get(generation)
        return generation in self._queue or (worker is not None and worker.end in _BY_SUCCESSOR)

    def succeeds(self, generation: int) -> bool:
        """Say whether the worker is starting in a place where another one still serves."""
        worker = self.workers[generation]
        return worker.stage is Stage.STARTING and self._serving_in(worker.place) is not None

    # What happens.

    def begin(self, now: float) -> list[Action]:
        """Start the workers, all at once."""
        self.wanted = self.rule.workers
        return self._fill(now)

    def heard(
        self,
        generation: int,
        now: float,
        *,
        start_seconds: float | None = None,
        grace_seconds: float | None = None,
    ) -> list[Action]:
        """Note that the worker's event loop runs, and that words reach it from now on.

        The times are those that it keeps itself: it may have read newer settings than we did, and
        what it promises to its requests is ours to grant. None leaves them as they are.
        """
        worker = self.workers.get(generation)
        if worker is None:
            return []
        worker.heard = True
        if start_seconds is not None:
            worker.start_seconds = start_seconds
        if grace_seconds is not None:
            worker.grace_seconds = grace_seconds
        if self.leaving and worker.stage is Stage.STARTING:
            self._let_go(
                worker, EndReason.DRAINED, _SERVICE_LEAVES, now, self.rule.start_abort_seconds
            )
            return [Tell(generation, Word.DRAIN)]
        if worker.stage is Stage.STARTING:
            # The import is over; the start-up that follows bounds itself, and names what hangs.
            worker.deadline = self._start_bound(worker.start_seconds, now)
        elif worker.stage is Stage.LEAVING and not worker.served:
            # Given up before it could hear: it is told now, and not ended while it serves.
            return [Tell(generation, Word.DRAIN if self.leaving else Word.RETIRE)]
        return []

    def ready(self, generation: int, now: float) -> list[Action]:
        """Note that the worker serves; whom it replaces retires."""
        worker = self.workers.get(generation)
        if worker is None or worker.stage is not Stage.STARTING:
            return []
        if self.leaving:
            # Its word crossed ours: it is told again, now that it hears.
            return self.heard(generation, now)
        worker.stage = Stage.READY
        worker.served = True
        worker.deadline = math.inf
        if not self.ever_ready and self._missing():
            # Under --reload one that failed before: code that serves here may serve there.
            self._respawn_at = min(self._respawn_at, now)
        self.ever_ready = True
        self._failed_starts = 0
        before = self._serving_in(worker.place, besides=generation)
        actions: list[Action] = []
        if before is not None:
            wish = self._queue.pop(before)
            if wish.end is EndReason.RECYCLED:
                self._recycled_at = now
            actions.append(self._retire(before, wish.end, wish.because, now))
        return [*actions, *self._next(now)]

    def going(self, generation: int, now: float) -> list[Action]:
        """Note that a serving worker leaves though nobody here told it to: somebody else did.

        No crash, but it needs a successor now, not when its last request is over; a moment later,
        because a signal to the whole group reaches the worker first as often as us.
        """
        worker = self.workers.get(generation)
        if self.leaving or worker is None or worker.stage is not Stage.READY:
            return []
        self._let_go(worker, EndReason.TOLD, "told by somebody else", now, worker.grace_seconds)
        self._queue.pop(generation, None)
        if not self._is_held(worker.place):
            self._respawn_at = min(self._respawn_at, now + _SAME_SIGNAL_SECONDS)
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
        self._queue.pop(generation, None)
        if self.leaving:
            # One that was ended while it imported had nothing to leave in order.
            if worker.aborted or (worker.served and not clean):
                self._forced = True
            return [] if self.workers else [self._leave_after_drain()]
        if worker.stage is Stage.LEAVING:
            if worker.followed and worker.place in self._missing():
                return [self._spawn(worker.place, now)]
            return self._next(now)
        return self._ended(worker, worker.because or status, now)

    def drain(self, now: float) -> list[Action]:
        """Begin to leave in order; again changes nothing.

        Not a signal: a platform that asks for the drain beforehand (a preStop hook) sends its
        first SIGTERM afterwards, and that must not cut anything short.
        """
        if self.left or self.leaving:
            return []
        self.leaving = True
        self._queue.clear()
        self._respawn_at = math.inf
        if not self.workers:
            return [self._leave_after_drain()]
        return [self._drain(generation, now) for generation in self.workers]

    def leave_after(self, code: Exit, because: str, now: float) -> list[Action]:
        """Drain as `drain` does, and end with this code and reason however the drain goes."""
        if not self.leaving:
            self._verdict = Leave(code, because)
        return self.drain(now)

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
            by = now + self.rule.abort_seconds + _HEAR_SECONDS
            worker.deadline = min(worker.deadline, by)
            if not worker.aborted:
                # Who hears it ends at once, and says what it leaves behind; who does not is struck.
                actions.append(Tell(generation, Word.ESCALATE))
        return actions

    def changed(self, now: float) -> list[Action]:
        """Replace every worker by one with the code of now; each serves until its successor does.

        Whoever is starting has code of before, and is given up.
        """
        if self.leaving or self.left:
            return []
        actions: list[Action] = []
        for generation, worker in self.workers.items():
            if worker.stage is Stage.STARTING:
                actions.append(self._drop(generation, now))
            elif worker.stage is Stage.READY:
                self._queue.pop(generation, None)
                self._queue[generation] = _Wish(EndReason.REPLACED, "replaced by one with new code")
        self._failed_starts = 0
        return [*actions, *self._fill(now), *self._next(now)]

    def recycle(
        self,
        generation: int,
        because: str,
        now: float,
        *,
        emergency: bool = False,
        retire_first: bool = False,
    ) -> list[Action]:
        """Replace a worker that has served its time; said again it changes nothing.

        Not sooner than `recycle_interval_seconds` after the one before, but for an `emergency`. A
        successor that fails ends the wish: whoever has a reason says it again while that lasts.
        With `retire_first` there is no room for both: where another one serves, the worker leaves,
        and its successor is started when it is gone.
        """
        worker = self.workers.get(generation)
        if self.leaving or worker is None or worker.stage is not Stage.READY:
            return []
        known = self._queue.get(generation)
        if known is None or (emergency and not known.emergency):
            end = known.end if known else EndReason.RECYCLED
            known = self._queue[generation] = _Wish(end, because, emergency=emergency)
        if retire_first and not known.retire_first:
            self._queue[generation] = replace(known, retire_first=True)
        return self._next(now)

    def more(self, now: float) -> list[Action]:
        """Want one worker more."""
        if self.leaving or self.left or self.wanted >= WORKERS_MAX:
            return []
        self.wanted += 1
        return self._fill(now)

    def fewer(self, now: float) -> list[Action]:
        """Want one worker less, never below one; who is in the last place leaves."""
        if self.leaving or self.left or self.wanted <= 1:
            return []
        place, self.wanted = self.wanted, self.wanted - 1
        actions: list[Action] = []
        for generation, worker in self.workers.items():
            if worker.place != place:
                continue
            if worker.stage is Stage.STARTING:
                actions.append(self._drop(generation, now))
                worker.end = EndReason.SURPLUS
            elif worker.stage is Stage.READY:
                self._queue.pop(generation, None)
                actions.append(self._retire(generation, EndReason.SURPLUS, "fewer are wanted", now))
        return [*actions, *self._next(now)]

    def pardon(self, seconds: float) -> None:
        """Give who is starting `seconds` more: we ourselves were not running."""
        for worker in self.workers.values():
            if worker.stage is Stage.STARTING:
                worker.deadline += seconds

    def tick(self, now: float, blocked: Mapping[int, tuple[float, str]] = {}) -> list[Action]:
        """Enforce what time enforces: bounds on start and end, loops that stand, postponed starts.

        `blocked` has the workers whose event loop stands: for how many seconds, and what is known.
        """
        if self.left:
            return []
        actions: list[Action] = self._wedged(now, blocked)
        for generation, worker in self.workers.items():
            if now >= worker.deadline and not worker.killed:
                worker.aborted = worker.killed = True
                actions.append(Strike(generation, Blow.KILL))
            elif now >= worker.deadline - self.rule.abort_seconds and not worker.aborted:
                worker.aborted = True
                if worker.stage is Stage.STARTING:
                    worker.because = f"not ready within {worker.start_seconds:g} s"
                actions.append(Strike(generation, Blow.ABORT))
        if now >= self._respawn_at:
            actions += self._fill(now)
        return [*actions, *self._next(now)]

    # How it is decided.

    def _ended(self, worker: _Worker, because: str, now: float) -> list[Action]:
        """Decide what follows an end that nobody had told the worker to come to."""
        old = self._serving_in(worker.place)
        if worker.stage is Stage.STARTING and old is not None:
            # The round is over, and the old ones stay: the others' successors would fail likewise.
            wish = self._queue[old]
            self._queue = {g: w for g, w in self._queue.items() if w.end is not wish.end}
            self._recycled_at = self._successor_failed_at = now
            return self._next(now)
        if self._is_held(worker.place):
            return []
        if not self.ever_ready:
            if self.rule.waits_for_change:
                return []
            return self.leave_after(Exit.START_FAILED, because, now)
        return self._crashed(worker, because, now)

    def _wedged(self, now: float, blocked: Mapping[int, tuple[float, str]]) -> list[Action]:
        """End workers whose loop stands, their successors first.

        One in each interval, because a pause of the whole machine looks the same in all of them;
        but where nobody moves any more there is nothing to lose, and all are ended.
        """
        bound = self.rule.wedged_seconds
        serving = [g for g, worker in self.workers.items() if worker.stage is Stage.READY]
        standing = [g for g in serving if bound and blocked.get(g, (0.0, ""))[0] >= bound]
        if self.leaving or not standing:
            return []
        if len(standing) < len(serving):
            if now < self._wedged_at + self.rule.recycle_interval_seconds:
                return []
            standing = [max(standing, key=lambda generation: blocked[generation][0])]
        self._wedged_at = now
        actions: list[Action] = []
        for generation in standing:
            worker = self.workers[generation]
            because = blocked[generation][1]
            self._let_go(worker, EndReason.WEDGED, because, now, self.rule.abort_seconds)
            worker.aborted = True
            self._queue.pop(generation, None)
            actions.append(Strike(generation, Blow.ABORT))
        return [*self._fill(now), *actions]

    def _next(self, now: float) -> list[Action]:
        """Start the successor of the next to be replaced, when everything else is at rest."""
        if self.leaving or not self._queue or self._missing():
            return []
        for worker in self.workers.values():
            # A person at the editor does not wait for the last request to the old code.
            waits = worker.end in _BY_SUCCESSOR and not self.rule.waits_for_change
            if worker.stage is Stage.STARTING or waits:
                return []
        rested = now >= self._recycled_at + self.rule.recycle_interval_seconds
        # Each start takes memory: one that failed just now is no help in an emergency.
        tries = now >= self._successor_failed_at + self.rule.recycle_interval_seconds
        due = [g for g, w in self._queue.items() if w.emergency and tries]
        due += [g for g, w in self._queue.items() if rested or w.end is EndReason.REPLACED]
        if not due:
            return []
        wish, worker = self._queue[due[0]], self.workers[due[0]]
        others = any(w.stage is Stage.READY for g, w in self.workers.items() if g != due[0])
        if not (wish.retire_first and others):
            return [self._spawn(worker.place, now)]
        del self._queue[due[0]]
        self._recycled_at = now
        told = self._retire(due[0], wish.end, wish.because, now)
        worker.followed = True
        self._respawn_at = min(self._respawn_at, worker.deadline)
        return [told]

    def _is_held(self, place: int) -> bool:
        return any(w.place == place and w.stage is not Stage.LEAVING for w in self.workers.values())

    def _missing(self) -> list[int]:
        return [place for place in range(1, self.wanted + 1) if not self._is_held(place)]

    def _serving_in(self, place: int, *, besides: int = 0) -> int | None:
        for generation, worker in self.workers.items():
            if worker.place == place and worker.stage is Stage.READY and generation != besides:
                return generation
        return None

    def _fill(self, now: float) -> list[Action]:
        self._respawn_at = math.inf
        serves = any(worker.stage is Stage.READY for worker in self.workers.values())
        actions: list[Action] = []
        for place in self._missing():
            bounds = [w.deadline for w in self.workers.values() if w.place == place and w.followed]
            if serves and bounds and now < max(bounds):
                self._respawn_at = min(self._respawn_at, max(bounds))  # there is no room yet
            else:
                actions.append(self._spawn(place, now))
        return actions

    def _spawn(self, place: int, now: float) -> Spawn:
        self._generation += 1
        before = self._starts.get(place, 0)
        self._starts[place] = before + 1
        rule = self.rule
        self.workers[self._generation] = _Worker(
            place,
            Stage.STARTING,
            self._start_bound(rule.start_seconds, now),
            rule.start_seconds,
            rule.grace_seconds,
            restarts=before,
        )
        return Spawn(self._generation)

    def _start_bound(self, start_seconds: float, now: float) -> float:
        return now + start_seconds + self.rule.abort_seconds + _START_SLACK_SECONDS

    def _let_go(
        self, worker: _Worker, end: EndReason, because: str, now: float, seconds: float
    ) -> None:
        worker.stage = Stage.LEAVING
        worker.end = end
        worker.because = because
        worker.leaving_at = now
        worker.deadline = now + seconds

    def _retire(self, generation: int, end: EndReason, because: str, now: float) -> Tell:
        worker = self.workers[generation]
        self._let_go(worker, end, because, now, worker.grace_seconds)
        return Tell(generation, Word.RETIRE)

    def _drop(self, generation: int, now: float) -> Strike:
        """Give up one that is starting; what is up already gets its time to be rolled back."""
        worker = self.workers[generation]
        because = "given up while it was starting"
        self._let_go(worker, EndReason.DROPPED, because, now, self.rule.start_abort_seconds)
        return Strike(generation, Blow.TERM)

    def _drain(self, generation: int, now: float) -> Action:
        worker = self.workers[generation]
        if worker.stage is Stage.STARTING:
            self._let_go(
                worker, EndReason.DRAINED, _SERVICE_LEAVES, now, self.rule.start_abort_seconds
            )
            if not worker.heard:
                # Still importing: no loop reads the pipe, and there is nothing to roll back. Its
                # stage stays, so that it is told as soon as it hears.
                worker.stage = Stage.STARTING
                return Strike(generation, Blow.TERM)
        elif worker.stage is Stage.READY:
            self._let_go(worker, EndReason.DRAINED, _SERVICE_LEAVES, now, worker.grace_seconds)
        return Tell(generation, Word.DRAIN)

    def _crashed(self, worker: _Worker, because: str, now: float) -> list[Action]:
        serves = any(other.stage is Stage.READY for other in self.workers.values())
        while self._losses and self._losses[0].since <= now - self.rule.crash_window_seconds:
            self._losses.popleft()
        if serves and not worker.served:
            # New code that cannot start never ends a service whose old code serves.
            self._failed_starts += 1
        else:
            self._count_loss(now, outage=not serves)
        # What others still serve is worth more than an exit code that tells of the losses.
        outages = sum(loss.outage for loss in self._losses)
        if not serves and outages >= self.rule.crash_limit:
            count = sum(loss.together for loss in self._losses)
            whose = "the worker" if self.wanted == 1 else "workers"
            return self.leave_after(
                Exit.SETTINGS,
                f"{whose} ended {count} times within {self.rule.crash_window_seconds:g} s, "
                f"the last time because: {because}",
                now,
            )
        # At once after the first crash, then 0.5, 1, 2 s: enough to keep a broken one from
        # burning a core, short enough that one bad request costs no noticeable outage.
        tries = len(self._losses) + self._failed_starts
        wait = 0.0 if tries == 1 else min(0.25 * 2 ** min(tries - 1, 10), _BACKOFF_SECONDS_MAX)
        self._respawn_at = min(self._respawn_at, now + wait)
        return self.tick(now)

    def _count_loss(self, now: float, *, outage: bool) -> None:
        """Count an end nobody wanted; of those that end at once, each worker's first is one."""
        if self._losses:
            last = self._losses[-1]
            if now - last.since < _AT_ONCE_SECONDS and last.together < self.wanted:
                last.together += 1
                last.outage = last.outage or outage
                return
        self._losses.append(_Loss(now, outage))

    def _leave_after_drain(self) -> Leave:
        self.left = True
        if self._verdict is not None:
            return self._verdict
        if not self.ever_ready:
            return Leave(Exit.START_FAILED, "told to stop before it was ready")
        if self._forced:
            return Leave(Exit.FORCED, "a worker had to be ended by force")
        return Leave(Exit.CLEAN, "drained")
