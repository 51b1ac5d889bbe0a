"""What became of a table, in words."""

from dataclasses import replace

import pytest

from shipworthy.audit.changes import table_changes
from shipworthy.audit.model import CatalogColumn, CatalogForeignKey, CatalogTable, TableName

ID = CatalogColumn(name="id", type="INTEGER", number=1, nullable=False)
EMAIL = CatalogColumn(name="email", type="TEXT", number=2)
CLIENTS = CatalogTable(
    name=TableName(schema="", name="clients"), columns=(ID, EMAIL), primary_key=("id",)
)
KEY = CatalogForeignKey(name="f", columns=("id",), target=CLIENTS.name, target_columns=("id",))


def with_email(**facts):
    return {"columns": (ID, replace(EMAIL, **facts))}


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"name": TableName(schema="", name="customers")}, ["the table was called clients"]),
        ({"columns": (ID, EMAIL, replace(EMAIL, name="x", number=3))}, ["column 'x' is new"]),
        ({"columns": (ID,)}, ["column 'email' is gone"]),
        (with_email(name="mail"), ["column 'email' is now 'mail'"]),
        (with_email(name="mail", number=3), ["column 'mail' is new", "column 'email' is gone"]),
        (with_email(type="BLOB"), ["column 'email' is of type BLOB, and was TEXT"]),
        (with_email(nullable=False), ["column 'email' must not be NULL now"]),
        (with_email(generated=True), ["column 'email' is generated now"]),
        (with_email(identity="always"), ["column 'email' is numbered otherwise now"]),
        ({"primary_key": ()}, ["the primary key is (none), and was (id)"]),
        ({"foreign_keys": (KEY,)}, ["its foreign keys are others"]),
        (with_email(default="''"), []),
        ({"triggers": ("x",), "estimated_rows": 3}, []),
    ],
)
def test_each_change_has_a_phrase(facts, said):
    """Whoever reads the plan sees why a table is in it."""
    assert table_changes(CLIENTS, replace(CLIENTS, **facts)) == said


def test_a_key_whose_column_was_renamed_is_still_the_key():
    """One change is said once."""
    renamed = replace(
        CLIENTS, columns=(replace(ID, name="client_id"), EMAIL), primary_key=("client_id",)
    )
    assert table_changes(CLIENTS, renamed) == ["column 'id' is now 'client_id'"]


def test_two_columns_that_change_places_are_not_renamed():
    """Where the number is only the place, a name that is still there decides."""
    swapped = replace(CLIENTS, columns=(replace(EMAIL, number=1), replace(ID, number=2)))
    assert table_changes(CLIENTS, swapped) == []
