"""What a server is told about one transaction, and how our own tables are kept there.

One statement at the beginning, which holds until the end of the transaction and no longer: the
connection goes back to its pool as it was. A server that only has limits for sessions is told
nothing, because what is set there would have to be taken back by another statement; there the
deadline of the unit holds, which the watchdog keeps.
"""

import re
from dataclasses import dataclass
from math import ceil
from typing import Any, Final

# Tables of MariaDB could be of an engine that has no transactions, if that is the server's default.
TABLE_OPTIONS: Final[dict[str, Any]] = {"mysql_engine": "InnoDB", "mariadb_engine": "InnoDB"}

# After these a server has rolled the whole transaction back, savepoints and all: what is sent next
# begins another one, and half of a unit would be committed.
_ROLLED_BACK: Final = {"mariadb": frozenset({1020, 1206, 1213}), "mysql": frozenset({1206, 1213})}

# SQL that commits by itself, beside SQLAlchemy, which does not notice; after blanks and comments.
_BEFORE: Final = r"(?:\s|(?:--|#)[^\n]*|/\*(?s:.*?)\*/)*+"
_COMMITS: Final = re.compile(rf"{_BEFORE}(?:COMMIT\b(?!\s+PREPARED)|END\b)", re.IGNORECASE)
_DDL_COMMITS: Final = re.compile(
    rf"{_BEFORE}(?:COMMIT|BEGIN(?!\s+NOT\b)|START\s+TRANSACTION|SET\s+(?:SESSION\s+)?AUTOCOMMIT"
    r"|CREATE(?!\s+(?:OR\s+REPLACE\s+)?TEMPORARY\b)|DROP(?!\s+TEMPORARY\b)|ALTER|RENAME|TRUNCATE"
    r"|GRANT|REVOKE|FLUSH|LOCK\s+TABLES?"
    r"|(?:ANALYZE|CHECK|OPTIMIZE|REPAIR)\s+(?:LOCAL\s+|NO_WRITE_TO_BINLOG\s+)?TABLES?)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What one transaction is held to; 0 is nothing."""

    statement_seconds: float = 0.0
    lock_seconds: float = 0.0
    idle_seconds: float = 0.0
    read_only: bool = False


def begin_statement(name: str, bounds: Bounds) -> str | None:
    """Return what the dialect `name` is sent first in a transaction; None where it is nothing."""
    if name == "postgresql":
        settings = [
            f"set_config('{setting}', '{ceil(seconds * 1000)}', true)"
            for setting, seconds in (
                ("statement_timeout", bounds.statement_seconds),
                ("lock_timeout", bounds.lock_seconds),
                ("idle_in_transaction_session_timeout", bounds.idle_seconds),
            )
            if seconds
        ]
        if bounds.read_only:
            settings.append("set_config('transaction_read_only', 'on', true)")
        return f"SELECT {', '.join(settings)}" if settings else None
    if name in _ROLLED_BACK:
        # For the next transaction, which the first statement after it begins.
        return "SET TRANSACTION READ ONLY" if bounds.read_only else None
    return None


def rolled_back(name: str, code: int | None) -> bool:
    """Say whether an error of that number has ended the whole transaction on the server."""
    return code in _ROLLED_BACK.get(name, ())


def commits(name: str, statement: str) -> bool:
    """Say whether `statement` commits what came before it, as far as its first words tell."""
    pattern = _DDL_COMMITS if name in _ROLLED_BACK else _COMMITS
    return pattern.match(statement) is not None


def reads(statement: str) -> bool:
    """Say whether `statement` is a plain SELECT; not seen is what a function in it may write."""
    return statement[:6].upper() == "SELECT"
