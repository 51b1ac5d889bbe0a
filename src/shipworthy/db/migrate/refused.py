"""What ends a migration before it is done."""

from collections.abc import Sequence
from typing import final

from shipworthy.errors import ShipworthyError


class MigrationRefused(ShipworthyError):
    """Nothing of the migration was begun; `reasons` has one sentence for each thing in the way."""

    def __init__(self, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        super().__init__("\n".join(self.reasons))


@final
class MigratorBusy(MigrationRefused):
    """Somebody else migrates this database, and did for longer than this one would wait."""


@final
class MigrationFailed(ShipworthyError):
    """A migration stopped on its way; `applied` are the revisions that stand."""

    def __init__(self, message: str, *, applied: Sequence[str]) -> None:
        self.applied = tuple(applied)
        super().__init__(message)
