"""How a connection is asked whether its database has the trail; it must not fail where it has not.

A failed statement would end the transaction on some of them.
"""

from collections.abc import Mapping
from typing import Final

_MARIADB: Final = (
    "SELECT count(*) FROM information_schema.tables "
    "WHERE table_schema = DATABASE() AND table_name = 'shipworthy_audit_entries'"
)
_STATEMENTS: Final[Mapping[str, str]] = {
    "sqlite": (
        "SELECT count(*) FROM sqlite_master "
        "WHERE type = 'table' AND name = 'shipworthy_audit_entries'"
    ),
    # In any schema: a session may have a `search_path` that the log is not in, and what one session
    # is told goes for all of them.
    "postgresql": (
        "SELECT count(*) FROM pg_catalog.pg_class "
        "WHERE relname = 'shipworthy_audit_entries' AND relkind IN ('r', 'p')"
    ),
    "mysql": _MARIADB,
    "mariadb": _MARIADB,
}


def presence_statement(name: str) -> str:
    """Return the SELECT of one number, 0 where there is no trail; '' for other dialects."""
    return _STATEMENTS.get(name, "")
