"""What is read from the trail: in parts, and with personal values in place."""

import pytest
import sqlalchemy as sa

from records.conftest import Prepare, ready_engine
from records.shop import Model, fill, run
from shipworthy.audit import ENTRIES, PERSONAL
from shipworthy.records import ObstacleKind, deletions, plan_restore, restore
from shipworthy.records.log import (
    entries_numbered,
    images_of,
    in_chunks,
    last_number,
    recorded_alike,
    removed_rows,
)


def test_chunks_have_all_and_no_more_than_their_size() -> None:
    """Also of nothing."""
    assert list(in_chunks(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(in_chunks([])) == []


def test_numbers_that_left_the_log_are_left_out(shop: sa.Engine) -> None:
    """What is there is given in the order of the log."""
    with shop.connect() as connection:
        assert [one.seq for one in entries_numbered(connection, [3, 1, 10**9])] == [1, 3]


def test_removed_rows_are_told_only_where_nothing_else_was_done(shop: sa.Engine) -> None:
    """An insert among them may mean that a row was not removed after all."""
    run(shop, "DELETE FROM task_labels WHERE task_id = 100")
    with shop.connect() as connection:
        rows = connection.execute(
            sa.select(ENTRIES.c.seq, ENTRIES.c.tx).where(ENTRIES.c.op == "D")
        ).all()
        told = removed_rows(connection, names=[rows[0].tx])
        assert told is not None
        assert [one.seq for one in told] == [row.seq for row in rows]
        assert removed_rows(connection, numbers=[rows[0].seq, 1]) is None


def test_the_log_says_which_rows_went_in_as_they_were(shop_anywhere: sa.Engine) -> None:
    """Not one that went in other, nor one that went in as it was and was changed then."""
    rows = "(2000, 10, 'a'), (2001, 10, 'b'), (2002, 10, 'c'), (2003, 10, 'd')"
    insert = f"INSERT INTO tasks (id, project_id, title) VALUES {rows}"
    run(shop_anywhere, insert, "DELETE FROM tasks WHERE id >= 2000")
    with shop_anywhere.connect() as connection:
        before = last_number(connection)
        is_removed = ENTRIES.c.op == "D"
        gone = connection.scalars(sa.select(ENTRIES.c.seq).where(is_removed)).all()
        # The first insert, of before, does not count.
        assert recorded_alike(connection, gone, after=before) == set()
    run(
        shop_anywhere,
        insert.replace("'b'", "'other'").replace(", (2003, 10, 'd')", ""),
        "UPDATE tasks SET title = 'changed' WHERE id = 2002",
    )
    with shop_anywhere.connect() as connection:
        assert recorded_alike(connection, gone, after=before) == {min(gone)}


@pytest.fixture
def private(sqlite: sa.Engine, prepare: Prepare) -> sa.Engine:
    """The business, whose clients' addresses are personal."""
    prepare(sqlite, Model.metadata, personal=("clients.email = id",))
    with sqlite.begin() as connection:
        fill(connection)
    run(sqlite, "DELETE FROM clients WHERE id = 2")
    return sqlite


def test_a_personal_value_comes_back_with_its_row(private: sa.Engine) -> None:
    """It lies beside the log, and only there."""
    (deletion,) = deletions(private)
    with private.connect() as connection:
        logged = connection.scalars(sa.select(ENTRIES.c.old)).all()
        numbers = connection.scalars(sa.select(ENTRIES.c.seq).where(ENTRIES.c.op == "D")).all()
        images, erased = images_of(connection, list(numbers))
    assert "bo@example.org" not in str(logged)
    assert ("bo@example.org" in str(images), erased) == (True, {})

    restore(private, deletion.id)

    with private.connect() as connection:
        emails = connection.scalars(sa.text("SELECT email FROM clients")).all()
    assert "bo@example.org" in emails


def test_an_erased_value_blocks_where_the_column_must_have_one(private: sa.Engine) -> None:
    """The plan names the column, and nothing of the value."""
    (deletion,) = deletions(private)
    with private.begin() as connection:
        connection.execute(
            sa.update(PERSONAL).where(PERSONAL.c.side == "o").values(salt=None, value=None)
        )
    plan = plan_restore(private, deletion.id)
    (erased,) = [one for one in plan.obstacles if one.kind is ObstacleKind.ERASED]
    assert (erased.table, erased.what, plan.offers) == ("clients", "email", ())


@pytest.mark.slow
def test_a_personal_value_that_a_trigger_changes_is_seen(
    mariadb_url: str, prepare: Prepare
) -> None:
    """The log has no value of it to compare, so the row itself is read."""
    engine = ready_engine(mariadb_url)
    prepare(engine, Model.metadata, personal=("clients.email = id",))
    run(engine, "INSERT INTO clients (id, email) VALUES (2, 'bo@example.org')")
    run(
        engine,
        "DELETE FROM clients",
        "CREATE TRIGGER hides BEFORE INSERT ON clients FOR EACH ROW SET NEW.email = 'hidden'",
        # Else the restore would set it back.
        "CREATE TRIGGER insists BEFORE UPDATE ON clients FOR EACH ROW SET NEW.email = 'hidden'",
    )
    (deletion,) = deletions(engine)
    (changed,) = plan_restore(engine, deletion.id).obstacles
    assert (changed.kind, changed.what) == (ObstacleKind.CHANGED, "email")
    engine.dispose()
