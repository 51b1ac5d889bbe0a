"""What one delete removed comes back: exactly that, or it is said before why not."""

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from records.conftest import Prepare
from records.shop import Client, Model, Project, everything, fill, run
from shipworthy.context import actor
from shipworthy.records import (
    DeletionNotOpen,
    DeletionState,
    ObstacleKind,
    RestoreRefused,
    deletions,
    plan_restore,
    restore,
)


@pytest.fixture
def shop(engine: sa.Engine, prepare: Prepare) -> sa.Engine:
    """The business, with its rows, on each engine."""
    prepare(engine, Model.metadata)
    with engine.begin() as connection:
        fill(connection)
    return engine


def kinds(plan_or_refusal: object) -> list[ObstacleKind]:
    obstacles = getattr(plan_or_refusal, "obstacles", None)
    return sorted({one.kind for one in obstacles or ()})


def test_a_client_comes_back_with_all_that_its_deletion_took(shop: sa.Engine) -> None:
    """SD-70, SD-76, SD-97: the cascade, the tree, many-to-many, inheritance and emptied links."""
    before = everything(shop)
    with Session(shop) as session, actor("ana"):
        session.delete(session.get_one(Client, 1))
        session.commit()
    assert everything(shop) != before

    (deletion,) = deletions(shop)

    assert deletion.tables == {
        "clients": 1,
        "projects": 1,
        "tasks": 3,
        "task_labels": 2,
        "documents": 1,
        "contracts": 1,
    }
    assert (deletion.rows, deletion.relinks, deletion.actor) == (9, 1, "ana")
    assert deletion.roots == (("clients", "1"),)
    assert deletion.title == "clients 1, with 8 rows of 5 other tables"
    plan = plan_restore(shop, deletion.id)
    assert (plan.obstacles, plan.offers, plan.proven) == ((), ("all",), True)
    with actor("bo"):
        done = restore(shop, deletion.id)
    assert (done.rows, done.relinks, done.left) == (9, 1, 0)
    assert everything(shop) == before
    assert deletions(shop) == []
    assert [one.state for one in deletions(shop, states=list(DeletionState))] == ["restored"]


def test_two_unrelated_deletes_of_one_transaction_are_two_deletions(shop: sa.Engine) -> None:
    """One comes back, the other stays deleted."""
    run(shop, "DELETE FROM clients WHERE id = 1", "DELETE FROM clients WHERE id = 2")
    # The label that both have tasks with lives: it connects nothing.
    two, one = deletions(shop)
    assert (one.roots, two.roots) == ((("clients", "1"),), (("clients", "2"),))

    restore(shop, two.id)

    assert [row[0] for row in everything(shop)["clients"]] == [2]
    assert [found.id for found in deletions(shop)] == [one.id]


def test_what_was_deleted_earlier_stays_deleted(shop: sa.Engine) -> None:
    """SD-71: a task deleted yesterday does not come back with its client."""
    run(shop, "DELETE FROM tasks WHERE id = 102")
    before = everything(shop)
    run(shop, "DELETE FROM clients WHERE id = 1")
    latest, earlier = deletions(shop)

    restore(shop, latest.id)

    assert everything(shop) == before
    assert [found.id for found in deletions(shop)] == [earlier.id]


def test_a_row_whose_parent_was_deleted_later_needs_that_deletion(shop: sa.Engine) -> None:
    """SD-73: the plan names the deletion that has the parent, and one call restores both."""
    before = everything(shop)
    run(shop, "DELETE FROM tasks WHERE id = 102")
    run(shop, "DELETE FROM clients WHERE id = 1")
    parent, child = deletions(shop)

    plan = plan_restore(shop, child.id)

    assert plan.offers == ("with-needs",)
    assert (plan.needs, plan.needs_suffice) == ((parent.id,), True)
    assert ObstacleKind.PARENT_DELETED in kinds(plan)
    with pytest.raises(RestoreRefused, match=f"restores deletion {parent.id} before it"):
        restore(shop, child.id)
    done = restore(shop, child.id, mode="with-needs")
    assert [one.deletion for one in done.before] == [parent.id]
    assert everything(shop) == before


def test_a_parent_that_is_referred_to_by_another_unique_key_is_found_too(
    sqlite: sa.Engine, prepare: Prepare
) -> None:
    """SD-73: the log is searched by primary keys, and yet the deletion is named."""
    metadata = sa.MetaData()
    code = sa.Column("code", sa.String(8), unique=True, nullable=False)
    countries = sa.Table("countries", metadata, sa.Column("id", sa.Integer, primary_key=True), code)
    country = sa.Column("country", sa.ForeignKey(code, ondelete="CASCADE"), nullable=False)
    sa.Table("cities", metadata, sa.Column("id", sa.Integer, primary_key=True), country)
    prepare(sqlite, metadata)
    run(
        sqlite,
        "INSERT INTO countries VALUES (1, 'at'), (2, 'pt'), (3, 'at2')",
        "INSERT INTO cities VALUES (10, 'at'), (11, 'at'), (20, 'pt')",
    )
    before = everything(sqlite, metadata)
    run(sqlite, "DELETE FROM cities WHERE id = 10")
    run(sqlite, "DELETE FROM countries WHERE id = 1")
    run(sqlite, "DELETE FROM countries WHERE id = 3")
    _, parent, child = deletions(sqlite)

    plan = plan_restore(sqlite, child.id)

    assert (plan.needs, plan.needs_suffice) == ((parent.id,), True)
    restore(sqlite, child.id, mode="with-needs")
    run(sqlite, "INSERT INTO countries VALUES (3, 'at2')")
    assert everything(sqlite, metadata) == before
    assert countries.name in parent.tables


def test_a_unique_place_that_is_taken_names_who_has_it(shop: sa.Engine) -> None:
    """SD-74: nothing is overwritten, and all that refers to the row stays out with it."""
    run(shop, "DELETE FROM clients WHERE id = 1")
    run(shop, "INSERT INTO clients (id, email) VALUES (3, 'ana@example.org')")
    (deletion,) = deletions(shop)
    before = everything(shop)

    plan = plan_restore(shop, deletion.id)

    (taken,) = [one for one in plan.obstacles if one.kind is ObstacleKind.UNIQUE_TAKEN]
    assert (taken.table, "3" in taken.holder) == ("clients", True)
    assert (plan.blocked, plan.rows, plan.offers) == (9, 9, ())
    with pytest.raises(RestoreRefused, match="has its place"):
        restore(shop, deletion.id)
    with pytest.raises(RestoreRefused):
        restore(shop, deletion.id, mode="without-conflicts")
    assert everything(shop) == before


def test_without_conflicts_the_others_come_back_and_the_rest_may_follow(shop: sa.Engine) -> None:
    """SD-75: a primary key that is taken blocks its row alone, and what refers to it."""
    before = everything(shop)
    run(shop, "DELETE FROM clients WHERE id = 1")
    # A stranger of another project has the number of a task meanwhile.
    run(shop, "INSERT INTO tasks (id, project_id, title) VALUES (101, 20, 'stranger')")
    (deletion,) = deletions(shop)
    plan = plan_restore(shop, deletion.id)
    assert kinds(plan) == [ObstacleKind.DEPENDS, ObstacleKind.KEY_TAKEN]
    assert plan.offers == ("without-conflicts",)

    done = restore(shop, deletion.id, mode="without-conflicts")

    # The tasks 101 and 102, and the label of 102.
    assert (done.rows, done.left) == (6, 3)
    (partly,) = deletions(shop)
    assert partly.state == "partly restored"
    run(shop, "DELETE FROM tasks WHERE id = 101")
    rest = restore(shop, deletion.id)
    assert (rest.rows, rest.left) == (3, 0)
    assert everything(shop) == before


def test_where_the_others_are_there_already_nothing_is_offered(shop: sa.Engine) -> None:
    """One row was put back by hand, and the key of the other is a stranger's."""
    link = "INSERT INTO task_labels VALUES (200, 3)"
    run(shop, "INSERT INTO labels VALUES (3, 'green')", link)
    run(shop, "DELETE FROM labels WHERE id = 3")
    run(shop, "INSERT INTO labels VALUES (3, 'stranger')", link)
    (deletion,) = deletions(shop)
    before = everything(shop)

    plan = plan_restore(shop, deletion.id)

    assert kinds(plan) == [ObstacleKind.ALREADY_BACK, ObstacleKind.KEY_TAKEN]
    assert (plan.rows, plan.blocked, plan.returning, plan.offers) == (2, 1, 0, ())
    for mode in ("all", "without-conflicts"):
        with pytest.raises(RestoreRefused, match="`shipworthy trash plan"):
            restore(shop, deletion.id, mode=mode)
    assert everything(shop) == before


def test_a_link_that_was_set_anew_is_kept(shop: sa.Engine) -> None:
    """SD-76: the note belongs to another project now, and stays there."""
    run(shop, "DELETE FROM projects WHERE id = 10")
    run(shop, "UPDATE notes SET project_id = 20 WHERE id = 1")
    (deletion,) = deletions(shop)

    plan = plan_restore(shop, deletion.id)

    assert (kinds(plan), plan.offers) == ([ObstacleKind.LINK_KEPT], ("all",))
    done = restore(shop, deletion.id)
    assert done.relinks == 0
    assert ("call" in repr(row) and 20 in row for row in everything(shop)["notes"])


def test_a_second_restore_says_who_did_the_first(shop: sa.Engine) -> None:
    """SD-82: nothing comes back twice."""
    run(shop, "DELETE FROM projects WHERE id = 10")
    (deletion,) = deletions(shop)
    with actor("ana"):
        restore(shop, deletion.id)

    with pytest.raises(DeletionNotOpen, match="was already restored by ana at 20"):
        restore(shop, deletion.id)


def test_the_orm_empties_links_before_it_deletes_and_they_come_back(shop: sa.Engine) -> None:
    """SD-77: an update of the same transaction is a link that was lost, too."""
    before = everything(shop)
    with shop.begin() as connection:
        connection.exec_driver_sql("UPDATE notes SET project_id = NULL WHERE project_id = 10")
        connection.execute(sa.delete(Project).where(Project.id == 10))
    (deletion,) = deletions(shop)
    assert deletion.relinks == 1

    restore(shop, deletion.id)

    assert everything(shop) == before
