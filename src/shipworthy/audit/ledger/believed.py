"""Whose signatures count, and up to which batch: the trusted keys, and whom they vouch for."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

import sqlalchemy as sa

from shipworthy.audit.ledger import keys
from shipworthy.audit.ledger.batch import BatchHeader, LeavesInvalid
from shipworthy.audit.ledger.findings import VerifyReport
from shipworthy.audit.ledger.note import Checkpoint, Note, NoteInvalid, PublicKey
from shipworthy.audit.tables import BATCHES, CHECKPOINTS


def counts(note: Note, size: int, believed: Mapping[PublicKey, int]) -> bool:
    """Say whether a checkpoint of that size is signed by a key that signed up to there."""
    return any(size <= last and key.signed(note) for key, last in believed.items())


def believed_keys(
    connection: sa.Connection,
    report: VerifyReport,
    trusted: Sequence[PublicKey],
    external: Sequence[Note],
) -> dict[PublicKey, int]:
    """Return the keys whose signatures count, each with the last batch that it may have signed.

    A checkpoint that two keys signed vouches for each by the other. The one that was replaced there
    ends with it: whoever has got hold of it must not go on with the log.
    """
    known = keys.known_keys(connection)
    for one in known.values():
        if not one.vouched:
            report.notes.append(
                f"the key {one.public.key_id.hex()} signs since batch {one.since} and was vouched "
                f"for by no other: the one before it was lost"
            )
    public = [one.public for one in known.values()]
    if not trusted:
        report.notes.append(
            "the keys are those that the database names; to be sure of them, name one that was "
            "kept elsewhere with --key"
        )
        return dict.fromkeys(public, sys.maxsize)
    believed = dict.fromkeys(trusted, sys.maxsize)
    turns = _turns(connection, known.values(), external)
    while True:
        new: dict[PublicKey, int] = {}
        for key in public:
            if key in believed:
                continue
            for size, note in turns:
                if key.signed(note) and counts(note, size, believed):
                    came = _came_at(connection, size) == str(key)
                    last = sys.maxsize if came else size
                    new[key] = max(last, new.get(key, 0))
        if not new:
            return believed
        believed |= new


def _came_at(connection: sa.Connection, number: int) -> str:
    """Return the key that came with a batch, as its header says, which both keys signed."""
    text = connection.scalar(sa.select(BATCHES.c.header).where(BATCHES.c.number == number))
    with suppress(LeavesInvalid):
        return str(BatchHeader.parse(text or "").says.get("key", ""))
    return ""


def _turns(
    connection: sa.Connection, known: Iterable[keys.KnownKey], external: Sequence[Note]
) -> list[tuple[int, Note]]:
    """Return the checkpoints at which a key may have followed another, with their sizes."""
    sizes = [one.since for one in known]
    rows = connection.execute(sa.select(CHECKPOINTS.c.note).where(CHECKPOINTS.c.size.in_(sizes)))
    notes = [note for note in external if len(note.signatures) > 1]
    for (text,) in rows:
        with suppress(NoteInvalid):  # named when the checkpoints are looked at
            notes.append(Note.parse(text))
    found: list[tuple[int, Note]] = []
    for note in notes:
        with suppress(NoteInvalid):
            found.append((Checkpoint.of(note).size, note))
    return found
