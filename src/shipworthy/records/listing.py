"""Which deletions there are, where each stands, and what belongs to it."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, final

import sqlalchemy as sa

from shipworthy.audit import ENTRIES, Shape
from shipworthy.clock import SYSTEM_CLOCK
from shipworthy.context import current_actor
from shipworthy.records.links import Cells, cells_of
from shipworthy.records.log import (
    CHUNK,
    contexts_named,
    entries_numbered,
    entries_of,
    in_chunks,
    old_image,
    parts_of,
    removed_rows,
)
from shipworthy.records.model import OPEN_STATES, Deletion, DeletionState, Group
from shipworthy.records.reading import TransactionReading
from shipworthy.records.refusals import DeletionHalfVisible, DeletionNotOpen, DeletionUnknown
from shipworthy.records.tables import DELETION_CHANGES, DELETION_ENTRIES, DELETIONS

_ADVICE: Final[Mapping[DeletionState, str]] = {
    DeletionState.RESTORED: "`shipworthy trash show {id}` tells what came back",
    DeletionState.PURGED: "what was purged does not come back",
}
# The largest number that a deletion can have.
_LARGEST: Final = 2**63 - 1
# The note of a restore that was taken back.
UNDONE: Final = "taken back"
_UNDONE_ADVICE: Final = (
    "that was taken back since, which is a deletion of its own in `shipworthy trash list`"
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionChange:
    """A change of state of a deletion: when, by whom, to what, over how many rows."""

    at_microseconds: int
    actor: str
    state: DeletionState
    rows: int
    note: str = ""

    @property
    def at(self) -> datetime:
        """When it happened, in UTC."""
        return datetime.fromtimestamp(self.at_microseconds / 1_000_000, UTC)

    def facts(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "at": self.at.isoformat(),
            "actor": self.actor,
            "state": self.state.value,
            "rows": self.rows,
            "note": self.note,
        }


def list_deletions(
    connection: sa.Connection,
    *,
    states: Sequence[DeletionState] = OPEN_STATES,
    before: int | None = None,
    limit: int = 100,
) -> list[Deletion]:
    """Return deletions in one of `states`, the newest first; `before` is the last id of a page."""
    wanted = sa.select(DELETIONS).where(DELETIONS.c.state.in_([state.value for state in states]))
    if before is not None:
        wanted = wanted.where(DELETIONS.c.id < min(before, _LARGEST))
    rows = connection.execute(wanted.order_by(DELETIONS.c.id.desc()).limit(limit)).all()
    return [_deletion(row) for row in rows]


def find_deletion(connection: sa.Connection, id: int, *, lock: bool = False) -> Deletion:  # noqa: A002
    """Return a deletion; raises `DeletionUnknown`.

    With `lock` nobody else changes its state before this transaction ends, and what is returned is
    what the one before has left.
    """
    if not 0 < id <= _LARGEST:
        raise DeletionUnknown(id)  # no driver would take the number
    if lock:
        # A write, so that it takes the lock on every engine; and no change of anything.
        connection.execute(
            sa.update(DELETIONS).where(DELETIONS.c.id == id).values(state=DELETIONS.c.state)
        )
    wanted = sa.select(DELETIONS).where(DELETIONS.c.id == id)
    row = connection.execute(wanted.with_for_update() if lock else wanted).first()
    if row is None:
        raise DeletionUnknown(id)
    return _deletion(row)


def must_be_open(connection: sa.Connection, deletion: Deletion) -> None:
    """Raise `DeletionNotOpen` for one that is restored or purged: says by whom, and when."""
    if deletion.state in OPEN_STATES:
        return
    changes = changes_of(connection, deletion.id)
    # What was taken back is told below; who restored it is told here.
    last = next(one for one in reversed(changes) if one.note != UNDONE)
    advice = _UNDONE_ADVICE if changes[-1].note == UNDONE else _ADVICE[deletion.state]
    raise DeletionNotOpen(
        deletion.id,
        deletion.state.value,
        actor=last.actor or "somebody unknown",
        at=moment(last.at_microseconds),
        advice=advice.format(id=deletion.id),
    )


def changes_of(connection: sa.Connection, id: int) -> list[DeletionChange]:  # noqa: A002
    """Return what was done with a deletion, the oldest first."""
    rows = connection.execute(
        sa.select(DELETION_CHANGES)
        .where(DELETION_CHANGES.c.deletion_id == id)
        .order_by(DELETION_CHANGES.c.number)
    )
    return [
        DeletionChange(
            at_microseconds=row.at_microseconds,
            actor=row.actor,
            state=DeletionState(row.state),
            rows=row.row_count,
            note=row.note,
        )
        for row in rows
    ]


def change_state(
    connection: sa.Connection,
    deletion: Deletion,
    state: DeletionState,
    *,
    rows: int,
    note: str = "",
) -> None:
    """Note that a locked deletion is in `state` now, by the current actor."""
    count = connection.scalar(
        sa.select(sa.func.count()).where(DELETION_CHANGES.c.deletion_id == deletion.id)
    )
    connection.execute(
        sa.insert(DELETION_CHANGES).values(
            deletion_id=deletion.id,
            number=(count or 0) + 1,
            at_microseconds=int(SYSTEM_CLOCK.wall() * 1_000_000),
            actor=current_actor()[:200],
            state=state.value,
            row_count=rows,
            note=note[:200],
        )
    )
    connection.execute(
        sa.update(DELETIONS).where(DELETIONS.c.id == deletion.id).values(state=state.value)
    )


def members_of(connection: sa.Connection, deletion: Deletion, shapes: Mapping[int, Shape]) -> Group:
    """Return the rows of a deletion; raises `DeletionHalfVisible` where the log has lost some.

    Its `roots` are those of the list, which names them.
    """
    names = parts_of(connection, deletion.tx) if deletion.whole else []
    numbers = [] if deletion.whole else _entries(connection, deletion.id, "member")
    rows = removed_rows(connection, names=names, numbers=numbers) or []
    if (
        len(rows) == deletion.rows
        and rows[0].seq == deletion.id
        and all(row.shape_id in shapes for row in rows)
    ):
        # Nothing but these was done, so what they were connected by need not be found again.
        return Group(rows=tuple(rows), relinks=(), roots=(deletion.id,))
    reading = TransactionReading(shapes)
    entries = (
        entries_of(connection, names) if deletion.whole else entries_numbered(connection, numbers)
    )
    for entry in entries:
        reading.add(entry)
    groups = reading.groups()
    found = next((group for group in groups if group.id == deletion.id), None)
    if found is None or len(found.rows) != deletion.rows:
        left = sum(len(group.rows) for group in groups)
        raise DeletionHalfVisible(deletion.id, rows=deletion.rows, left=min(left, deletion.rows))
    return found


def left_out(connection: sa.Connection, deletion: Deletion) -> frozenset[int] | None:
    """Return the rows that are gone still after a restore of some; None where all of them are."""
    if deletion.state is not DeletionState.PARTLY_RESTORED:
        return None
    return frozenset(_entries(connection, deletion.id, "left"))


def keep_left_out(connection: sa.Connection, deletion: Deletion, rows: Sequence[int]) -> None:
    """Note which rows are gone still."""
    table = DELETION_ENTRIES
    connection.execute(
        sa.delete(table).where(table.c.deletion_id == deletion.id, table.c.part == "left")
    )
    for chunk in in_chunks(rows):
        connection.execute(
            sa.insert(table),
            [{"deletion_id": deletion.id, "part": "left", "seq": seq} for seq in chunk],
        )


def deletion_with(connection: sa.Connection, table_id: int, key: str) -> Deletion | None:
    """Return the open deletion that has the row of that key, the latest where there are several."""
    entry = connection.execute(
        sa.select(ENTRIES.c.seq, ENTRIES.c.tx)
        .where(ENTRIES.c.table_id == table_id, ENTRIES.c.key == key, ENTRIES.c.op == "D")
        .order_by(ENTRIES.c.seq.desc())
        .limit(1)
    ).first()
    return None if entry is None else _deletion_of(connection, entry.seq, entry.tx)


def deletions_with(
    connection: sa.Connection, table_id: int, columns: Sequence[str], wanted: Collection[Cells]
) -> dict[Cells, Deletion]:
    """Return the open deletions that have the rows with these cells in some columns, not the key.

    The log is searched by keys alone, so what was removed of the table is read, the latest first.
    """
    removed = (
        sa.select(ENTRIES.c.seq, ENTRIES.c.tx, ENTRIES.c.old)
        .where(ENTRIES.c.table_id == table_id, ENTRIES.c.op == "D")
        .order_by(ENTRIES.c.seq.desc())
    )
    left = set(wanted)
    entries: dict[Cells, tuple[int, str]] = {}
    with connection.execute(removed.execution_options(yield_per=CHUNK)) as rows:
        for seq, tx, old in rows:
            cells = cells_of(old_image(seq, old), columns)
            if cells in left:
                left.discard(cells)
                entries[cells] = (seq, tx)
            if not left:
                break
    return {
        cells: found
        for cells, (seq, tx) in entries.items()
        if (found := _deletion_of(connection, seq, tx)) is not None
    }


def _deletion_of(connection: sa.Connection, seq: int, tx: str) -> Deletion | None:
    """Return the open deletion that has an entry."""
    member = sa.select(DELETION_ENTRIES.c.deletion_id).where(
        DELETION_ENTRIES.c.seq == seq, DELETION_ENTRIES.c.part == "member"
    )
    context = contexts_named(connection, [tx]).get(tx)
    transaction = context.transaction if context else tx
    row = connection.execute(
        sa.select(DELETIONS)
        .where(
            DELETIONS.c.state.in_([state.value for state in OPEN_STATES]),
            sa.or_(
                DELETIONS.c.id.in_(member),
                sa.and_(DELETIONS.c.tx == transaction, DELETIONS.c.whole == 1),
            ),
        )
        .limit(1)
    ).first()
    return None if row is None else _deletion(row)


def moment(microseconds: int) -> str:
    """Return an instant as people read it, in UTC and to the second."""
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _entries(connection: sa.Connection, id: int, part: str) -> list[int]:  # noqa: A002
    table = DELETION_ENTRIES
    return list(
        connection.scalars(
            sa.select(table.c.seq).where(table.c.deletion_id == id, table.c.part == part)
        )
    )


def _deletion(row: sa.Row[Any]) -> Deletion:
    return Deletion(
        id=row.id,
        tx=row.tx,
        at_microseconds=row.at_microseconds,
        actor=row.actor,
        actor_kind=row.actor_kind,
        title=row.title,
        tables=json.loads(row.tables),
        rows=row.row_count,
        relinks=row.relink_count,
        roots=tuple((table, key) for table, key in json.loads(row.roots)),
        state=DeletionState(row.state),
        whole=bool(row.whole),
        hold=row.hold,
    )
