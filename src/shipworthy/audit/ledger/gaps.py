"""Numbers that were passed over by the last batches: there an entry may still come, late.

Only where the number of an entry is its position: another connection may have been given its number
and not have written its entry yet, so that it is neither there nor seen to be on its way.
"""

from typing import Final

import sqlalchemy as sa

from shipworthy.audit.ledger.batch import BatchHeader, Leaves, LeavesInvalid, gaps, without
from shipworthy.audit.tables import BATCHES

# It comes within moments, where it comes at all: most gaps are of what was rolled back.
REMEMBERED_GAPS: Final = 1000
_REMEMBERED_BATCHES: Final = 100


def recent_gaps(connection: sa.Connection, last: int) -> list[tuple[int, int]]:
    """Return the runs that were passed over, as the lists of the batches up to `last` tell it."""
    rows = connection.execute(
        sa.select(BATCHES.c.header, BATCHES.c.leaves)
        .where(BATCHES.c.number > last - _REMEMBERED_BATCHES, BATCHES.c.number <= last)
        .order_by(BATCHES.c.number)
    )
    found: list[tuple[int, int]] = []
    for text, leaves in rows:
        try:
            header, seqs = BatchHeader.parse(text), Leaves.parse(leaves or "").seqs
        except LeavesInvalid:  # verify names it; here it only means that nothing is looked for
            continue
        in_order, late = seqs[: len(seqs) - header.late], seqs[len(seqs) - header.late :]
        found = [*without(found, late), *gaps(header.after[1], in_order)]
    return found[-REMEMBERED_GAPS:]
