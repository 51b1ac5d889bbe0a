"""The words of classification: what a failure of a database means, and what is looked at."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What a failure means for whoever asked. Each failure has exactly one."""

    RERUN = "rerun"
    """The database gave the transaction up, or will at ROLLBACK: run the whole of it again."""
    NOT_SENT = "not sent"
    """Nothing reached the database: it may be sent again, even a write."""
    LOST = "lost"
    """The connection was lost before COMMIT was sent: nothing was applied, run it again."""
    AMBIGUOUS = "ambiguous"
    """Lost where a COMMIT may have been on its way: applied or not, nobody knows. Never again
    without asking the database first."""
    OVERLOAD = "overload"
    """No slots, no memory: later, and less."""
    READ_ONLY = "read only"
    """A write met a replica, or a database or transaction that only reads."""
    DEADLINE = "deadline"
    """A time limit, a cancel or an interrupt ended it."""
    STALE_PLAN = "stale plan"
    """A cached plan or prepared statement is of no use any more: run the transaction once again."""
    APP_STATE = "application state"
    """The application is not where it believes to be, such as in a transaction that has failed."""
    AUTH_CONFIG = "auth or config"
    """A role, password, database, privilege or certificate is wrong: somebody must change it."""
    STORAGE = "storage"
    """A disk is full, fails, or holds something else than it should: somebody must look."""
    PERMANENT = "permanent"
    """The statement or its data is wrong, and will be tomorrow."""
    UNKNOWN = "unknown"
    """None of these for certain. Never run a write again."""


class DbPhase(StrEnum):
    """What a connection was about when it failed.

    A statement on a connection in autocommit is its own COMMIT: its phase is `COMMIT`.
    """

    CONNECT = "connect"
    CHECKOUT = "checkout"
    BEGIN = "begin"
    STATEMENT = "statement"
    COMMIT = "commit"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """One exception of a chain, without the exception.

    `types` are the full names of its class and of the classes above it. `code` is MariaDB's error
    number or SQLite's error code; `routine` the function of PostgreSQL that raised it. `text` is
    its message, which may hold data of users: it is looked at, and goes nowhere.
    """

    types: tuple[str, ...]
    sqlstate: str | None = None
    code: int | None = None
    routine: str | None = None
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one sign means by itself, before the phase is looked at.

    `definite`: the database itself said so and still spoke, or no network was in between; then not
    even COMMIT makes it ambiguous. `coded`: a code said so. `refused`: the other side took nothing
    at all. `ours`: the database was not asked, so that it says nothing of it.
    """

    outcome: Outcome
    because: str
    definite: bool = False
    coded: bool = False
    refused: bool = False
    ours: bool = False
