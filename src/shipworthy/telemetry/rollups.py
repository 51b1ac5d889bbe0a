"""Buckets in a SQLite file of ours: by the minute, by five minutes and by the hour.

One process writes. Each bucket is one transaction, so the file is readable whenever the process
ends, and lacks the minute that was begun at most. What is kept is counted in buckets and not by the
clock: one that jumps throws nothing away.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import floor, inf
from pathlib import Path
from typing import Final, final

import orjson

from shipworthy.errors import ShipworthyError
from shipworthy.telemetry.buckets import Bucket, Track, packed, unpacked
from shipworthy.telemetry.history import SETS_MAX
from shipworthy.telemetry.lock_file import hold

FILE_NAME: Final = "history.sqlite"
FILE_BYTES_MAX: Final = 128 * 1024 * 1024

_APPLICATION: Final = 0x53686970  # "Ship"
_VERSION: Final = 1
_BUSY_SECONDS: Final = 1.0
# How many tracks may be known to the file: those of some versions of the service.
_TRACKS_MAX: Final = 4 * SETS_MAX
_GIVEN_UP_RATIO: Final = 1 / 8
_SPOILT: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_SCHEMA: Final = f"""
CREATE TABLE track (number INTEGER PRIMARY KEY, identity TEXT NOT NULL UNIQUE, seen INTEGER);
CREATE TABLE bucket (
    width INTEGER, start INTEGER, seconds REAL NOT NULL, packed BLOB NOT NULL,
    PRIMARY KEY (width, start)
);
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_VERSION};
"""


class HistoryUnusable(ShipworthyError):
    """The file cannot be used; the message says why."""


@final
@dataclass(frozen=True, slots=True)
class Tier:
    """Buckets of one width, and for how long they are kept."""

    width_seconds: int
    kept_seconds: float

    @property
    def buckets(self) -> int:
        """How many are kept."""
        return max(1, int(self.kept_seconds // self.width_seconds))


@final
class Rollups:
    """The file, opened for the one process that writes it.

    Raises `FileHeld` where another process has it, `HistoryUnusable` where its form is unknown;
    what the disk says comes as `OSError` or `sqlite3.Error`. A spoilt file is put aside, and
    another begun. Safe between threads that do not use it at once.
    """

    def __init__(
        self, file: Path, tiers: Sequence[Tier], *, bytes_max: int = FILE_BYTES_MAX
    ) -> None:
        self.file = file
        self.tiers = tuple(sorted(tiers, key=lambda tier: tier.width_seconds))
        self.put_aside = False
        self._bytes_max = bytes_max
        file.parent.mkdir(parents=True, exist_ok=True)
        self._lock_fd = hold(file.with_suffix(".lock"), what="its history")
        try:
            try:
                self._connection = _opened(file)
            except sqlite3.DatabaseError as error:
                if not is_spoilt(error):
                    raise
                self._put_aside()
                self._connection = _opened(file)
            self._tracks: dict[int, Track] = {}
            self._numbers: dict[Track, int] = {}
            self._learn()
        except BaseException:
            os.close(self._lock_fd)
            raise

    def put(self, start: float, bucket: Bucket) -> None:
        """Add a bucket to those of every width, and let go of what is too old or too much."""
        with self._transaction() as connection:
            for tier in self.tiers:
                self._merge(connection, tier, start, bucket)
                connection.execute(
                    "DELETE FROM bucket WHERE width = ?1 AND start <= (SELECT start FROM bucket "
                    "WHERE width = ?1 ORDER BY start DESC LIMIT 1 OFFSET ?2)",
                    (tier.width_seconds, tier.buckets),
                )
            self._fit(connection)

    def begin(self, tier: Tier) -> float:
        """Return when the oldest bucket of that width begins; infinite where there is none."""
        (start,) = self._connection.execute(
            "SELECT min(start) FROM bucket WHERE width = ?", (tier.width_seconds,)
        ).fetchone()
        return inf if start is None else float(start)

    def read(
        self, tier: Tier, since: float, until: float, *, wanted: Sequence[str] | None = None
    ) -> Iterator[tuple[float, Bucket]]:
        """Yield the buckets that begin in a time, oldest first, of the wanted metrics alone."""
        found = self._connection.execute(
            "SELECT start, seconds, packed FROM bucket "
            "WHERE width = ? AND start >= ? AND start < ? ORDER BY start",
            (tier.width_seconds, since, until),
        ).fetchall()
        for start, seconds, blob in found:
            # One that is spoilt is as one in which nobody looked.
            with suppress(ValueError):
                yield float(start), unpacked(blob, seconds, self._tracks, wanted=wanted)

    @property
    def size_bytes(self) -> int:
        """How large the file is, without the log beside it."""
        return _pragma(self._connection, "page_count") * _pragma(self._connection, "page_size")

    def close(self) -> None:
        """Close the file, and let another process have it."""
        with suppress(sqlite3.Error):
            self._connection.close()
        os.close(self._lock_fd)

    def _merge(
        self, connection: sqlite3.Connection, tier: Tier, start: float, bucket: Bucket
    ) -> None:
        begin = floor(start / tier.width_seconds) * tier.width_seconds
        known = connection.execute(
            "SELECT seconds, packed FROM bucket WHERE width = ? AND start = ?",
            (tier.width_seconds, begin),
        ).fetchone()
        merged = Bucket()
        if known is not None:
            with suppress(ValueError):
                merged = unpacked(known[1], known[0], self._tracks)
        merged.merge(bucket)
        blob = packed(merged, lambda track: self._number(connection, track, begin))
        connection.execute(
            "INSERT OR REPLACE INTO bucket (width, start, seconds, packed) VALUES (?, ?, ?, ?)",
            (tier.width_seconds, begin, merged.seconds, blob),
        )
        if known is None and tier is self.tiers[-1]:
            self._tell_seen(connection, begin, bucket)

    def _number(self, connection: sqlite3.Connection, track: Track, seen: int) -> int:
        number = self._numbers.get(track)
        if number is None:
            row = connection.execute(
                "INSERT INTO track (identity, seen) VALUES (?, ?) "
                "ON CONFLICT (identity) DO UPDATE SET seen = excluded.seen RETURNING number",
                (_identity(track), seen),
            ).fetchone()
            number = int(row[0])
            self._tracks[number], self._numbers[track] = track, number
        return number

    def _tell_seen(self, connection: sqlite3.Connection, begin: int, bucket: Bucket) -> None:
        """Note once in the longest width which tracks there are, and forget those no bucket has."""
        connection.executemany(
            "UPDATE track SET seen = ? WHERE number = ?",
            [(begin, self._numbers[track]) for track in bucket.numbers],
        )
        oldest = begin - self.tiers[-1].kept_seconds
        gone = connection.execute(
            "DELETE FROM track WHERE seen < ? RETURNING number", (oldest,)
        ).fetchall()
        for (number,) in gone:
            track = self._tracks.pop(number, None)
            if track is not None:
                del self._numbers[track]

    def _fit(self, connection: sqlite3.Connection) -> None:
        used = _pragma(connection, "page_count") - _pragma(connection, "freelist_count")
        if used * _pragma(connection, "page_size") <= self._bytes_max:
            return
        # The finest is what most is written of, and soonest of no use.
        width, count = connection.execute(
            "SELECT width, count(*) FROM bucket GROUP BY width ORDER BY sum(length(packed)) DESC"
        ).fetchone()
        connection.execute(
            "DELETE FROM bucket WHERE width = ?1 AND start IN "
            "(SELECT start FROM bucket WHERE width = ?1 ORDER BY start LIMIT ?2)",
            (width, max(1, int(count * _GIVEN_UP_RATIO))),
        )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            # Numbers that were given in it are nobody's now.
            with suppress(sqlite3.Error):
                self._learn()
            raise

    def _learn(self) -> None:
        rows = self._connection.execute(
            "SELECT number, identity FROM track LIMIT ?", (_TRACKS_MAX,)
        ).fetchall()
        self._tracks = {number: _track(identity) for number, identity in rows}
        self._numbers = {track: number for number, track in self._tracks.items()}

    def _put_aside(self) -> None:
        """Rename what is spoilt: the one before it goes, so that there is one at most."""
        self.put_aside = True
        self.file.replace(self.file.with_suffix(".spoilt"))
        for suffix in ("-wal", "-shm"):
            Path(f"{self.file}{suffix}").unlink(missing_ok=True)


def is_spoilt(error: sqlite3.Error) -> bool:
    """Say whether it is the file that is broken, and not the disk that is full."""
    # The lower byte is the error, what is above it says where.
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _SPOILT


def _opened(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        file, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        version = _pragma(connection, "user_version")
        application = _pragma(connection, "application_id")
        if (application, version) == (0, 0) and not _tables(connection):
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT;")
            application, version = _APPLICATION, _VERSION
        if application == _APPLICATION and version == _VERSION:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            # Finds what is spoilt now, and not with the first minute.
            connection.execute("SELECT count(*), max(start) FROM bucket").fetchone()
            return connection
    except BaseException:
        connection.close()
        raise
    connection.close()
    if application != _APPLICATION:
        raise HistoryUnusable(
            f"{file} is a database of somebody else; set history.folder to another"
        )
    raise HistoryUnusable(
        f"{file} has the form {version}, and this version of Shipworthy reads {_VERSION}; set "
        "history.folder to another, or go back to the version that wrote it"
    )


def _tables(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _identity(track: Track) -> str:
    facts = (track.name, track.kind, track.fold, track.names, track.bounds, track.labels)
    return orjson.dumps(facts).decode()


def _track(identity: str) -> Track:
    name, kind, fold, names, bounds, labels = orjson.loads(identity)
    return Track(name, kind, fold, tuple(names), tuple(bounds), tuple(labels))
