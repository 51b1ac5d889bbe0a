"""The trash as code uses it, by what may have happened to the rows."""

import pytest
import sqlalchemy as sa

from records.conftest import Prepare
from records.shop import everything, run
from shipworthy.records import (
    ObstacleKind,
    RestoreRefused,
    deletions,
    plan_restore,
    purge,
    restore,
)


def test_a_row_with_two_parents_comes_back_when_both_live(shop: sa.Engine) -> None:
    """SD-72: first the label went, then the task; the link of both needs both."""
    before = everything(shop)
    run(shop, "DELETE FROM labels WHERE id = 2")
    run(shop, "DELETE FROM tasks WHERE id = 102")
    task, label = deletions(shop)

    plan = plan_restore(shop, label.id)

    assert plan.offers == ("without-conflicts", "with-needs")
    done = restore(shop, label.id, mode="without-conflicts")
    assert (done.rows, done.left) == (1, 1)
    restore(shop, task.id)
    restore(shop, label.id)
    assert everything(shop) == before


def test_a_parent_that_is_gone_without_a_deletion_is_gone(shop: sa.Engine) -> None:
    """What was purged cannot be needed any more."""
    run(shop, "DELETE FROM tasks WHERE id = 102")
    run(shop, "DELETE FROM clients WHERE id = 1")
    parent, child = deletions(shop)
    purge(shop, parent.id)

    plan = plan_restore(shop, child.id)

    assert (plan.offers, plan.needs) == ((), ())
    assert {one.kind for one in plan.obstacles} >= {ObstacleKind.PARENT_GONE}


def test_other_changes_of_the_transaction_are_told_and_left(shop: sa.Engine) -> None:
    """SD-86: a counter that was changed with the delete is not set back."""
    run(
        shop,
        "DELETE FROM tasks WHERE id = 102",
        "UPDATE projects SET name = '2 tasks' WHERE id = 10",
    )
    (deletion,) = deletions(shop)

    plan = plan_restore(shop, deletion.id)

    assert plan.also_changed == ("projects 10: name",)
    restore(shop, deletion.id)
    assert (10, "2 tasks") in [(row[0], row[2]) for row in everything(shop)["projects"]]


def test_a_trigger_of_the_application_that_changes_a_row_is_found(shop: sa.Engine) -> None:
    """SD-88, SD-89: what the application insists on shows in the proof, before it happens."""
    run(shop, "DELETE FROM labels WHERE id = 1")
    run(
        shop,
        "CREATE TRIGGER shout AFTER INSERT ON labels BEGIN"
        " UPDATE labels SET name = upper(NEW.name) WHERE id = NEW.id; END",
        "CREATE TRIGGER shout_again AFTER UPDATE ON labels WHEN NEW.name <> upper(NEW.name) BEGIN"
        " UPDATE labels SET name = upper(NEW.name) WHERE id = NEW.id; END",
    )
    (deletion,) = deletions(shop)

    plan = plan_restore(shop, deletion.id)

    assert ([one.what for one in plan.obstacles if one.loses], plan.losses) == (["name"], 1)
    with pytest.raises(RestoreRefused, match="comes back with another name"):
        restore(shop, deletion.id)
    assert restore(shop, deletion.id, accept_losses=True).rows == 3
    assert (1, "RED") in everything(shop)["labels"]


def test_who_leaves_conflicts_out_is_told_of_the_losses_of_the_others(shop: sa.Engine) -> None:
    """A label of a task that is gone stays out; that the other is changed must be accepted."""
    run(shop, "DELETE FROM labels WHERE id = 1")
    run(shop, "DELETE FROM tasks WHERE id = 200")
    run(
        shop,
        "CREATE TRIGGER shout AFTER INSERT ON labels BEGIN"
        " UPDATE labels SET name = 'RED' WHERE id = NEW.id; END",
        "CREATE TRIGGER shout_again AFTER UPDATE ON labels WHEN NEW.name <> 'RED' BEGIN"
        " UPDATE labels SET name = 'RED' WHERE id = NEW.id; END",
    )
    label = deletions(shop)[1]

    with pytest.raises(RestoreRefused, match=r"1 of the 3 rows .* another name.*--accept-losses"):
        restore(shop, label.id, mode="without-conflicts")
    done = restore(shop, label.id, mode="without-conflicts", accept_losses=True)
    assert (done.rows, done.left) == (2, 1)


def test_a_database_that_refused_a_delete_still_refuses_it(shop: sa.Engine) -> None:
    """SD-78: the trail changes no answer of the database."""
    run(shop, "CREATE TABLE bills (id INTEGER PRIMARY KEY, client_id INTEGER REFERENCES clients)")
    run(shop, "INSERT INTO bills VALUES (1, 1)")
    with pytest.raises(sa.exc.IntegrityError, match="FOREIGN KEY constraint failed"):
        run(shop, "DELETE FROM clients WHERE id = 1")
    assert deletions(shop) == []


def test_rows_without_a_primary_key_come_back(sqlite: sa.Engine, prepare: Prepare) -> None:
    """Two that are alike are two; nothing can stand in their place."""
    metadata = sa.MetaData()
    sa.Table("lines", metadata, sa.Column("text", sa.Text))
    prepare(sqlite, metadata)
    run(sqlite, "INSERT INTO lines VALUES ('a'), ('a'), ('b')")
    before = everything(sqlite, metadata)
    run(sqlite, "DELETE FROM lines")
    for one in deletions(sqlite):
        assert restore(sqlite, one.id).rows == 1
    assert everything(sqlite, metadata) == before


def test_a_tree_five_hundred_deep_comes_back(sqlite: sa.Engine, prepare: Prepare) -> None:
    """SD-80: nothing here calls itself."""
    metadata = sa.MetaData()
    parent = sa.ForeignKey("nodes.id", ondelete="CASCADE")
    sa.Table(
        "nodes",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("parent_id", parent),
    )
    prepare(sqlite, metadata)
    with sqlite.begin() as connection:
        rows = [{"id": number, "parent_id": number - 1 or None} for number in range(1, 501)]
        connection.execute(sa.insert(metadata.tables["nodes"]), rows)
    before = everything(sqlite, metadata)
    run(sqlite, "DELETE FROM nodes WHERE id = 1")
    (deletion,) = deletions(sqlite)
    assert deletion.rows == 500

    restore(sqlite, deletion.id)

    assert everything(sqlite, metadata) == before


@pytest.mark.slow
def test_the_next_number_is_none_that_came_back(engine: sa.Engine, prepare: Prepare) -> None:
    """Sequences that were set back are moved behind the rows that are there again."""
    metadata = sa.MetaData()
    table = sa.Table("things", metadata, sa.Column("id", sa.Integer, primary_key=True))
    prepare(engine, metadata)
    with engine.begin() as connection:
        connection.execute(sa.insert(table), [{"id": number} for number in (5, 6, 7)])
    with engine.begin() as connection:
        connection.execute(sa.delete(table))
    for one in deletions(engine):
        restore(engine, one.id)
    with engine.begin() as connection:
        assert connection.execute(sa.insert(table)).inserted_primary_key == (8,)
