"""What belongs to a group can be read from the log again."""

from datetime import UTC, datetime

from shipworthy.records.model import DeletedRow, Deletion, DeletionState, Group, Relink


def test_a_group_is_named_by_its_first_row_and_made_of_all_its_entries() -> None:
    """Rows, relinks and what emptied links before."""
    group = Group(
        rows=(
            DeletedRow(seq=4, table_id=1, shape_id=1, key=None),
            DeletedRow(seq=9, table_id=1, shape_id=1, key=None),
        ),
        relinks=(Relink(seq=2, table_id=1, shape_id=1, key="[1]", columns={}),),
        roots=(4,),
        unlinked_by=(3,),
    )
    assert (group.id, group.entries) == (4, (2, 3, 4, 9))


def test_a_deletion_knows_its_moment() -> None:
    """In UTC, to the microsecond."""
    deletion = Deletion(
        id=1,
        tx="t",
        at_microseconds=1_500_000,
        actor="",
        actor_kind="unknown",
        title="",
        tables={},
        rows=0,
        relinks=0,
        roots=(),
        state=DeletionState.DELETED,
        whole=True,
    )
    assert deletion.at == datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)


def test_a_deletion_tells_its_facts_to_programs() -> None:
    """What `trash list --json` promises is there."""
    deletion = Deletion(
        id=1,
        tx="t",
        at_microseconds=0,
        actor="ana",
        actor_kind="user",
        title="clients 7",
        tables={"clients": 1},
        rows=1,
        relinks=0,
        roots=(("clients", "7"),),
        state=DeletionState.DELETED,
        whole=True,
    )
    facts = deletion.facts()
    assert facts.keys() >= {"id", "at", "actor", "tables", "rows", "state"}
    assert facts["roots"] == [{"table": "clients", "key": "7"}]
