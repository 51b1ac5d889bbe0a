"""What is seen through a flag, by name: the whole list, and nothing else is."""

from typing import Final

import sqlalchemy as sa

FLAG_LEAKS: Final = frozenset({
    "inheritance child table alone",
    "lazy load over a deleted association",
    "joinedload over a deleted association",
    "join over a deleted association",
    "select of the association table",
    "insert from select of an entity",
    "insert from select of a table",
    "update of a table",
    "select of a table",
    "count of a table",
    "subquery of a table",
    "entity joined to a table",
    "literal table name",
    "table on the connection of a session",
    "entity on the connection of a session",
    "table on an engine",
    "text of sql",
    "text columns",
    "driver sql",
    "from statement of text",
    "from statement of a table",
})  # fmt: skip
# SQLAlchemy 2.0 has no criteria in an EXISTS; 2.1 has.
FLAG_LEAKS_OF_2_0: Final = frozenset({
    "where exists",
    "select exists",
    "relationship any",
    "relationship has",
    "many to many any",
    "update where exists",
})  # fmt: skip
# The rows of a joined child table have no flag of their own, so there is no view of it.
FLAG_LEAKS_BEHIND_VIEWS: Final = frozenset({"inheritance child table alone"})


def flag_leaks(version: str = sa.__version__) -> frozenset[str]:
    """Return the list for a version of SQLAlchemy."""
    return FLAG_LEAKS | FLAG_LEAKS_OF_2_0 if version.startswith("2.0.") else FLAG_LEAKS
