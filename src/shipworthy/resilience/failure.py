"""What went wrong, in the few words that decide what follows."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from shipworthy.errors import Rejected


class Effect(StrEnum):
    """What a failed attempt may have done."""

    NONE = "none"
    """Nothing happened, or happening again would change nothing."""
    UNKNOWN = "unknown"
    """It may have taken effect: the answer was lost, not the question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One failed attempt, judged.

    `transient`: another attempt may go well. `refused`: the target took nothing at all, so there
    is no doubt that it is away. `counts`: it speaks against the target; a conflict between two
    callers may be transient and yet the target is well. `retry_after_seconds`: the target said so.
    """

    transient: bool
    effect: Effect
    because: str
    refused: bool = False
    counts: bool = True
    retry_after_seconds: float | None = None


# None means that the target did its work: a constraint, a 404, an error of the caller.
Judge = Callable[[BaseException], Failure | None]


def judge_io(error: BaseException) -> Failure | None:
    """Judge what the operating system says about a connection; anything else is no failure.

    A refusal of ours (`Rejected`) is transient and does not count: the target never saw the call.
    """
    match error:
        case Rejected():
            return Failure(
                transient=True,
                effect=Effect.NONE,
                because=str(error),
                counts=False,
                retry_after_seconds=error.retry_after_seconds,
            )
        case ConnectionRefusedError():
            return Failure(
                transient=True,
                effect=Effect.NONE,
                because="the connection was refused",
                refused=True,
            )
        case TimeoutError():
            return Failure(transient=True, effect=Effect.UNKNOWN, because="no answer in time")
        case ConnectionError() | EOFError():
            return Failure(transient=True, effect=Effect.UNKNOWN, because="the connection was lost")
        case _:
            return None
