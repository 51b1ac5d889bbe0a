"""What differs between databases: the meaning of their errors, and a few statements.

Each dialect is a table with a small rule for what the table does not name. Elsewhere no code asks
which database it talks to; it asks for the dialect, and the dialect for what it needs.

Not here: quoting, types and everything else that SQLAlchemy's dialects do; which failure is
followed by what (`classify`, `transaction`); how a driver's connection is cut (`drivers`).
"""

from typing import Protocol

from shipworthy.db.dialects.mariadb import MARIADB
from shipworthy.db.dialects.postgresql import POSTGRESQL
from shipworthy.db.dialects.sqlite import SQLITE
from shipworthy.db.dialects.statements import AdvisoryLock, TransactionStatus
from shipworthy.db.outcome import Sign, Verdict

__all__ = [
    "AdvisoryLock",
    "Dialect",
    "TransactionStatus",
    "dialect_named",
    "dialect_of",
]


class Dialect(Protocol):
    """One kind of database. Texts are for `sqlalchemy.text`, with named parameters."""

    @property
    def name(self) -> str:
        """Its name, as SQLAlchemy spells it."""
        ...

    @property
    def transaction_status(self) -> TransactionStatus | None:
        """How to ask, on a new connection, what became of a transaction; None: it cannot say."""
        ...

    def by_code(self, sign: Sign) -> Verdict | None:
        """Judge by SQLSTATE, number or code; None where the sign has none."""
        ...

    def by_text(self, sign: Sign) -> Verdict | None:
        """Judge what a failed connect says where no code came with it; None for anything else."""
        ...

    def by_type(self, sign: Sign) -> Verdict | None:
        """Judge by class where there is no code, so that the driver itself complained."""
        ...

    def advisory_lock(self, name: str) -> AdvisoryLock | None:
        """Return the lock of that name in the connected database; None where there are none."""
        ...


_BY_NAME: dict[str, Dialect] = {
    "mariadb": MARIADB,
    "mysql": MARIADB,
    "postgresql": POSTGRESQL,
    "sqlite": SQLITE,
}
# Who raises what: the first part of a class's full name.
_BY_DRIVER: dict[str, Dialect] = {
    "aiosqlite": SQLITE,
    "asyncmy": MARIADB,
    "asyncpg": POSTGRESQL,
    "psycopg": POSTGRESQL,
    "pymysql": MARIADB,
    "sqlite3": SQLITE,
}
_ADAPTED = "sqlalchemy.dialects."


def dialect_named(name: str) -> Dialect | None:
    """Return the dialect that SQLAlchemy calls `name`, None for one we do not know."""
    return _BY_NAME.get(name)


def dialect_of(sign: Sign) -> Dialect | None:
    """Return the dialect whose driver raised `sign`, None where no driver of ours did."""
    for name in sign.types:
        # SQLAlchemy raises in a driver's stead what its asyncio adapters translate.
        if name.startswith(_ADAPTED):
            return _BY_NAME.get(name.split(".")[2])
        found = _BY_DRIVER.get(name.partition(".")[0])
        if found is not None:
            return found
    return None
