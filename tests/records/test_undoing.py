"""A restore that was a mistake is taken back, unless somebody works with the rows since."""

import pytest
import sqlalchemy as sa

from records.conftest import Prepare
from records.shop import Model, everything, fill, run
from shipworthy.records import (
    DeletionNotOpen,
    UndoRefused,
    deletions,
    restore,
    undo_restore,
)


@pytest.fixture
def shop(engine: sa.Engine, prepare: Prepare) -> sa.Engine:
    """A business whose first client was deleted and came back."""
    prepare(engine, Model.metadata)
    with engine.begin() as connection:
        fill(connection)
    return engine


def test_a_restore_that_is_taken_back_leaves_what_the_delete_left(shop: sa.Engine) -> None:
    """It removes exactly the rows that came, and is a deletion that can be put back."""
    before = everything(shop)
    run(shop, "DELETE FROM clients WHERE id = 1")
    after = everything(shop)
    (first,) = deletions(shop)
    restore(shop, first.id)

    assert undo_restore(shop, first.id) == 9

    assert everything(shop) == after
    (second,) = deletions(shop)
    assert second.rows == 9
    with pytest.raises(DeletionNotOpen, match="was taken back since"):
        restore(shop, first.id)
    restore(shop, second.id)
    # The links that the undo emptied come back with its deletion.
    assert everything(shop) == before


@pytest.mark.parametrize(
    ("since", "because"),
    [
        ("UPDATE tasks SET title = 'x' WHERE id = 101", "is not as it came back"),
        ("DELETE FROM tasks WHERE id = 102", "is not as it came back"),
        ("INSERT INTO tasks (id, project_id, title) VALUES (900, 10, 'new')", "came later"),
    ],
)
def test_what_people_have_worked_with_since_is_not_removed(
    shop: sa.Engine, since: str, because: str
) -> None:
    """A row that changed, went or is referred to by a newer one refuses the whole of it."""
    run(shop, "DELETE FROM clients WHERE id = 1")
    (first,) = deletions(shop)
    restore(shop, first.id)
    run(shop, since)
    before = everything(shop)

    with pytest.raises(UndoRefused, match=because):
        undo_restore(shop, first.id)

    assert everything(shop) == before


def test_rows_without_a_key_come_back_and_are_not_found_again(
    sqlite: sa.Engine, prepare: Prepare
) -> None:
    """That they cannot be is what is said, not that somebody has changed them."""
    metadata = sa.MetaData()
    sa.Table("loose", metadata, sa.Column("a", sa.Integer))
    prepare(sqlite, metadata)
    run(sqlite, "INSERT INTO loose VALUES (1)")
    run(sqlite, "DELETE FROM loose")
    (one,) = deletions(sqlite)
    assert one.title == "loose (no key)"
    assert restore(sqlite, one.id).rows == 1

    with pytest.raises(UndoRefused, match="rows of loose have no primary key"):
        undo_restore(sqlite, one.id)
