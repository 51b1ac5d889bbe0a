"""Keys are shown as values, and what is personal is not."""

from shipworthy.audit import CatalogColumn, CatalogTable, TableName, audit_dialect
from shipworthy.records.keys import shown_key

TABLE = CatalogTable(
    name=TableName(schema="", name="t"),
    columns=(
        CatalogColumn(name="a", type="INTEGER", number=1),
        CatalogColumn(name="b", type="TEXT", number=2),
    ),
    primary_key=("a", "b"),
)


def test_a_key_is_its_values() -> None:
    """As the engine's cells mean them."""
    dialect = audit_dialect("sqlite")
    assert dialect is not None
    assert shown_key(dialect, TABLE, '["i7","tblue"]') == "7, blue"
    assert shown_key(dialect, TABLE, '["i7",true]') == "7, ?"
    assert shown_key(dialect, TABLE, None) is None
