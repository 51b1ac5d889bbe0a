"""Transactions that wrote for nobody we know: counted, and said once for each reason.

Not here: the registry that shows the numbers (`telemetry`, by `assembly`).
"""

from collections import Counter
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated, Final

from shipworthy.events import Event, Label, Metric, OneOf, Severity, emit, event


class Because(StrEnum):
    """Why nobody is known."""

    REQUEST = "request"
    """The request has no user: see the section [actor] of the settings."""
    ELSEWHERE = "elsewhere"
    """There is no request, and neither `actor(...)` nor SHIPWORTHY_ACTOR says for whom it is."""
    AUTOCOMMIT = "autocommit"
    """The engine is in autocommit, and its database carries no actor outside of a transaction."""
    CONNECTION = "connection"
    """The connection could not be made ready to carry one."""


UNATTRIBUTED: Final = Metric(
    "shipworthy_audit_unattributed_writes_total",
    "counter",
    "Transactions that wrote without an actor, by the reason; in autocommit each write is one.",
    {"because": OneOf(*Because)},
)


@event(severity=Severity.WARNING)
class WriteUnattributed(Event):
    """A transaction wrote for nobody we know; said once for each reason, and counted from then on.

    Its entries name the service as their actor or, in autocommit, the user of the database.
    """

    because: Annotated[str, Label]
    route: str


_counts: Counter[str] = Counter()


def note_unattributed(because: Because, route: str) -> None:
    """Count a transaction that has no actor, and say so the first time."""
    # Two threads at once may say it twice, or count one less: no lock for that on each write.
    _counts[because] += 1
    if _counts[because] == 1:
        emit(WriteUnattributed, because=because, route=route)


def unattributed_writes() -> dict[str, int]:
    """Return how many transactions had no actor, by the reason."""
    return dict(_counts)


def binding_metrics() -> tuple[tuple[Metric, Callable[[], Mapping[tuple[str, ...], float]]], ...]:
    """Return what is counted here, with how to read it."""
    return ((UNATTRIBUTED, _read),)


def _read() -> dict[tuple[str, ...], float]:
    return UNATTRIBUTED.zeros() | {(name,): count for name, count in _counts.copy().items()}
