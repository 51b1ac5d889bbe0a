"""What users write, as mypy must accept it in scripts/check. Never run."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, assert_type

from sqlalchemy import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

import shipworthy
from shipworthy import actor, audit, harden, records
from shipworthy.errors import Draining, Rejected, ShipworthyError

Message = MutableMapping[str, Any]


async def asgi(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """An application as the ASGI specification writes it."""


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """An application as PEP 3333 writes it."""
    return []


hardened = harden(asgi)
again = harden(hardened)
from_wsgi = harden(wsgi)

assert_type(shipworthy.__version__, str)


def work() -> None:
    """The actor is scoped; what was rejected says when to come back."""
    with actor("import job"):
        pass
    try:
        work()
    except Draining as leaving:
        assert_type(leaving.retry_after_seconds, float)
    except Rejected as rejected:
        assert_type(rejected.status, int)
    except ShipworthyError as wrong:
        assert_type(str(wrong), str)


def look_back(session: Session, connection: Connection) -> None:
    """What was written, what it was like before, and whether anybody changed the log since."""
    for version in audit.history(session, work):
        assert_type(version, audit.RowVersion)
    assert_type(list(audit.as_of(session, 4711).rows(work)), list[audit.PastRow])
    assert_type(audit.verify(connection).ok, bool)


def put_back(engine: Engine) -> None:
    """A deletion is found, planned and restored; what stands in the way is an exception."""
    for found in records.deletions(engine):
        assert_type(found, records.Deletion)
        assert_type(records.plan_restore(engine, found.id), records.RestorePlan)
        try:
            assert_type(records.restore(engine, found.id, mode="with-needs"), records.Restored)
        except records.RestoreRefused as refused:
            assert_type(refused.plan, records.RestorePlan)


async def put_back_in_a_task(session: AsyncSession) -> None:
    """The same for an asynchronous application."""
    for found in await records.deletions_async(session):
        assert_type(await records.restore_async(session, found.id), records.Restored)
