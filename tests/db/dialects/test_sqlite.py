"""SQLite: every code has a meaning."""

import sqlite3

import pytest
from hypothesis import given, strategies as st

from shipworthy.db import Outcome, dialect_named
from shipworthy.db.dialects.sqlite import EXTENDED, PRIMARY, SQLITE
from shipworthy.db.outcome import Sign

TYPES = ("sqlite3.OperationalError", "sqlite3.Error")
KINDS = """
    ABORT AUTH BUSY CANTOPEN CONSTRAINT CORRUPT DONE EMPTY ERROR FORMAT FULL INTERNAL INTERRUPT
    IOERR LOCKED MISMATCH MISUSE NOLFS NOMEM NOTADB NOTFOUND NOTICE PERM PROTOCOL RANGE READONLY
    ROW SCHEMA TOOBIG WARNING
"""
CODES = {
    name: code
    for name, code in vars(sqlite3).items()
    if name.startswith("SQLITE_") and name.split("_")[1] in KINDS.split()
}


def outcome_of(code: int) -> Outcome:
    return SQLITE.by_code(Sign(types=TYPES, code=code)).outcome


def test_the_library_names_as_many_as_it_should():
    """Otherwise the next test would prove little."""
    assert len(CODES) > 90


@pytest.mark.parametrize("name", sorted(CODES))
def test_every_code_of_the_library_stands_in_the_table(name):
    """By itself or by its primary code; none is left to chance."""
    code = CODES[name]

    assert code in EXTENDED or (code & 0xFF) in PRIMARY
    assert outcome_of(code) is (EXTENDED.get(code) or PRIMARY[code & 0xFF])[0]


@pytest.mark.parametrize(
    ("outcome", "codes"),
    [
        (Outcome.RERUN, (5, 261, 517, 773, 6, 262, 518, 15)),
        (Outcome.READ_ONLY, (8, 264, 1544)),
        (Outcome.STORAGE, (10, 778, 1034, 11, 779, 13, 26, 1032)),
        (Outcome.NOT_SENT, (14, 526)),
        (Outcome.DEADLINE, (9,)),
        (Outcome.OVERLOAD, (7, 3082)),
        (Outcome.PERMANENT, (1, 18, 19, 275, 787, 1299, 1555, 2067, 20, 25)),
        (Outcome.APP_STATE, (4, 516, 21)),
        (Outcome.AUTH_CONFIG, (3, 23)),
        (Outcome.UNKNOWN, (2, 0, 99)),
    ],
)
def test_a_code_means_what_it_should(outcome, codes):
    """The table, read back against what was meant."""
    assert {code: outcome_of(code) for code in codes} == dict.fromkeys(codes, outcome)


@given(st.integers())
def test_every_code_has_an_outcome(code):
    """Also those that a later version will have."""
    assert isinstance(outcome_of(code), Outcome)


def test_without_a_code_the_class_decides():
    """The driver itself complains where SQLite did not."""
    assert SQLITE.by_type(Sign(types=TYPES)).outcome is Outcome.PERMANENT
    assert SQLITE.by_type(Sign(types=("sqlite3.Error",))) is None
    assert SQLITE.by_code(Sign(types=TYPES)) is None
    assert SQLITE.by_text(Sign(types=TYPES, text="connection failed")) is None


def test_there_is_no_server_to_ask():
    """No advisory lock, no status of transactions."""
    dialect = dialect_named("sqlite")

    assert dialect.advisory_lock("migrations") is None
    assert dialect.transaction_status is None
