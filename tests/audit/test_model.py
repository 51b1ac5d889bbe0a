"""The facts of the trail answer what is asked of them."""

import pytest

from shipworthy.audit.model import (
    Catalog,
    CatalogColumn,
    CatalogForeignKey,
    CatalogTable,
    Context,
    TableName,
)


def table(name, *columns, to=None):
    """Return a table with these columns, the first of which refers to `to`."""
    keys = ()
    if to is not None:
        keys = (
            CatalogForeignKey(
                name="fk",
                columns=(columns[0],),
                target=TableName(schema="", name=to),
                target_columns=("id",),
            ),
        )
    return CatalogTable(
        name=TableName(schema="", name=name),
        columns=tuple(
            CatalogColumn(name=column, type="integer", number=number)
            for number, column in enumerate(columns, start=1)
        ),
        primary_key=("id",),
        foreign_keys=keys,
    )


@pytest.mark.parametrize(("schema", "text"), [("", "clients"), ("public", "public.clients")])
def test_a_table_is_written_with_its_schema_where_it_has_one(schema, text):
    """As people write it."""
    assert str(TableName(schema=schema, name="clients")) == text


def test_a_column_is_found_by_its_name():
    """And one that is not there is None."""
    clients = table("clients", "id", "name")
    found = clients.column("name")
    assert (found.name, found.number) == ("name", 2)
    assert clients.column("Name") is None


def test_the_references_to_a_table_are_found_with_the_tables_that_have_them():
    """Its own too, where rows refer to rows of the same table."""
    tables = [table("tasks", "parent", "id", to="tasks"), table("notes", "task", to="tasks")]
    catalog = Catalog(dialect="any", tables={it.name: it for it in [*tables, table("other", "id")]})

    found = catalog.references_to(TableName(schema="", name="tasks"))

    assert [(it.name.name, key.columns) for it, key in found] == [
        ("tasks", ("parent",)),
        ("notes", ("task",)),
    ]
    assert catalog.references_to(TableName(schema="", name="other")) == []


def test_contexts_of_one_transaction_share_its_name():
    """The first names it; one that came with another actor continues it."""
    first = Context(tx="a1", at_microseconds=1, actor="ana")
    second = Context(tx="b2", at_microseconds=2, actor="bo", continues="a1")
    assert (first.transaction, second.transaction) == ("a1", "a1")
