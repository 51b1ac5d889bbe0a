"""How each database is told to lock, read, write and forget rows of buckets.

All lock in the order of the keys, so that none waits in a circle. A row that is not there cannot be
locked, so it is added first, as one that was never used. What changed is written and committed by
one message: between the lock and its end there is one way to the client and back, because a client
may be late.

Not here: what the rows mean (`bucket_rows`), and the file of our own (`bucket_file`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import sqlalchemy as sa

# What a driver takes: the drivers for which these are written mark their values alike.
Statement: TypeAlias = tuple[str, tuple[Any, ...]]
# A row as it is written: its key, and what `bucket_rows.BucketRow` has.
Written: TypeAlias = tuple[str, int, bytes | None]

# Nothing is left of a transaction that ended with one of these: a deadlock, or what was read has
# changed before it was locked.
_AGAIN: Final = frozenset({"40001", "40P01", "1213", "1020"})
_NO_TABLE: Final = frozenset({"42P01", "1146"})


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketStatements:
    """The statements of one database.

    `session` is said once to each connection: a process that stops in the middle of a transaction
    keeps its locks for so long. What `lock` returns begins with the time, in nanoseconds, in each
    row, and there is a row also where none of the keys is known. `last` gives the last of some keys
    after one, and `prune` deletes what has run out up to there. `text` and `binary` make a literal
    of hexadecimal digits: a message of several statements takes no values.
    """

    session: tuple[str, ...]
    locked: str
    keys_in_one: bool
    added: str
    written: str
    text: str
    binary: str
    last: str = (
        "SELECT max(bucket) FROM (SELECT bucket FROM shipworthy_buckets WHERE bucket > %s "
        "ORDER BY bucket LIMIT %s) looked"
    )
    prune: str = (
        "DELETE FROM shipworthy_buckets WHERE bucket > %s AND bucket <= %s AND until_ns <= %s"
    )

    def lock(self, keys: Sequence[str]) -> Statement:
        """Lock and read what is there of these keys."""
        if self.keys_in_one:
            return self.locked, (list(keys),)
        return self.locked.format(marks=", ".join(["%s"] * len(keys))), tuple(keys)

    def add(self, keys: Sequence[str]) -> Statement:
        """Add rows of buckets that were never used; those that are there are not touched."""
        return self.added.format(marks=", ".join(["(%s, 0)"] * len(keys))), tuple(keys)

    def write(self, rows: Sequence[Written]) -> str:
        """Write these rows, which are there and locked, and commit."""
        values = ", ".join(
            f"({self.text.format(key.encode().hex())}, {until_ns:d}, "
            f"{'NULL' if rest is None else self.binary.format(rest.hex())})"
            for key, until_ns, rest in rows
        )
        return self.written.format(values=values)


_POSTGRESQL: Final = BucketStatements(
    session=(
        "SET idle_in_transaction_session_timeout = '1s'",
        "SET lock_timeout = '1s'",
        # A crash empties the table as it is, so no commit need reach a disk.
        "SET synchronous_commit = off",
    ),
    # The time is that of the moment in which the lock is ours, not of the transaction's begin.
    locked=(
        "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint) * 1000, held.* "
        "FROM (SELECT 1) one LEFT JOIN (SELECT bucket, until_ns, rest FROM shipworthy_buckets "
        "WHERE bucket = ANY(%s) ORDER BY bucket FOR UPDATE) held ON true"
    ),
    keys_in_one=True,
    added=(
        "INSERT INTO shipworthy_buckets (bucket, until_ns) VALUES {marks} "
        "ON CONFLICT (bucket) DO NOTHING"
    ),
    written=(
        "INSERT INTO shipworthy_buckets (bucket, until_ns, rest) VALUES {values} "
        "ON CONFLICT (bucket) DO UPDATE SET until_ns = excluded.until_ns, rest = excluded.rest; "
        "COMMIT"
    ),
    text="convert_from(decode('{}', 'hex'), 'UTF8')",
    binary="decode('{}', 'hex')",
)
_MARIADB: Final = BucketStatements(
    session=(
        # Else a key that is not there locks the gap it would stand in, and with it its neighbours.
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        # By the time of a place the same hour comes twice in autumn.
        "SET SESSION time_zone = '+00:00', innodb_lock_wait_timeout = 1",
        "SET SESSION idle_transaction_timeout = 1",
    ),
    locked=(
        "SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED) * 1000, "
        "held.bucket, held.until_ns, held.rest "
        "FROM (SELECT 1) one LEFT JOIN shipworthy_buckets held ON held.bucket IN ({marks}) "
        "ORDER BY held.bucket FOR UPDATE"
    ),
    keys_in_one=False,
    added="INSERT IGNORE INTO shipworthy_buckets (bucket, until_ns) VALUES {marks}",
    written=(
        "BEGIN NOT ATOMIC INSERT INTO shipworthy_buckets (bucket, until_ns, rest) VALUES {values} "
        "ON DUPLICATE KEY UPDATE until_ns = VALUES(until_ns), rest = VALUES(rest); COMMIT; END"
    ),
    text="CONVERT(X'{}' USING utf8mb4)",
    binary="X'{}'",
)
_STATEMENTS: Final = {"postgresql": _POSTGRESQL, "mysql": _MARIADB, "mariadb": _MARIADB}


def bucket_statements(dialect: str) -> BucketStatements:
    """Return the statements for a database; raises `ValueError` for one that is not known here."""
    try:
        return _STATEMENTS[dialect]
    except KeyError:
        known = ", ".join(sorted(_STATEMENTS))
        raise ValueError(f"buckets cannot be kept in '{dialect}'; there is {known}") from None


def begin_again(error: BaseException | None) -> bool:
    """Say whether the error of a driver ended a transaction that may be begun again."""
    return _code(error) in _AGAIN


def no_table(error: BaseException | None) -> bool:
    """Say whether the error of a driver is that there is no table of buckets."""
    return _code(error) in _NO_TABLE


def _code(error: BaseException | None) -> str:
    said = getattr(error, "sqlstate", None) or next(iter(getattr(error, "args", ())), "")
    return str(said)


def lose_with_a_crash(table: sa.Table) -> None:
    """Have the server keep no log of what is written to `table`, where it can leave that out."""
    sa.event.listen(
        table,
        "after_create",
        sa.DDL(  # type: ignore[no-untyped-call]
            "ALTER TABLE %(fullname)s SET UNLOGGED"
        ).execute_if(dialect="postgresql"),
    )
