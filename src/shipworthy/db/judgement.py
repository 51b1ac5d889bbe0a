"""Whether a failure speaks against the database, and whether another attempt may go well.

This is what pipelines and the breaker ask. Who runs a whole transaction again asks `classify`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from shipworthy.db.classify import concerns_database, facts_of, verdict_of
from shipworthy.db.outcome import Outcome
from shipworthy.resilience import Effect, Failure

# Slots and memory come back when others are done, not at once.
OVERLOAD_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class _Meaning:
    transient: bool
    effect: Effect
    counts: bool


# What is not here is an answer: the database did its work, and the caller must change something.
_MEANINGS: Final[Mapping[Outcome, _Meaning]] = {
    Outcome.RERUN: _Meaning(transient=True, effect=Effect.NONE, counts=False),
    Outcome.STALE_PLAN: _Meaning(transient=True, effect=Effect.NONE, counts=False),
    Outcome.NOT_SENT: _Meaning(transient=True, effect=Effect.NONE, counts=True),
    Outcome.LOST: _Meaning(transient=True, effect=Effect.NONE, counts=True),
    Outcome.AMBIGUOUS: _Meaning(transient=True, effect=Effect.UNKNOWN, counts=True),
    Outcome.OVERLOAD: _Meaning(transient=True, effect=Effect.NONE, counts=True),
    Outcome.DEADLINE: _Meaning(transient=False, effect=Effect.UNKNOWN, counts=True),
    Outcome.UNKNOWN: _Meaning(transient=False, effect=Effect.UNKNOWN, counts=True),
    # Reads go on where writes meet a full disk or a replica; a breaker would take them away too.
    Outcome.STORAGE: _Meaning(transient=False, effect=Effect.NONE, counts=False),
    Outcome.READ_ONLY: _Meaning(transient=False, effect=Effect.NONE, counts=False),
}


def judge(error: BaseException) -> Failure | None:
    """Judge an error for a pipeline around a database; None where the database did its work.

    Reads the phase that `protect` notes on errors. A cancellation, and an error in which no
    database had a part, is no failure of the database.
    """
    facts = facts_of(error)
    if not isinstance(error, Exception) or not concerns_database(facts):
        return None
    verdict = verdict_of(facts)
    meaning = _MEANINGS.get(verdict.outcome)
    if meaning is None:
        return None
    return Failure(
        transient=meaning.transient,
        effect=meaning.effect,
        because=verdict.because,
        refused=verdict.refused,
        counts=meaning.counts and not verdict.ours,
        retry_after_seconds=_after(error, verdict.outcome),
    )


def _after(error: BaseException, outcome: Outcome) -> float | None:
    told = getattr(error, "retry_after_seconds", None)
    if isinstance(told, float):
        return told
    return OVERLOAD_SECONDS if outcome is Outcome.OVERLOAD else None
