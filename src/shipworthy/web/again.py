"""Whether a request that failed with its database is run again. Pure.

Not here: the running (`replay`), and the same for one transaction (`db`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from shipworthy.db import Outcome
from shipworthy.resilience import Effect, Failure, GiveUp, RetryRule

# Three replays: what they do not cure, the next seldom does, and the budget pays for each.
RUNS: Final = 4
# A run in which databases failed more often than this does not fail by chance. It is also less than
# what is noted of one, so that none is overlooked.
FAILURES: Final = 8
# After these nothing of the run is left in the database.
_UNDONE: Final = frozenset({Outcome.RERUN, Outcome.STALE_PLAN, Outcome.LOST, Outcome.NOT_SENT})


class Withheld(StrEnum):
    """Why a request is not run again."""

    BEGUN = "its answer had begun"
    COMMITTED = "it had committed"
    STRAY = "a commit nobody answers for"
    CALLED_OUT = "it had changed something at another service"
    OUTCOME = "the failure may have had an effect, or would come again"
    TORN = "its body is longer than is kept"
    GONE = "its client had left"
    RUNS = "it was run often enough"
    TIME = "its time was over"
    BUDGET = "the retry budget is spent"
    REPORTED = "replays are only reported"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """One run that failed: the `number`-th of its request, and what is known of it.

    `outcomes` are those of the databases that failed in it, and not empty. `strays` are commits of
    the process meanwhile that belong to no request: they may be its own. `retry_after_seconds` is
    the longest that one of the databases asked for.
    """

    number: int
    outcomes: Sequence[Outcome]
    commits: int
    strays: int
    calls_out: int
    begun: bool
    torn: bool
    gone: bool
    retry_after_seconds: float = 0.0


def after(
    run: RunFacts,
    *,
    rule: RetryRule,
    left_seconds: float,
    budget: Callable[[], bool],
    draw: Callable[[], float],
) -> float | Withheld:
    """Return how long to wait before the request is run again, or why it is not.

    `budget` spends one retry and says whether there was one; it is asked last.
    """
    withheld = _withheld(run)
    if withheld is not None:
        return withheld
    failure = Failure(
        transient=True,
        effect=Effect.NONE,
        because=run.outcomes[-1],
        retry_after_seconds=run.retry_after_seconds,
    )
    decision = rule.after(
        failure, attempt=run.number, left_seconds=left_seconds, budget=budget, draw=draw
    )
    if not isinstance(decision, GiveUp):
        return decision.wait_seconds
    if decision.budget_spent:
        return Withheld.BUDGET
    return Withheld.RUNS if run.number >= rule.attempts else Withheld.TIME


def _withheld(run: RunFacts) -> Withheld | None:
    for holds, because in (
        (run.commits > 0, Withheld.COMMITTED),
        (run.strays > 0, Withheld.STRAY),
        (run.calls_out > 0, Withheld.CALLED_OUT),
        (not _UNDONE.issuperset(run.outcomes), Withheld.OUTCOME),
        (len(run.outcomes) > FAILURES, Withheld.OUTCOME),
        (run.begun, Withheld.BEGUN),
        (run.torn, Withheld.TORN),
        (run.gone, Withheld.GONE),
    ):
        if holds:
            return because
    return None
