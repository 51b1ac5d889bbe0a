"""A file of the log that several processes write, and any one of them puts aside when it is due."""

import fcntl
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, final

from shipworthy.errors import SettingsInvalid
from shipworthy.events import Event, Label, Severity, emit, event
from shipworthy.telemetry.rotation import RotationRule, aside

# What people did and from where stands in it: not for everybody on the machine.
_MODE = 0o640


@event(severity=Severity.WARNING)
class LogFileStuck(Event):
    """The file of the log could not be put aside or opened anew; it goes on growing where it is."""

    step: Annotated[str, Label]
    because: str


@final
class LogFile:
    """The descriptor to append to, for one thread; it follows the path whatever becomes of it.

    Whoever moves or removes the file (logrotate, another worker) needs to tell nobody: the next
    piece goes to a new one. The processes that share it rotate under a lock on the file itself, so
    one does and the others follow. Raises `SettingsInvalid` where it cannot be opened at first;
    later, it goes on with what it has.
    """

    def __init__(
        self, path: str, rule: RotationRule, *, wall: Callable[[], float] = time.time
    ) -> None:
        # The folder at the start: an application may go to another one.
        self._path = Path.cwd() / path
        self._rule = rule
        self._wall = wall
        self._stuck = ""
        self._fd = -1
        try:
            self._open()
        except OSError as error:
            missing = (
                f"log.file = {path!r} cannot be written: {error.strerror}; name a file in a folder "
                "that exists and that this user may write to"
            )
            raise SettingsInvalid([missing]) from error

    def descriptor(self, more_bytes: int) -> int:
        """Return where the next `more_bytes` go, once the file is the right one."""
        try:
            found = self._path.stat()
        except OSError:
            self._follow()
            return self._fd
        if (found.st_dev, found.st_ino) != self._which:
            self._follow()
        elif self._due(found, more_bytes):
            self._rotate(more_bytes)
        return self._fd

    def begin_in_child(self) -> None:
        """Have a descriptor of our own after a fork: a lock belongs to whoever opened the file."""
        self._follow()

    def close(self) -> None:
        """Close it."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _open(self) -> None:
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
        self.close()
        self._fd = fd
        ours = os.fstat(fd)
        self._which = (ours.st_dev, ours.st_ino)

    def _follow(self) -> None:
        try:
            self._open()
        except OSError as error:
            self._say("open", error)
        else:
            self._stuck = ""

    def _due(self, found: os.stat_result, more_bytes: int) -> bool:
        return self._rule.due(
            found.st_size, found.st_mtime, more_bytes=more_bytes, now=self._wall()
        )

    def _rotate(self, more_bytes: int) -> None:
        try:
            # Never waited for: who has it is putting the file aside just now.
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        try:
            found = self._path.stat()
            # Somebody may have been here between our look and our lock.
            if (found.st_dev, found.st_ino) == self._which and self._due(found, more_bytes):
                self._path.rename(aside(str(self._path), self._wall()))
                self._prune()
            self._follow()  # which ends the lock with the descriptor
        except OSError as error:
            self._say("put aside", error)
            with suppress(OSError):
                fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _prune(self) -> None:
        names = (found.name for found in self._path.parent.iterdir())
        for old in self._rule.surplus(self._path.name, names):
            with suppress(FileNotFoundError):
                self._path.with_name(old).unlink()

    def _say(self, step: str, error: OSError) -> None:
        if self._stuck != step:  # once, not with every piece
            self._stuck = step
            emit(LogFileStuck, step=step, because=f"{self._path}: {error.strerror}")
