"""Have deletions never come back; and keep some from that.

A purged deletion is a tombstone: its line in the trash stays, with who purged it and when, and a
restore is refused. The images stay in the log until retention takes them: the log is insert-only
and sealed, and what is sealed leaves it as whole batches, archived and verified.
"""

import sqlalchemy as sa

from shipworthy.audit import CONTEXTS, ENTRIES
from shipworthy.context import current_actor
from shipworthy.events import emit
from shipworthy.records.events import DeletionPurged
from shipworthy.records.listing import change_state, find_deletion, must_be_open
from shipworthy.records.model import OPEN_STATES, DeletionState
from shipworthy.records.refusals import DeletionHeld
from shipworthy.records.tables import DELETIONS

# How many are purged in one transaction.
PURGE_LIMIT = 500


def purge_in(connection: sa.Connection, id: int) -> None:  # noqa: A002
    """Purge one deletion; raises `DeletionHeld`, or `DeletionNotOpen` for one that is over."""
    deletion = find_deletion(connection, id, lock=True)
    must_be_open(connection, deletion)
    if deletion.hold:
        raise DeletionHeld(id, deletion.hold)
    change_state(connection, deletion, DeletionState.PURGED, rows=0)
    emit(DeletionPurged, deletion=id, actor=current_actor())


def expired_in(
    connection: sa.Connection, before_microseconds: int, *, limit: int = PURGE_LIMIT
) -> list[int]:
    """Return open deletions from before an instant that are not on hold, the oldest first."""
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
    """Keep a deletion from being purged, for `reason`; an empty one releases it."""
    deletion = find_deletion(connection, id, lock=True)
    must_be_open(connection, deletion)
    connection.execute(
        sa.update(DELETIONS).where(DELETIONS.c.id == id).values(hold=reason.strip()[:200])
    )
