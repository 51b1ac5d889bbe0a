"""Flag mode is in force between two calls, and hides all but what is listed by name."""

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from records.flag_tables import Boat, fill
from records.leak_exceptions import FLAG_LEAKS_BEHIND_VIEWS, flag_leaks
from records.leak_shapes import SHAPES, judge_all
from records.leak_ways import flag, flag_and_views, trash
from shipworthy.records import flag_deletions


def test_what_ends_it_has_rows_read_and_removed_as_before(sqlite: sa.Engine):
    """Nothing of it stays on engines and sessions."""
    with sqlite.begin() as connection:
        fill(connection)
    end = flag_deletions(["boats.deleted_at"], engines=sqlite)
    with Session(sqlite) as session, session.begin():
        session.delete(session.get(Boat, 4))
    end()

    with Session(sqlite) as session, session.begin():
        boat = session.get(Boat, 4)
        assert boat.deletion_id
        session.delete(boat)
    with Session(sqlite) as session:
        assert session.get(Boat, 4) is None
        count = sa.select(sa.func.count()).select_from(Boat)
        assert session.scalar(count) == 3


@pytest.mark.slow
def test_there_are_as_many_shapes_as_we_say():
    """The matrix has more than the 58 shapes that were asked for, each with a name of its own."""
    assert len(SHAPES) == 103


@pytest.mark.slow
def test_nothing_deleted_is_seen_when_the_trash_keeps_it(engine: sa.Engine):
    """The row is gone from its table, so no shape of query can return it."""
    with trash(engine) as world:
        found = judge_all(world)

    assert {name: verdict for name, verdict in found.items() if verdict != "ok"} == {}


@pytest.mark.slow
def test_what_is_seen_through_a_flag_is_exactly_what_the_documentation_lists(engine: sa.Engine):
    """Each shape that leaks is in the list, none is in it that does not, and none fails."""
    with flag(engine) as world:
        found = judge_all(world)

    assert set(found.values()) == {"ok", "leak"}
    assert {name for name, verdict in found.items() if verdict == "leak"} == flag_leaks()


@pytest.mark.slow
def test_behind_the_views_of_postgresql_one_shape_is_left(postgres_url: str):
    """Raw SQL and Core read live rows alone, and the list is one shape long."""
    engine = sa.create_engine(postgres_url)
    with flag_and_views(engine) as world:
        found = judge_all(world)
    engine.dispose()

    leaks = {name for name, verdict in found.items() if verdict != "ok"}
    assert leaks == FLAG_LEAKS_BEHIND_VIEWS
