"""The directory in which workers count, and what they have counted together.

What the dead have counted is folded into one file, `archive`, and their segments are removed: a
thousand restarts leave one file. Folding is safe at any moment of death: the archive names what it
holds, and is replaced as a whole before what it holds is removed.
"""

import fcntl
import logging
import os
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, final

import orjson

from shipworthy.telemetry.layout import Layout
from shipworthy.telemetry.segment import CELLS, FORMAT, NEW, PART, SAID, SegmentReader
from shipworthy.telemetry.snapshot import Snapshot, from_json, retired

_ARCHIVE: Final = "archive"
_PART: Final = f"{_ARCHIVE}{PART}"
_LOCK: Final = "lock"
# Somebody who reads at the same time is done in milliseconds, unless his process is stopped.
_PATIENCE_SECONDS = 0.5
_LOOK_SECONDS = 0.002

_log = logging.getLogger("shipworthy.telemetry")


@final
class SegmentDirectory:
    """Reads the segments of one directory; not safe between threads, but between processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_fd = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._readers: dict[str, SegmentReader] = {}
        # What cannot be read, said once each.
        self._refused: set[str] = set()
        # For which segments, with how many label sets each.
        self._layout: tuple[list[tuple[str, int]], Layout] = ([], Layout([]))
        self._archived: tuple[tuple[int, ...], Snapshot, set[str]] = ((), {}, set())

    def told(self, *, ended: Collection[str] = ()) -> list[Snapshot]:
        """Return what the living tell and what the dead have counted, and bury the dead.

        `ended` are names of segments whose process is known to be gone. Raises `OSError`.
        """
        self._hold()
        try:
            return self._told(ended)
        finally:
            fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of everything, and leave the files."""
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
        os.close(self._lock_fd)

    def _told(self, ended: Collection[str]) -> list[Snapshot]:
        archive, held = self._archive()
        living: list[SegmentReader] = []
        dead: list[Snapshot] = []
        gone: set[str] = set()
        names = self._names()
        for name in names:
            reader = self._reader(name)
            if reader is None:
                continue
            if name in held:  # whoever folded it died before he could remove it
                gone.add(name)
            elif name in ended or reader.dead():
                gone.add(name)
                dead += reader.counted(), reader.said()
            else:
                living.append(reader)
        if dead:
            archive = retired([archive, *dead])
        if not dead or self._keep(archive, gone):
            for name in gone:
                self._remove(name)
        for name in self._readers.keys() - names:
            self._readers.pop(name).close()
        return [archive, *self._total(living), *(reader.said() for reader in living)]

    def _total(self, living: list[SegmentReader]) -> list[Snapshot]:
        placed = [reader.placed() for reader in living]
        of = [(reader.name, reader.sets) for reader in living]
        if of != self._layout[0]:
            self._layout = of, Layout(placed)
        return self._layout[1].total([reader.row() for reader in living])

    def _names(self) -> set[str]:
        names: set[str] = set()
        said: set[str] = set()
        for entry in os.scandir(self.path):
            if entry.name.endswith(CELLS):
                names.add(entry.name.removesuffix(CELLS))
            elif entry.name.endswith((SAID, PART)):
                said.add(entry.name)
            elif entry.name.endswith(NEW):
                _sweep(Path(entry.path))
        # Whoever removed the cells was killed before he came to the rest.
        for file in said:
            if file.rpartition(".")[0] not in names and file != _PART:
                with suppress(OSError):
                    (self.path / file).unlink()
        return names

    def _reader(self, name: str) -> SegmentReader | None:
        found = self._readers.get(name)
        if found is None:
            try:
                found = self._readers[name] = SegmentReader(self.path, name)
            except OSError:  # gone
                return None
            except ValueError as error:  # no segment, or one of another version
                if name not in self._refused:
                    self._refused.add(name)
                    _log.warning("%s is left out of the metrics: %s", self.path / name, error)
                return None
        return found

    def _archive(self) -> tuple[Snapshot, set[str]]:
        try:
            with (self.path / _ARCHIVE).open("rb") as file:
                status = os.fstat(file.fileno())
                stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
                if stamp != self._archived[0]:
                    self._archived = stamp, *_archived(orjson.loads(file.read()))
        except FileNotFoundError:
            self._archived = (), {}, set()
        except (ValueError, KeyError, TypeError) as error:
            # Of another version, or damaged: all counters begin anew, which Prometheus understands.
            _log.warning("%s cannot be read and is begun anew: %s", self.path / _ARCHIVE, error)
            self._archived = (), {}, set()
        return self._archived[1], self._archived[2]

    def _keep(self, archive: Snapshot, of: set[str]) -> bool:
        """Replace the archive, which names those whose files are still to be removed.

        Says whether it could be: on a full disk the dead are told of as they are.
        """
        part = self.path / _PART
        kept = {"format": FORMAT, "of": sorted(of), "counted": archive}
        try:
            part.write_bytes(orjson.dumps(kept))
            part.rename(self.path / _ARCHIVE)
        except OSError as error:
            _log.warning("%s cannot be written: %s", self.path / _ARCHIVE, error)
            return False
        return True

    def _remove(self, name: str) -> None:
        reader = self._readers.pop(name, None)
        for suffix in (CELLS, SAID, PART):
            with suppress(FileNotFoundError):
                (self.path / f"{name}{suffix}").unlink()
        if reader is not None:
            reader.close()

    def _hold(self) -> None:
        give_up = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise TimeoutError(
                        f"another process has held {self.path / _LOCK} for {_PATIENCE_SECONDS:g} s"
                    ) from None
                time.sleep(_LOOK_SECONDS)
            else:
                return


def _archived(kept: dict[str, Any]) -> tuple[Snapshot, set[str]]:
    if kept["format"] != FORMAT:
        raise ValueError(f"its format is {kept['format']}")
    return from_json(kept["counted"]), set(kept["of"])


def _sweep(path: Path) -> None:
    """Remove what was being written by somebody who died; who lives holds the lock on his cells."""
    with suppress(OSError):
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        finally:
            os.close(fd)
