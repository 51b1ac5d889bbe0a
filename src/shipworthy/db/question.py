"""How to find out, on another connection, what became of a COMMIT whose answer was lost.

Something is left before the COMMIT: a row of ours, which works on every database and through a
failover, or the number that PostgreSQL has given to the transaction anyway, which needs no tables.

Not here: when to ask, and what follows (`unit`, `transaction`).
"""

import time
from collections.abc import Mapping
from typing import Final, Protocol, final
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from shipworthy.db.dialects import TransactionStatus
from shipworthy.db.tables import OUTCOMES
from shipworthy.db.unit import CommitAnswer


class Question(Protocol):
    """What is noted in a transaction before its COMMIT, so that one can ask afterwards."""

    @property
    def text(self) -> str:
        """The statement by which a person finds out."""
        ...

    def ask(self, connection: Connection) -> CommitAnswer:
        """Ask on another connection; what it raises is no answer yet."""
        ...


@final
class TokenRow:
    """A row of ours that was committed with the unit, or not at all."""

    def __init__(self, connection: Connection) -> None:
        self._token = uuid4().hex
        self._write(connection, CommitAnswer.COMMITTED)

    @property
    def text(self) -> str:
        return f"SELECT state FROM {OUTCOMES.name} WHERE token = '{self._token}'"  # noqa: S608

    def ask(self, connection: Connection) -> CommitAnswer:
        found = connection.scalar(
            sa.select(OUTCOMES.c.state).where(OUTCOMES.c.token == self._token)
        )
        if found is not None:
            return CommitAnswer(found)
        # Not seen is not enough: it may be on its way. Once our row is in its place, it never will
        # be; where the transaction is still open, this waits for its end.
        self._write(connection, CommitAnswer.NEVER)
        connection.commit()
        return CommitAnswer.NEVER

    def _write(self, connection: Connection, state: CommitAnswer) -> None:
        row = OUTCOMES.insert().values(token=self._token, state=state, at=time.time())
        connection.execute(row)


@final
class ServerStatus:
    """The number that the server gave to the transaction, good on that server alone."""

    def __init__(self, status: TransactionStatus, xid: str, place: str) -> None:
        self._status = status
        self._xid = xid
        self._place = place

    @property
    def text(self) -> str:
        return f"{self._status.status.replace(':xid', repr(self._xid))} (on {self._place})"

    def ask(self, connection: Connection) -> CommitAnswer:
        if connection.scalar(sa.text(self._status.place)) != self._place:
            return CommitAnswer.UNKNOWN
        found = connection.scalar(sa.text(self._status.status), {"xid": self._xid})
        return _STATUSES.get(found, CommitAnswer.UNKNOWN)


_STATUSES: Final[Mapping[str | None, CommitAnswer]] = {
    "committed": CommitAnswer.COMMITTED,
    "aborted": CommitAnswer.NEVER,
    "in progress": CommitAnswer.OPEN,
}
