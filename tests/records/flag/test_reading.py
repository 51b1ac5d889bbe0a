"""Flagged rows are left out, in the scope of the caller alone. The matrix has the shapes."""

from threading import Thread

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from records.flag_tables import Boat
from shipworthy.errors import Misuse
from shipworthy.records import flag_deletions, include_deleted


@pytest.fixture
def one_gone(small_fleet: sa.Engine) -> sa.Engine:
    """The fleet, in which Bee is flagged."""
    with Session(small_fleet) as session, session.begin():
        session.delete(session.get(Boat, 4))
    return small_fleet


def _names(session: Session) -> set[str]:
    return set(session.scalars(sa.select(Boat.name)))


def test_deleted_rows_are_seen_in_the_block_and_not_after_it(one_gone: sa.Engine):
    """The same statement, compiled once, gives both answers."""
    with Session(one_gone) as session:
        assert "Bee" not in _names(session)
        with include_deleted():
            assert "Bee" in _names(session)
        assert "Bee" not in _names(session)


def test_one_statement_may_see_them(one_gone: sa.Engine):
    """By an execution option."""
    with Session(one_gone) as session:
        statement = sa.select(Boat.name).where(Boat.id == 4)

        assert session.scalar(statement.execution_options(include_deleted=True)) == "Bee"
        assert session.scalar(statement) is None


def test_the_block_is_of_its_thread_and_not_of_the_session(one_gone: sa.Engine):
    """Whoever uses the same session or connection elsewhere is not in it."""
    seen: list[set[str]] = []
    with Session(one_gone) as session, include_deleted():
        assert "Bee" in _names(session)
        elsewhere = Thread(target=lambda: seen.append(_names(Session(one_gone))))
        elsewhere.start()
        elsewhere.join(10.0)

    assert seen == [{"Ida", "Una", "Tot"}]


def test_an_object_loaded_among_deleted_rows_can_be_refreshed_outside(one_gone: sa.Engine):
    """It is not gone only because the block is."""
    with Session(one_gone) as session:
        with include_deleted():
            boat = session.get(Boat, 4)
        session.expire(boat)

        assert boat.name == "Bee"


def test_a_model_without_the_columns_is_not_read_as_if_nothing_were_flagged(sqlite: sa.Engine):
    """It is refused: an unfiltered read would show what was deleted."""
    end = flag_deletions(["engines.deleted_at"], engines=sqlite)
    try:
        from sqlalchemy.orm import declarative_base

        base = declarative_base()
        made = type(
            "Motor",
            (base,),
            {"__tablename__": "engines", "id": sa.Column(sa.Integer, primary_key=True)},
        )
        with Session(sqlite) as session, pytest.raises(Misuse, match="no column deleted_at"):
            session.scalars(sa.select(made)).all()
    finally:
        end()
