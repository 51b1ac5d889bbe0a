"""A directory of one run: in memory where the system has such a place, and gone with the run."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, final

_PREFIX: Final = "shipworthy-run-"
_ATTEMPTS = 10


@final
class RunDirectory:
    """A directory that this process holds, open to its user alone; `path` is where it is."""

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self._lock_fd = lock_fd

    @classmethod
    def make(cls, wanted: str = "") -> "RunDirectory":
        """Make one in `wanted`, else in the first place of the system that takes it.

        Removes what runs that were killed have left in the same place. Raises `OSError` that names
        each place and what it said.
        """
        said: list[str] = []
        for parent in [wanted] if wanted else _places():
            try:
                made = cls._in(Path(parent))
            except OSError as error:
                said.append(f"{parent} ({error.strerror or error})")
            else:
                _sweep(Path(parent))
                return made
        raise OSError(f"no directory could be made in {', '.join(said)}")

    def remove(self) -> None:
        """Remove it with all that is in it; twice is once."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    @classmethod
    def _in(cls, parent: Path) -> "RunDirectory":
        for _ in range(_ATTEMPTS):
            path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            with suppress(FileNotFoundError):
                fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    # Another run may have swept it before we held it.
                    if path.stat().st_ino == os.fstat(fd).st_ino:
                        return cls(path, fd)
                except BlockingIOError:
                    pass
                except OSError:
                    os.close(fd)
                    path.rmdir()
                    raise
                os.close(fd)
        raise OSError(f"it was removed {_ATTEMPTS} times")


def _places() -> Iterator[str]:
    # What systemd made for this service and removes with it, then what is never written to a disk:
    # cells on a disk wait for it now and then.
    yield from filter(None, os.environ.get("RUNTIME_DIRECTORY", "").split(":"))
    yield from filter(None, (os.environ.get("XDG_RUNTIME_DIR"),))
    yield "/dev/shm"  # noqa: S108 - a directory of our own in it, for its user alone
    yield tempfile.gettempdir()


def _sweep(parent: Path) -> None:
    """Remove the directories of runs that hold them no more, those of this user."""
    for path in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if os.fstat(fd).st_uid == os.geteuid():
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(fd)
