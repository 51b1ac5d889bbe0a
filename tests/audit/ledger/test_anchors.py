"""Checkpoints leave the database by a file and by an event."""

import resource

import pytest

from audit.ledger.trail import KEY
from shipworthy.audit.ledger.anchors import CheckpointSigned, file_anchor, tell
from shipworthy.audit.ledger.note import Checkpoint, read_notes
from shipworthy.events import listen


def signed(size):
    """Return a checkpoint of so many batches, and its note."""
    checkpoint = Checkpoint(origin="shipworthy.audit/test", size=size, root=bytes([size] * 32))
    return checkpoint, checkpoint.signed_by([KEY])


def test_a_file_gets_each_checkpoint_after_the_others(tmp_path):
    """`audit verify --from` reads them as they were."""
    path = tmp_path / "checkpoints"
    anchor = file_anchor(path)
    notes = [signed(size) for size in (1, 2)]
    for checkpoint, note in notes:
        anchor(checkpoint, note)

    found = read_notes(path.read_text())

    assert [str(note) for note in found] == [str(note) for _, note in notes]
    assert [Checkpoint.of(note).size for note in found] == [1, 2]


def test_a_file_that_cannot_be_written_is_the_callers_to_say(tmp_path):
    """Nothing is swallowed here."""
    with pytest.raises(FileNotFoundError):
        file_anchor(tmp_path / "nowhere" / "checkpoints")(*signed(1))


def test_a_checkpoint_that_was_written_in_part_is_taken_back(tmp_path):
    """A file that may not grow takes the first bytes of it: those would spoil the next one."""
    path = tmp_path / "checkpoints"
    anchor = file_anchor(path)
    anchor(*signed(1))
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))
    try:
        with pytest.raises(OSError, match=r"10 of .* bytes were written, and taken back"):
            anchor(*signed(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before

    anchor(*signed(3))
    assert [Checkpoint.of(note).size for note in read_notes(path.read_text())] == [1, 3]


def test_an_event_says_what_was_signed():
    """With the note itself, so that a log of events is an anchor too."""
    heard = []
    stop = listen(heard.append, CheckpointSigned)
    checkpoint, note = signed(3)
    tell(checkpoint, note)
    stop()

    assert [(one.size, one.root, one.note) for one in heard] == [(3, "03" * 32, str(note))]
