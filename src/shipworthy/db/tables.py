"""Our own tables in the application's database: made, found, pruned and taken away again.

Nothing here runs by itself: `run` issues no DDL. Who installs is `shipworthy db migrate`, or
whoever calls `install`. A worker of the version before or after reads them as they are: columns are
only ever added, and with a default.

Not here: what the rows mean (`transaction`), and how requests are told apart (`web`).
"""

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from shipworthy.db.dialects.bounds import TABLE_OPTIONS

VERSION: Final = 1
METADATA: Final = sa.MetaData()
# Tokens and ids are written by us in hexadecimal, so that no collation can mistake two for one.
SCHEMA: Final = sa.Table(
    "shipworthy_schema",
    METADATA,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    **TABLE_OPTIONS,
)
OUTCOMES: Final = sa.Table(
    "shipworthy_outcomes",
    METADATA,
    sa.Column("token", sa.String(64), primary_key=True),
    # `committed` is written by a transaction itself; `never` by whoever asked and found nothing.
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("at", sa.Double, nullable=False, index=True),
    **TABLE_OPTIONS,
)
IDEMPOTENCY: Final = sa.Table(
    "shipworthy_idempotency",
    METADATA,
    sa.Column("id", sa.CHAR(64), primary_key=True),
    sa.Column("fingerprint", sa.CHAR(64), nullable=False),
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("attempt", sa.CHAR(32), nullable=False),
    sa.Column("lease_until", sa.Double, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("expires", sa.Double, nullable=False, index=True),
    sa.Column("status", sa.Integer),
    sa.Column("headers", sa.LargeBinary(2**16)),
    sa.Column("body", sa.LargeBinary(2**24)),
    **TABLE_OPTIONS,
)
_TABLES: Final[Sequence[sa.Table]] = (OUTCOMES, IDEMPOTENCY, SCHEMA)


def install(connection: sa.Connection, beside: Sequence[sa.Table] = ()) -> list[str]:
    """Make what is missing, and say of each thing that it was made; a second time is nothing.

    It runs in the transaction of `connection`, which the caller commits: on PostgreSQL and SQLite
    all of it is there or nothing; MariaDB commits each table by itself, and the version is written
    last. Tables of a newer version are left as they are. Two callers at once are not told apart:
    hold a lock. `beside` are those of rooms above.
    """
    there = set(sa.inspect(connection).get_table_names())
    done = []
    for table in (*_TABLES, *beside):
        if table.name not in there:
            table.create(connection)
            done.append(f"made the table {table.name}")
    if installed(connection) is None:
        connection.execute(SCHEMA.insert().values(version=VERSION))
        done.append(f"noted version {VERSION}")
    return done


def installed(connection: sa.Connection) -> int | None:
    """Return the version that is installed, None where there is none; makes nothing."""
    if not sa.inspect(connection).has_table(SCHEMA.name):
        return None
    version: int | None = connection.execute(sa.select(sa.func.max(SCHEMA.c.version))).scalar()
    return version


def remove(connection: sa.Connection, beside: Sequence[sa.Table] = ()) -> list[str]:
    """Take all of it away, whatever its version, and say what was taken; the caller commits."""
    there = set(sa.inspect(connection).get_table_names())
    gone = [table for table in reversed((*_TABLES, *beside)) if table.name in there]
    for table in gone:
        table.drop(connection)
    return [f"dropped the table {table.name}" for table in gone]


def prune(connection: sa.Connection, before: float, limit: int = 1000) -> int:
    """Delete outcomes noted before the instant `before`, and answers that expired by then.

    At most `limit` rows of each table, the oldest first, so that no lock is held for long: call it
    again while it returns `limit` or more. Keep outcomes longer than any transaction stays open; a
    day is plenty.
    """
    outcomes = prune_outcomes(connection, before, limit)
    return outcomes + prune_answers(connection, before, limit)


def prune_outcomes(connection: sa.Connection, before: float, limit: int) -> int:
    """Delete at most `limit` outcomes noted before the instant `before`; say how many."""
    return _prune(connection, OUTCOMES.c.token, OUTCOMES.c.at, before, limit)


def prune_answers(connection: sa.Connection, before: float, limit: int) -> int:
    """Delete at most `limit` answers that expired before the instant `before`; say how many."""
    return _prune(connection, IDEMPOTENCY.c.id, IDEMPOTENCY.c.expires, before, limit)


def _prune(
    connection: sa.Connection, key: sa.Column[Any], at: sa.Column[Any], before: float, limit: int
) -> int:
    # Not DELETE with LIMIT, which only some know, nor a subquery of the same table.
    old = connection.scalars(sa.select(key).where(at < before).order_by(at).limit(limit)).all()
    if old:
        # Asked again: a row may have been taken over meanwhile.
        connection.execute(sa.delete(key.table).where(key.in_(old), at < before))
    return len(old)
