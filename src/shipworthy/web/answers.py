"""What a client is told of each failure: status, words and when to come again. Pure.

A failure of a database means the same to a client in whatever class its driver put it: come again,
wait, look first, or nothing you could do. The words hold nothing of the inside.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import Final

from shipworthy.db import Outcome, database_outcome
from shipworthy.errors import Rejected, RequestInvalid, ShipworthyError
from shipworthy.lifecycle import CommitRefused

_KIND: Final = "urn:shipworthy:problem:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One problem (RFC 9457) to be; `kind` is its type, `retry_after_seconds` its header."""

    status: int
    detail: str
    kind: str = "about:blank"
    retry_after_seconds: float | None = None

    @property
    def retry_after(self) -> tuple[tuple[bytes, bytes], ...]:
        """Return the header that says when to come again; none where nobody can say."""
        if self.retry_after_seconds is None:
            return ()
        return ((b"retry-after", b"%d" % ceil(self.retry_after_seconds)),)


# Methods that change nothing (RFC 9110, 9.2.1).
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
# The same to a client, whether the connection fails or the breaker knows that it would.
_SAME_KINDS: Final = {"databaserefused": "database-unavailable"}


FAILED: Final = Explanation(
    status=500,
    detail="The service failed while it worked on this request; its log has the reason under the "
    "id.",
)
INTERRUPTED: Final = Explanation(
    status=503,
    kind=f"{_KIND}interrupted",
    detail="the instance is shutting down and broke off this request; whether it took effect is "
    "not known",
    retry_after_seconds=1.0,
)
_LATE: Final = Explanation(
    status=504,
    detail="Something that this request needs did not answer in time; the log has which, under the "
    "id.",
    retry_after_seconds=1.0,
)
_AWAY: Final = Explanation(
    status=503,
    kind=f"{_KIND}database-unavailable",
    detail="A database that this request needs cannot be reached now.",
    retry_after_seconds=1.0,
)
_OF_A_DATABASE: Final[Mapping[Outcome, Explanation]] = {
    Outcome.NOT_SENT: _AWAY,
    Outcome.LOST: _AWAY,
    Outcome.OVERLOAD: _AWAY,
    Outcome.DEADLINE: _LATE,
    Outcome.RERUN: Explanation(
        status=409,
        kind=f"{_KIND}contention",
        detail="Others were changing the same data, so the database gave this change up.",
        retry_after_seconds=1.0,
    ),
    Outcome.READ_ONLY: Explanation(
        status=503,
        kind=f"{_KIND}read-only",
        detail="The database takes no changes now.",
        retry_after_seconds=5.0,
    ),
    Outcome.AMBIGUOUS: Explanation(
        status=500,
        kind=f"{_KIND}lost-commit",
        detail="The connection was lost while the change was being made: whether it took effect "
        "is not known. Look before you send it again.",
    ),
}


def answer_for(error: BaseException) -> Explanation:
    """Return what a client is told of `error`; `FAILED` where there is nothing it could do."""
    if isinstance(error, CommitRefused) and error.in_part:
        return INTERRUPTED
    if isinstance(error, Rejected):
        return Explanation(
            status=error.status,
            detail=error.public_detail,
            kind=kind_of(error),
            retry_after_seconds=error.retry_after_seconds,
        )
    if isinstance(error, RequestInvalid):
        return Explanation(status=error.status, detail=str(error), kind=kind_of(error))
    if isinstance(error, ShipworthyError) and isinstance(error, TimeoutError):
        return _LATE
    told = getattr(error, "public_detail", None) if isinstance(error, ShipworthyError) else None
    if told is not None:
        # A lost commit of ours: it has an id by which it can be looked for.
        return replace(_OF_A_DATABASE[Outcome.AMBIGUOUS], detail=told)
    outcome = database_outcome(error)
    return FAILED if outcome is None else _OF_A_DATABASE.get(outcome, FAILED)


def is_refusal(error: BaseException) -> bool:
    """Say whether something was refused and nothing failed, so that one line of log is enough.

    In an outage that is every request: each with its stack would bury what tells of the outage.
    """
    return isinstance(error, (Rejected, RequestInvalid))


def kind_of(error: BaseException) -> str:
    """Return the type of the problem that an error of ours is answered with."""
    name = type(error).__name__.lower()
    return _KIND + _SAME_KINDS.get(name, name)
