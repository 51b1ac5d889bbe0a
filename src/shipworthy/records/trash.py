"""The trash for code: list, plan, restore, purge, hold; and the same for async code.

Each takes an engine, a connection or a session; those of async code their async kinds. `settings`
say whose deletions are kept; where there are none given, everybody's.
"""

from collections.abc import Sequence
from contextlib import suppress

import sqlalchemy as sa

from shipworthy.clock import SYSTEM_CLOCK, Clock
from shipworthy.records.listing import (
    DeletionChange,
    changes_of,
    find_deletion,
    list_deletions,
)
from shipworthy.records.model import OPEN_STATES, Deletion, DeletionState
from shipworthy.records.purging import expired_in, hold_in, needed_entries, purge_in
from shipworthy.records.refusals import DeletionHeld, DeletionNotOpen
from shipworthy.records.report import Restored, RestoreMode, RestorePlan
from shipworthy.records.restoring import plan_in, restore_in
from shipworthy.records.settings import TrashSettings
from shipworthy.records.targets import AsyncTarget, SyncTarget, run_async, working
from shipworthy.records.undoing import undo_in


def deletions(
    target: SyncTarget,
    *,
    settings: TrashSettings | None = None,
    states: Sequence[DeletionState] = OPEN_STATES,
    before: int | None = None,
    limit: int = 100,
) -> list[Deletion]:
    """Return what was deleted, the newest first; `before` is the last id of the page before.

    Raises `TrashNotInstalled`, as all of these do, where the database has no trail.
    """
    with working(target, settings) as connection:
        return list_deletions(connection, states=states, before=before, limit=limit)


def deletion(
    target: SyncTarget,
    id: int,  # noqa: A002
    *,
    settings: TrashSettings | None = None,
) -> tuple[Deletion, list[DeletionChange]]:
    """Return one deletion and what was done with it; raises `DeletionUnknown`."""
    with working(target, settings) as connection:
        return find_deletion(connection, id), changes_of(connection, id)


def plan_restore(
    target: SyncTarget,
    id: int,  # noqa: A002
    *,
    prove: bool = True,
    settings: TrashSettings | None = None,
) -> RestorePlan:
    """Return what a restore of the deletion `id` would do and what stands in its way.

    With `prove` the database tries it in a savepoint that is rolled back. Raises
    `DeletionUnknown`, `DeletionNotOpen` or `DeletionHalfVisible`.
    """
    with working(target, settings) as connection:
        return plan_in(connection, id, prove=prove)


def restore(
    target: SyncTarget,
    id: int,  # noqa: A002
    *,
    mode: RestoreMode = "all",
    accept_losses: bool = False,
    settings: TrashSettings | None = None,
) -> Restored:
    """Put a deletion back: exactly what it removed, in one transaction.

    `without-conflicts` leaves out what cannot come back and what refers to that; `with-needs`
    restores the deletions first that have what it refers to. Raises `RestoreRefused` with the plan
    where something stands in the way, and what `plan_restore` raises; a connection or session must
    be rolled back then.
    """
    with working(target, settings) as connection:
        return restore_in(connection, id, mode=mode, accept_losses=accept_losses)


def undo_restore(
    target: SyncTarget,
    id: int,  # noqa: A002
    *,
    settings: TrashSettings | None = None,
) -> int:
    """Remove what a restore brought back, if it is unchanged; returns how many rows went.

    It is a deletion of its own, and can be put back. Raises `UndoRefused`.
    """
    with working(target, settings) as connection:
        return undo_in(connection, id)


def purge(
    target: SyncTarget,
    id: int,  # noqa: A002
    *,
    settings: TrashSettings | None = None,
) -> None:
    """Have a deletion never come back; what remains is its line in the trash.

    Its images leave the log when retention takes them. Raises `DeletionHeld` for one on hold.
    """
    with working(target, settings) as connection:
        purge_in(connection, id)


def purge_expired(
    target: SyncTarget,
    *,
    settings: TrashSettings | None = None,
    clock: Clock = SYSTEM_CLOCK,
    limit: int = 500,
) -> list[int]:
    """Purge what is older than `trash.keep` and not on hold, at most `limit`; returns which.

    What somebody else restores, holds or purges meanwhile is left to them.
    """
    chosen = settings or TrashSettings()
    before = int((clock.wall() - chosen.keep_seconds) * 1_000_000)
    purged: list[int] = []
    with working(target, chosen) as connection:
        for one in expired_in(connection, before, limit=limit):
            # Where a look takes no lock (SQLite), another may have been faster.
            with suppress(DeletionNotOpen, DeletionHeld):
                purge_in(connection, one)
                purged.append(one)
    return purged


def needed(
    target: SyncTarget,
    *,
    settings: TrashSettings | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> sa.ColumnElement[bool]:
    """Return which entries retention must leave in the log, as its `kept`.

    Those of deletions that are younger than `trash.keep` or on hold, and not purged.
    """
    chosen = settings or TrashSettings()
    # One that is not known yet would lose its entries.
    with working(target, chosen, all_known=True):
        return needed_entries(int((clock.wall() - chosen.keep_seconds) * 1_000_000))


def hold(
    target: SyncTarget,
    id: int,  # noqa: A002
    reason: str,
    *,
    settings: TrashSettings | None = None,
) -> None:
    """Keep a deletion from being purged, for a reason; an empty one releases it.

    Either is told by `deletion`, with who did it. Raises `DeletionUnknown` or `DeletionNotOpen`.
    """
    with working(target, settings) as connection:
        hold_in(connection, id, reason)


async def deletions_async(
    target: AsyncTarget,
    *,
    settings: TrashSettings | None = None,
    states: Sequence[DeletionState] = OPEN_STATES,
    before: int | None = None,
    limit: int = 100,
) -> list[Deletion]:
    """Return what `deletions` does."""
    return await run_async(
        target, deletions, settings=settings, states=states, before=before, limit=limit
    )


async def plan_restore_async(
    target: AsyncTarget,
    id: int,  # noqa: A002
    *,
    prove: bool = True,
    settings: TrashSettings | None = None,
) -> RestorePlan:
    """Return what `plan_restore` does."""
    return await run_async(target, plan_restore, id, prove=prove, settings=settings)


async def restore_async(
    target: AsyncTarget,
    id: int,  # noqa: A002
    *,
    mode: RestoreMode = "all",
    accept_losses: bool = False,
    settings: TrashSettings | None = None,
) -> Restored:
    """Do what `restore` does."""
    return await run_async(
        target, restore, id, mode=mode, accept_losses=accept_losses, settings=settings
    )


async def undo_restore_async(
    target: AsyncTarget,
    id: int,  # noqa: A002
    *,
    settings: TrashSettings | None = None,
) -> int:
    """Do what `undo_restore` does."""
    return await run_async(target, undo_restore, id, settings=settings)


async def purge_async(
    target: AsyncTarget,
    id: int,  # noqa: A002
    *,
    settings: TrashSettings | None = None,
) -> None:
    """Do what `purge` does."""
    await run_async(target, purge, id, settings=settings)


async def hold_async(
    target: AsyncTarget,
    id: int,  # noqa: A002
    reason: str,
    *,
    settings: TrashSettings | None = None,
) -> None:
    """Do what `hold` does."""
    await run_async(target, hold, id, reason, settings=settings)
