"""Buckets in a table of a database server, exact over all processes that use it.

Each batch is one transaction: the rows are locked in the order of their keys and read with the
server's own time, it is decided here, and what changed is written and committed by one message. So
many requests cost three ways to the server, and one key that everybody asks for is locked for one.

The table is made by `shipworthy db migrate`. It is written to no log where the server can leave
that out (PostgreSQL); there a crash of the server empties it, and every limit begins anew.
"""

from collections.abc import Sequence
from contextlib import suppress
from secrets import token_hex
from time import monotonic
from typing import Final, final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from typing_extensions import override

from shipworthy.context import deadline_scope
from shipworthy.db import DbSettings, own_engine, sync_url
from shipworthy.store.bucket import BucketsUnavailable
from shipworthy.store.bucket_batches import Shelf
from shipworthy.store.bucket_rows import Answer, BucketRow, Wish, keys_of, settle
from shipworthy.store.dialects.bucket_statements import begin_again, bucket_statements, no_table
from shipworthy.store.tables import BUCKETS

# A deadlock with those who delete, or a row that was deleted before it was locked: both are rare.
TRIES: Final = 8
# A connection is made while a request waits, so what comes meanwhile may not find it yet.
CONNECT_SECONDS: Final = 1.0
PRUNE_SECONDS: Final = 0.5
# Two rows are looked at for each new one: so at most about half of what lies there has run out.
_LOOK_AT: Final = 128
_LOOKS_PER_NEW: Final = 2


class _Missing(Exception):
    """Some rows are not there, so they could not be locked."""

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys = keys


@final
class SqlShelf(Shelf):
    """The rows in `shipworthy_buckets` of the database at `url`; one connection, of its own.

    Nothing is connected before it is used. Raises `ValueError` for a database that is not known.
    """

    def __init__(self, url: sa.URL | str, *, name: str = "buckets") -> None:
        target = sync_url(url)
        self._say = bucket_statements(target.get_backend_name())
        self._engine = own_engine(
            target,
            name=name,
            settings=DbSettings(
                connect_seconds=CONNECT_SECONDS,
                leak_after_seconds=0.0,
                statement_warn_seconds=0.0,
                server_limit=False,
            ),
            pool_size=1,
            max_overflow=0,
            # Each transaction is ended here, so there is nothing to take back.
            pool_reset_on_return=None,
        )
        sa.event.listen(self._engine, "connect", self._ready)
        self._read = False
        self._looked_to = token_hex(4)
        self._to_look = 0

    @override
    def settle(self, wishes: Sequence[Wish], *, deadline: float) -> Sequence[Answer]:
        try:
            with deadline_scope(deadline):
                answers, now_ns = self._settled(wishes)
        except SQLAlchemyError as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            if no_table(cause):
                raise BucketsUnavailable(
                    f"the database of the buckets has no table {BUCKETS.name}: run `shipworthy db "
                    f"migrate`"
                ) from error
            raise BucketsUnavailable(f"the database of the buckets failed: {cause}") from error
        if self._to_look >= _LOOK_AT:
            self._look(now_ns)
        return answers

    @override
    def close(self) -> None:
        with suppress(SQLAlchemyError):
            self._engine.dispose()

    def _ready(self, connection: sa.engine.interfaces.DBAPIConnection, _: object) -> None:
        cursor = connection.cursor()
        for statement in self._say.session:
            cursor.execute(statement)
        cursor.close()
        connection.commit()

    def _settled(self, wishes: Sequence[Wish]) -> tuple[Sequence[Answer], int]:
        for tried in range(1, TRIES + 1):
            try:
                return self._transaction(wishes)
            except _Missing as missing:
                self._add(missing.keys)
            except DBAPIError as error:
                # One that the server closed while it lay idle says so when it is asked; what was
                # read by then was read by nobody.
                stale = tried == 1 and error.connection_invalidated and not self._read
                if tried == TRIES or not (stale or begin_again(error.orig)):
                    raise
        raise BucketsUnavailable(f"others deleted what was added {TRIES} times in a row")

    def _transaction(self, wishes: Sequence[Wish]) -> tuple[Sequence[Answer], int]:
        keys = keys_of(wishes)
        self._read = False
        with self._engine.connect() as connection, connection.begin() as transaction:
            read = connection.exec_driver_sql(*self._say.lock(keys)).all()
            self._read = True
            rows = {
                key: BucketRow(until_ns, None if rest is None else bytes(rest))
                for _, key, until_ns, rest in read
                if key is not None
            }
            if len(rows) < len(keys):
                raise _Missing([key for key in keys if key not in rows])
            now_ns = max(int(row[0]) for row in read)
            settled = settle(wishes, rows, now_ns)
            if not settled.rows:
                transaction.rollback()
                return settled.answers, now_ns
            written = self._say.write([(key, *settled.rows[key]) for key in sorted(settled.rows)])
            connection.exec_driver_sql(written, execution_options={"no_parameters": True})
        return settled.answers, now_ns

    def _add(self, keys: Sequence[str]) -> None:
        """Add rows by themselves: whoever has others locked meanwhile would keep them for long."""
        with self._engine.begin() as connection:
            connection.exec_driver_sql(*self._say.add(keys))
        self._to_look += _LOOKS_PER_NEW * len(keys)

    def _look(self, now_ns: int) -> None:
        """Go on through the rows, and delete those that have run out; what fails is done later."""
        looked, self._to_look = self._to_look, 0
        with (
            suppress(SQLAlchemyError),
            deadline_scope(monotonic() + PRUNE_SECONDS),
            self._engine.begin() as connection,
        ):
            found = connection.exec_driver_sql(self._say.last, (self._looked_to, looked))
            last = found.scalar()
            if last is not None:
                connection.exec_driver_sql(self._say.prune, (self._looked_to, last, now_ns))
            self._looked_to = last or ""
