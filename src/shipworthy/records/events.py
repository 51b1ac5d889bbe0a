"""The facts that the trash states, and what it counts."""

from typing import Annotated

from shipworthy.events import Event, Label, Measure, Severity, event


@event()
class DeletionFound(Event):
    """What a transaction deleted is in the trash and can be put back."""

    deletion: int
    rows: Annotated[int, Measure]
    tables: int


@event(severity=Severity.ERROR)
class DeletionUnreadable(Event):
    """A transaction deleted something, and an entry of the log that tells what cannot be read."""

    entry: int
    because: str


@event()
class DeletionRestored(Event):
    """A deletion was put back; what the plan left out is gone still."""

    deletion: int
    mode: Annotated[str, Label]
    rows: Annotated[int, Measure]
    left: int
    actor: str


@event(severity=Severity.WARNING)
class RestoreRejected(Event):
    """A restore was asked for, and something stood in its way; nothing was changed."""

    deletion: int
    obstacle: Annotated[str, Label]
    obstacles: Annotated[int, Measure]


@event()
class DeletionPurged(Event):
    """A deletion cannot be restored any more."""

    deletion: int
    actor: str
