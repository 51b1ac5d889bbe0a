"""Buckets in a file of our own, shared by the processes of one machine: SQLite with a log.

A transaction takes the file's one lock before it reads, so what it decides holds. It waits for no
disk: whoever pulls the plug may lose the file, which is then put aside for a new one, and every
limit begins anew. The file belongs on a disk of this machine; SQLite cannot share one over a
network.

The time is that of the machine since its start (`host_clock`), which no process can have otherwise.
"""

import os
import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from time import monotonic
from typing import Final, final

from typing_extensions import override

from shipworthy.store.bucket import BucketsUnavailable
from shipworthy.store.bucket_batches import QuickShelf
from shipworthy.store.bucket_rows import Answer, BucketRow, Wish, keys_of, settle
from shipworthy.store.host_clock import Anchor, HostClock, host_clock

FILE_NAME: Final = "buckets.db"
# Some three million keys: whoever makes up more of them finds the store unavailable.
FILE_BYTES: Final = 256 * 2**20
_PAGE_BYTES: Final = 4096
_VERSION: Final = 1
_OPEN_SECONDS: Final = 5.0
_LOCK_AGAIN_SECONDS: Final = 0.0002
# How often the lock is tried for where nobody may wait: another holds it for some 20 us.
_TRIES_AT_ONCE: Final = 4
_SEEN_EVERY_NS: Final = 1_000_000_000
# Two rows are looked at for each new one: so at most about half of what lies there has run out.
_LOOK_AT: Final = 64
_LOOKS_PER_NEW: Final = 2
_SPOILT: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_PRAGMAS: Final = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = OFF",
    f"PRAGMA journal_size_limit = {16 * 2**20}",
    "PRAGMA temp_store = MEMORY",
)
_TABLES: Final = (
    """
    CREATE TABLE IF NOT EXISTS buckets (
      key TEXT PRIMARY KEY, until_ns INTEGER NOT NULL, rest BLOB
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE IF NOT EXISTS clock (
      id INTEGER PRIMARY KEY CHECK (id = 1), boot TEXT NOT NULL,
      offset_ns INTEGER NOT NULL, seen_ns INTEGER NOT NULL
    )
    """,
    f"PRAGMA user_version = {_VERSION}",
)
_LOCK: Final = "BEGIN IMMEDIATE"
_READ: Final = "SELECT until_ns, rest FROM buckets WHERE key = ?"
_WRITE: Final = "INSERT OR REPLACE INTO buckets (key, until_ns, rest) VALUES (?, ?, ?)"
_LAST: Final = "SELECT max(key) FROM (SELECT key FROM buckets WHERE key > ? ORDER BY key LIMIT ?)"
_PRUNE: Final = "DELETE FROM buckets WHERE key > ? AND key <= ? AND until_ns <= ?"
_READ_CLOCK: Final = "SELECT boot, offset_ns, seen_ns FROM clock WHERE id = 1"
_WRITE_CLOCK: Final = "INSERT OR REPLACE INTO clock VALUES (1, ?, ?, ?)"
_SEEN: Final = "UPDATE clock SET seen_ns = max(seen_ns, ?)"


@final
class FileShelf(QuickShelf):
    """The rows in the file at `path`, which is made where it is not there.

    Raises `BucketsUnavailable` where the file cannot be used. For one thread at a time; another one
    opens the file for itself.
    """

    def __init__(
        self, path: Path, *, clock: HostClock | None = None, most_bytes: int = FILE_BYTES
    ) -> None:
        self._path = path
        self._clock = clock or host_clock()
        self._pages = max(16, most_bytes // _PAGE_BYTES)
        self._looked_to = token_hex(4)
        self._to_look = 0
        self._connection, self._anchor = self._opened()
        self._tell_seen_at = self._now() + _SEEN_EVERY_NS

    @override
    def settle(self, wishes: Sequence[Wish], *, deadline: float) -> Sequence[Answer]:
        while (answers := self._settled(wishes)) is None:
            if monotonic() + _LOCK_AGAIN_SECONDS >= deadline:
                raise BucketsUnavailable(
                    f"the lock of {self._path} was another's all the time; is a process stopped "
                    f"that has it?"
                )
            time.sleep(_LOCK_AGAIN_SECONDS)
        return answers

    @override
    def settle_now(self, wish: Wish) -> Answer | None:
        for _ in range(_TRIES_AT_ONCE):
            answers = self._settled((wish,))
            if answers is not None:
                return answers[0]
            os.sched_yield()
        return None

    @override
    def close(self) -> None:
        self._connection.close()

    def _settled(self, wishes: Sequence[Wish]) -> Sequence[Answer] | None:
        """Answer in one transaction; None where the lock is another's."""
        try:
            return self._transaction(wishes)
        except sqlite3.Error as error:
            busy = _code(error) == sqlite3.SQLITE_BUSY
            self._leave(error)
            if busy:
                return None
            raise BucketsUnavailable(f"{self._path} cannot be used: {error}") from error

    def _transaction(self, wishes: Sequence[Wish]) -> Sequence[Answer]:
        execute = self._connection.execute
        execute(_LOCK)
        rows = {}
        for key in keys_of(wishes):
            found = execute(_READ, (key,)).fetchone()
            if found is not None:
                rows[key] = BucketRow(*found)
        # After the lock: so what is decided later has a later time.
        now_ns = self._now()
        settled = settle(wishes, rows, now_ns)
        if not settled.rows:
            execute("ROLLBACK")
            return settled.answers
        for key, (until_ns, rest) in settled.rows.items():
            execute(_WRITE, (key, until_ns, rest))
        self._to_look += _LOOKS_PER_NEW * (len(settled.rows) - len(settled.rows.keys() & rows))
        if self._to_look >= _LOOK_AT:
            self._look(now_ns)
        if now_ns >= self._tell_seen_at:
            self._tell_seen_at = now_ns + _SEEN_EVERY_NS
            execute(_SEEN, (now_ns,))
        execute("COMMIT")
        return settled.answers

    def _look(self, now_ns: int) -> None:
        """Go on through the rows, and delete those that have run out."""
        (last,) = self._connection.execute(_LAST, (self._looked_to, self._to_look)).fetchone()
        if last is not None:
            self._connection.execute(_PRUNE, (self._looked_to, last, now_ns))
        self._looked_to = last or ""
        self._to_look = 0

    def _leave(self, error: sqlite3.Error) -> None:
        """Be ready for the next transaction, also where the file is spoilt or full."""
        if self._connection.in_transaction:
            self._connection.rollback()
        if _code(error) in _SPOILT:
            self._begin_anew()
        elif _code(error) == sqlite3.SQLITE_FULL:
            self._make_room()

    def _make_room(self) -> None:
        """Delete what has run out, a part of it each time; another process may do it meanwhile."""
        self._to_look = _LOOK_AT * 16
        try:
            self._connection.execute(_LOCK)
            self._look(self._now())
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            if self._connection.in_transaction:
                self._connection.rollback()

    def _now(self) -> int:
        return self._clock.steady_ns() + self._anchor.offset_ns

    def _opened(self) -> tuple[sqlite3.Connection, Anchor]:
        try:
            try:
                return self._open()
            except sqlite3.DatabaseError as error:
                if _code(error) not in _SPOILT:
                    raise
                self._put_aside()
                return self._open()
        except (OSError, sqlite3.Error) as error:
            raise BucketsUnavailable(
                f"{self._path} cannot be opened: {error}; is its folder on this machine, and may "
                f"this user write there?"
            ) from error

    def _open(self) -> tuple[sqlite3.Connection, Anchor]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Ours alone: who may write here may lift every limit. Never opened beside SQLite where it
        # is there already: closing it would let go of all locks that this process has on it.
        with suppress(FileExistsError):
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        connection = sqlite3.connect(
            self._path,
            timeout=_OPEN_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=32,
        )
        try:
            for pragma in _PRAGMAS:
                connection.execute(pragma)
            connection.execute(f"PRAGMA max_page_count = {self._pages}")
            connection.execute(_LOCK)
            _check_version(connection)
            for statement in _TABLES:
                connection.execute(statement)
            found = connection.execute(_READ_CLOCK).fetchone()
            anchor = self._clock.anchored(None if found is None else Anchor(*found))
            if found is None or anchor != Anchor(*found):
                connection.execute(_WRITE_CLOCK, anchor)
            connection.execute("COMMIT")
            # From here on nobody waits in SQLite: how long is said by each call.
            connection.execute("PRAGMA busy_timeout = 0")
            self._inode = self._path.stat().st_ino
        except BaseException:
            connection.close()
            raise
        return connection, anchor

    def _begin_anew(self) -> None:
        self._connection.close()
        if self._path.exists() and self._path.stat().st_ino == self._inode:
            self._put_aside()
        self._connection, self._anchor = self._opened()

    def _put_aside(self) -> None:
        """Keep a spoilt file, the last one, for whoever wants to know; its log is of no use."""
        self._path.replace(self._path.with_suffix(".spoilt"))
        for ending in ("-wal", "-shm"):
            self._path.with_name(self._path.name + ending).unlink(missing_ok=True)


def _check_version(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > _VERSION:
        raise sqlite3.DatabaseError(
            f"it is of version {version}, and this program knows version {_VERSION}"
        )


def _code(error: sqlite3.Error) -> int:
    """Return the kind of an error, without what it is in particular; 0 where it has none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
