"""The states of a breaker, decided from how calls ended and from a time that is handed in.

CLOSED -> OPEN          too many failures or slow calls in the window, or refusals in a row
OPEN -> HALF_OPEN       the wait is over, or a prober found the target back
HALF_OPEN -> CLOSED     enough trials went well; admission then ramps up
HALF_OPEN -> OPEN       one trial failed or was slow, or the trials did not come back

ISOLATED, DISABLED and METRICS_ONLY are entered and left by hand.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final, NewType, final

# Shares of the concurrency there was before, each for a third of the ramp: the first is small
# enough to find out with, the last lets the rest in only if the two before went well.
_RAMP = (0.25, 0.5, 1.0)


# How long a refusal, or a trial or probe that failed, tells that callers are kept out: long enough
# for the longest usual wait and its trial (`BreakerRule`), and shorter than what is told of it.
KEPT_OUT_SECONDS: Final = 45.0

# The number of the era in which a call was let through.
Ticket = NewType("Ticket", int)


class BreakerState(StrEnum):
    """The states; the first three change by themselves."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"
    ISOLATED = "isolated"
    """Held open by hand."""
    DISABLED = "disabled"
    """Lets everything through and counts nothing."""
    METRICS_ONLY = "metrics-only"
    """Counts and says when it would have opened, and lets everything through."""


class Ended(Enum):
    """How an admitted call ended, as far as the target is concerned."""

    SUCCESS = "success"
    FAILURE = "failure"
    REFUSED = "refused"
    """A failure without doubt: the target took nothing. Five in a row need no statistics."""
    NEUTRAL = "neutral"
    """Says nothing of the target: cancelled by the caller, a constraint, a conflict of two
    callers. Its time still counts: callers that cancel because the target is slow say so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerRule:
    """When a breaker opens, for how long, and how it finds back.

    `open_seconds` is the first wait; each further one without a good spell between is twice as
    long, up to `open_cap_seconds`, and drawn between half of that and all of it. 1 s, because a
    database restarts in one to two. Raises `ValueError` for numbers that cannot work together.
    """

    window_seconds: float = 10.0
    minimum_calls: int = 20
    failure_ratio: float = 0.5
    slow_ratio: float = 0.8
    slow_seconds: float = 5.0
    refused_calls: int = 5
    refused_seconds: float = 2.0
    open_seconds: float = 1.0
    open_cap_seconds: float = 30.0
    trials: int = 3
    half_open_seconds: float = 10.0
    ramp_seconds: float = 10.0

    def __post_init__(self) -> None:
        problems = self.problems()
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def spell_seconds(self) -> float:
        """How long a target must have been well for its next opening to be a matter of its own.

        Twice what lies between two openings of one that fails again at once: the longest wait, the
        trials, the ramp and a window.
        """
        return 2 * (
            self.open_cap_seconds + self.half_open_seconds + self.ramp_seconds + self.window_seconds
        )

    def problems(self) -> list[str]:
        """Say, a sentence each, which numbers cannot be kept."""
        found = [
            f"{name} lies above 0 and up to 1, got {ratio}"
            for name, ratio in (
                ("failure_ratio", self.failure_ratio),
                ("slow_ratio", self.slow_ratio),
            )
            if not 0 < ratio <= 1
        ]
        found += [
            f"{name} is 1 or more, got {count}"
            for name, count in (
                ("minimum_calls", self.minimum_calls),
                ("refused_calls", self.refused_calls),
                ("trials", self.trials),
            )
            if count < 1
        ]
        found += [
            f"{name} is a finite time above 0 s, got {seconds} s"
            for name, seconds in (
                ("window_seconds", self.window_seconds),
                ("slow_seconds", self.slow_seconds),
                ("refused_seconds", self.refused_seconds),
                ("open_seconds", self.open_seconds),
                ("open_cap_seconds", self.open_cap_seconds),
                ("half_open_seconds", self.half_open_seconds),
            )
            if not 0 < seconds < float("inf")
        ]
        if not 0 <= self.ramp_seconds < float("inf"):
            found.append(f"ramp_seconds is a finite time of 0 s or more, got {self.ramp_seconds} s")
        if self.open_cap_seconds < self.open_seconds:
            found.append(
                f"open_cap_seconds ({self.open_cap_seconds} s) is shorter than open_seconds "
                f"({self.open_seconds} s)"
            )
        return found


@final
@dataclass(frozen=True, slots=True)
class StateChange:
    """A change of state, or that there would have been one (`would`)."""

    before: BreakerState
    after: BreakerState
    because: str
    would: bool = False


@final
@dataclass(frozen=True, slots=True)
class Objection:
    """The call may not be made; another try makes sense after `retry_after_seconds`."""

    because: str
    retry_after_seconds: float


@final
class Tally:
    """What was counted in one bucket of the window."""

    __slots__ = ("calls", "failures", "neutral", "peak", "slow")

    def __init__(self) -> None:
        self.calls = 0
        self.failures = 0
        self.neutral = 0
        self.slow = 0
        self.peak = 0

    def add(self, other: "Tally") -> None:
        """Take in what another bucket counted."""
        self.calls += other.calls
        self.failures += other.failures
        self.neutral += other.neutral
        self.slow += other.slow
        self.peak = max(self.peak, other.peak)


_BUCKETS = 10
# Looked up once: a member of an enumeration costs 100 ns each time (CPython 3.11).
_CLOSED, _OPEN, _HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
_ISOLATED, _DISABLED = BreakerState.ISOLATED, BreakerState.DISABLED
_METRICS_ONLY = BreakerState.METRICS_ONLY
_STEADY = frozenset({_CLOSED, _DISABLED, _METRICS_ONLY})
_AWAY = frozenset({_OPEN, _HALF_OPEN})


class Circuit:
    """The state machine: it takes facts and a time, and has neither a clock nor a lock.

    A call is `admit`ted with the number of the present *era* and recorded with it; the era ends
    with every change of state, so that what began before a change says nothing after it. Not safe
    between threads, except `admit_steady` and `count_success`: see there.
    """

    __slots__ = (
        "_closed_at",
        "_current",
        "_draw",
        "_edge",
        "_good_trials",
        "_kept_out_at",
        "_opened_at",
        "_openings",
        "_past",
        "_peak",
        "_plain",
        "_ramp_end",
        "_refusals",
        "_reopened",
        "_until",
        "_width",
        "because",
        "changes",
        "era",
        "in_flight",
        "late_total",
        "refused_total",
        "rule",
        "since",
        "state",
        "steady",
        "total",
    )

    def __init__(self, rule: BreakerRule, now: float, *, draw: Callable[[], float]) -> None:
        self.rule = rule
        self.state = _CLOSED
        self.because = ""
        self.since = now
        self.era = Ticket(0)
        self.in_flight = 0
        # Whether every call is let through: read without a lock.
        self.steady = True
        # Whether, besides, a success in time is only to be counted.
        self._plain = True
        self.total = Tally()
        self.late_total = 0
        self.refused_total = 0
        self.changes: list[StateChange] = []
        self._draw = draw
        self._width = rule.window_seconds / _BUCKETS
        self._past: deque[Tally] = deque(maxlen=_BUCKETS - 1)
        self._current = Tally()
        self._edge = now + self._width
        self._refusals: deque[float] = deque(maxlen=rule.refused_calls)
        self._until = now
        self._reopened = 0
        self._good_trials = 0
        self._closed_at = self._opened_at = self._kept_out_at = float("-inf")
        self._openings = 0
        self._ramp_end = now
        self._peak = 0

    def admit_steady(self) -> Ticket:
        """Let a call through while `steady`, and return the era.

        Without a lock: each statement is one load and one store with no call between them, where
        CPython switches no thread.
        """
        self.in_flight += 1
        # Not max(): another thread may run during a call.
        if self.in_flight > self._current.peak:  # noqa: PLR1730
            self._current.peak = self.in_flight
        return self.era

    def count_success(self, era: Ticket, elapsed_seconds: float, now: float) -> bool:
        """Count the common end of a call; False when there is more to it, and `record` decides.

        Without a lock, as `admit_steady`: a success in time changes no state.
        """
        if (
            era != self.era
            or now >= self._edge
            or elapsed_seconds >= self.rule.slow_seconds
            or self._refusals
            or not self._plain
        ):
            return False
        self._current.calls += 1
        self.in_flight -= 1
        return True

    def admit(self, now: float) -> Ticket | Objection:
        """Let a call through and return the era, or say why not."""
        self._turn(now)
        if self.state is _OPEN and now >= self._until:
            self._enter(_HALF_OPEN, "the wait is over", now)
        elif self.state is _HALF_OPEN and now >= self.since + (self.rule.half_open_seconds):
            self._end_half_open(now)
        no = self._objection(now)
        if no is not None:
            self.refused_total += 1
            self._kept_out_at = now
            return no
        return self.admit_steady()

    def record(self, era: Ticket, ended: Ended, elapsed_seconds: float, now: float) -> None:
        """Note how a call of `era` ended; late ones are only counted as late."""
        self._turn(now)
        if era != self.era:
            self.late_total += 1
            return
        self.in_flight -= 1
        if self.state is _DISABLED:
            return
        slow = elapsed_seconds >= self.rule.slow_seconds
        failed = ended in {Ended.FAILURE, Ended.REFUSED}
        self._count(ended, slow=slow, failed=failed, now=now)
        if self.state is _HALF_OPEN:
            self._judge_trial(ended, elapsed_seconds, slow=slow, failed=failed, now=now)
        elif (slow or failed) and (reason := self._reason(now)):
            self._trip(reason, now)

    def isolate(self, because: str, now: float) -> None:
        """Refuse every call until `close` is called."""
        self._enter(_ISOLATED, because, now)

    def close(self, now: float) -> None:
        """Close at once and forget what was counted, whatever the state."""
        self._reopened = 0
        self._peak = 0
        self._openings = 0
        self._enter(_CLOSED, "by hand", now)

    def disable(self, now: float) -> None:
        """Let everything through and count nothing, until `close`."""
        self._enter(_DISABLED, "by hand", now)

    def metrics_only(self, now: float) -> None:
        """Let everything through, count, and say when it would have opened, until `close`."""
        self._until = now
        self._reopened = 0
        self._enter(_METRICS_ONLY, "by hand", now)

    def probe_ok(self, now: float) -> None:
        """Note that a prober, on a connection of its own, found the target well."""
        if self.state is _OPEN:
            self._enter(_HALF_OPEN, "the prober was answered", now)

    def probe_failed(self, now: float) -> None:
        """Note that the prober found it away: no call need be sacrificed to find the same.

        Closed it changes nothing: there the calls themselves say it, and sooner.
        """
        if self.state is _OPEN:
            # The prober comes again: the wait need not grow, as it does after a call that failed.
            self._until = max(self._until, now + self.rule.open_seconds)
            self._kept_out_at = now
        elif self.state is _HALF_OPEN:
            self._reopen("the prober was not answered", now)

    def retry_after(self, now: float) -> float:
        """Return in how many seconds a refused call may be tried again."""
        if self.state is _OPEN:
            return max(0.0, self._until - now)
        if self.state is _ISOLATED:
            return self.rule.open_cap_seconds
        return 0.0 if self.steady else self.rule.open_seconds

    def keeps_out(self, now: float) -> bool:
        """Say whether callers are kept out: it has not closed again, and lately had cause not to.

        An open state alone does not say it. While a target hangs, the state is half-open for most
        of the time; and a breaker that nobody calls stays open though its target may long be back.
        """
        return self.state in _AWAY and now - self._kept_out_at < KEPT_OUT_SECONDS

    def openings_in_a_row(self, now: float) -> int:
        """Return how often it opened without a good spell of `rule.spell_seconds` between.

        An outage is one opening, however many trials fail in it; 0 once the last is that long ago.
        """
        return self._openings if now - self._opened_at <= self.rule.spell_seconds else 0

    def window(self, now: float) -> Tally:
        """Return what the window holds."""
        self._turn(now)
        whole = Tally()
        whole.add(self._current)
        for tally in self._past:
            whole.add(tally)
        return whole

    def counted(self) -> Tally:
        """Return what was counted since the start."""
        whole = Tally()
        whole.add(self.total)
        whole.add(self._current)
        return whole

    def _objection(self, now: float) -> Objection | None:
        if self.state is _OPEN or self.state is _ISOLATED:
            return Objection(self.because, self.retry_after(now))
        if self.state is _HALF_OPEN:
            # Also counts trials that went well, so that no more are begun than are needed.
            if self.in_flight + self._good_trials < self.rule.trials:
                return None
            return Objection(f"{self.in_flight} trial calls are under way", self.rule.open_seconds)
        if self.state is _CLOSED and not self.steady:
            if now >= self._ramp_end:
                self.steady = self._plain = True
                return None
            limit = self._ramp_limit(now)
            if self.in_flight >= limit:
                return Objection(
                    f"it has just closed and lets {limit} calls through at once",
                    self.rule.open_seconds,
                )
        return None

    def _ramp_limit(self, now: float) -> int:
        past = 1.0 - (self._ramp_end - now) / self.rule.ramp_seconds
        stage = min(len(_RAMP) - 1, max(0, int(past * len(_RAMP))))
        return max(self.rule.trials, -int(-self._peak * _RAMP[stage] // 1))

    def _count(self, ended: Ended, *, slow: bool, failed: bool, now: float) -> None:
        tally = self._current
        if ended is Ended.NEUTRAL:
            tally.neutral += 1
        else:
            tally.calls += 1
            tally.failures += failed
        tally.slow += slow
        if ended is Ended.REFUSED:
            self._refusals.append(now)
        elif ended is not Ended.NEUTRAL:
            self._refusals.clear()

    def _reason(self, now: float) -> str:
        """Say why it must open, or '' when it need not."""
        rule, refusals = self.rule, self._refusals
        if len(refusals) == rule.refused_calls and now - refusals[0] <= rule.refused_seconds:
            return f"the last {len(refusals)} calls were refused"
        seen = self.window(now)
        if seen.calls >= rule.minimum_calls and seen.failures >= rule.failure_ratio * seen.calls:
            return f"{seen.failures} of the last {seen.calls} calls failed"
        timed = seen.calls + seen.neutral
        if timed >= rule.minimum_calls and seen.slow >= rule.slow_ratio * timed:
            return f"{seen.slow} of the last {timed} calls took {rule.slow_seconds:g} s or longer"
        return ""

    def _trip(self, reason: str, now: float) -> None:
        if self.state is _METRICS_ONLY:
            # As long as it would be open, it would see no calls: say it once for that long.
            if now >= self._until:
                self._until = now + self._wait()
                self.changes.append(
                    StateChange(self.state, _OPEN, reason, would=True),
                )
            self._forget()
            return
        if now - self._closed_at > max(self.rule.ramp_seconds, self.rule.window_seconds):
            self._reopened = 0
            self._peak = self.rule.trials
        self._openings = self.openings_in_a_row(now) + 1
        self._opened_at = now
        # Soon after closing the ramp kept the peak low, so the one from before it still holds.
        self._peak = max(self._peak, self.window(now).peak)
        self._reopen(reason, now)

    def _reopen(self, reason: str, now: float) -> None:
        self._until = now + self._wait()
        self._kept_out_at = now
        self._enter(_OPEN, reason, now)

    def _wait(self) -> float:
        # Doubling stops where the cap is reached, so the exponent stays small.
        longest = min(self.rule.open_cap_seconds, self.rule.open_seconds * 2.0**self._reopened)
        if longest < self.rule.open_cap_seconds:
            self._reopened += 1
        # Half of it is certain: a wait of nearly nothing would spare the target nothing.
        return longest * (0.5 + 0.5 * self._draw())

    def _judge_trial(
        self, ended: Ended, elapsed_seconds: float, *, slow: bool, failed: bool, now: float
    ) -> None:
        if failed:
            self._reopen("a trial call failed", now)
        elif slow:
            self._reopen(f"a trial call took {elapsed_seconds:.1f} s", now)
        elif ended is Ended.SUCCESS:
            self._good_trials += 1
            if self._good_trials >= self.rule.trials:
                self._closed_at = now
                self._enter(_CLOSED, f"{self._good_trials} trial calls went well", now)

    def _end_half_open(self, now: float) -> None:
        if self.in_flight:
            self._reopen(
                f"{self.in_flight} trial calls did not come back within "
                f"{self.rule.half_open_seconds:g} s",
                now,
            )
        else:
            # Nobody called meanwhile, which says nothing about the target.
            self._good_trials = 0
            self.since = now

    def _enter(self, state: BreakerState, because: str, now: float) -> None:
        """Change the state: the only place that does, and every change begins a new era."""
        self.changes.append(StateChange(self.state, state, because))
        self.state = state
        self.because = because
        self.since = now
        self.era = Ticket(self.era + 1)
        self.in_flight = 0
        self._good_trials = 0
        self._forget()
        ramps = state is _CLOSED and self._peak > 0 and self.rule.ramp_seconds > 0
        self._ramp_end = now + self.rule.ramp_seconds if ramps else now
        self.steady = state in _STEADY and not ramps
        self._plain = self.steady and state is not _DISABLED

    def _forget(self) -> None:
        self.total.add(self._current)
        self._past.clear()
        self._current = Tally()
        self._refusals.clear()

    def _turn(self, now: float) -> None:
        if now < self._edge:
            return
        gone = (now - self._edge) // self._width
        self.total.add(self._current)
        self._past.append(self._current)
        for _ in range(int(min(gone, _BUCKETS))):
            self._past.append(Tally())
        self._current = Tally()
        # What is in flight stays so: it is the least that the new bucket has seen at once.
        self._current.peak = self.in_flight
        self._edge += (gone + 1) * self._width
