"""Flag deletions are listed by their ids, and come back whole or not at all."""

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from records.flag_tables import FLAGGED, Boat, Owner
from shipworthy.errors import Misuse
from shipworthy.records import (
    FlagRestoreRefused,
    flagged_deletions,
    flagged_deletions_async,
    restore_flagged,
    restore_flagged_async,
)


def _delete(engine: sa.Engine, entity: type, number: int) -> None:
    with Session(engine) as session, session.begin():
        session.delete(session.get(entity, number))


def test_a_deletion_is_listed_with_its_rows_by_table(fleet: sa.Engine):
    """And with its time, in UTC whatever the column has."""
    _delete(fleet, Owner, 1)

    (found,) = flagged_deletions(fleet, FLAGGED)

    assert found.tables == {"owners": 1, "boats": 3}
    assert found.rows == 4
    assert found.at.isoformat() == "2023-11-14T22:13:20+00:00"
    assert found.facts()["rows"] == 4


def test_a_deletion_comes_back_as_one(fleet: sa.Engine):
    """What was flagged before it stays so."""
    _delete(fleet, Boat, 1)
    (first,) = flagged_deletions(fleet, FLAGGED)
    _delete(fleet, Owner, 1)
    second = next(it for it in flagged_deletions(fleet, FLAGGED) if it.id != first.id)

    assert restore_flagged(fleet, FLAGGED, second.id) == 3

    with Session(fleet) as session:
        assert session.get(Owner, 1).email == "ana"
        assert session.get(Boat, 1) is None
    assert [it.id for it in flagged_deletions(fleet, FLAGGED)] == [first.id]


def test_a_row_under_one_that_is_flagged_still_does_not_come_back(small_fleet: sa.Engine):
    """The deletion that must be restored first is named."""
    _delete(small_fleet, Boat, 1)
    (first,) = flagged_deletions(small_fleet, FLAGGED)
    _delete(small_fleet, Owner, 1)
    second = next(it for it in flagged_deletions(small_fleet, FLAGGED) if it.id != first.id)

    with pytest.raises(FlagRestoreRefused, match=f"deletion {second.id} flagged; restore that"):
        restore_flagged(small_fleet, FLAGGED, first.id)


@pytest.mark.parametrize(
    ("stands", "said"),
    [
        (
            (
                "CREATE UNIQUE INDEX live ON boats (name) WHERE deleted_at IS NULL",
                "UPDATE boats SET name = (SELECT name FROM boats WHERE id = 1) WHERE id = 2",
            ),
            "UNIQUE constraint failed: boats.name",
        ),
        (
            ("CREATE TRIGGER w BEFORE UPDATE ON boats BEGIN SELECT RAISE(ABORT, 'no'); END",),
            "no",
        ),
    ],
)
def test_what_the_database_has_against_it_is_said_in_its_words(
    small_fleet: sa.Engine, stands: tuple[str, ...], said: str
):
    """A unique value that a live row has taken, or whatever else it is; nothing was changed."""
    _delete(small_fleet, Boat, 1)
    (found,) = flagged_deletions(small_fleet, FLAGGED)
    with small_fleet.begin() as connection:
        for statement in stands:
            connection.exec_driver_sql(statement)

    with pytest.raises(FlagRestoreRefused, match=f"a row of boats cannot come back, .* {said}"):
        restore_flagged(small_fleet, FLAGGED, found.id)

    assert flagged_deletions(small_fleet, FLAGGED) == [found]


def test_an_id_that_no_row_carries_is_refused(small_fleet: sa.Engine):
    """It is no success of nothing."""
    with pytest.raises(FlagRestoreRefused, match="no row carries the deletion nothing"):
        restore_flagged(small_fleet, FLAGGED, "nothing")


@pytest.mark.parametrize(
    ("flagged", "said"),
    [
        ("tasks.deleted_at", "not under flag mode yet; run `shipworthy trash adopt tasks`"),
        ("tusks.deleted_at", "there is no table tusks in this database"),
    ],
)
def test_a_table_that_is_not_adopted_is_told_how(sqlite: sa.Engine, flagged: str, said: str):
    """What the settings name may not be there yet."""
    with sqlite.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE tasks (id INTEGER PRIMARY KEY)")

    with pytest.raises(Misuse, match=said):
        flagged_deletions(sqlite, [flagged])
    with pytest.raises(Misuse, match=said):
        restore_flagged(sqlite, [flagged], "x")


@pytest.mark.anyio
async def test_async_code_lists_and_restores_them_too(small_fleet: sa.Engine):
    """With an engine, whose transaction is its own, and with a session, whose caller commits."""
    _delete(small_fleet, Owner, 1)
    engine = create_async_engine(small_fleet.url.set(drivername="sqlite+aiosqlite"))

    (found,) = await flagged_deletions_async(engine, FLAGGED)
    async with AsyncSession(engine) as session:
        rows = await restore_flagged_async(session, FLAGGED, found.id)
        await session.commit()
    left = await flagged_deletions_async(engine, FLAGGED)
    await engine.dispose()

    assert (found.rows, rows, left) == (4, 4, [])
