"""Make the proof of an entry from the database: its batch, its place, and the last checkpoint."""

from typing import Final

import sqlalchemy as sa

from shipworthy.audit.ledger.batch import BatchHeader, Leaves, LeavesInvalid, print_of
from shipworthy.audit.ledger.merkle import inclusion_proof, leaf_hash
from shipworthy.audit.ledger.proof import LedgerProof
from shipworthy.audit.ledger.reading import (
    SealReader,
    leaf_of,
    personal_cells,
    preimage,
    reader_for,
)
from shipworthy.audit.tables import BATCHES, CHECKPOINTS
from shipworthy.errors import Misuse, ShipworthyError

_LARGEST: Final = 2**63


def prove(connection: sa.Connection, seq: int, *, openings: bool = False) -> LedgerProof:
    """Return the proof that the entry with the number `seq` is in the log.

    With `openings` it shows personal values too; whoever gets the file can read them. Raises
    `Misuse` for an entry that is not there or not sealed, `ShipworthyError` for one that is not as
    it was sealed: `verify` says what happened to it.
    """
    reader = reader_for(connection)
    header, leaves = _batch_of(connection, reader, seq)
    rows = {row[0]: row for row in reader.by_numbers(connection, leaves.seqs)}
    missing = [one for one in leaves.seqs if one not in rows]
    if missing:
        raise _changed(f"entry {missing[0]} of batch {header.number} is not there any more")
    personal = personal_cells(connection, list(rows.values()))
    hashes = [leaf_of(rows[one], personal.get(one, ())) for one in leaves.seqs]
    index = leaves.seqs.index(seq)
    if print_of(hashes[index]) != leaves.prints[index]:
        raise _changed(f"entry {seq} is not as it was sealed")
    size, note = _last_checkpoint(connection, header.number)
    log = [
        leaf_hash(text.encode("utf-8", "surrogatepass"))
        for (text,) in connection.execute(
            sa.select(BATCHES.c.header).where(BATCHES.c.number <= size).order_by(BATCHES.c.number)
        )
    ]
    shown = {
        f"{cell.side}:{cell.name}": (cell.salt, cell.value)
        for cell in personal.get(seq, ())
        if openings and cell.salt is not None and cell.value is not None
    }
    return LedgerProof(
        entry=preimage(rows[seq], personal.get(seq, ())).decode("utf-8", "surrogatepass"),
        index=index,
        batch_path=tuple(step.hex() for step in inclusion_proof(hashes, index)),
        header=header.text,
        log_path=tuple(step.hex() for step in inclusion_proof(log, header.number - 1)),
        checkpoint=note,
        openings=shown,
    )


def _batch_of(
    connection: sa.Connection, reader: SealReader, seq: int
) -> tuple[BatchHeader, Leaves]:
    # Beyond that no driver takes it, and no entry has it.
    found = reader.by_numbers(connection, [seq]) if 0 < seq < _LARGEST else []
    if not found:
        raise Misuse(f"there is no entry {seq} in the log; `shipworthy audit log` lists them")
    position = reader.place(found[0])[0]
    # Its own batch, or one after it where it came late.
    rows = connection.execute(
        sa.select(BATCHES.c.header, BATCHES.c.leaves)
        .where(BATCHES.c.to_position >= position)
        .order_by(BATCHES.c.number)
        .execution_options(yield_per=50)
    )
    with rows:
        for text, listed in rows:
            try:
                header, leaves = BatchHeader.parse(text), Leaves.parse(listed or "")
            except LeavesInvalid:  # verify names it
                continue
            if seq in leaves.seqs:
                return header, leaves
    raise Misuse(f"entry {seq} is not sealed yet; ask again when the sealer has been there")


def _last_checkpoint(connection: sa.Connection, number: int) -> tuple[int, str]:
    row = connection.execute(
        sa.select(CHECKPOINTS.c.size, CHECKPOINTS.c.note)
        .where(CHECKPOINTS.c.size >= number)
        .order_by(CHECKPOINTS.c.size.desc())
        .limit(1)
    ).first()
    if row is None:
        raise _changed(f"there is no checkpoint of {number} batches or more")
    return int(row.size), str(row.note)


def _changed(what: str) -> ShipworthyError:
    return ShipworthyError(f"{what}, so nothing can be proven; see `shipworthy audit verify`")
