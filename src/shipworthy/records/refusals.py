"""What the trash refuses, each with what to do next.

RecordsRefused
├── DeletionUnknown        no deletion has that number
├── DeletionNotOpen        it was restored or purged before; says by whom and when
├── DeletionHalfVisible    the log no longer has all of it
├── DeletionHeld           somebody keeps it from being purged
├── RestoreRefused         something stands in the way; `plan` says what
└── UndoRefused            what came back has changed since
"""

from typing import TYPE_CHECKING, final

from shipworthy.errors import Misuse, ShipworthyError

if TYPE_CHECKING:
    from shipworthy.records.report import RestorePlan


class RecordsRefused(ShipworthyError):
    """What was asked of the trash cannot be done; nothing was changed."""


@final
class TrashNotInstalled(Misuse):
    """The database has no trail of deletions."""

    def __init__(self) -> None:
        super().__init__(
            "this database has no trail of changes yet, so nothing it deleted can be shown; run "
            "`shipworthy audit install` first"
        )


@final
class DeletionUnknown(RecordsRefused):
    """No deletion has the number `id`."""

    def __init__(self, id: int) -> None:  # noqa: A002 - as the field is named
        self.id = id
        super().__init__(
            f"there is no deletion {id}; `shipworthy trash list` shows those there are"
        )


@final
class DeletionNotOpen(RecordsRefused):
    """The deletion `id` is in `state` since `at`, by `actor`: there is nothing to restore."""

    def __init__(self, id: int, state: str, *, actor: str, at: str, advice: str) -> None:  # noqa: A002
        self.id = id
        self.state = state
        self.actor = actor
        super().__init__(f"deletion {id} was already {state} by {actor} at {at}; {advice}")


@final
class DeletionHalfVisible(RecordsRefused):
    """Of the `rows` of deletion `id` only `left` are in the log still."""

    def __init__(self, id: int, *, rows: int, left: int) -> None:  # noqa: A002
        self.id = id
        super().__init__(
            f"deletion {id} removed {rows} rows, and the log has {left} of them left: retention "
            "took the others, so it cannot be restored as it was; an archive of that time has them"
        )


@final
class DeletionHeld(RecordsRefused):
    """The deletion `id` is on hold, for `reason`."""

    def __init__(self, id: int, reason: str) -> None:  # noqa: A002
        self.id = id
        super().__init__(
            f"deletion {id} is on hold ({reason}) and is not purged; release it with "
            f"`shipworthy trash hold {id} --release`"
        )


@final
class RestoreRefused(RecordsRefused):
    """Something stands in the way of a restore; nothing was changed. `plan` has all of it."""

    def __init__(self, plan: "RestorePlan", sentence: str) -> None:
        self.plan = plan
        super().__init__(sentence)


@final
class UndoRefused(RecordsRefused):
    """What a restore of deletion `id` brought back has changed since, so it is not removed."""

    def __init__(self, id: int, because: str) -> None:  # noqa: A002
        self.id = id
        super().__init__(f"the restore of deletion {id} cannot be undone: {because}")
