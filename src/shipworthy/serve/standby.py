"""When a spare process is started, taken and ended: facts and a time go in, a step comes out.

Pure. A spare is a process that has imported what a worker of the application imports from
libraries, and waits. It takes the place of a worker that is lost, and then most of a start is
behind it. The shell is `spare.py`.
"""

import math
from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True, kw_only=True)
class StandbyRule:
    """When there is a spare.

    `rest_seconds` is how long everybody must have served before one is started: a start takes CPU
    that the first requests want, and where workers fall again and again none is of use.
    `again_seconds` is the pause after one that was ended for want of memory, ended by itself, or
    became a worker that could not start.
    """

    kept: bool = True
    start_seconds: float = 60.0
    rest_seconds: float = 2.0
    again_seconds: float = 60.0


class Step(Enum):
    """What is to be done about the spare."""

    START = "start"
    END = "end"


class SpareStage(Enum):
    """The spare as the supervisor sees it."""

    NONE = "none"
    WARMING = "warming"  # it imports
    WARM = "warm"  # it waits


@dataclass(slots=True)
class Standby:
    """Decide about the one spare. Every method takes monotonic seconds; not thread-safe."""

    rule: StandbyRule
    stage: SpareStage = SpareStage.NONE
    _rests_since: float = math.inf
    _not_before: float = -math.inf
    _warm_by: float = math.inf

    def tick(self, now: float, *, at_rest: bool, room: bool) -> Step | None:
        """Return what is due; `START` and `END` count as done.

        `at_rest` says that all who are wanted serve and nobody is being replaced, `room` that
        there is memory for one more process. A spare that is there outlasts unrest, which is what
        it is for, but not want of memory.
        """
        self._rests_since = min(self._rests_since, now) if at_rest else math.inf
        if self.stage is not SpareStage.NONE:
            late = self.stage is SpareStage.WARMING and now >= self._warm_by
            if room and not late:
                return None
            self.lost(now)
            return Step.END
        rested = now >= self._rests_since + self.rule.rest_seconds
        if not (self.rule.kept and rested and room and now >= self._not_before):
            return None
        self.stage = SpareStage.WARMING
        self._warm_by = now + self.rule.start_seconds
        return Step.START

    def warm(self) -> None:
        """Note that the spare has imported what it was told to."""
        if self.stage is SpareStage.WARMING:
            self.stage = SpareStage.WARM

    def take(self) -> bool:
        """Say whether there is a spare to take, which is gone then; one that warms is as good.

        It is as far as a fresh process would be, or further.
        """
        if self.stage is SpareStage.NONE:
            return False
        self.stage = SpareStage.NONE
        self._rests_since = math.inf
        return True

    def outdated(self) -> bool:
        """Say whether there was a spare, which is to be ended: what it has imported is old."""
        return self.take()

    def lost(self, now: float) -> None:
        """Note that the spare is gone, or that a worker made of one could not start."""
        self.stage = SpareStage.NONE
        self._not_before = now + self.rule.again_seconds


def has_room(*, used: float | None, limit: float | None, most: float, more: float) -> bool:
    """Say whether `more` bytes beside `used` stay within the ratio `most` of `limit`.

    Where one of them is not known there is: then nothing else is decided by memory either.
    """
    return used is None or limit is None or used + more <= most * limit
