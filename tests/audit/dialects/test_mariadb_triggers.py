"""What MariaDB's triggers refuse to promise."""

from shipworthy.audit.dialects.mariadb_triggers import capture
from shipworthy.audit.model import Catalog, CatalogColumn, CatalogTable, Shape, TableName


def _refused(column_type: str, **traits: str) -> str:
    table = CatalogTable(
        name=TableName(schema="", name="t"),
        columns=(CatalogColumn(name="id", type=column_type, number=1),),
        primary_key=("id",),
        traits=traits,
    )
    shape = Shape(id=1, table_id=1, table=table, personal={"id": "id"})
    return capture(shape, Catalog(dialect="mariadb", tables={table.name: table})).refused


def test_what_cannot_be_captured_exactly_is_said() -> None:
    """A type of tomorrow, a key too long for the log, an old server without salts."""
    assert _refused("int(11)", engine="InnoDB") == ""
    assert "type xmltype of column 'id' is not known" in _refused("xmltype")
    assert "may take 704 characters" in _refused("varchar(700) character set utf8mb4")
    assert "RANDOM_BYTES" in _refused("int(11)", no_random_bytes="yes")
    assert "MyISAM has no transactions" in _refused("int(11)", engine="MyISAM")
