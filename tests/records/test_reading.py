"""What a transaction deleted is read from its entries, whatever their order."""

from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from shipworthy.audit import (
    CatalogColumn,
    CatalogForeignKey,
    CatalogTable,
    Cell,
    Entry,
    LogRowUnreadable,
    Shape,
    TableName,
    write_image,
    write_key,
)
from shipworthy.records.reading import TransactionReading

PARENTS, CHILDREN = TableName(schema="", name="parents"), TableName(schema="", name="children")
LINK = CatalogForeignKey(
    name="fk",
    columns=("parent_id",),
    target=PARENTS,
    target_columns=("id",),
    on_delete="set null",
)
SHAPES = {
    1: Shape(
        id=1,
        table_id=1,
        table=CatalogTable(
            name=PARENTS,
            columns=(CatalogColumn(name="id", type="integer", number=1),),
            primary_key=("id",),
        ),
    ),
    2: Shape(
        id=2,
        table_id=2,
        table=CatalogTable(
            name=CHILDREN,
            columns=(
                CatalogColumn(name="id", type="integer", number=1),
                CatalogColumn(name="parent_id", type="integer", number=2),
            ),
            primary_key=("id",),
            foreign_keys=(LINK,),
        ),
    ),
}


def entry(  # noqa: PLR0917 - short, as the log's own rows
    seq: int,
    op: str,
    table: int,
    key: str | None,
    old: dict[str, Cell] | None = None,
    new: dict[str, Cell] | None = None,
) -> Entry:
    return Entry(
        seq=seq,
        position=seq,
        at_microseconds=seq,
        tx="t",
        table_id=table,
        shape_id=table,
        op=op,
        key=None if key is None else write_key([key]),
        old=None if old is None else write_image(old),
        new=None if new is None else write_image(new),
    )


def parent(seq: int, key: str) -> Entry:
    return entry(seq, "D", 1, key, {"id": key})


def child(seq: int, key: str, of: str | None) -> Entry:
    return entry(seq, "D", 2, key, {"id": key, "parent_id": of})


def read(*entries: Entry) -> list[tuple[int, ...]]:
    """Return the entries of each group that is found."""
    reading = TransactionReading(SHAPES)
    for one in entries:
        reading.add(one)
    return [tuple(row.seq for row in group.rows) for group in reading.groups()]


@given(st.permutations(range(1, 6)))
def test_rows_are_connected_in_any_order(order: list[int]) -> None:
    """An engine may tell of the child first or of the parent."""
    made = {
        1: lambda seq: parent(seq, "1"),
        2: lambda seq: child(seq, "10", "1"),
        3: lambda seq: child(seq, "11", "1"),
        4: lambda seq: parent(seq, "2"),
        5: lambda seq: child(seq, "12", "2"),
    }
    entries = [made[which](seq) for seq, which in enumerate(order, 1)]
    first = {seq for seq, which in enumerate(order, 1) if which <= 3}

    found = read(*entries)

    assert {frozenset(group) for group in found} == {
        frozenset(first),
        frozenset(range(1, 6)) - first,
    }


def test_rows_that_share_a_parent_that_stayed_are_not_connected() -> None:
    """Only a row that went connects."""
    assert read(child(1, "10", "1"), child(2, "11", "1")) == [(1,), (2,)]


def test_a_link_that_was_emptied_belongs_to_what_it_led_to() -> None:
    """It is no row of the deletion, and it comes back with it."""
    reading = TransactionReading(SHAPES)
    reading.add(entry(1, "U", 2, "10", {"parent_id": "1"}, {"parent_id": None}))
    reading.add(entry(2, "U", 2, "11", {"parent_id": "7"}, {"parent_id": None}))
    reading.add(parent(3, "1"))

    (group,) = reading.groups()

    assert [row.seq for row in group.rows] == [3]
    assert [(relink.key, relink.columns) for relink in group.relinks] == [
        ('["10"]', {"parent_id": ("1", None)})
    ]
    assert group.entries == (1, 3)


def test_a_link_emptied_before_its_row_went_comes_back_with_the_row() -> None:
    """An ORM empties circles before it deletes them."""
    reading = TransactionReading(SHAPES)
    reading.add(entry(1, "U", 2, "10", {"parent_id": "1"}, {"parent_id": None}))
    reading.add(child(2, "10", None))
    reading.add(parent(3, "1"))

    (group,) = reading.groups()

    assert group.unlinked == {2: {"parent_id": "1"}}
    assert (group.relinks, group.roots, group.entries) == ((), (3,), (1, 2, 3))


def test_a_link_that_was_moved_is_not_lost() -> None:
    """Somebody gave the child another parent: a restore does not take it from there."""
    found = read(entry(1, "U", 2, "10", {"parent_id": "1"}, {"parent_id": "2"}), parent(2, "1"))
    assert found == [(2,)]


def test_the_net_effect_counts() -> None:
    """Deleted and inserted is a change; inserted and deleted is nothing; thrice is a delete."""
    insert = entry(2, "I", 1, "1", new={"id": "1"})
    assert read(parent(1, "1"), insert) == []
    assert read(insert, parent(3, "1")) == []
    assert read(parent(1, "1"), insert, parent(3, "1")) == [(1,)]


def test_a_row_that_was_moved_to_another_key_was_born_there() -> None:
    """An inserted row whose key changes is followed."""
    found = read(
        entry(1, "I", 1, "1", new={"id": "1"}),
        entry(2, "U", 1, "1", {"id": "1"}, {"id": "5"}),
        parent(3, "5"),
    )
    assert found == []


def test_collations_may_connect_what_differs_in_case() -> None:
    """Where no row has the very cells, one that differs in case has them."""
    assert read(parent(1, "Ab"), child(2, "10", "aB")) == [(1, 2)]
    assert read(parent(1, "ab"), parent(2, "AB"), child(3, "10", "AB")) == [(1,), (2, 3)]


@pytest.mark.parametrize(
    ("old", "because"),
    [('{"id"', "Expecting"), ("", "no image"), ("[1]", "cannot be read")],
)
def test_an_entry_that_is_no_image_is_named(old: str, because: str) -> None:
    """A spoiled entry is an error with its number, not a guess."""
    spoiled = Entry(
        seq=7,
        position=7,
        at_microseconds=7,
        tx="t",
        table_id=1,
        shape_id=1,
        op="D",
        key='["1"]',
        old=old,
        new=None,
    )
    with pytest.raises(LogRowUnreadable, match=because) as caught:
        read(spoiled)
    assert caught.value.seq == 7


def test_an_entry_of_an_unknown_shape_is_named() -> None:
    """Its columns cannot be known."""
    with pytest.raises(LogRowUnreadable, match="there is no shape 9"):
        read(replace(parent(1, "1"), shape_id=9))


def test_rows_without_a_key_are_told_apart_by_their_images() -> None:
    """Two that are alike are two deletions, and one that came back is none."""
    alike = [replace(entry(seq, "D", 1, None, {"id": "1"}), key=None) for seq in (1, 2)]
    assert read(*alike) == [(1,), (2,)]
    assert read(*alike, entry(3, "I", 1, None, new={"id": "1"})) == [(1,)]
    assert read(*alike, entry(3, "I", 1, None, new={"id": "9"})) == [(1,), (2,)]


def test_what_is_no_change_of_a_row_is_passed_over() -> None:
    """The marker of a truncate; an update of a row that has no key to be found by."""
    marker = entry(2, "T", 1, None)
    keyless = entry(3, "U", 2, None, {"parent_id": "1"}, {"parent_id": None})
    assert read(parent(1, "1"), marker, keyless) == [(1,)]


def test_a_row_that_refers_to_itself_is_its_own_root() -> None:
    """No row of it took it along."""
    own = CatalogForeignKey(
        name="own", columns=("parent_id",), target=CHILDREN, target_columns=("id",)
    )
    table = replace(SHAPES[2].table, foreign_keys=(own,))
    reading = TransactionReading({2: replace(SHAPES[2], table=table)})
    reading.add(child(1, "10", "10"))
    (group,) = reading.groups()
    assert (group.id, group.roots) == (1, (1,))


def test_a_circle_has_its_first_row_as_root() -> None:
    """Each of them was taken along by the other."""
    own = CatalogForeignKey(
        name="own", columns=("parent_id",), target=CHILDREN, target_columns=("id",)
    )
    table = replace(SHAPES[2].table, foreign_keys=(own,))
    reading = TransactionReading({2: replace(SHAPES[2], table=table)})
    reading.add(child(1, "10", "11"))
    reading.add(child(2, "11", "10"))
    (group,) = reading.groups()
    assert (len(group.rows), group.roots) == (2, (1,))


def test_children_of_a_replaced_row_are_a_deletion_and_it_is_told() -> None:
    """REPLACE takes children along, and the row itself is there again."""
    reading = TransactionReading(SHAPES)
    reading.add(child(1, "10", "1"))
    reading.add(child(2, "11", "1"))
    reading.add(parent(3, "1"))
    reading.add(entry(4, "I", 1, "1", new={"id": "1"}))
    (group,) = reading.groups()
    assert [row.seq for row in group.rows] == [1, 2]
    assert ([row.seq for row in group.replaced], group.roots) == ([3], (1, 2))


def test_a_default_that_a_link_was_set_to_is_a_lost_link() -> None:
    """The database set it, as the key says; an update of the same kind before does not count."""
    key = replace(LINK, on_delete="set default")
    table = replace(SHAPES[2].table, foreign_keys=(key,))
    reading = TransactionReading({1: SHAPES[1], 2: replace(SHAPES[2], table=table)})
    reading.add(entry(1, "U", 2, "10", {"parent_id": "1"}, {"parent_id": "0"}))
    reading.add(entry(2, "U", 2, "10", {"parent_id": "0"}, {"parent_id": "3"}))
    reading.add(entry(3, "U", 2, "11", {"parent_id": None}, {"parent_id": "1"}))
    reading.add(parent(4, "1"))
    (group,) = reading.groups()
    assert [relink.columns for relink in group.relinks] == [{"parent_id": ("1", "0")}]


def test_an_inserted_row_that_changes_is_still_inserted() -> None:
    """It was not there before, whatever became of it."""
    found = read(
        entry(1, "I", 2, "10", new={"id": "10", "parent_id": "1"}),
        entry(2, "U", 2, "10", {"parent_id": "1"}, {"parent_id": None}),
        parent(3, "1"),
    )
    assert found == [(3,)]


def test_a_link_whose_other_half_is_unknown_connects_nothing() -> None:
    """Of a key of two columns an update has only those that changed."""
    key = replace(LINK, columns=("parent_id", "region"), target_columns=("id", "region"))
    table = replace(SHAPES[2].table, foreign_keys=(key,))
    reading = TransactionReading({1: SHAPES[1], 2: replace(SHAPES[2], table=table)})
    reading.add(entry(1, "U", 2, "10", {"parent_id": "1"}, {"parent_id": None}))
    reading.add(parent(2, "1"))
    (group,) = reading.groups()
    assert group.relinks == ()


def test_a_row_that_has_no_cells_to_be_referred_by_is_a_row_all_the_same() -> None:
    """Its value is personal, and lies beside the log."""
    assert read(entry(1, "D", 1, "1", {"id": True})) == [(1,)]
