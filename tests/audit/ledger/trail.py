"""A small application with its trail, sealed by hand: what the ledger is tested on."""

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from audit.finality import PATIENCE_SECONDS, is_soon_final
from shipworthy.audit import AuditSettings, audit_dialect, install, read_shapes
from shipworthy.audit.ledger import keys
from shipworthy.audit.ledger.note import PrivateKey
from shipworthy.audit.ledger.seal import LEASE, SealedBatch, Sealer, SealLimits
from shipworthy.audit.script import run_text
from shipworthy.clock import ManualClock
from shipworthy.store import Lease, SqlLeases

APP = sa.MetaData()
PEOPLE = sa.Table(
    "people",
    APP,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(40), nullable=False),
    sa.Column("email", sa.String(80)),
    mysql_engine="InnoDB",
)
ORDERS = sa.Table(
    "orders",
    APP,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("person_id", sa.Integer, nullable=False),
    sa.Column("total", sa.Numeric(20, 6)),
    sa.Column("note", sa.String(200)),
    mysql_engine="InnoDB",
)
SETTINGS = AuditSettings(personal=("people.email = id",))
KEY = PrivateKey("shipworthy.audit/test", bytes(range(32)))


class Trail:
    """The database, and a sealer that seals when told."""

    def __init__(self, url: str, **options: Any) -> None:
        self.url = url
        self.engine = sa.create_engine(url, **options)
        found = audit_dialect(self.engine.dialect.name)
        assert found is not None
        self.dialect = found
        self.clock = ManualClock()
        self.leases = SqlLeases(self.engine)
        self._holders = itertools.count(1)

    def install(self) -> None:
        """Make the application's tables, capture them, and begin the log."""
        with self.engine.begin() as connection:
            APP.create_all(connection)
        with self.engine.begin() as connection:
            install(connection, SETTINGS)
            keys.begin_log(connection, KEY.public)

    def uncaptured(self) -> None:
        """Take the triggers of the application's tables away, as who owns the database can."""
        self._capture("drop")

    def captured(self) -> None:
        """Make them again."""
        self._capture("create")

    def _capture(self, what: str) -> None:
        with self.engine.begin() as connection:
            catalog = self.dialect.read_catalog(connection)
            for shape in read_shapes(connection).values():
                for sql in getattr(self.dialect.capture(shape, catalog), what):
                    run_text(connection, sql)

    def unguarded(self) -> None:
        """Take the guards of the log away, as who owns the database can."""
        with self.engine.begin() as connection:
            for sql in self.dialect.base_drop():
                run_text(connection, sql)

    def guarded(self) -> None:
        """Put them back."""
        with self.engine.begin() as connection:
            for sql in self.dialect.base_ddl():
                run_text(connection, sql)

    @contextmanager
    def lease(self) -> Iterator[Lease]:
        """Hold the sealer's lease."""
        lease = self.leases.take(LEASE, holder=f"test {next(self._holders)}", seconds=60)
        assert lease is not None
        try:
            yield lease
        finally:
            self.leases.give_back(lease)

    def sealer(self, key: PrivateKey | None = KEY, **limits: Any) -> Sealer:
        """Return a new sealer."""
        return Sealer(self.engine, key, limits=SealLimits(**limits), clock=self.clock)

    def seal(
        self, key: PrivateKey | None = KEY, *, wait: bool = True, **limits: Any
    ) -> list[SealedBatch]:
        """Seal all there is; waits for what is open elsewhere on the server to end.

        Before it seals, so that what comes into which batch is its own matter.
        """
        if wait:
            is_soon_final(self.engine)
        sealer, found = self.sealer(key, **limits), []
        give_up = time.monotonic() + PATIENCE_SECONDS
        with self.lease() as lease:
            while True:
                found += iter(lambda: sealer.seal(lease), None)
                if not wait or not sealer.unsealed().entries or time.monotonic() > give_up:
                    return found
                time.sleep(0.02)

    def write(self, count: int = 3, first: int = 1) -> None:
        """Insert people, one in a transaction, with an order each; then change each of them."""
        for number in range(first, first + count):
            with self.engine.begin() as connection:
                connection.execute(
                    sa.insert(PEOPLE).values(
                        id=number, name=f"person {number}", email=f"{number}@example.org"
                    )
                )
                connection.execute(
                    sa.insert(ORDERS).values(
                        id=number, person_id=number, total=number * 1.5, note="é \u2028 'x'"
                    )
                )
            with self.engine.begin() as connection:
                connection.execute(
                    sa.update(PEOPLE).where(PEOPLE.c.id == number).values(email=f"{number}@new.org")
                )

    def execute(self, statement: Any, *values: Any) -> int:
        """Run one statement in a transaction of its own; returns how many rows it met."""
        with self.engine.begin() as connection:
            return connection.execute(statement, *values).rowcount

    def close(self) -> None:
        """Let go of the database."""
        self.engine.dispose()
