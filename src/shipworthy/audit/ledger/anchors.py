"""Where signed checkpoints go besides the database: what a whole change of it cannot reach.

An anchor is a function that takes a checkpoint. Here are a file, which `audit verify --from` reads,
and the events of the service; a place that nobody can delete from is better than both, and what
reads the events can bring them there.
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path

from shipworthy.audit.ledger.note import Checkpoint, Note
from shipworthy.events import Event, Severity, emit, event

Anchor = Callable[[Checkpoint, Note], None]
_MODE = 0o644


@event(severity=Severity.INFO)
class CheckpointSigned(Event):
    """The log was sealed up to here; whoever keeps this line can tell later what it was."""

    size: int
    root: str
    note: str


def tell(checkpoint: Checkpoint, note: Note) -> None:
    """State the checkpoint as an event."""
    emit(CheckpointSigned, size=checkpoint.size, root=checkpoint.root.hex(), note=str(note))


def file_anchor(path: Path) -> Anchor:
    """Return an anchor that appends notes to a file, each with an empty line after it.

    It raises `OSError` where the file cannot be written, also where it was written in part: that is
    taken back. What was written is on the disk when it returns.
    """

    def append(checkpoint: Checkpoint, note: Note) -> None:
        del checkpoint
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
        try:
            # In one write, so that two who append do not mix.
            text = f"{note}\n".encode()
            written = os.write(descriptor, text)
            if written < len(text):
                _take_back(descriptor, written)
                raise OSError(
                    errno.ENOSPC,
                    f"{written} of {len(text)} bytes were written, and taken back; is it full",
                    str(path),
                )
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    return append


def _take_back(descriptor: int, written: int) -> None:
    """Cut off what was just appended, unless somebody has appended since."""
    end = os.lseek(descriptor, 0, os.SEEK_CUR)
    if os.fstat(descriptor).st_size == end:
        os.ftruncate(descriptor, end - written)
