"""Engines, connections and sessions, sync and async; and a database without a trail."""

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from records.shop import Client, everything, run
from shipworthy.records import (
    DeletionState,
    DeletionUnknown,
    TrashNotInstalled,
    deletions,
    deletions_async,
    plan_restore_async,
    restore,
    restore_async,
)


def test_a_session_reads_anew_what_came_back(shop: sa.Engine) -> None:
    """In a session the restore is part of its transaction."""
    with Session(shop) as session:
        session.delete(session.get_one(Client, 1))
        session.commit()
        (deletion,) = deletions(session)
        restore(session, deletion.id)
        assert session.get_one(Client, 1).email == "ana@example.org"
        session.rollback()
        assert session.get(Client, 1) is None
        (still,) = deletions(session)
        assert still.state is DeletionState.DELETED


@pytest.mark.anyio
async def test_async_sessions_restore_too(shop: sa.Engine) -> None:
    """The same names with _async, for AsyncSession and AsyncEngine."""
    before = everything(shop)
    run(shop, "DELETE FROM clients WHERE id = 1")
    engine = create_async_engine(f"sqlite+aiosqlite:///{shop.url.database}")
    try:
        (deletion,) = await deletions_async(engine)
        assert (await plan_restore_async(engine, deletion.id)).offers == ("all",)
        async with AsyncSession(engine) as session:
            done = await restore_async(session, deletion.id)
            await session.commit()
        assert done.rows == 9
    finally:
        await engine.dispose()
    assert everything(shop) == before


def test_an_unknown_number_and_a_bare_database_are_refused(
    tmp_path: object, shop: sa.Engine
) -> None:
    """Each in a sentence that says what to do."""
    with pytest.raises(DeletionUnknown, match="`shipworthy trash list` shows"):
        restore(shop, 12345)
    bare = sa.create_engine("sqlite://")
    with pytest.raises(TrashNotInstalled, match="audit install"):
        deletions(bare)
    bare.dispose()
