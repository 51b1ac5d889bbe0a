"""Have deletions never come back; and keep some from that.

A purged deletion is a tombstone: its line in the trash stays, with who purged it and when, and a
restore is refused. The images stay in the log until retention takes them: the log is insert-only
and sealed, and what is sealed leaves it as whole batches, archived and verified.
"""

from typing import Final

import sqlalchemy as sa

from shipworthy.audit import CONTEXTS, ENTRIES
from shipworthy.context import current_actor
from shipworthy.events import emit
from shipworthy.records.events import DeletionPurged
from shipworthy.records.listing import change_state, find_deletion, must_be_open
from shipworthy.records.model import OPEN_STATES, DeletionState
from shipworthy.records.refusals import DeletionHeld
from shipworthy.records.tables import DELETIONS

# The notes of a hold, with its reason, and of its end.
HELD: Final = "on hold"
RELEASED: Final = "released"


def purge_in(connection: sa.Connection, id: int) -> None:  # noqa: A002
    """Purge one deletion; raises `DeletionHeld`, or `DeletionNotOpen` for one that is over."""
    deletion = find_deletion(connection, id, lock=True)
    must_be_open(connection, deletion)
    if deletion.hold:
        raise DeletionHeld(id, deletion.hold)
    change_state(connection, deletion, DeletionState.PURGED, rows=0)
    emit(DeletionPurged, deletion=id, actor=current_actor())


def expired_in(connection: sa.Connection, before_microseconds: int, *, limit: int) -> list[int]:
    """Return open deletions from before an instant that are not on hold, the oldest first.

    Those that somebody else is about are left out; who is told of one keeps them from it.
    """
    return list(
        connection.scalars(
            sa.select(DELETIONS.c.id)
            .where(
                DELETIONS.c.at_microseconds < before_microseconds,
                DELETIONS.c.state.in_([state.value for state in OPEN_STATES]),
                DELETIONS.c.hold == "",
            )
            .order_by(DELETIONS.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
    )


def needed_entries(before_microseconds: int) -> sa.ColumnElement[bool]:
    """Return what is true, in SQL, of entries that the trash needs: all of their transactions.

    Of deletions from that instant on that are not purged, and of older ones that are on hold.
    """
    needed = sa.select(DELETIONS.c.tx).where(
        DELETIONS.c.state != DeletionState.PURGED.value,
        sa.or_(DELETIONS.c.at_microseconds >= before_microseconds, DELETIONS.c.hold != ""),
    )
    continued = sa.select(CONTEXTS.c.tx).where(CONTEXTS.c.continues.in_(needed))
    return sa.or_(ENTRIES.c.tx.in_(needed), ENTRIES.c.tx.in_(continued))


def hold_in(connection: sa.Connection, id: int, reason: str) -> None:  # noqa: A002
    """Keep a deletion from being purged, for `reason`; an empty one releases it.

    Who held or released it is told with what was done with it.
    """
    deletion = find_deletion(connection, id, lock=True)
    must_be_open(connection, deletion)
    reason = reason.strip()[:200]
    connection.execute(sa.update(DELETIONS).where(DELETIONS.c.id == id).values(hold=reason))
    note = f"{HELD}: {reason}" if reason else RELEASED
    change_state(connection, deletion, deletion.state, rows=0, note=note)
