"""Rows find what they refer to, whoever was told first."""

from hypothesis import given, strategies as st

from shipworthy.audit import TableName
from shipworthy.records.links import DisjointRows, RowLinks, cells_of

PARENTS = TableName(schema="", name="parents")


def test_wishes_meet_offers_and_the_others_are_told() -> None:
    """In any order; the name of the key goes with it."""
    links = RowLinks()
    links.wish(2, PARENTS, ("id",), ("1",), "a")
    links.offer(1, PARENTS, ("id",), ("1",))
    links.wish(3, PARENTS, ("id",), ("9",), "a")
    links.wish(4, PARENTS, ("code",), ("1",), "b")

    edges, missed = links.match()

    assert edges == [(2, 1, "a")]
    assert [(miss.row, miss.cells, miss.name) for miss in missed] == [
        (3, ("9",), "a"),
        (4, ("1",), "b"),
    ]


def test_cells_that_are_null_hidden_or_missing_refer_to_nothing() -> None:
    """A personal value lies beside the log."""
    assert cells_of({"a": "1", "b": "2"}, ("a", "b")) == ("1", "2")
    assert cells_of({"a": "1", "b": None}, ("a", "b")) is None
    assert cells_of({"a": True}, ("a",)) is None
    assert cells_of({}, ("a",)) is None


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=40))
def test_joined_rows_are_in_one_set_and_others_are_not(pairs: list[tuple[int, int]]) -> None:
    """Held against sets that are merged one by one."""
    rows = DisjointRows()
    sets = {row: {row} for row in range(21)}
    for one, other in pairs:
        rows.join(one, other)
        merged = sets[one] | sets[other]
        for row in merged:
            sets[row] = merged
    for row in range(21):
        assert rows.find(row) == min(sets[row])


def test_two_that_differ_in_case_alone_find_the_same_row() -> None:
    """And what has no case at all is only equal to itself."""
    links = RowLinks()
    links.offer(1, PARENTS, ("id",), ("Ab",))
    links.wish(2, PARENTS, ("id",), ("aB",))
    links.wish(3, PARENTS, ("id",), ("AB",))
    links.wish(4, PARENTS, ("id",), ("7",))
    edges, missed = links.match()
    assert ({(child, parent) for child, parent, _ in edges}, len(missed)) == ({(2, 1), (3, 1)}, 1)


def test_an_older_row_joins_a_younger_one_by_way_of_others() -> None:
    """The way to the representative is made short."""
    rows = DisjointRows()
    rows.join(3, 4)
    rows.join(2, 3)
    rows.join(1, 2)
    assert [rows.find(row) for row in (4, 3, 2, 1)] == [1, 1, 1, 1]
