"""Leases in a table of the application's database, by the clock of that database.

Each call is one short transaction: the time and the row are read, it is decided, and the row is
written only where it is still as it was read. So no lock is held while anybody thinks, and of two
who try at once one finds nothing to write.
"""

from collections.abc import Callable
from typing import Final, final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from typing_extensions import override

from shipworthy.store import lease as decide
from shipworthy.store.dialects import now_statement
from shipworthy.store.hold import LeaseLost
from shipworthy.store.lease import Lease, LeaseRow
from shipworthy.store.port import Leases
from shipworthy.store.tables import LEASES

_COLUMNS: Final = (
    LEASES.c.name,
    LEASES.c.holder,
    LEASES.c.token,
    LEASES.c.until_microseconds,
)


@final
class SqlLeases(Leases):
    """Leases in the table `shipworthy_leases`; for any number of threads and processes.

    How long a call takes is bounded by what bounds `engine`: its timeouts, or those of `protect`.
    `now` takes the place of the database's clock, in microseconds, for tests.
    """

    def __init__(
        self, engine: sa.Engine, *, now: Callable[[sa.Connection], int] | None = None
    ) -> None:
        self._engine = engine
        self._now_statement = sa.text(now_statement(engine.dialect.name))
        self._now = now or self._ask_now

    @override
    def take(self, name: str, *, holder: str, seconds: float) -> Lease | None:
        row = self._change(
            name,
            lambda found, now: decide.take(
                found, name=name, holder=holder, now_microseconds=now, seconds=seconds
            ),
        )
        return None if row is None else Lease(name=name, holder=holder, token=row.token)

    @override
    def renew(self, lease: Lease, *, seconds: float) -> bool:
        row = self._change(
            lease.name,
            lambda found, now: decide.renew(found, lease, now_microseconds=now, seconds=seconds),
        )
        return row is not None

    @override
    def give_back(self, lease: Lease) -> bool:
        row = self._change(lease.name, lambda found, _now: decide.give_back(found, lease))
        return row is not None

    @override
    def look(self, name: str) -> LeaseRow | None:
        with self._engine.connect() as connection:
            return _read(connection, name)

    @staticmethod
    def fence(connection: sa.Connection, lease: Lease) -> None:
        """Hold the lease's row until the transaction of `connection` ends, so nobody takes it.

        Raises `LeaseLost` where it is another's by now; then the caller rolls back. What is
        written in this transaction is written under the lease, however long it slept before.
        """
        found = connection.execute(
            sa.update(LEASES)
            .where(
                LEASES.c.name == lease.name,
                LEASES.c.token == lease.token,
                LEASES.c.holder == lease.holder,
                LEASES.c.until_microseconds > 0,
            )
            # Not changed, only locked, in the one way that all databases know.
            .values(holder=lease.holder)
        )
        if found.rowcount != 1:
            raise LeaseLost(lease, _read(connection, lease.name))

    def _change(
        self, name: str, decided: Callable[[LeaseRow | None, int], LeaseRow | None]
    ) -> LeaseRow | None:
        """Write what was decided, unless another was faster: then there is none."""
        with self._engine.connect() as connection:
            before = _read(connection, name)
            after = decided(before, self._now(connection))
            # In autocommit terms: nothing was written yet, and the reading is over.
            connection.rollback()
            if after is None or after == before:
                return after
            try:
                with connection.begin():
                    written = _write(connection, before, after)
            except IntegrityError:  # another was the first ever to take it
                return None
            return after if written else None

    def _ask_now(self, connection: sa.Connection) -> int:
        return int(connection.execute(self._now_statement).scalar_one())


def _read(connection: sa.Connection, name: str) -> LeaseRow | None:
    row = connection.execute(sa.select(*_COLUMNS).where(LEASES.c.name == name)).mappings().first()
    return None if row is None else LeaseRow(**row)


def _write(connection: sa.Connection, before: LeaseRow | None, after: LeaseRow) -> bool:
    values = {
        "holder": after.holder,
        "token": after.token,
        "until_microseconds": after.until_microseconds,
    }
    if before is None:
        connection.execute(sa.insert(LEASES).values(name=after.name, **values))
        return True
    found = connection.execute(
        sa.update(LEASES)
        .where(
            LEASES.c.name == before.name,
            LEASES.c.holder == before.holder,
            LEASES.c.token == before.token,
            LEASES.c.until_microseconds == before.until_microseconds,
        )
        .values(**values)
    )
    return found.rowcount == 1
