"""Look over what is sealed, a little at a time, for as long as somebody seals.

Who seals reads what is new, and would never see that something old was changed. So it goes along
the log from its first batch to the last it has signed, and begins anew: each batch against the log,
each of its entries against what was sealed of it. Nothing of its place is kept in the database,
where whoever tampers could set it.

Not here: what only the whole shows, which `verify` looks for: an entry that was put among sealed
ones, and checkpoints. And whoever says in the table of archives that entries
have left the log is believed here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, final

import sqlalchemy as sa

from shipworthy.audit.ledger.findings import LedgerFinding, VerifyReport
from shipworthy.audit.ledger.merkle import Frontier
from shipworthy.audit.ledger.reading import SealReader
from shipworthy.audit.ledger.shape_prints import check_shapes
from shipworthy.audit.ledger.verify_entries import verify_batches
from shipworthy.audit.ledger.verify_log import LogWalk, SignedLog
from shipworthy.audit.tables import ARCHIVES, BATCHES

_BATCHES_AT_ONCE: Final = 200


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PatrolLook:
    """What one look was: how much was read, and what was found that was not told before.

    A batch is as much work as an entry, so `read` counts both. `found` is how much is not as it was
    sealed: in the round before, or by now in this one. `whole` is whether there was a round before:
    until then what another patrol has found still stands.
    """

    entries: int
    read: int
    findings: Sequence[LedgerFinding]
    found: int
    whole: bool


@final
class Patrol:
    """Goes along one log, again and again; for one thread."""

    def __init__(self, reader: SealReader) -> None:
        self._reader = reader
        self._told: set[tuple[str, int, int]] = set()
        self._found_before: int | None = None
        self._begin()

    def look(self, connection: sa.Connection, tree: Frontier, *, most: int) -> PatrolLook:
        """Compare the next batches with their entries, `most` together, but one batch at least.

        `tree` is the log as whoever asks has signed it. Raises what the database raises; then the
        round begins anew.
        """
        rows_before, batches_before = self._report.rows, self._report.batches
        try:
            if self._look(connection, tree, most) >= tree.size:
                self._walk.signed(SignedLog(tree.size, tree.root(), "that was signed here last"))
                check_shapes(connection, self._report, self._walk.facts.shapes)
                self._found_before = self._report.found.total()
                ended = self._report
                self._begin()
            else:
                ended = self._report
        except BaseException:
            self._begin()
            raise
        return PatrolLook(
            entries=ended.rows - rows_before,
            read=ended.rows - rows_before + ended.batches - batches_before,
            findings=tuple(one for one in ended.findings if self._is_news(one)),
            found=max(self._found_before or 0, ended.found.total()),
            whole=self._found_before is not None,
        )

    def _begin(self) -> None:
        self._report = VerifyReport()
        self._walk = LogWalk(self._report)

    def _look(self, connection: sa.Connection, tree: Frontier, most: int) -> int:
        """Go on by some batches, and return how many of all there are behind us."""
        after = self._walk.facts.batches
        rows = connection.execute(
            sa.select(*(column for column in BATCHES.c if column.name != "leaves"))
            .where(BATCHES.c.number > after, BATCHES.c.number <= tree.size)
            .order_by(BATCHES.c.number)
            .limit(_BATCHES_AT_ONCE)
        ).all()
        if not rows:
            return tree.size
        ends = accumulate(row.entries + 1 for row in rows)
        some = rows[: max(1, sum(end <= most for end in ends))]
        self._walk.along(some, ())
        verify_batches(
            connection,
            self._reader,
            self._report,
            # That it is not empty, the walk has compared with what was sealed.
            [row.number for row in some if row.entries],
            pruned=lambda: _archived_to(connection),
        )
        return self._walk.facts.batches

    def _is_news(self, one: LedgerFinding) -> bool:
        key = (one.kind, one.batch, one.seq)
        if key in self._told or len(self._told) >= _TOLD_MOST:
            return False
        self._told.add(key)
        return True


# What is told of; the number is of all.
_TOLD_MOST: Final = 1000


def _archived_to(connection: sa.Connection) -> int:
    """Return up to which batch entries may have left the log for an archive; 0 for none."""
    last = connection.scalar(
        sa.select(sa.func.max(ARCHIVES.c.last_batch)).where(ARCHIVES.c.state != "written")
    )
    return int(last or 0)
