"""Find what was deleted: transactions of the trail become deletions of the trash.

It may be called at any time, by several at once, and again: a transaction is read once, unless it
went on after that. It runs when somebody looks into the trash, so nothing needs to run beside the
service; `_Known` keeps it from reading what is final and known. Where there is nothing new nothing
is written, so that who only looks holds no lock.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Self, final

import sqlalchemy as sa
from typing_extensions import override

from shipworthy.audit import (
    ENTRIES,
    META,
    AuditDialect,
    Context,
    Entry,
    LogRowUnreadable,
    Shape,
    naming_entry,
    read_shapes,
)
from shipworthy.db import classify
from shipworthy.events import emit
from shipworthy.records.dialects import restore_dialect
from shipworthy.records.events import DeletionFound, DeletionUnreadable
from shipworthy.records.keys import shown_key
from shipworthy.records.log import (
    contexts_named,
    dialect_of,
    entries_of,
    in_chunks,
    last_number,
    parts_of,
)
from shipworthy.records.model import DeletedRow, DeletionState, Group
from shipworthy.records.reading import TransactionReading
from shipworthy.records.tables import DELETION_CHANGES, DELETION_ENTRIES, DELETIONS

_SINCE: Final = "trash_since"
# Looked at again behind what is final: an engine may tell of a straggler late.
_LOOK_BACK: Final = 1000
_ROOTS_KEPT: Final = 20
# Failures that say: not now, or not by this connection. A look goes on without, where it can.
_NOT_NOW: Final = frozenset({"rerun", "read only", "deadline"})


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What a collection found: numbers of deletions, and entries that could not be read."""

    found: tuple[int, ...] = ()
    unreadable: tuple[LogRowUnreadable, ...] = ()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """How far was read: all entries below `position` were final, and the last one was `seq`."""

    position: int = 0
    seq: int = 0

    @classmethod
    def read(cls, value: str | None) -> Self:
        """Read what `str` wrote; all is new where nothing was written."""
        position, _, seq = (value or "0").partition(" ")
        return cls(position=int(position), seq=int(seq or 0))

    @override
    def __str__(self) -> str:
        return f"{self.position} {self.seq}"


def collect(
    connection: sa.Connection, *, tables: Sequence[str] = ("*",), wait: bool = False
) -> Collected:
    """Record the deletions that are not recorded yet; the caller commits.

    `tables` are patterns: a deletion is kept where one of its roots is of such a table. An entry
    that cannot be read costs its transaction, not the others. Where somebody else is about it, or
    this connection may not write now, nothing is collected; with `wait` it waits for them, and
    raises what the database does.
    """
    # Who waits reads nothing before, or would read what was there before the wait.
    if not (wait or _is_behind(connection)):
        return Collected()
    try:
        with connection.begin_nested():
            if not _locked(connection, wait=wait):
                return Collected()
            return _collect(connection, tables)
    except sa.exc.DBAPIError as error:
        # The same deletion twice: who looks from an old snapshot does not see that it is recorded.
        is_recorded = isinstance(error, sa.exc.IntegrityError)
        is_passing = is_recorded or classify(error).outcome in _NOT_NOW
        if wait or error.connection_invalidated or not is_passing:
            raise
        return Collected()


def _collect(connection: sa.Connection, tables: Sequence[str]) -> Collected:
    dialect = dialect_of(connection)
    horizon = dialect.horizon(connection)
    known = _read_known(connection)
    last_seq_there = last_number(connection)
    shapes = read_shapes(connection)
    found: list[int] = []
    unreadable: list[LogRowUnreadable] = []
    for transaction, last_seq in _new_transactions(connection, known).items():
        try:
            context, groups, last = _read(connection, transaction, shapes)
            kept = [
                (group, _roots_of(group, shapes, dialect))
                for group in groups
                if _wanted(group, shapes, tables)
            ]
        except LogRowUnreadable as error:
            unreadable.append(error)
            emit(DeletionUnreadable, entry=error.seq, because=str(error))
            continue
        _forget(connection, transaction)
        for group, roots in kept:
            whole = len(groups) == 1
            _record(connection, group, roots, context, shapes, whole, max(last.seq, last_seq))
            found.append(group.id)
    if not unreadable:
        # Also where it is less than before: a copy in another PostgreSQL counts anew.
        read = _Known(position=horizon, seq=last_seq_there)
        connection.execute(sa.update(META).where(META.c.name == _SINCE).values(value=str(read)))
    return Collected(found=tuple(found), unreadable=tuple(unreadable))


def _is_behind(connection: sa.Connection) -> bool:
    """Say whether something is new, or so much was written that a note of it spares reading it."""
    known = _read_known(connection)
    apart = abs(dialect_of(connection).horizon(connection) - known.position)
    # What was looked at, and is not kept, is no reason to write again.
    back = _LOOK_BACK if restore_dialect(connection.dialect.name).tells_late else 0
    return apart > _LOOK_BACK or bool(_new_transactions(connection, known, back=back))


def _read_known(connection: sa.Connection) -> _Known:
    written = sa.select(META.c.value).where(META.c.name == _SINCE)
    return _Known.read(connection.scalar(written))


def _locked(connection: sa.Connection, *, wait: bool) -> bool:
    """Let one collect at a time: say whether it is this one, until its transaction ends."""
    row = sa.select(META.c.value).where(META.c.name == _SINCE)
    free = row.with_for_update(skip_locked=not wait)
    if connection.execute(free).first() is None:
        if connection.execute(row).first() is not None:
            return False
        try:
            with connection.begin_nested():
                connection.execute(sa.insert(META).values(name=_SINCE, value="0"))
        except sa.exc.IntegrityError:
            # Somebody else was first, and is through now.
            return _locked(connection, wait=wait)
    # On SQLite a write locks, and nothing else does.
    same = sa.update(META).where(META.c.name == _SINCE).values(value=META.c.value)
    connection.execute(same)
    return True


def _new_transactions(
    connection: sa.Connection, known: _Known, *, back: int = _LOOK_BACK
) -> dict[str, int]:
    """Return the transactions that deleted something since, with the last entry that did."""
    position = ENTRIES.c[dialect_of(connection).position_column]
    # Numbers go on in a copy whose positions do not.
    since = sa.or_(position >= known.position - back, ENTRIES.c.seq > known.seq)
    deleted = connection.execute(
        sa.select(ENTRIES.c.tx, sa.func.max(ENTRIES.c.seq))
        .where(since, ENTRIES.c.op == "D")
        .group_by(ENTRIES.c.tx)
        .order_by(sa.func.min(ENTRIES.c.seq))
    ).all()
    contexts = contexts_named(connection, (tx for tx, _ in deleted))
    last: dict[str, int] = {}
    for tx, seq in deleted:
        transaction = contexts[tx].transaction if tx in contexts else tx
        last[transaction] = max(seq, last.get(transaction, 0))
    for chunk in in_chunks(list(last)):
        recorded = sa.select(
            DELETIONS.c.tx, sa.func.max(DELETIONS.c.last_seq), sa.func.max(DELETIONS.c.state)
        ).where(DELETIONS.c.tx.in_(chunk))
        for tx, seq, _ in connection.execute(recorded.group_by(DELETIONS.c.tx)):
            if last[tx] <= seq or _touched(connection, tx):
                del last[tx]
    return last


def _touched(connection: sa.Connection, transaction: str) -> bool:
    """Say whether something was done with a deletion of it already: then it stays as it is."""
    state = sa.select(DELETIONS.c.id).where(
        DELETIONS.c.tx == transaction, DELETIONS.c.state != DeletionState.DELETED.value
    )
    return connection.execute(state.limit(1)).first() is not None


def _read(
    connection: sa.Connection, transaction: str, shapes: Mapping[int, Shape]
) -> tuple[Context, list[Group], Entry]:
    names = parts_of(connection, transaction)
    reading = TransactionReading(shapes)
    last: Entry | None = None
    first_at = 0
    for entry in entries_of(connection, names):
        reading.add(entry)
        first_at = first_at or entry.at_microseconds
        last = entry
    if last is None:
        raise LogRowUnreadable(0, f"the transaction {transaction} has no entries")
    context = contexts_named(connection, [transaction]).get(transaction) or Context(
        tx=transaction, at_microseconds=first_at, actor_kind="database"
    )
    return context, reading.groups(), last


def _wanted(group: Group, shapes: Mapping[int, Shape], patterns: Sequence[str]) -> bool:
    roots = set(group.roots)
    names = {str(shapes[row.shape_id].table.name) for row in group.rows if row.seq in roots}
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _forget(connection: sa.Connection, transaction: str) -> None:
    """Take away what was recorded of a transaction that went on since."""
    known = connection.scalars(sa.select(DELETIONS.c.id).where(DELETIONS.c.tx == transaction)).all()
    for chunk in in_chunks(known):
        for table in (DELETION_ENTRIES, DELETION_CHANGES):
            connection.execute(sa.delete(table).where(table.c.deletion_id.in_(chunk)))
        connection.execute(sa.delete(DELETIONS).where(DELETIONS.c.id.in_(chunk)))


def _record(  # noqa: PLR0917 - all of one row
    connection: sa.Connection,
    group: Group,
    roots: Sequence[tuple[str, str]],
    context: Context,
    shapes: Mapping[int, Shape],
    whole: bool,  # noqa: FBT001
    last_seq: int,
) -> None:
    tables = Counter(str(shapes[row.shape_id].table.name) for row in group.rows)
    actor = context.actor or context.db_user
    connection.execute(
        sa.insert(DELETIONS).values(
            id=group.id,
            tx=context.tx,
            at_microseconds=context.at_microseconds,
            actor=actor,
            actor_kind=context.actor_kind,
            title=_title(roots, len(group.roots), tables),
            tables=json.dumps(tables, ensure_ascii=False),
            roots=json.dumps(roots, ensure_ascii=False),
            row_count=len(group.rows),
            relink_count=len(group.relinks),
            whole=int(whole),
            last_seq=last_seq,
            state=DeletionState.DELETED.value,
        )
    )
    if not whole:
        for chunk in in_chunks(group.entries):
            connection.execute(
                sa.insert(DELETION_ENTRIES),
                [{"deletion_id": group.id, "part": "member", "seq": seq} for seq in chunk],
            )
    emit(DeletionFound, deletion=group.id, rows=len(group.rows), tables=len(tables))


def _roots_of(
    group: Group, shapes: Mapping[int, Shape], dialect: AuditDialect
) -> list[tuple[str, str]]:
    """Return table and key of the first roots; raises `LogRowUnreadable`."""
    by_seq = {row.seq: row for row in group.rows}
    return [_named(by_seq[seq], shapes, dialect) for seq in group.roots[:_ROOTS_KEPT]]


def _named(row: DeletedRow, shapes: Mapping[int, Shape], dialect: AuditDialect) -> tuple[str, str]:
    table = shapes[row.shape_id].table
    with naming_entry(row.seq):
        return str(table.name), shown_key(dialect, table, row.key) or ""


def _title(roots: Sequence[tuple[str, str]], count: int, tables: Mapping[str, int]) -> str:
    """Return what people read first, such as "clients 7, with 13 rows of 4 other tables"."""
    table, key = roots[0]
    first = f"{table} {key or '(no key)'}"
    if count > 1:
        first = f"{first} and {_counted(count - 1, 'other row')}"
    rows = sum(tables.values()) - count
    others = len(set(tables) - {table for table, _ in roots})
    if not rows:
        return first[:500]
    of = f" of {_counted(others, 'other table')}" if others else ""
    return f"{first}, with {_counted(rows, 'row')}{of}"[:500]


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")
