"""Which tables a delete reaches on MariaDB, and in which order they are asked."""

from shipworthy.audit.dialects.mariadb_reach import key_paths, reach_of
from shipworthy.audit.model import (
    Catalog,
    CatalogColumn,
    CatalogForeignKey,
    CatalogTable,
    TableName,
)


def _table(name: str, *parents: str) -> CatalogTable:
    columns = [CatalogColumn(name="id", type="int(11)", number=1)]
    columns += [CatalogColumn(name=it, type="int(11)", number=2) for it in parents]
    return CatalogTable(
        name=TableName(schema="", name=name),
        columns=tuple(columns),
        primary_key=("id",),
        foreign_keys=tuple(
            CatalogForeignKey(
                name=f"{name}_{it}",
                columns=(it,),
                target=TableName(schema="", name=it),
                target_columns=("id",),
                on_delete="cascade",
                on_update="cascade",
            )
            for it in parents
        ),
    )


def _catalog(*tables: CatalogTable) -> Catalog:
    return Catalog(dialect="mariadb", tables={it.name: it for it in tables})


def test_a_table_comes_after_those_it_loses_rows_by() -> None:
    """Also where a shorter way leads to it."""
    root = _table("a")
    catalog = _catalog(root, _table("b", "a", "c"), _table("c", "a"))
    assert [it.name.name for it in reach_of(root, catalog).deleted] == ["c", "b"]


def test_tables_that_take_each_other_along_are_one_set() -> None:
    """MariaDB refuses sets that refer to each other."""
    root = _table("a", "b")
    text = reach_of(root, _catalog(root, _table("b", "a"))).sets([TableName(schema="", name="a")])
    assert text.count("loop") > 0
    assert text.count("UNION") > 0


def test_a_key_that_changes_is_followed_no_further_than_it_reaches() -> None:
    """The child's own key does not change with its link."""
    root = _table("a")
    catalog = _catalog(root, _table("b", "a"), _table("c", "b"))
    assert [[it.child.name.name for it in path] for path in key_paths(root, catalog)] == [["b"]]
