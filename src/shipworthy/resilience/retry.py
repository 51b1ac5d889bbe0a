"""What follows a failed attempt: another one, a question first, or the end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from shipworthy.resilience.backoff import Backoff
from shipworthy.resilience.failure import Effect, Failure


@dataclass(frozen=True, slots=True)
class Again:
    """Wait so long, then make another attempt."""

    wait_seconds: float


@dataclass(frozen=True, slots=True)
class AskFirst:
    """The attempt may have taken effect: find out first, and only then wait and try again."""

    wait_seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No further attempt; `effect` is what the last one may have done."""

    because: str
    effect: Effect
    budget_spent: bool = False


Decision = Again | AskFirst | GiveUp


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRule:
    """How often, and after which wait.

    Three attempts: what two do not cure, a tenth seldom does, and the budget pays for each.
    Raises `ValueError` for less than one attempt.
    """

    attempts: int = 3
    backoff: Backoff = field(default_factory=Backoff)

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"at least one attempt has to be made, got {self.attempts}")

    def after(
        self,
        failure: Failure,
        *,
        attempt: int,
        left_seconds: float,
        budget: Callable[[], bool],
        draw: Callable[[], float],
    ) -> Decision:
        """Decide what follows the failed attempt number `attempt` (the first is 1).

        `left_seconds` is the time to the deadline (infinite without one). `budget` spends one retry
        and says whether there was one (`lambda: retry_budget.spend(clock.now())`); it is asked
        last, because asking spends it. `draw` gives an even number from 0 up to 1.
        """
        if not failure.transient:
            return GiveUp("another attempt would fail as this one did", failure.effect)
        if attempt >= self.attempts:
            return GiveUp(f"{attempt} attempts failed", failure.effect)

        # A target that names a time has jittered nothing, so the draw is added to it.
        wait_seconds = draw() * self.backoff.ceiling(attempt) + (failure.retry_after_seconds or 0.0)
        if wait_seconds >= left_seconds:
            return GiveUp(
                f"the deadline is {max(0.0, left_seconds):.2f} s away and the next attempt would "
                f"start in {wait_seconds:.2f} s",
                failure.effect,
            )
        if not budget():
            return GiveUp("the retry budget is spent", failure.effect, budget_spent=True)
        if failure.effect is Effect.UNKNOWN:
            return AskFirst(wait_seconds)
        return Again(wait_seconds)


_retrying: ContextVar[bool] = ContextVar("shipworthy_retrying", default=False)

# Entered and left by hand in a pipeline: a context manager costs as much as the rest of it.
enter_retrying = _retrying.set
leave_retrying = _retrying.reset

is_retrying: Callable[[], bool] = _retrying.get


@contextmanager
def retrying_scope() -> Iterator[bool]:
    """Be the retrying layer of the block; yields False where there is one around it already.

    Layers that all retry multiply: three with three attempts make 27. So only the outermost does,
    and the ones inside make one attempt each.
    """
    outer = _retrying.get()
    token = _retrying.set(True)
    try:
        yield not outer
    finally:
        _retrying.reset(token)
