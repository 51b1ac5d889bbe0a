"""A file that one process at a time holds; the kernel lets go of it at death, however it came."""

import fcntl
import os
from pathlib import Path

from shipworthy.errors import ShipworthyError


class FileHeld(ShipworthyError):
    """Another process holds the file; the message says what to set."""


def hold(file: Path, *, what: str) -> int:
    """Return a descriptor that holds `file` until it is closed; `what` is what lies beside it.

    Raises `FileHeld` where another process does, `OSError` where the file cannot be made.
    """
    fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise FileHeld(
            f"another process keeps {what} in {file.parent}; give each service a "
            "history.folder of its own"
        ) from error
    return fd
