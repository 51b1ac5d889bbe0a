"""A plan is told in sentences, and a thousand alike are not."""

import pytest

from shipworthy.records.model import Deletion, DeletionState
from shipworthy.records.plan import Obstacle, ObstacleKind
from shipworthy.records.report import TOLD, Restored, RestorePlan, obstacle_sentence

DELETION = Deletion(
    id=41,
    tx="t",
    at_microseconds=0,
    actor="ana",
    actor_kind="user",
    title="clients 7",
    tables={"clients": 1},
    rows=10,
    relinks=0,
    roots=(("clients", "7"),),
    state=DeletionState.DELETED,
    whole=True,
)


def obstacle(kind: ObstacleKind, seq: int = 1) -> Obstacle:
    return Obstacle(
        kind=kind, seq=seq, table="clients", key='["7"]', what="email", holder='["8"]', deletion=9
    )


def plan(
    *obstacles: Obstacle,
    relinking: int = 0,
    needs: tuple[int, ...] = (),
    needs_suffice: bool = False,
) -> RestorePlan:
    blocked = {one.seq for one in obstacles if one.blocks}
    there = {one.seq for one in obstacles if one.kind is ObstacleKind.ALREADY_BACK}
    return RestorePlan(
        deletion=DELETION,
        rows=10,
        relinks=0,
        blocked=len(blocked),
        returning=10 - len(blocked) - len(there),
        relinking=relinking,
        obstacles=obstacles,
        needs=needs,
        needs_suffice=needs_suffice,
    )


@pytest.mark.parametrize("kind", ObstacleKind)
def test_every_obstacle_has_a_sentence_with_its_row(kind: ObstacleKind) -> None:
    """No placeholder is left in it."""
    sentence = obstacle_sentence(obstacle(kind))
    assert sentence.startswith('clients ["7"]: ')
    assert "{" not in sentence


def test_offers_are_what_would_do_something() -> None:
    """All where nothing blocks; the others where some come back; needs where they suffice."""
    blocked = [obstacle(ObstacleKind.KEY_TAKEN, seq) for seq in range(10)]
    assert plan().offers == ("all",)
    assert plan(obstacle(ObstacleKind.CHANGED)).offers == ("all",)
    assert plan(*blocked[:3]).offers == ("without-conflicts",)
    assert plan(*blocked).offers == ()
    assert plan(*blocked, needs=(9,), needs_suffice=True).offers == ("with-needs",)
    assert plan(*blocked, needs=(9,)).offers == ()
    # Of the others nothing is gone: there is nothing to do without the conflicts.
    there = [obstacle(ObstacleKind.ALREADY_BACK, seq) for seq in range(3, 10)]
    assert plan(*blocked[:3], *there).offers == ()
    assert plan(*blocked[:3], *there, relinking=1).offers == ("without-conflicts",)
    assert plan(*there).offers == ("all",)


def test_what_does_not_come_back_loses_nothing() -> None:
    """A row whose column was dropped, and whose key is taken besides."""
    dropped = [obstacle(ObstacleKind.COLUMN_DROPPED, seq) for seq in (1, 2)]
    found = plan(*dropped, obstacle(ObstacleKind.KEY_TAKEN, 1))
    assert (found.losses, found.lossy) == (1, (dropped[1],))


def test_of_obstacles_alike_the_first_are_told_and_the_rest_counted() -> None:
    """The gravest kinds come first."""
    many = [obstacle(ObstacleKind.UNIQUE_TAKEN, seq) for seq in range(TOLD + 5)]
    sentences = plan(*many, obstacle(ObstacleKind.PARENT_GONE, 99)).sentences()
    assert len(sentences) == TOLD + 2
    assert "is gone" in sentences[0]
    assert sentences[-1] == "5 more rows: unique slot taken"


def test_facts_are_for_programs() -> None:
    """Counts are of all obstacles, losses of rows."""
    lost = [obstacle(ObstacleKind.COLUMN_DROPPED, 1), obstacle(ObstacleKind.CHANGED, 1)]
    facts = plan(*lost).facts()
    assert (facts["deletion"], facts["losses"], facts["offers"]) == (41, 1, ["all"])
    assert facts["counts"] == {"column dropped": 1, "changed by the database": 1}
    inner = Restored(deletion=9, rows=1, relinks=0, left=0)
    done = Restored(deletion=41, rows=2, relinks=1, left=0, before=(inner,))
    assert done.facts()["before"][0]["deletion"] == 9
