"""A DELETE becomes an UPDATE, by whichever way it is asked for."""

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from records.flag_tables import Boat, Owner
from shipworthy.records import really_delete

BOATS, OWNERS = Boat.__table__, Owner.__table__


def _state(engine: sa.Engine) -> dict[str, str | None]:
    """Return the deletion of each row, by its name; a plain connection sees them all."""
    with engine.connect() as connection:
        boats = connection.execute(sa.select(BOATS.c.name, BOATS.c.deletion_id)).all()
        owners = connection.execute(sa.select(OWNERS.c.email, OWNERS.c.deletion_id)).all()
    return dict([*boats, *owners])


def _by_session(session: Session) -> None:
    session.delete(session.get(Owner, 1))


def _by_query(session: Session) -> None:
    assert session.execute(sa.delete(Owner).where(Owner.id == 1)).rowcount == 1


def _by_legacy_query(session: Session) -> None:
    assert session.query(Owner).filter_by(id=1).delete() == 1


def _by_core(session: Session) -> None:
    assert session.execute(sa.delete(OWNERS).where(OWNERS.c.id == 1)).rowcount == 1


@pytest.mark.parametrize("delete", [_by_session, _by_query, _by_legacy_query, _by_core])
def test_a_deleted_row_is_flagged_with_all_that_the_database_would_have_taken(
    fleet: sa.Engine, delete: Callable[[Session], None]
):
    """Over two levels, the second a reference to the table itself; all have one id."""
    with Session(fleet) as session, session.begin():
        delete(session)

    found = _state(fleet)
    ids = {found[name] for name in ("ana", "Ida", "Una", "Tot")}
    assert len(ids) == 1
    assert None not in ids
    assert found["bob"] is found["Bee"] is None


def test_the_time_is_that_of_the_clock(fleet: sa.Engine):
    """In UTC, also where the column has no zone."""
    with Session(fleet) as session, session.begin():
        session.delete(session.get(Boat, 4))

    with fleet.connect() as connection:
        when = connection.scalar(sa.select(BOATS.c.deleted_at).where(BOATS.c.id == 4))
    assert when.isoformat()[:19] == "2023-11-14T22:13:20"


def test_a_deleted_object_is_deleted_for_its_session(small_fleet: sa.Engine):
    """By a flush and by a query alike, until the transaction is rolled back."""
    with Session(small_fleet) as session:
        boat, other = session.get(Boat, 4), session.get(Boat, 1)
        session.delete(boat)
        session.flush()
        session.execute(sa.delete(Boat).where(Boat.id == 1))

        assert sa.inspect(boat).deleted
        assert sa.inspect(other).deleted
        assert session.get(Boat, 4) is session.get(Boat, 1) is None
        session.rollback()
        assert session.get(Boat, 4) is boat
        assert session.get(Boat, 1) is other


def test_many_objects_of_one_flush_are_flagged(fleet: sa.Engine):
    """Their statement is executed for all of them at once."""
    with Session(fleet) as session, session.begin():
        for number in (1, 2, 4):
            session.delete(session.get(Boat, number))

    found = _state(fleet)
    assert {name for name, deletion in found.items() if deletion} == {"Ida", "Una", "Tot", "Bee"}


def test_two_transactions_are_two_deletions(small_fleet: sa.Engine):
    """What is flagged already keeps its own id."""
    with Session(small_fleet) as session:
        session.delete(session.get(Boat, 1))
        session.commit()
        session.delete(session.get(Owner, 1))
        session.commit()

    found = _state(small_fleet)
    assert found["Una"] == found["ana"] != found["Ida"] is not None


def test_rows_are_removed_where_that_is_asked_for(fleet: sa.Engine):
    """The database takes what it takes."""
    with Session(fleet) as session, session.begin(), really_delete():
        session.execute(sa.delete(Owner).where(Owner.id == 1))

    assert set(_state(fleet)) == {"bob", "Bee"}


def test_a_delete_returns_what_it_was_asked_for(small_fleet: sa.Engine):
    """RETURNING stays where the database has it for an UPDATE."""
    with small_fleet.begin() as connection:
        statement = sa.delete(BOATS).where(BOATS.c.owner_id == 2).returning(BOATS.c.name)

        assert connection.scalars(statement).all() == ["Bee"]
