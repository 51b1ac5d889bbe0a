"""SQLite: extended error codes, else the primary code in their last eight bits."""

from collections.abc import Mapping
from typing import Final, final

from shipworthy.db.dialects.statements import AdvisoryLock, TransactionStatus
from shipworthy.db.outcome import Outcome, Sign, Verdict

Rule = tuple[Outcome, str]

# What a primary code means, with every extended code of it that is not named below.
PRIMARY: Final[Mapping[int, Rule]] = {
    1: (Outcome.PERMANENT, "a statement that is wrong"),
    2: (Outcome.UNKNOWN, "an internal error"),
    3: (Outcome.AUTH_CONFIG, "a file may not be used so"),
    4: (Outcome.APP_STATE, "the statement was given up by the application"),
    5: (Outcome.RERUN, "another connection holds the lock"),
    6: (Outcome.RERUN, "another statement of the same connection or cache holds the lock"),
    7: (Outcome.OVERLOAD, "out of memory"),
    8: (Outcome.READ_ONLY, "the database only reads"),
    9: (Outcome.DEADLINE, "the statement was interrupted"),
    10: (Outcome.STORAGE, "the operating system failed it"),
    11: (Outcome.STORAGE, "the database file is corrupted"),
    12: (Outcome.PERMANENT, "something that is not there"),
    13: (Outcome.STORAGE, "the disk is full, or the file as large as it may be"),
    14: (Outcome.NOT_SENT, "the file could not be opened"),
    15: (Outcome.RERUN, "too many connections raced for the lock"),
    16: (Outcome.PERMANENT, "nothing there"),
    17: (Outcome.STALE_PLAN, "the schema changed again and again under a statement"),
    18: (Outcome.PERMANENT, "a value that is too large"),
    19: (Outcome.PERMANENT, "an integrity constraint"),
    20: (Outcome.PERMANENT, "a value of the wrong type"),
    21: (Outcome.APP_STATE, "a use of the library it does not allow"),
    22: (Outcome.STORAGE, "the file system cannot hold a file as large"),
    23: (Outcome.AUTH_CONFIG, "not authorised"),
    24: (Outcome.STORAGE, "the file is of another format"),
    25: (Outcome.PERMANENT, "a parameter that is not there"),
    26: (Outcome.STORAGE, "the file is no database"),
    27: (Outcome.UNKNOWN, "a notice"),
    28: (Outcome.UNKNOWN, "a warning"),
    100: (Outcome.UNKNOWN, "a row, which is no error"),
    101: (Outcome.UNKNOWN, "the end of a statement, which is no error"),
}
EXTENDED: Final[Mapping[int, Rule]] = {
    513: (Outcome.RERUN, "the statement should be prepared again"),
    516: (Outcome.APP_STATE, "the transaction was rolled back under the statement"),
    517: (Outcome.RERUN, "others wrote since the transaction began to read; no wait helps"),
    769: (Outcome.RERUN, "a snapshot that is gone"),
    776: (Outcome.STORAGE, "a journal must be rolled back first, and may not be written"),
    1032: (Outcome.STORAGE, "the file was moved under its connection"),
    3082: (Outcome.OVERLOAD, "out of memory"),
}
# Here SQLite itself may not know what is on the disk: a COMMIT may have been done.
_OPEN = frozenset({2, 10, 14})

# Without a code the driver itself complained, or SQLAlchemy for aiosqlite; that a connection was
# closed under it, SQLAlchemy finds out.
TYPES: Final[Mapping[str, Rule]] = {
    "sqlite3.IntegrityError": (Outcome.PERMANENT, "an integrity constraint"),
    "sqlite3.DataError": (Outcome.PERMANENT, "a value the driver cannot send"),
    "sqlite3.InterfaceError": (Outcome.PERMANENT, "a use of the driver it does not know"),
    "sqlite3.NotSupportedError": (Outcome.PERMANENT, "a feature that is not supported"),
    "sqlite3.OperationalError": (Outcome.PERMANENT, "the driver itself gave up"),
    "sqlite3.ProgrammingError": (Outcome.PERMANENT, "a use of the driver it does not allow"),
}


@final
class Sqlite:
    """SQLite through sqlite3 or aiosqlite."""

    __slots__ = ()

    name = "sqlite"
    transaction_status: TransactionStatus | None = None

    def by_code(self, sign: Sign) -> Verdict | None:
        """Judge by error code."""
        code = sign.code
        if code is None:
            return None
        primary = code & 0xFF
        outcome, because = (
            EXTENDED.get(code)
            or PRIMARY.get(primary)
            or (Outcome.UNKNOWN, "a code of no known kind")
        )
        return Verdict(
            outcome=outcome,
            because=f"{because} ({code})",
            coded=True,
            definite=primary not in _OPEN and primary in PRIMARY,
        )

    def by_text(self, sign: Sign) -> Verdict | None:
        """Judge nothing: SQLite gives codes."""
        del sign
        return None

    def by_type(self, sign: Sign) -> Verdict | None:
        """Judge an exception of the driver itself."""
        for name in sign.types:
            if name in TYPES:
                outcome, because = TYPES[name]
                return Verdict(outcome=outcome, because=because, definite=True)
        return None

    def advisory_lock(self, name: str) -> AdvisoryLock | None:
        """Return None: BEGIN IMMEDIATE is the one lock there is."""
        del name
        return None


SQLITE = Sqlite()
