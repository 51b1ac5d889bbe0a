"""MariaDB: below which number every entry of the log is final.

InnoDB says of no row whether its transaction has ended. But a READ UNCOMMITTED read sees entries of
open transactions and another read does not, so the first that only the former sees is where the
log is still being written.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import sqlalchemy as sa

from shipworthy.audit.tables import BATCHES, ENTRIES
from shipworthy.db import connection_beside

# Numbers looked at one by one; of more than these only count and sums are compared.
_FEW: Final = 256


def read_horizon(connection: sa.Connection) -> int:
    """Return the number below which `connection`, as it reads now, sees every entry there is.

    Asked of `connection` itself last, so it holds for what it reads in the same transaction, also
    where that reads an old snapshot. An entry whose number was given and that is not yet written
    cannot be seen by anybody: it comes late, and the ledger counts for that.
    """
    sealed = connection.scalar(sa.select(sa.func.max(BATCHES.c.to_position)))
    begin = int(sealed or 0)
    with uncommitted_beside(connection) as uncommitted:
        end = int(uncommitted.scalar(sa.select(sa.func.max(ENTRIES.c.seq))) or 0) + 1
        return _first_unseen(uncommitted, connection, begin, end)


@contextmanager
def uncommitted_beside(connection: sa.Connection) -> Iterator[sa.Connection]:
    """Yield another connection to the database of `connection`, which sees what is uncommitted.

    Another: an open transaction keeps its isolation. Not of the pool, where whoever reads a horizon
    holds a connection already: as many of them as it has connections would wait for each other.
    """
    with connection_beside(connection) as other:
        yield other.execution_options(isolation_level="READ UNCOMMITTED")


def _first_unseen(
    uncommitted: sa.Connection, connection: sa.Connection, begin: int, end: int
) -> int:
    """Return the first number in the range that `connection` does not see; `end` if none."""
    while begin < end:
        if end - begin <= _FEW:
            within = ENTRIES.c.seq.between(begin, end - 1)
            numbers = sa.select(ENTRIES.c.seq).where(within)
            unseen = set(uncommitted.scalars(numbers)) - set(connection.scalars(numbers))
            return min(unseen, default=end)
        middle = (begin + end) // 2
        if _digest(uncommitted, begin, middle) != _digest(connection, begin, middle):
            end = middle
        elif _digest(uncommitted, middle, end) == _digest(connection, middle, end):
            return end
        else:
            begin = middle
    return end


def _digest(connection: sa.Connection, begin: int, end: int) -> tuple[int, int, int]:
    """Return what tells sets of numbers apart: how many, their sum, and that of their squares."""
    seq = ENTRIES.c.seq
    steps = seq - begin + 1
    row = connection.execute(
        sa.select(
            sa.func.count(),
            sa.func.coalesce(sa.func.sum(steps), 0),
            sa.func.coalesce(sa.func.sum(steps * steps), 0),
        ).where(seq.between(begin, end - 1))
    ).one()
    return int(row[0]), int(row[1]), int(row[2])
