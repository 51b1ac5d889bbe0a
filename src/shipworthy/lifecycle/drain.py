"""Which phase of its life a process is in, and when the next one comes.

STARTING -> READY -> LAME_DUCK -> DRAINING -> CANCELLING -> STOPPING -> STOPPED

FORCED is reached from any phase after READY when the grace is over, or by one signal too many.
A phase may be skipped and none is ever entered again.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

# From the last act of ours to the end of the process: what the interpreter needs to leave.
LEAVING_SECONDS = 1.0


class Phase(StrEnum):
    """The phases in their order; what each means for a caller is in docs/reference/lifecycle.md."""

    STARTING = "starting"
    READY = "ready"
    LAME_DUCK = "lame_duck"
    DRAINING = "draining"
    CANCELLING = "cancelling"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FORCED = "forced"

    @property
    def leaving(self) -> bool:
        """Say whether the process is on its way out, and so not ready for anything new."""
        return self.reached(Phase.LAME_DUCK)

    def reached(self, gate: "Phase") -> bool:
        """Say whether this phase is `gate` or comes after it."""
        return _ORDER[self] >= _ORDER[gate]


_ORDER = {phase: place for place, phase in enumerate(Phase)}
_ENDS = frozenset({Phase.STOPPED, Phase.FORCED})


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainRule:
    """How long each phase on the way out may take at most, in seconds."""

    lame_duck_seconds: float
    drain_seconds: float
    idle_grace_seconds: float
    cancel_seconds: float
    stop_seconds: float
    grace_seconds: float

    def problems(self) -> list[str]:
        """Name what cannot be kept, with the numbers and what to write instead."""
        found = []
        needed = (
            self.lame_duck_seconds
            + self.drain_seconds
            + self.cancel_seconds
            + self.stop_seconds
            + LEAVING_SECONDS
        )
        # 0.1 + 0.2 is not 0.3, and nobody should have to know that to write a settings file.
        if needed > self.grace_seconds + 1e-9:
            found.append(
                f"lifecycle.grace is {self.grace_seconds:g}s, but lame_duck "
                f"{self.lame_duck_seconds:g}s + drain {self.drain_seconds:g}s + cancel "
                f"{self.cancel_seconds:g}s + stop {self.stop_seconds:g}s + {LEAVING_SECONDS:g}s to "
                f"leave make {needed:g}s; raise grace to {needed:g}s or shorten one of the others"
            )
        if self.idle_grace_seconds > self.drain_seconds:
            found.append(
                f"lifecycle.idle_grace is {self.idle_grace_seconds:g}s, but the drain it is part "
                f"of ends after {self.drain_seconds:g}s; raise lifecycle.drain to "
                f"{self.idle_grace_seconds:g}s or shorten idle_grace"
            )
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainFacts:
    """What is seen of the traffic at one moment.

    `in_flight` counts requests, streams, websockets and the background tasks they left;
    `idle_connections` are open and ask nothing; `quiet_seconds` have passed since the last request
    arrived.
    """

    in_flight: int
    idle_connections: int
    quiet_seconds: float


class Drain:
    """Decide the phase from what happened and what is seen; it has no clock and waits for nothing.

    Every method takes the time (monotonic seconds), may be called in any phase and never goes
    back. Once begun it ends by `deadline` whatever the facts, as long as somebody calls `advance`.
    Not safe to share between threads; reading `phase` is.
    """

    __slots__ = ("deadline", "phase", "rule", "transitions")

    def __init__(self, rule: DrainRule, now: float) -> None:
        self.rule = rule
        self.phase = Phase.STARTING
        self.deadline = math.inf
        self.transitions: tuple[tuple[Phase, float], ...] = ((Phase.STARTING, now),)

    @property
    def since(self) -> float:
        """Return when the present phase was entered."""
        return self.transitions[-1][1]

    @property
    def stop_by(self) -> float:
        """Return by when stopping should be over, so that the deadline need not enforce it."""
        return min(self.since + self.rule.stop_seconds, self.deadline)

    def started(self, now: float) -> None:
        """Note that the service is up; too late once it was told to leave."""
        self._enter(Phase.READY, now)

    def begin(self, now: float, *, lame_duck: bool = True) -> None:
        """Begin to leave; a second call changes nothing.

        A process that is still starting has no traffic to wait for and goes straight to STOPPING.
        Without `lame_duck` no new client is waited for: others accept on the same socket.
        """
        if self.phase.leaving:
            return
        self.deadline = now + self.rule.grace_seconds
        if self.phase is Phase.STARTING:
            self._enter(Phase.STOPPING, now)
        elif lame_duck and self.rule.lame_duck_seconds > 0:
            self._enter(Phase.LAME_DUCK, now)
        else:
            self._enter(Phase.DRAINING, now)

    def escalate(self, now: float) -> None:
        """Go one stage further than time would: begin, then cancel, then leave as it is."""
        match self.phase:
            case Phase.STARTING | Phase.READY:
                self.begin(now)
            case Phase.LAME_DUCK | Phase.DRAINING:
                self._enter(Phase.CANCELLING, now)
            case _:
                self._enter(Phase.FORCED, now)

    def advance(self, facts: DrainFacts, now: float) -> Phase:
        """Enter the next phase if it is time, and return the phase.

        One phase at a time: the facts were seen in the present phase, and the work that comes with
        the next one (to empty the accept queue, say) may change them.
        """
        if now >= self.deadline:
            self._enter(Phase.FORCED, now)
            return self.phase

        spent = now - self.since
        idle = facts.in_flight == 0
        empty = idle and facts.idle_connections == 0
        match self.phase:
            case Phase.LAME_DUCK:
                # That nobody is connected at this moment is not enough to go early: a balancer
                # that has not seen us fail yet may be about to connect.
                quiet = empty and facts.quiet_seconds >= self.rule.idle_grace_seconds
                if quiet or spent >= self.rule.lame_duck_seconds:
                    self._enter(Phase.DRAINING, now)
            case Phase.DRAINING:
                # Nothing is accepted any more and each answer closes its connection, so what is
                # still idle after the grace has been idle for all of it.
                if empty or (idle and spent >= self.rule.idle_grace_seconds):
                    self._enter(Phase.STOPPING, now)
                elif spent >= self.rule.drain_seconds:
                    self._enter(Phase.STOPPING if idle else Phase.CANCELLING, now)
            case Phase.CANCELLING:
                if idle or spent >= self.rule.cancel_seconds:
                    self._enter(Phase.STOPPING, now)
            case _:
                pass
        return self.phase

    def stopping(self, now: float) -> None:
        """Note that what is left is being stopped, as when another server ended the traffic."""
        self.begin(now)
        self._enter(Phase.STOPPING, now)

    def stopped(self, now: float) -> None:
        """Note that everything has been stopped."""
        self._enter(Phase.STOPPED, now)

    def _enter(self, phase: Phase, now: float) -> None:
        if self.phase in _ENDS or _ORDER[phase] <= _ORDER[self.phase]:
            return
        self.phase = phase
        self.transitions = (*self.transitions, (phase, now))
