"""What things of the trail are called in a PostgreSQL database, and how SQL spells them. Pure."""

from itertools import count
from typing import Final

from shipworthy.audit.model import CatalogTable
from shipworthy.audit.tables import PREFIX

SCHEMA: Final = "schema"  # the trait with the schema that the table and the log lie in
PARTITIONED: Final = "partitioned"  # the trait of a table that is
PARTITIONS: Final = "partitions"  # the trait with its leaves, as JSON

# Triggers of one kind fire by name. An AFTER trigger of the application may change the row again,
# and the entry of that must come after ours: so ours are first.
FIRST: Final = "00_"
TRIGGERS: Final = f"{FIRST}{PREFIX}audit_"
GUARD: Final = f"{PREFIX}audit_guard"
ENTER: Final = f"{PREFIX}audit_enter"
WHOLE: Final = f"{PREFIX}audit_whole"
CONTEXT_SETTING: Final = "shipworthy.context"
REMOVAL_SETTING: Final = "shipworthy.removal"


def quoted(name: str) -> str:
    """Return a name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return text as an SQL literal, whatever `standard_conforming_strings` is."""
    body = text.replace("'", "''")
    return f"E'{body.replace(chr(92), chr(92) * 2)}'" if "\\" in body else f"'{body}'"


def dollar_quoted(body: str) -> str:
    """Return a body of a function as SQL has it, whatever names of columns stand in it."""
    tag = next(tag for tag in (f"$body{number}$" for number in count()) if tag not in body)
    return f"{tag}{body}{tag}"


def log_schema_of(table: CatalogTable) -> str:
    """Return the schema that the log lies in for this table."""
    return table.traits.get(SCHEMA, "public")


def relation_of(table: CatalogTable) -> str:
    """Return the table as SQL has it, with its schema."""
    return f"{quoted(table.name.schema or log_schema_of(table))}.{quoted(table.name.name)}"
