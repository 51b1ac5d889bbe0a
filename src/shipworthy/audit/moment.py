"""A point of the past, and what of the log comes after it.

A transaction is in where its *last* write was at or before the point: whole, or not at all. Whoever
overwrites what another wrote has waited for that other's end, so his last write is later: such a
cut never shows what came of a write without the write. The database's own order of commits would be
the better one, and no engine here keeps it for later; the beginnings of transactions, which are
often taken for it, do show such states. A number of an entry is a point, too: that of the end of
its transaction.

An answer must stay what it was. So no point is taken at which somebody may still be writing, nor
one before the trail was installed, nor one whose later entries have left the log.
"""

import datetime as dt
from dataclasses import dataclass, replace
from typing import Final, final

import sqlalchemy as sa

from shipworthy.audit.dialects.past import PastDialect
from shipworthy.audit.model import Entry
from shipworthy.audit.tables import ARCHIVES, CONTEXTS, ENTRIES
from shipworthy.errors import Misuse, ShipworthyError

# The number and the time of an entry are taken one after the other within one statement; that they
# are never further apart than this lets old entries be left out without being looked at.
_APART_MICROSECONDS: Final = 60_000_000
_NEAR_ENTRIES: Final = 1_000


@final
class PastUnknown(ShipworthyError):
    """The trail was not there yet."""


@final
class PastPruned(ShipworthyError):
    """What was written after that point has left the log for an archive."""


@final
class PastUnsettled(ShipworthyError):
    """Somebody may still be writing at that point: the answer could be another one later."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A point of the log; `bound` is a number of an entry if `numbered`, else a time.

    `lowest_seq` is a number below which no entry comes after it, but those of `split`: the
    transactions that had written by then, and wrote on after it.
    """

    numbered: bool
    bound: int
    at_microseconds: int
    lowest_seq: int = 0
    split: frozenset[str] = frozenset()

    @property
    def at(self) -> dt.datetime:
        """Its time."""
        return time_of(self.at_microseconds)

    def after(self) -> sa.ColumnElement[bool]:
        """Return what is true of the entries after it, in SQL."""
        column = ENTRIES.c.seq if self.numbered else ENTRIES.c.at_microseconds
        later = sa.and_(column > self.bound, ENTRIES.c.seq >= self.lowest_seq)
        return sa.or_(later, ENTRIES.c.tx.in_(sorted(self.split))) if self.split else later

    def is_after(self, entry: Entry) -> bool:
        """Return whether an entry comes after it."""
        return (entry.seq if self.numbered else entry.at_microseconds) > self.bound or (
            entry.tx in self.split
        )


def time_of(microseconds: int) -> dt.datetime:
    """Return the time that the log writes so, in UTC."""
    return dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(microseconds=microseconds)


def microseconds_of(when: dt.datetime) -> int:
    """Return a time as the log writes it; refused without a time zone."""
    if when.tzinfo is None:
        raise Misuse(
            f"the time {when.isoformat()} has no time zone, so it names many; give one, "
            "`datetime.now(UTC)` for example"
        )
    return (when - dt.datetime.fromtimestamp(0, dt.UTC)) // dt.timedelta(microseconds=1)


def moment(
    connection: sa.Connection, dialect: PastDialect, when: dt.datetime | int, *, final_only: bool
) -> Moment:
    """Return the point that `when` names, a time or the number of an entry.

    Raises `PastPruned` and, if `final_only`, `PastUnsettled`.
    """
    found = _numbered(connection, when) if isinstance(when, int) else _timed(when)
    _check_kept(connection, found)
    if final_only:
        _check_final(connection, dialect, found)
    if not found.numbered:
        found = replace(found, lowest_seq=_lowest(connection, found.bound))
    return replace(found, split=_split(connection, found))


def _timed(when: dt.datetime) -> Moment:
    at = microseconds_of(when)
    return Moment(numbered=False, bound=at, at_microseconds=at)


def _numbered(connection: sa.Connection, seq: int) -> Moment:
    tx = connection.execute(sa.select(ENTRIES.c.tx).where(ENTRIES.c.seq == seq)).scalar()
    if tx is None:
        raise Misuse(f"the log has no entry {seq}; `audit history` prints the numbers there are")
    last = connection.execute(
        sa.select(ENTRIES.c.seq, ENTRIES.c.at_microseconds)
        .where(ENTRIES.c.tx == tx)
        .order_by(ENTRIES.c.seq.desc())
        .limit(1)
    ).one()
    return Moment(numbered=True, bound=last.seq, at_microseconds=last.at_microseconds)


def _check_kept(connection: sa.Connection, point: Moment) -> None:
    left = connection.execute(
        sa.select(sa.func.max(ARCHIVES.c.written_microseconds)).where(ARCHIVES.c.state != "written")
    ).scalar()
    if left is not None and point.at_microseconds < left:
        raise PastPruned(
            f"the log no longer reaches back to {point.at.isoformat()}: entries up to "
            f"{time_of(left).isoformat()} have been archived; ask for a later time, or look into "
            "the archives that `audit retain` wrote"
        )


def _check_final(connection: sa.Connection, dialect: PastDialect, point: Moment) -> None:
    if point.numbered and dialect.commits_in_order:
        return
    now = dialect.now_microseconds(connection)
    if point.at_microseconds > now:
        raise PastUnsettled(
            f"{point.at.isoformat()} has not come yet: this transaction sees the database as it "
            f"was at {time_of(now).isoformat()}, by its own clock"
        )
    since = dialect.writing_since(connection)
    if since == 0:
        raise PastUnsettled(
            f"whether what was at {point.at.isoformat()} is final cannot be told here: this "
            "transaction has read before, or transactions are open since a time that this role may "
            "not see; ask in a transaction of its own, by a role that sees the others, or with "
            "final_only=False and expect another answer later"
        )
    if since is not None and point.at_microseconds >= since:
        raise PastUnsettled(
            f"what was at {point.at.isoformat()} is not final: transactions that are still open "
            f"may have written since {time_of(since).isoformat()}; ask for a time before that, or "
            "again when they have ended"
        )


def _lowest(connection: sa.Connection, at: int) -> int:
    """Return a number below which all entries are at or before that time; by halving."""
    low, high = connection.execute(
        sa.select(sa.func.min(ENTRIES.c.seq), sa.func.max(ENTRIES.c.seq))
    ).one()
    if low is None:
        return 0
    low, high = int(low), int(high)
    while high - low > _NEAR_ENTRIES:
        middle = (low + high) // 2
        written = connection.execute(
            sa.select(ENTRIES.c.at_microseconds)
            .where(ENTRIES.c.seq >= middle)
            .order_by(ENTRIES.c.seq)
            .limit(1)
        ).scalar()
        if written is not None and written < at - _APART_MICROSECONDS:
            low = middle
        else:
            high = middle
    return low


def _split(connection: sa.Connection, point: Moment) -> frozenset[str]:
    """Return the transactions that have entries on both sides of the point."""
    later = sa.select(ENTRIES.c.tx).where(point.after()).distinct().subquery()
    # Where the actor changed within a transaction, it has several contexts, and one is the first.
    whole = connection.execute(
        sa.select(CONTEXTS.c.continues).where(
            CONTEXTS.c.tx.in_(sa.select(later.c.tx)), CONTEXTS.c.continues != ""
        )
    ).scalars()
    firsts = set(whole)
    before = sa.not_(point.after())
    found = set(
        connection.execute(
            sa.select(ENTRIES.c.tx)
            .where(before, ENTRIES.c.tx.in_(sa.select(later.c.tx)))
            .distinct()
        ).scalars()
    )
    if firsts:
        of_firsts = sa.select(CONTEXTS.c.tx).where(
            sa.or_(CONTEXTS.c.tx.in_(firsts), CONTEXTS.c.continues.in_(firsts))
        )
        found |= set(
            connection.execute(
                sa.select(ENTRIES.c.tx).where(before, ENTRIES.c.tx.in_(of_firsts)).distinct()
            ).scalars()
        )
    return frozenset(found)
