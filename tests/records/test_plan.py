"""What stands in the way of a row, told from facts alone."""

import pytest

from shipworthy.audit import Catalog, CatalogColumn, CatalogTable, Image, Shape, TableName
from shipworthy.records.order import RowLink
from shipworthy.records.plan import (
    ObstacleKind,
    Surroundings,
    TableMapping,
    drop_out,
    judge_parent,
    judge_relink,
    judge_row,
    map_table,
)

NAME = TableName(schema="", name="people")
ID = CatalogColumn(name="id", type="integer", number=1, nullable=False)
EMAIL = CatalogColumn(name="email", type="text", number=2)
TAX = CatalogColumn(name="tax", type="text", number=3, nullable=False)
SUM = CatalogColumn(name="sum", type="integer", number=4, generated=True)


def table(*columns: CatalogColumn) -> CatalogTable:
    return CatalogTable(name=NAME, columns=columns, primary_key=("id",))


def mapped(
    old: CatalogTable, now: CatalogTable | None, *, stable_numbers: bool = False
) -> TableMapping:
    tables = {} if now is None else {NAME: now}
    catalog = Catalog(dialect="x", tables=tables)
    return map_table(
        Shape(id=1, table_id=1, table=old), NAME, catalog, stable_numbers=stable_numbers
    )


SAME = mapped(table(ID, EMAIL, TAX), table(ID, EMAIL, TAX))
IMAGE: Image = {"id": "1", "email": "a", "tax": "9"}


def kinds(mapping: TableMapping, **around: object) -> list[ObstacleKind]:
    surroundings = Surroundings(**around)  # type: ignore[arg-type]
    return [one.kind for one in judge_row(mapping, 5, '["1"]', IMAGE, surroundings)]


def test_a_value_that_the_log_could_not_have_stands_in_the_way() -> None:
    """The row would come back other than it was, whether or not the column may be empty."""
    found = judge_row(SAME, 5, '["1"]', {**IMAGE, "email": False}, Surroundings())
    assert [(one.kind, one.what) for one in found] == [(ObstacleKind.TOO_LONG, "email")]
    gone = mapped(table(ID, EMAIL, TAX), table(ID, TAX))
    assert [
        one.kind for one in judge_row(gone, 5, "", {**IMAGE, "email": False}, Surroundings())
    ] == [ObstacleKind.COLUMN_DROPPED]


@pytest.mark.parametrize(
    ("around", "expected"),
    [
        ({}, []),
        ({"same_key": IMAGE}, [ObstacleKind.ALREADY_BACK]),
        ({"same_key": {**IMAGE, "email": "b"}}, [ObstacleKind.KEY_TAKEN]),
        ({"holders": {"uq": '["2"]'}}, [ObstacleKind.UNIQUE_TAKEN]),
        ({"erased": frozenset({"email"})}, [ObstacleKind.ERASED_OPTIONAL]),
        ({"erased": frozenset({"tax"})}, [ObstacleKind.ERASED]),
    ],
)
def test_the_present_decides(around: dict[str, object], expected: list[ObstacleKind]) -> None:
    """Each class of conflict by itself."""
    assert kinds(SAME, **around) == expected


def test_a_table_that_is_gone_has_no_place() -> None:
    """Whatever else there is."""
    assert kinds(mapped(table(ID), None)) == [ObstacleKind.TABLE_GONE]


def test_a_column_that_is_gone_costs_its_value_only() -> None:
    """And only where it had one."""
    lost = mapped(table(ID, EMAIL, TAX), table(ID, TAX))
    assert kinds(lost) == [ObstacleKind.COLUMN_DROPPED]
    assert judge_row(lost, 5, '["1"]', {**IMAGE, "email": None}, Surroundings()) == []
    assert lost.translate(IMAGE) == {"id": "1", "tax": "9"}


def test_a_column_that_is_required_now_blocks() -> None:
    """But for one that fills itself."""
    assert kinds(mapped(table(ID, EMAIL), table(ID, EMAIL, TAX))) == [ObstacleKind.COLUMN_REQUIRED]
    filled = CatalogColumn(name="tax", type="text", number=3, nullable=False, default="'x'")
    counted = CatalogColumn(name="n", type="int", number=9, nullable=False, identity="always")
    assert kinds(mapped(table(ID, EMAIL), table(ID, EMAIL, filled, counted))) == []


def test_a_renamed_column_is_found_where_numbers_are_for_life() -> None:
    """Elsewhere a number may be another column's, and the value is said to be lost."""
    renamed = CatalogColumn(name="mail", type="text", number=2)
    old, now = table(ID, EMAIL), table(ID, renamed)
    assert mapped(old, now, stable_numbers=True).translate(IMAGE) == {"id": "1", "mail": "a"}
    assert kinds(mapped(old, now)) == [ObstacleKind.COLUMN_DROPPED]


def test_another_type_is_told_and_does_not_block() -> None:
    """Whether the value still fits is the database's to say."""
    longer = CatalogColumn(name="email", type="varchar(9)", number=2)
    (one,) = judge_row(
        mapped(table(ID, EMAIL), table(ID, longer)), 5, '["1"]', IMAGE, Surroundings()
    )
    assert (one.kind, one.what, one.blocks) == (
        ObstacleKind.TYPE_CHANGED,
        "email: text -> varchar(9)",
        False,
    )


def test_generated_columns_are_nobodys_loss() -> None:
    """The database makes them again."""
    mapping = mapped(table(ID, SUM), table(ID, SUM))
    assert (dict(mapping.columns), mapping.dropped) == ({"id": "id"}, ())


def test_a_missing_parent_is_gone_or_in_another_deletion() -> None:
    """The one that has it is named."""
    assert judge_parent(5, "people", None, "a -> b", 0).kind is ObstacleKind.PARENT_GONE
    needed = judge_parent(5, "people", None, "a -> b", 41)
    assert (needed.kind, needed.deletion, needed.blocks) == (
        ObstacleKind.PARENT_DELETED,
        41,
        True,
    )


@pytest.mark.parametrize(
    ("live", "expected"),
    [
        ({"p": None}, []),
        ({"p": "1"}, [ObstacleKind.ALREADY_BACK]),
        ({"p": "2"}, [ObstacleKind.LINK_KEPT]),
        (None, [ObstacleKind.LINK_ROW_GONE]),
    ],
)
def test_a_link_is_set_again_where_nobody_has_set_it(
    live: Image | None, expected: list[ObstacleKind]
) -> None:
    """What is newer stays, and blocks nothing."""
    found = judge_relink(5, "people", '["1"]', {"p": ("1", None)}, live)
    assert [one.kind for one in found] == expected
    assert not any(one.blocks for one in found)


def test_what_refers_to_a_blocked_row_drops_out_with_it() -> None:
    """To the end, and each is told what it refers to that does not come."""
    links = [
        RowLink(child=2, parent=1, name="a"),
        RowLink(child=3, parent=2, name="a"),
        RowLink(child=4, parent=9, name="a"),
    ]
    rows = {number: ("t", f'["{number}"]') for number in (1, 2, 3, 4, 9)}
    blocked = judge_parent(1, "t", '["1"]', "x", 0)

    found = drop_out([blocked], links, rows.__getitem__)

    assert [(one.seq, one.what) for one in found] == [(2, 't ["1"]'), (3, 't ["2"]')]


def test_what_is_back_already_does_not_drop_out() -> None:
    """Nor what refers to it: whoever has the place of its parent now, it is there."""
    links = [RowLink(child=2, parent=1, name="a"), RowLink(child=3, parent=2, name="a")]
    (back,) = judge_row(SAME, 2, '["2"]', IMAGE, Surroundings(same_key=IMAGE))
    blocked = judge_parent(1, "t", '["1"]', "x", 0)

    assert drop_out([blocked, back], links, lambda number: ("t", f'["{number}"]')) == []


def test_a_table_as_it_was_needs_no_translation() -> None:
    """A renamed, lost or generated column does."""
    assert SAME.is_same
    assert not mapped(table(ID, EMAIL), table(ID)).is_same
    assert not mapped(table(ID, SUM), table(ID, SUM)).is_same
