"""Which tables and columns the settings mean."""

import pytest

from shipworthy.audit.model import Catalog, CatalogColumn, CatalogTable, TableName
from shipworthy.audit.selection import select
from shipworthy.audit.settings import AuditSettings


def table(name, schema=""):
    return CatalogTable(
        name=TableName(schema=schema, name=name),
        columns=tuple(
            CatalogColumn(name=it, type="TEXT", number=number)
            for number, it in enumerate(("id", "email"), 1)
        ),
        primary_key=("id",),
    )


TABLES = [table("clients"), table("order_lines"), table("alembic_version"), table("people", "crm")]
CATALOG = Catalog(dialect="one", tables={it.name: it for it in TABLES})


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, {"clients", "order_lines", "crm.people"}),
        ({"exclude": ()}, {"clients", "order_lines", "alembic_version", "crm.people"}),
        ({"tables": ("order_*", "people")}, {"order_lines", "crm.people"}),
        ({"tables": ("crm.*",)}, {"crm.people"}),
        ({"exclude": ("*",)}, set()),
        ({"tables": ()}, set()),
    ],
)
def test_names_and_patterns_choose_tables(settings, names):
    """With and without the schema; who is in both lists is left out."""
    chosen = select(CATALOG, AuditSettings(**settings))
    assert {str(name) for name in chosen.tables} == names
    assert chosen.problems == ()


def test_a_name_without_a_table_is_a_problem_and_a_pattern_is_not():
    """A table that was misspelt would never be captured, and nobody would know."""
    chosen = select(CATALOG, AuditSettings(tables=("client", "invoice_*", "clients")))
    assert len(chosen.problems) == 1
    assert "'client'" in chosen.problems[0]


def test_personal_columns_belong_to_their_table():
    """Of a table in a schema the name may have it or not."""
    chosen = select(CATALOG, AuditSettings(personal=("people.email = id", "clients.email=id")))
    assert {str(name): columns for name, columns in chosen.personal.items()} == {
        "crm.people": {"email": "id"},
        "clients": {"email": "id"},
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("client.email = id", "'client', and there is no such table"),
        ("clients.mail = id", "no column 'mail'"),
        ("clients.email = person", "no column 'person'"),
        ("clients.id = id", "primary key"),
    ],
)
def test_a_personal_column_that_could_not_be_erased_is_a_problem(text, said):
    """It is found before anything is captured, not when somebody asks for erasure."""
    (problem,) = select(CATALOG, AuditSettings(personal=(text,))).problems
    assert said in problem
