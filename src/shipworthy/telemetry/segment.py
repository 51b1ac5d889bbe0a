"""The file in which a worker counts: what is in it stays true when the worker is killed.

A segment is two files in a directory. `NAME.cells` begins with float slots, which the worker maps
into its memory and adds to, and goes on with lines that say which label set has which slots; a line
is appended, whole or not at all, before its slots are used. `NAME.said` is what the worker last
said of numbers that it only reads (gauges, the kernel's counters), and is replaced as a whole.

Whoever lives holds an exclusive lock on its `.cells`. The kernel lets go of it at death, however it
came, so no number of a process is ever trusted.
"""

import fcntl
import logging
import mmap
import os
import secrets
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, cast, final

import orjson

from shipworthy.telemetry.cells import Slots, listed
from shipworthy.telemetry.layout import Layout, SegmentMetric, slots_of
from shipworthy.telemetry.snapshot import Series, Snapshot, from_json

_log = logging.getLogger("shipworthy.telemetry")

FORMAT: Final = 1
# 10,000 histograms of 24 buckets. The file has holes where nothing is counted yet.
SLOTS_BYTES: Final = 2 * 1024 * 1024
# The disk must have what we map: a store into a hole of a full disk ends the process.
_STEP_BYTES: Final = 64 * 1024
CELLS, SAID, PART, NEW = ".cells", ".said", ".part", ".new"
_ATTEMPTS = 10


@final
class Segment:
    """The worker's end: slots to count in, and a place for what it says. Safe between threads."""

    def __init__(self, directory: Path, name: str, fd: int, lock_fd: int) -> None:
        self.name = name
        self._said = directory / f"{name}{SAID}"
        self._fd = fd
        self._lock_fd = lock_fd
        self._lock = threading.Lock()
        self._map = mmap.mmap(fd, SLOTS_BYTES)
        self._slots = memoryview(self._map).cast("d")
        self._allocated_bytes = 0
        self._taken = 0
        self._end = SLOTS_BYTES
        # By the line that declares it: two registries may declare one name differently.
        self._metrics: dict[bytes, int] = {}
        self._full = False
        self._write(orjson.dumps({"format": FORMAT}))
        _held.add(self)

    @classmethod
    def begin(cls, directory: Path, name: str) -> "Segment":
        """Begin a segment of this name, which must be a new one. Raises `OSError`."""
        for _ in range(_ATTEMPTS):
            new = directory / f"{name}.{secrets.token_hex(4)}{NEW}"
            fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            # Opened twice: the lock belongs to this opening alone, not to the mapping, which a
            # child that we fork keeps.
            lock_fd = -1
            try:
                lock_fd = os.open(new, os.O_RDWR | os.O_CLOEXEC)
                fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.ftruncate(fd, SLOTS_BYTES)
                segment = cls(directory, name, fd, lock_fd)
                # Not renamed: that would take the place of one that somebody counts in.
                (directory / f"{name}{CELLS}").hardlink_to(new)
                new.unlink()
            except (BlockingIOError, FileNotFoundError):
                # Taken for what a dead worker left, before we had the lock.
                _close(fd, lock_fd)
                continue
            except OSError:
                _close(fd, lock_fd)
                with suppress(OSError):
                    new.unlink()
                raise
            return segment
        raise OSError(f"no segment could be begun in {directory}: it was removed {_ATTEMPTS} times")

    def take(self, series: Series, name: str, values: Sequence[str], count: int) -> Slots | None:
        """Return slots that are 0 for a label set of a metric, none where there is no room."""
        with self._lock:
            try:
                return self._take(series, name, values, count)
            except OSError as error:
                if not self._full:
                    self._full = True
                    _log.error(
                        "no room for more metrics in %s (%s); new label sets are counted in memory "
                        "and are lost when this process is killed",
                        self._said.parent,
                        error,
                    )
                return None

    def say(self, snapshot: Snapshot) -> None:
        """Replace what was said before. Raises `OSError`."""
        part = self._said.with_suffix(PART)
        with self._lock:
            part.write_bytes(orjson.dumps(snapshot))
            part.rename(self._said)

    def close(self) -> None:
        """Let go of the lock: what is counted from now on is not told by anybody."""
        # A set that comes later finds no file, and so is counted in memory.
        _close(self._lock_fd, self._fd)
        self._lock_fd = self._fd = -1

    def _take(self, series: Series, name: str, values: Sequence[str], count: int) -> Slots | None:
        at = self._taken
        if (at + count) * 8 > SLOTS_BYTES:
            raise OSError(f"all {SLOTS_BYTES // 8} slots are taken")
        self._allocate((at + count) * 8)
        declared = {key: value for key, value in series.items() if key != "sets"}
        line = orjson.dumps({"metric": name, **declared})
        number = self._metrics.get(line)
        if number is None:
            self._write(line)
            number = self._metrics[line] = len(self._metrics)
        self._write(orjson.dumps([number, at, list(values)]))
        self._taken = at + count
        return self._slots[at : at + count]

    def _allocate(self, size_bytes: int) -> None:
        if size_bytes <= self._allocated_bytes:
            return
        wanted = -(-size_bytes // _STEP_BYTES) * _STEP_BYTES
        more = wanted - self._allocated_bytes
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._fd, self._allocated_bytes, more)
        else:  # macOS
            os.pwrite(self._fd, bytes(more), self._allocated_bytes)
        self._allocated_bytes = wanted

    def _write(self, entry: bytes) -> None:
        line = entry + b"\n"
        if os.pwrite(self._fd, line, self._end) != len(line):
            # A reader goes by whole lines; the next one is written over this part of one.
            raise OSError("the disk is full")
        self._end += len(line)


@final
class SegmentReader:
    """The reader's end of one segment, which is read again and again.

    Raises `OSError`, and `ValueError` for a file that is no segment of this format.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self._directory = directory
        self._read_to = SLOTS_BYTES
        self._end = 0
        self._metrics: list[SegmentMetric] = []
        self._sets = 0
        self._said: tuple[tuple[int, int], Snapshot] = ((0, 0), {})
        self._fd = os.open(directory / f"{name}{CELLS}", os.O_RDWR | os.O_CLOEXEC)
        try:
            self._map = mmap.mmap(self._fd, SLOTS_BYTES, access=mmap.ACCESS_READ)
            self._slots = memoryview(self._map).cast("d")
            self._follow()
        except BaseException:
            os.close(self._fd)
            raise

    def dead(self) -> bool:
        """Say whether nobody counts in it any more; then nobody else can say so until `close`."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def placed(self) -> list[SegmentMetric]:
        """Return the metrics of the segment with the slots of their label sets, as of now.

        The list only ever grows, and so do those in it.
        """
        self._follow()
        return self._metrics

    @property
    def sets(self) -> int:
        """Return how many label sets `placed` had."""
        return self._sets

    def row(self) -> list[float]:
        """Return all slots that `placed` named, as they are now."""
        return listed(self._slots[: self._end])

    def counted(self) -> Snapshot:
        """Return what the cells of the segment hold now."""
        return next(iter(Layout([self.placed()]).total([self.row()])), {})

    def said(self) -> Snapshot:
        """Return what the worker last said; nothing where it said nothing, or nonsense."""
        try:
            with (self._directory / f"{self.name}{SAID}").open("rb") as file:
                status = os.fstat(file.fileno())
                stamp = (status.st_ino, status.st_mtime_ns)
                if stamp != self._said[0]:
                    self._said = stamp, from_json(orjson.loads(file.read()))
        except (OSError, ValueError):
            return {}
        return self._said[1]

    def close(self) -> None:
        """Let go of the file."""
        self._slots.release()
        self._map.close()
        os.close(self._fd)

    def _follow(self) -> None:
        """Take in the lines that have been appended since the last look."""
        size = os.fstat(self._fd).st_size
        if size <= self._read_to:
            return
        whole = os.pread(self._fd, size - self._read_to, self._read_to).rpartition(b"\n")[0]
        if not whole:
            return
        self._read_to += len(whole) + 1
        for line in whole.split(b"\n"):
            entry = orjson.loads(line)
            if isinstance(entry, list):
                number, at, values = entry
                metric = self._metrics[number]
                self._end = at + slots_of(metric.declared)
                metric.places.append((values, at, self._end))
                self._sets += 1
            elif "format" in entry:
                if entry["format"] != FORMAT:
                    raise ValueError(f"segment {self.name} has format {entry['format']}")
            else:
                name = entry.pop("metric")
                declared = cast("Series", {**entry, "sets": []})
                self._metrics.append(SegmentMetric(name, declared, []))


_held: "weakref.WeakSet[Segment]" = weakref.WeakSet()


def _let_go_in_child() -> None:
    # Who forked holds on; the child must not do it for a parent that is dead.
    for segment in list(_held):
        segment.close()


os.register_at_fork(after_in_child=_let_go_in_child)


def _close(*fds: int) -> None:
    for fd in fds:
        if fd >= 0:
            os.close(fd)
