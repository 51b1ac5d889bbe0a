"""What the public functions are called with: an engine, a connection or a session; or async."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from shipworthy.records.collect import collect
from shipworthy.records.refusals import TrashNotInstalled
from shipworthy.records.settings import TrashSettings
from shipworthy.records.tables import DELETIONS

SyncTarget = sa.Engine | sa.Connection | Session
AsyncTarget = AsyncEngine | AsyncConnection | AsyncSession
P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def working(
    target: SyncTarget, settings: TrashSettings | None = None, *, all_known: bool = False
) -> Iterator[sa.Connection]:
    """Give a connection that knows what was deleted; refuses a database without a trail.

    What came since somebody last looked is recorded first. Where another transaction is about that,
    or the database takes no writes now, what is known already has to do; with `all_known` it waits,
    and fails where it cannot.

    With an engine the work is a transaction of its own, and what was collected stays whatever
    becomes of it. With a connection or a session it is part of theirs, which the caller ends; a
    session is flushed before, and reads everything anew after.
    """
    tables = (settings or TrashSettings()).tables
    if isinstance(target, sa.Engine):
        with target.begin() as connection:
            _ready(connection, tables, wait=all_known)
        with target.begin() as connection:
            yield connection
    elif isinstance(target, sa.Connection):
        _ready(target, tables, wait=all_known)
        yield target
    else:
        target.flush()
        connection = target.connection()
        _ready(connection, tables, wait=all_known)
        yield connection
        target.expire_all()


async def run_async(
    target: AsyncTarget,
    function: Callable[Concatenate[SyncTarget, P], T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Run it where the async driver is waited for; an engine gives a transaction of its own."""
    if isinstance(target, AsyncEngine):
        async with target.begin() as connection:
            return await connection.run_sync(function, *args, **kwargs)
    return await target.run_sync(function, *args, **kwargs)


def _ready(connection: sa.Connection, tables: Sequence[str], *, wait: bool) -> None:
    if not sa.inspect(connection).has_table(DELETIONS.name):
        raise TrashNotInstalled
    collect(connection, tables=tables, wait=wait)
