"""Plan a restore and prove it, restore, take a restore back. In the caller's transaction.

`with-needs` puts the deletions back first that have what this one refers to; all of it is one
transaction. Two who restore the same wait for each other: the second is told that it was done.
"""

import json
from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

from shipworthy.context import current_actor, noted
from shipworthy.events import emit
from shipworthy.records.carry import carry_out
from shipworthy.records.dialects import restore_dialect
from shipworthy.records.events import DeletionRestored, RestoreRejected
from shipworthy.records.listing import (
    change_state,
    find_deletion,
    keep_left_out,
    must_be_open,
)
from shipworthy.records.metrics import count_refused, count_restore
from shipworthy.records.model import Deletion, DeletionState
from shipworthy.records.plan import Obstacle, ObstacleKind
from shipworthy.records.refusals import RestoreRefused
from shipworthy.records.report import Restored, RestoreMode, RestorePlan, obstacle_sentence
from shipworthy.records.survey import RestoreSurvey, naming_damage, survey_deletion

# How long the proof and the restore wait for a lock that somebody else has.
LOCK_SECONDS: Final = 5.0


def plan_in(connection: sa.Connection, id: int, *, prove: bool = True) -> RestorePlan:  # noqa: A002
    """Return what a restore would do; with `prove` the database has tried it and taken it back.

    What it needs is tried too, where that is all that blocks.
    """
    deletion = find_deletion(connection, id, lock=prove)
    must_be_open(connection, deletion)
    with naming_damage(connection, deletion):
        survey = survey_deletion(connection, deletion)
        if not prove:
            return _plan(survey, survey.obstacles)
        obstacles = (*survey.obstacles, *_proof(connection, survey))
    plan = _plan(survey, obstacles, proven=True)
    if not plan.needs:
        return plan
    needs, suffice = _prove_needs(connection, deletion)
    return _plan(survey, obstacles, proven=True, needs=needs, needs_suffice=suffice)


def restore_in(
    connection: sa.Connection,
    id: int,  # noqa: A002
    *,
    mode: RestoreMode = "all",
    accept_losses: bool = False,
) -> Restored:
    """Put a deletion back and say what came; on a refusal the caller rolls back.

    Raises `RestoreRefused` where something stands in the way: in the mode `all` anything that
    blocks, and in any mode a row that would come back other than it was, unless `accept_losses`.
    """
    restoring = restore_dialect(connection.dialect.name)
    with (
        noted(json.dumps({"restores": id}, separators=(",", ":"))),
        restoring.short_locks(connection, LOCK_SECONDS),
    ):
        return _restore(connection, id, mode, accept_losses=accept_losses, on_the_way=())


def _restore(
    connection: sa.Connection,
    id: int,  # noqa: A002
    mode: RestoreMode,
    *,
    accept_losses: bool,
    on_the_way: Sequence[int],
) -> Restored:
    deletion = find_deletion(connection, id, lock=True)
    must_be_open(connection, deletion)
    with naming_damage(connection, deletion):
        return _restore_open(
            connection, deletion, mode, accept_losses=accept_losses, on_the_way=on_the_way
        )


def _restore_open(
    connection: sa.Connection,
    deletion: Deletion,
    mode: RestoreMode,
    *,
    accept_losses: bool,
    on_the_way: Sequence[int],
) -> Restored:
    survey = survey_deletion(connection, deletion)
    before: list[Restored] = []
    while mode == "with-needs" and (needs := _needs(survey.obstacles, (*on_the_way, deletion.id))):
        before.append(
            _restore(
                connection,
                needs[0],
                mode,
                accept_losses=accept_losses,
                on_the_way=(*on_the_way, deletion.id),
            )
        )
        survey = survey_deletion(connection, deletion)
    _must_allow(_plan(survey, survey.obstacles), mode, accept_losses=accept_losses)
    done = carry_out(connection, survey, _free(survey, survey.obstacles))
    obstacles = (*survey.obstacles, *done.obstacles)
    _must_allow(_plan(survey, obstacles), mode, accept_losses=accept_losses)
    back = {one.seq for one in survey.obstacles if one.kind is ObstacleKind.ALREADY_BACK}
    left = [seq for seq in survey.rows if seq not in done.rows and seq not in back]
    keep_left_out(connection, deletion, left)
    state = DeletionState.PARTLY_RESTORED if left else DeletionState.RESTORED
    change_state(connection, deletion, state, rows=len(done.rows))
    count_restore(rows=len(done.rows), left=len(left))
    emit(
        DeletionRestored,
        deletion=deletion.id,
        mode=mode,
        rows=len(done.rows),
        left=len(left),
        actor=current_actor(),
    )
    return Restored(
        deletion=deletion.id,
        rows=len(done.rows),
        relinks=done.relinks,
        left=len(left),
        obstacles=obstacles,
        before=tuple(before),
    )


def _proof(connection: sa.Connection, survey: RestoreSurvey) -> list[Obstacle]:
    """Do it in a savepoint, take it back, and return what the database has against it."""
    savepoint = connection.begin_nested()
    try:
        with restore_dialect(connection.dialect.name).short_locks(connection, LOCK_SECONDS):
            return carry_out(connection, survey, _free(survey, survey.obstacles)).obstacles
    finally:
        savepoint.rollback()


def _prove_needs(connection: sa.Connection, deletion: Deletion) -> tuple[tuple[int, ...], bool]:
    """Return what has to come back before, in order, and whether it all can."""
    savepoint = connection.begin_nested()
    try:
        done = restore_in(connection, deletion.id, mode="with-needs", accept_losses=True)
        return _order(done), True
    except RestoreRefused as refused:
        return refused.plan.needs, False
    finally:
        savepoint.rollback()


def _order(done: Restored) -> tuple[int, ...]:
    found: list[int] = []
    for one in done.before:
        found += [*_order(one), one.deletion]
    return tuple(found)


def _needs(obstacles: Sequence[Obstacle], on_the_way: Sequence[int]) -> list[int]:
    """Return the deletions that have what is missing, without those we come from."""
    return list(
        dict.fromkeys(
            one.deletion
            for one in obstacles
            if one.kind is ObstacleKind.PARENT_DELETED and one.deletion not in on_the_way
        )
    )


def _free(survey: RestoreSurvey, obstacles: Sequence[Obstacle]) -> set[int]:
    """Return the rows and relinks in whose way nothing stands."""
    out = {
        one.seq
        for one in obstacles
        if one.blocks
        or one.kind
        in {ObstacleKind.ALREADY_BACK, ObstacleKind.LINK_KEPT, ObstacleKind.LINK_ROW_GONE}
    }
    return {seq for seq in (*survey.rows, *survey.relinks) if seq not in out}


def _plan(
    survey: RestoreSurvey,
    obstacles: Sequence[Obstacle],
    *,
    proven: bool = False,
    needs: tuple[int, ...] | None = None,
    needs_suffice: bool = False,
) -> RestorePlan:
    blocked = {one.seq for one in obstacles if one.blocks and one.seq in survey.rows}
    free = _free(survey, obstacles)
    returning = len(free & survey.rows.keys())
    return RestorePlan(
        deletion=survey.deletion,
        rows=len(survey.rows),
        relinks=len(survey.relinks),
        blocked=len(blocked),
        returning=returning,
        relinking=len(free) - returning,
        obstacles=tuple(obstacles),
        needs=tuple(_needs(obstacles, ())) if needs is None else needs,
        needs_suffice=needs_suffice,
        proven=proven,
        also_changed=survey.also_changed,
    )


def _must_allow(plan: RestorePlan, mode: RestoreMode, *, accept_losses: bool) -> None:
    """Raise `RestoreRefused` where rows are blocked and `mode` cannot do without, or for a loss."""
    number = plan.deletion.id
    if plan.blocked and (mode != "without-conflicts" or mode not in plan.offers):
        first = next(one for one in plan.obstacles if one.blocks)
        raise _refused(
            plan,
            first,
            f"{plan.blocked:,} of the {plan.rows:,} rows of deletion {number} cannot come back; "
            f"the first: {obstacle_sentence(first)}; {_advice(plan, mode)}",
        )
    if plan.losses and not accept_losses:
        first = plan.lossy[0]
        raise _refused(
            plan,
            first,
            f"{plan.losses:,} of the {plan.rows:,} rows of deletion {number} would come back other "
            f"than they were; the first: {obstacle_sentence(first)}; restore it with accept_losses "
            "(--accept-losses) if that will do",
        )


def _refused(plan: RestorePlan, first: Obstacle, sentence: str) -> RestoreRefused:
    count_refused(first.kind.value)
    emit(
        RestoreRejected,
        deletion=plan.deletion.id,
        obstacle=first.kind.value,
        obstacles=len(plan.obstacles),
    )
    return RestoreRefused(plan, sentence)


def _advice(plan: RestorePlan, mode: RestoreMode) -> str:
    if plan.needs and mode != "with-needs":
        numbers = ", ".join(map(str, plan.needs))
        return f"--mode with-needs restores deletion {numbers} before it"
    if mode != "without-conflicts" and "without-conflicts" in plan.offers:
        return "--mode without-conflicts restores the others"
    return f"`shipworthy trash plan {plan.deletion.id}` says more"
