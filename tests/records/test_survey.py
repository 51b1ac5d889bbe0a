"""What a plan says is what happens, whatever stands in the way."""

import random

import pytest
import sqlalchemy as sa
from hypothesis import given, settings, strategies as st

from records.conftest import ready_engine
from records.generated import World, damage, delete_some, drop_world, make_world
from shipworthy.records import (
    Obstacle,
    ObstacleKind,
    RestorePlan,
    RestoreRefused,
    deletions,
    plan_restore,
    restore,
)
from shipworthy.records.carry import carry_out
from shipworthy.records.listing import find_deletion
from shipworthy.records.survey import survey_deletion

# What the database itself refuses, if it is asked; the others are about what has no place any more.
_ASKED = {
    ObstacleKind.PARENT_GONE,
    ObstacleKind.PARENT_DELETED,
    ObstacleKind.KEY_TAKEN,
    ObstacleKind.UNIQUE_TAKEN,
    ObstacleKind.COLUMN_REQUIRED,
    ObstacleKind.REJECTED,
}


def plan_and_restore(world: World, draw: random.Random) -> list[Obstacle]:
    """Delete, damage the present, and hold each plan against what happens; returns obstacles."""
    for _ in range(draw.randrange(1, 3)):
        delete_some(world, draw)
    damage(world, draw)
    met: list[Obstacle] = []
    for one in deletions(world.engine, limit=1000):
        if one.id in {left.id for left in deletions(world.engine, limit=1000)}:
            plan = plan_restore(world.engine, one.id)
            met += plan.obstacles
            verdicts_hold(world, plan)
            outcome_holds(world, plan)
    return met


def verdicts_hold(world: World, plan: RestorePlan) -> None:
    """Each row that is said to be blocked by itself is refused by the database, alone."""
    with world.engine.connect() as connection:
        deletion = find_deletion(connection, plan.deletion.id, lock=True)
        survey = survey_deletion(connection, deletion)
        for obstacle in plan.obstacles:
            if obstacle.kind in _ASKED and obstacle.seq in survey.rows:
                savepoint = connection.begin_nested()
                assert carry_out(connection, survey, {obstacle.seq}).rows == set(), obstacle
                savepoint.rollback()
        connection.rollback()


def outcome_holds(world: World, plan: RestorePlan) -> None:
    """What is offered happens, and what is not offered does not, and changes nothing."""
    before = world.dump()
    back = {one.seq for one in plan.obstacles if one.kind is ObstacleKind.ALREADY_BACK}
    if plan.offers[:1] != ("all",) or plan.losses:
        with pytest.raises(RestoreRefused):
            restore(world.engine, plan.deletion.id)
        assert world.dump() == before
    if "with-needs" in plan.offers:
        done = restore(world.engine, plan.deletion.id, mode="with-needs", accept_losses=True)
        assert tuple(one.deletion for one in done.before) == plan.needs
        assert done.left == 0
    elif "all" in plan.offers:
        done = restore(world.engine, plan.deletion.id, accept_losses=True)
        assert (done.rows + len(back & _rows(plan)), done.left) == (plan.rows, 0)
    elif "without-conflicts" in plan.offers:
        done = restore(world.engine, plan.deletion.id, mode="without-conflicts", accept_losses=True)
        assert done.left == plan.blocked
        assert done.rows + len(back & _rows(plan)) == plan.rows - plan.blocked
    else:
        with pytest.raises(RestoreRefused):
            restore(world.engine, plan.deletion.id, mode="without-conflicts", accept_losses=True)
        assert world.dump() == before


def _rows(plan: RestorePlan) -> set[int]:
    """Return the rows among what is already back: a link that is set again is no row."""
    return {
        one.seq for one in plan.obstacles if one.kind is ObstacleKind.ALREADY_BACK and not one.what
    }


@pytest.mark.slow
@settings(max_examples=25)
@given(st.randoms(use_true_random=False))
def test_plans_come_true_on_sqlite(draw: random.Random) -> None:
    """Taken keys and places, missing parents, rows that triggers refuse."""
    engine = ready_engine("sqlite://")
    try:
        plan_and_restore(make_world(engine, draw), draw)
    finally:
        engine.dispose()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["postgresql", "mariadb"])
def test_plans_come_true_on_servers(name: str, request: pytest.FixtureRequest) -> None:
    """Tables and columns that went, came or changed their type, too."""
    url = request.getfixturevalue("postgres_url" if name == "postgresql" else "mariadb_url")
    engine: sa.Engine = ready_engine(str(url))
    try:
        for seed in range(3):
            draw = random.Random(seed)
            world = make_world(engine, draw)
            plan_and_restore(world, draw)
            drop_world(world)
    finally:
        engine.dispose()
