"""What a statement is to the trail, told by its first words: it writes, ends something, or not.

Wrong on the safe side: what is taken for a write and is none costs one more round trip. What a
SELECT writes through a function is not seen; see the setting `audit.bind_reads`.
"""

import re
from enum import StrEnum
from typing import Final

# Blanks, comments and brackets may come first.
_BEFORE: Final = r"(?:\s|\(|--[^\n]*(?:\n|$)|#[^\n]*(?:\n|$)|/\*(?s:.*?)\*/)*+"
_WORD: Final = re.compile(rf"{_BEFORE}([A-Za-z]+)")
_WRITES_WITHIN: Final = re.compile(r"\b(?:INSERT|UPDATE|DELETE|MERGE|REPLACE)\b", re.IGNORECASE)
_READS: Final = frozenset(
    {
        "ALTER", "ANALYZE", "ATTACH", "CLOSE", "COMMENT", "CREATE", "DECLARE", "DESC", "DESCRIBE",
        "DETACH", "DISCARD", "DROP", "FETCH", "GRANT", "KILL", "LISTEN", "LOCK", "NOTIFY",
        "PRAGMA", "REINDEX", "RELEASE", "RESET", "REVOKE", "SAVEPOINT", "SELECT", "SET", "SHOW",
        "UNLISTEN", "UNLOCK", "USE", "VACUUM", "VALUES",
    }
)  # fmt: skip
_ENDS: Final = frozenset({"ABORT", "BEGIN", "COMMIT", "END", "ROLLBACK", "START"})
# Where MariaDB runs a statement under settings, or to explain it: they begin as harmless ones do.
_RUNS: Final = re.compile(
    rf"{_BEFORE}(?:SET\s+STATEMENT\b|ANALYZE\s.*?\b(?:INSERT|UPDATE|DELETE|REPLACE)\b)",
    re.IGNORECASE | re.DOTALL,
)
_TO: Final = re.compile(r"\bTO\b", re.IGNORECASE)


class Does(StrEnum):
    """What a statement does, as far as the trail must know."""

    NOTHING = "nothing"
    WRITE = "write"
    UNDO = "undo"
    """It rolls back to a savepoint: what was carried since is gone."""
    END = "end"
    """It ends a transaction, or begins one, beside SQLAlchemy."""


def what(statement: str) -> Does:
    """Return what `statement` does."""
    if statement[:6].upper() == "SELECT":
        return Does.NOTHING
    found = _WORD.match(statement)
    word = found.group(1).upper() if found else ""
    if word in _READS:
        runs = word in {"SET", "ANALYZE"} and _RUNS.match(statement)
        return Does.WRITE if runs else Does.NOTHING
    if word == "ROLLBACK" and _TO.search(statement):
        return Does.UNDO
    if word in _ENDS:
        return Does.END
    if word in {"WITH", "EXPLAIN"} and not _WRITES_WITHIN.search(statement):
        return Does.NOTHING
    return Does.WRITE
