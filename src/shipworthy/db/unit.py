"""What follows when a unit of work has failed: run it again, ask first, or end.

A unit is everything between BEGIN and COMMIT, and is run again as a whole or not at all. What
decides is what the failure means, whether COMMIT was on its way, and what the database says
afterwards. The wait and the question are the caller's.

Not here: the loop (`transaction`), and what an error means (`classify`).
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from math import inf
from typing import final

from shipworthy.db.outcome import Outcome
from shipworthy.resilience import Again, Backoff, Effect, Failure, GiveUp, RetryRule


class CommitAnswer(StrEnum):
    """What a database says when it is asked what became of a COMMIT."""

    COMMITTED = "committed"
    NEVER = "never"
    """It was not applied, and cannot be any more."""
    OPEN = "open"
    """Not decided yet, or nobody answered: ask again."""
    UNKNOWN = "unknown"
    """It cannot say, and will not be able to."""


@dataclass(frozen=True, slots=True)
class AskDatabase:
    """Wait so long, then ask the database what became of the COMMIT."""

    wait_seconds: float


@dataclass(frozen=True, slots=True)
class Done:
    """The COMMIT was applied: the unit has its result."""


@dataclass(frozen=True, slots=True)
class UnitOver:
    """No further attempt. `lost`: nobody knows whether the COMMIT was applied.

    `applied`: another attempt might go well, and would do a second time what was committed before.
    """

    because: str
    lost: bool = False
    applied: bool = False


Next = Again | AskDatabase | Done | UnitOver


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitFailure:
    """How an attempt failed.

    `connected`: there was a connection, or none was free; else none could be made. `in_commit`:
    COMMIT was on its way; `writes` whether there was something to commit, and `askable` whether the
    database can be asked. `applied`: something was committed before.
    """

    outcome: Outcome
    because: str
    connected: bool = True
    in_commit: bool = False
    writes: bool = True
    askable: bool = False
    applied: bool = False
    retry_after_seconds: float | None = None


# To ask whether one may connect costs next to nothing, and a restart is over in a second or two.
_WHILE_AWAY = Backoff(cap_seconds=0.5)
# Where no deadline ends the waiting: two minutes of connects that are refused at once, and more
# where each takes time. Longer than the failovers of hosted databases.
WAITS_WITHOUT_DEADLINE = 500

# Asked with what a further attempt would be for; takes it from the budget when there is one.
Spend = Callable[[Outcome], bool]

_AGAIN = frozenset({Outcome.RERUN, Outcome.LOST, Outcome.NOT_SENT, Outcome.STALE_PLAN})
# Conflicts between callers: they say nothing about the health of the database.
CONTENTION = frozenset({Outcome.RERUN, Outcome.STALE_PLAN})


@final
class Unit:
    """One unit on its way to a known end. Not shared: each call has its own.

    `repeats` is false inside a layer that retries already. Attempts count towards `rule.attempts`,
    and a budget pays for another one. While no connection can be made, only the deadline ends the
    waiting: a restart takes as long as it takes, and a connect that is refused, by the server or by
    its breaker, is no work that multiplies. A unit without a deadline waits
    `WAITS_WITHOUT_DEADLINE` times, and asks as often.
    """

    def __init__(self, rule: RetryRule, *, repeats: bool) -> None:
        self._rule = rule
        self._repeats = repeats
        self._attempts = 0
        self._waits = 0
        self._asked = 0
        self._planned_anew = False
        self._open: UnitFailure | None = None

    def failed(
        self, failure: UnitFailure, *, left_seconds: float, spend: Spend, draw: Callable[[], float]
    ) -> Again | AskDatabase | UnitOver:
        """Decide what follows a failed attempt; `left_seconds` is the time to the deadline."""
        if failure.outcome is Outcome.AMBIGUOUS and failure.in_commit:
            if failure.writes:
                if not failure.askable:
                    return UnitOver("the database cannot be asked what became of it", lost=True)
                self._open, self._asked = failure, 0
                return AskDatabase(0.0)
            failure = replace(failure, outcome=Outcome.LOST)
        if failure.outcome not in _AGAIN:
            return UnitOver(failure.because)
        if failure.outcome is Outcome.STALE_PLAN:
            if self._planned_anew:
                return UnitOver("a new plan did not fit either")
            self._planned_anew = True
        return self._again(failure, left_seconds, spend, draw)

    def answered(
        self, answer: CommitAnswer, *, left_seconds: float, spend: Spend, draw: Callable[[], float]
    ) -> Next:
        """Decide what follows an answer to `AskDatabase`."""
        assert self._open is not None  # `AskDatabase` was returned
        match answer:
            case CommitAnswer.COMMITTED:
                return Done()
            case CommitAnswer.OPEN:
                self._asked += 1
                wait_seconds = self._rule.backoff.ceiling(self._asked) * (0.5 + draw() / 2)
                if wait_seconds >= left_seconds or self._asked >= _patience(left_seconds):
                    return UnitOver(
                        f"the database gave no answer in the time of the unit, asked "
                        f"{self._asked} times",
                        lost=True,
                    )
                return AskDatabase(wait_seconds)
            case CommitAnswer.NEVER:
                # Paid for as a conflict: a database that has just answered is not overloaded.
                gone = replace(self._open, outcome=Outcome.RERUN)
                return self._again(gone, left_seconds, spend, draw)
            case _:
                return UnitOver("the database cannot say what became of it", lost=True)

    def _again(
        self, failure: UnitFailure, left_seconds: float, spend: Spend, draw: Callable[[], float]
    ) -> Again | UnitOver:
        if failure.applied:
            return UnitOver("it has committed something by itself", applied=True)
        if not self._repeats:
            return UnitOver("whoever called it retries already")
        if failure.connected:
            self._attempts += 1
            rule, attempt = self._rule, self._attempts
        else:
            self._waits += 1
            rule = RetryRule(attempts=_patience(left_seconds), backoff=_WHILE_AWAY)
            attempt = self._waits
        decision = rule.after(
            Failure(
                transient=True,
                effect=Effect.NONE,
                because=failure.because,
                retry_after_seconds=failure.retry_after_seconds,
            ),
            attempt=attempt,
            left_seconds=left_seconds,
            budget=lambda: not failure.connected or spend(failure.outcome),
            draw=draw,
        )
        return decision if isinstance(decision, Again) else UnitOver(_said(decision))


def _patience(left_seconds: float) -> int:
    return WAITS_WITHOUT_DEADLINE if left_seconds == inf else sys.maxsize


def _said(decision: object) -> str:
    assert isinstance(decision, GiveUp)  # what has no effect is not asked about
    return decision.because
