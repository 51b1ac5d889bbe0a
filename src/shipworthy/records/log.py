"""What the trash reads from the trail: transactions, entries, images. It writes nothing there."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from shipworthy.audit import (
    CONTEXTS,
    ENTRIES,
    PERSONAL,
    AuditDialect,
    Cell,
    Context,
    Entry,
    LogRowUnreadable,
    audit_dialect,
    naming_entry,
    read_image,
)
from shipworthy.records.model import DeletedRow
from shipworthy.records.refusals import TrashNotInstalled

T = TypeVar("T")

# Bound parameters a statement may have everywhere, with room to spare.
CHUNK: Final = 500
# Rows that are looked at, or go in, together: what is asked once for them should be worth it.
PART: Final = 2000
# Entries are asked for from the first to the last of a chunk while that reads at most so many
# times as many; one by one else.
_SPREAD: Final = 4


def in_chunks(items: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    """Yield lists of at most `size` items."""
    left = iter(items)
    while chunk := list(islice(left, size)):
        yield chunk


def dialect_of(connection: sa.Connection) -> AuditDialect:
    """Return what knows the connection's database; refuses one that has no trail."""
    dialect = audit_dialect(connection.dialect.name)
    if dialect is None:
        raise TrashNotInstalled
    return dialect


def contexts_named(connection: sa.Connection, names: Iterable[str]) -> dict[str, Context]:
    """Return the contexts of these names; a foreign client's transaction has none."""
    found = {}
    for chunk in in_chunks(dict.fromkeys(names)):
        for row in connection.execute(sa.select(*_CONTEXT).where(CONTEXTS.c.tx.in_(chunk))):
            found[row.tx] = Context(**row._mapping)  # noqa: SLF001 - public, despite its name
    return found


def parts_of(connection: sa.Connection, transaction: str) -> list[str]:
    """Return the names of all contexts of a transaction: the actor may have changed within it."""
    continued = connection.scalars(
        sa.select(CONTEXTS.c.tx).where(CONTEXTS.c.continues == transaction)
    )
    return [transaction, *continued]


def entries_of(connection: sa.Connection, names: Sequence[str]) -> Iterator[Entry]:
    """Yield the entries of a transaction in the order of the log, a part of them in memory."""
    wanted = sa.select(*_ENTRY).where(ENTRIES.c.tx.in_(names)).order_by(ENTRIES.c.seq)
    with connection.execute(wanted.execution_options(yield_per=CHUNK)) as rows:
        for row in rows:
            yield _entry(row)


def updates_of(connection: sa.Connection, names: Sequence[str], *, limit: int) -> list[Entry]:
    """Return the first updates of a transaction."""
    wanted = sa.select(*_ENTRY).where(ENTRIES.c.tx.in_(names), ENTRIES.c.op == "U")
    return [_entry(row) for row in connection.execute(wanted.order_by(ENTRIES.c.seq).limit(limit))]


def entries_numbered(connection: sa.Connection, numbers: Iterable[int]) -> Iterator[Entry]:
    """Yield the entries of these numbers, those that are there still, in the order of the log."""
    for chunk in in_chunks(sorted(numbers)):
        wanted = sa.select(*_ENTRY).where(ENTRIES.c.seq.in_(chunk)).order_by(ENTRIES.c.seq)
        for row in connection.execute(wanted):
            yield _entry(row)


def removed_rows(
    connection: sa.Connection,
    *,
    names: Sequence[str] = (),
    numbers: Iterable[int] = (),
) -> list[DeletedRow] | None:
    """Return the rows that a transaction, or entries of some numbers, removed; no image is read.

    None where they did anything else: then only a `TransactionReading` knows what was removed.
    """
    columns = sa.select(*(ENTRIES.c[name] for name in (*DeletedRow.__dataclass_fields__, "op")))
    asked = [columns.where(ENTRIES.c.tx.in_(names))] if names else []
    asked += [columns.where(ENTRIES.c.seq.in_(chunk)) for chunk in in_chunks(sorted(numbers))]
    found: list[DeletedRow] = []
    for wanted in asked:
        for seq, table_id, shape_id, key, op in connection.execute(wanted.order_by(ENTRIES.c.seq)):
            if op != "D":
                return None
            found.append(DeletedRow(seq=seq, table_id=table_id, shape_id=shape_id, key=key))
    return found


def last_number(connection: sa.Connection) -> int:
    """Return the number of the last entry there is."""
    return connection.scalar(sa.select(sa.func.max(ENTRIES.c.seq))) or 0


def recorded_alike(connection: sa.Connection, numbers: Sequence[int], *, after: int) -> set[int]:
    """Return which of the removed rows the log has as inserted since `after`, exactly as they were.

    The triggers write down what the table holds, whatever a trigger of the application made of it.
    So a row that is among these need not be read; one that is not, for whatever reason, must.
    """
    removed, inserted = ENTRIES.alias("removed"), ENTRIES.alias("inserted")
    is_same = sa.and_(inserted.c.op == "I", inserted.c.new == removed.c.old)
    since = sa.and_(
        inserted.c.table_id == removed.c.table_id,
        inserted.c.key == removed.c.key,
        inserted.c.seq > after,
    )
    found: set[int] = set()
    for chunk in in_chunks(sorted(numbers)):
        wanted = (
            sa.select(removed.c.seq)
            .select_from(removed.join(inserted, since))
            .where(_among(removed.c.seq, chunk))
            .group_by(removed.c.seq)
            .having(sa.func.min(sa.case((is_same, 1), else_=0)) == 1)
        )
        found.update(connection.scalars(wanted))
    return found.intersection(numbers)


def images_of(
    connection: sa.Connection, numbers: Sequence[int]
) -> tuple[dict[int, dict[str, Cell]], dict[int, frozenset[str]]]:
    """Return the old images of entries, personal values in place, and the columns that were erased.

    Raises `LogRowUnreadable` for one that is no image.
    """
    images: dict[int, dict[str, Cell]] = {}
    wanted = set(numbers)
    for chunk in in_chunks(sorted(numbers)):
        there = sa.select(ENTRIES.c.seq, ENTRIES.c.old).where(_among(ENTRIES.c.seq, chunk))
        for seq, old in connection.execute(there):
            if seq in wanted:
                images[seq] = old_image(seq, old)
    return images, _with_personal(connection, images)


def old_image(seq: int, text: str | None) -> dict[str, Cell]:
    """Return the image of a row as an entry has it; raises `LogRowUnreadable` for none."""
    with naming_entry(seq):
        image = read_image(text)
    if not image or not isinstance(image, dict):
        raise LogRowUnreadable(seq, "it has no image of the row")
    return image


def _among(column: sa.ColumnElement[int], numbers: Sequence[int]) -> sa.ColumnElement[bool]:
    """Return what is true of these ascending numbers, and perhaps of some between them."""
    if numbers[-1] - numbers[0] < _SPREAD * len(numbers):
        return column.between(numbers[0], numbers[-1])
    return column.in_(numbers)


def _with_personal(
    connection: sa.Connection, images: Mapping[int, dict[str, Cell]]
) -> dict[int, frozenset[str]]:
    hidden = {
        seq: {name for name, cell in image.items() if cell is True}
        for seq, image in images.items()
        if True in image.values()
    }
    for chunk in in_chunks(hidden):
        wanted = sa.select(PERSONAL.c.seq, PERSONAL.c.name, PERSONAL.c.salt, PERSONAL.c.value)
        for row in connection.execute(
            wanted.where(PERSONAL.c.seq.in_(chunk), PERSONAL.c.side == "o")
        ):
            if row.salt and row.name in hidden[row.seq]:
                images[row.seq][row.name] = row.value
                hidden[row.seq].discard(row.name)
    erased = {seq: frozenset(names) for seq, names in hidden.items() if names}
    for seq, names in erased.items():
        images[seq].update(dict.fromkeys(names))
    return erased


_CONTEXT: Final = tuple(CONTEXTS.c[name] for name in Context.__dataclass_fields__)
_ENTRY: Final = tuple(ENTRIES.c[name] for name in Entry.__dataclass_fields__)


def _entry(row: sa.Row[Any]) -> Entry:
    seq, position, at, tx, table_id, shape_id, op, key, old, new = tuple(row)
    # Of a hundred thousand rows each: by name it would take thrice the time.
    return Entry(
        seq=seq,
        position=position,
        at_microseconds=at,
        tx=tx,
        table_id=table_id,
        shape_id=shape_id,
        op=op,
        key=key,
        old=old,
        new=new,
    )
