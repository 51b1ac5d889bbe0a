"""Sealed batches as archives need them: their headers, their entries as lines, what opens them.

Not here: when they are archived and what becomes of them then (`retention`).
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, final

import sqlalchemy as sa

from shipworthy.audit.archive import ArchivedBatch, ArchiveHead, erase_archived
from shipworthy.audit.ledger.batch import BatchHeader, Leaves
from shipworthy.audit.ledger.keys import origin_of
from shipworthy.audit.ledger.merkle import Frontier, leaf_hash
from shipworthy.audit.ledger.reading import PersonalCell, preimage, reader_for
from shipworthy.audit.retention_plan import ArchiveRange, BatchAge
from shipworthy.audit.tables import ARCHIVES, BATCHES, CHECKPOINTS, PERSONAL, SHAPES
from shipworthy.errors import ShipworthyError

_AT_ONCE: Final = 500
_LISTS_AT_ONCE: Final = 50
HEADERS_AT_ONCE: Final = 2000


@final
class BatchIncomplete(ShipworthyError):
    """Entries of a batch are not in the log, and no archive has them."""


def head_of(connection: sa.Connection, first: int) -> ArchiveHead:
    """Return what the archive begins with whose first batch is `first`."""
    tree = Frontier()
    for start in range(1, first, HEADERS_AT_ONCE):
        last = min(start + HEADERS_AT_ONCE, first) - 1
        for text in headers_of(connection, start, last).values():
            tree.append(leaf_hash(text.encode()))
    shapes = connection.execute(sa.select(SHAPES.c.id, SHAPES.c.table_id, SHAPES.c.facts))
    return ArchiveHead(
        origin=origin_of(connection) or "",
        size=tree.size,
        parts=tree.parts,
        shapes={row.id: (row.table_id, row.facts) for row in shapes},
    )


def batches_of(connection: sa.Connection, part: ArchiveRange) -> Iterator[ArchivedBatch]:
    """Give the batches of a range, one at a time; raises `BatchIncomplete`."""
    headers = headers_of(connection, part.first_batch, part.last_batch)
    lists = lists_of(connection, part.first_batch, part.last_batch)
    for (number, header), leaves in zip(headers.items(), lists, strict=True):
        yield _batch(connection, number, header, leaves)


def _batch(connection: sa.Connection, number: int, header: str, leaves: Leaves) -> ArchivedBatch:
    found = reader_for(connection).by_numbers(connection, leaves.seqs)
    rows = {row[0]: row for row in found}
    missing = [seq for seq in leaves.seqs if seq not in rows]
    if missing:
        raise BatchIncomplete(
            f"entry {missing[0]} of batch {number} is not in the log, so the batch cannot be "
            "archived and nothing was taken out; `shipworthy audit verify` tells what else is not"
        )
    cells, openings = _personal(connection, leaves.seqs)
    return ArchivedBatch(
        header=header,
        lines=[preimage(rows[seq], cells.get(seq, ())) for seq in leaves.seqs],
        openings=openings,
        written_microseconds=max((row[2] for row in found), default=0),
    )


def ages(connection: sa.Connection) -> Iterator[BatchAge]:
    """Give the batches that are not archived, the oldest first."""
    last = connection.execute(sa.select(sa.func.max(ARCHIVES.c.last_batch))).scalar() or 0
    rows = connection.execute(
        sa.select(
            BATCHES.c.number,
            BATCHES.c.entries,
            BATCHES.c.at_microseconds,
            CHECKPOINTS.c.size.is_not(None).label("signed"),
        )
        .select_from(BATCHES.outerjoin(CHECKPOINTS, CHECKPOINTS.c.size == BATCHES.c.number))
        .where(BATCHES.c.number > last)
        .order_by(BATCHES.c.number)
    )
    for row in rows:
        yield BatchAge(
            number=row.number,
            entries=row.entries,
            at_microseconds=row.at_microseconds,
            signed=bool(row.signed),
        )


def headers_of(connection: sa.Connection, first: int, last: int) -> dict[int, str]:
    """Return the headers of batches as they were sealed, by their numbers."""
    rows = connection.execute(
        sa.select(BATCHES.c.number, BATCHES.c.header)
        .where(BATCHES.c.number >= first, BATCHES.c.number <= last)
        .order_by(BATCHES.c.number)
    )
    return {row.number: row.header for row in rows}


def lists_of(connection: sa.Connection, first: int, last: int) -> Iterator[Leaves]:
    """Give which entries batches have, in pages; the connection may be used between two."""
    number = first
    while number <= last:
        rows = connection.execute(
            sa.select(BATCHES.c.leaves)
            .where(BATCHES.c.number >= number, BATCHES.c.number <= last)
            .order_by(BATCHES.c.number)
            .limit(_LISTS_AT_ONCE)
        ).all()
        if not rows:
            return
        for row in rows:
            yield Leaves.parse(row.leaves or "")
        number += len(rows)


def note_of(connection: sa.Connection, size: int) -> str:
    """Return the checkpoint that was signed for so many batches."""
    found: str = connection.execute(
        sa.select(CHECKPOINTS.c.note).where(CHECKPOINTS.c.size == size)
    ).scalar_one()
    return found


def last_batch(connection: sa.Connection) -> int:
    """Return the number of the newest batch, 0 where there is none."""
    return connection.execute(sa.select(sa.func.max(BATCHES.c.number))).scalar() or 0


def said_of(connection: sa.Connection, *, after: int = 0) -> dict[int, str]:
    """Return what headers say of archives: the digest of each, by its last batch.

    Those of batches `after` one are read: whoever waits need not read all of them again.
    """
    rows = connection.execute(
        sa.select(BATCHES.c.header).where(
            BATCHES.c.number > after, BATCHES.c.header.contains("pruned_to_batch")
        )
    ).scalars()
    found: dict[int, str] = {}
    for text in rows:
        says = BatchHeader.parse(text).says
        if "pruned_to_batch" in says:
            found[int(says["pruned_to_batch"])] = str(says.get("archive", ""))
    return found


def without_erased(
    engine: sa.Engine, folder: Path, batches: Iterable[ArchivedBatch]
) -> Iterator[ArchivedBatch]:
    """Give batches; once each is written, take out who was erased since it was read."""
    for batch in batches:
        yield batch
        seqs = sorted({opening["seq"] for _, opening in batch.openings})
        # Asked anew: the transaction that reads the batches may see one state throughout.
        with engine.connect() as connection:
            erased = _erased(connection, seqs)
        places = ((subject, it["seq"], it["side"], it["name"]) for subject, it in batch.openings)
        for subject in {subject for subject, *place in places if tuple(place) in erased}:
            erase_archived(folder, subject)


def _erased(connection: sa.Connection, seqs: Sequence[int]) -> set[tuple[int, str, str]]:
    """Return which personal values of these entries are erased: entry, side and column."""
    found: set[tuple[int, str, str]] = set()
    for start in range(0, len(seqs), _AT_ONCE):
        some = PERSONAL.c.seq.in_(seqs[start : start + _AT_ONCE])
        rows = connection.execute(
            sa.select(PERSONAL.c.seq, PERSONAL.c.side, PERSONAL.c.name).where(
                some, PERSONAL.c.salt.is_(None)
            )
        )
        found |= {(row.seq, row.side, row.name) for row in rows}
    return found


def _personal(
    connection: sa.Connection, seqs: Sequence[int]
) -> tuple[dict[int, list[PersonalCell]], list[tuple[str, dict[str, Any]]]]:
    """Return the personal values of entries as the leaf has them, and what opens them."""
    cells: dict[int, list[PersonalCell]] = {}
    openings: list[tuple[str, dict[str, Any]]] = []
    for start in range(0, len(seqs), _AT_ONCE):
        rows = connection.execute(
            sa.select(PERSONAL).where(PERSONAL.c.seq.in_(seqs[start : start + _AT_ONCE]))
        )
        for row in rows:
            cells.setdefault(row.seq, []).append(
                PersonalCell(
                    seq=row.seq,
                    side=row.side,
                    name=row.name,
                    salt=row.salt,
                    value=row.value,
                    commitment=row.commitment,
                )
            )
            if row.salt is not None:
                place = {"seq": row.seq, "side": row.side, "name": row.name}
                openings.append((row.subject, {**place, "salt": row.salt, "value": row.value}))
    return cells, openings
