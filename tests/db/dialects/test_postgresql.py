"""PostgreSQL: every SQLSTATE has a meaning, and the statements do on a server what they say."""

import re

import psycopg.errors
import pytest
from hypothesis import given, strategies as st
from sqlalchemy import create_engine, text

from shipworthy.db import Outcome, dialect_named
from shipworthy.db.dialects.postgresql import CLASSES, CODES, POSTGRESQL
from shipworthy.db.outcome import Sign

TYPES = ("psycopg.OperationalError", "psycopg.Error")
# As read from the driver, so that a new one of its makes the test below fail.
STATES = sorted(code for code in psycopg.errors._sqlcodes if re.fullmatch(r"[0-9A-Z]{5}", code))


def outcome_of(state: str) -> Outcome | None:
    verdict = POSTGRESQL.by_code(Sign(types=TYPES, sqlstate=state))
    return None if verdict is None else verdict.outcome


def connect_outcome(message: str) -> Outcome | None:
    verdict = POSTGRESQL.by_text(Sign(types=TYPES, text=message))
    return None if verdict is None else verdict.outcome


def test_the_driver_names_as_many_as_it_should():
    """Otherwise the next test would prove little."""
    assert len(STATES) >= 250


@pytest.mark.parametrize("state", STATES)
def test_every_sqlstate_of_the_driver_stands_in_the_table(state):
    """By its code or by its class; none is left to chance."""
    rule = CODES.get(state) or CLASSES.get(state[:2])

    assert rule is not None
    assert outcome_of(state) is rule[0]


@pytest.mark.parametrize(
    ("outcome", "states"),
    [
        (Outcome.RERUN, "40000 40001 40P01 55P03 72000"),
        (Outcome.NOT_SENT, "08001 08004 57P03"),
        (Outcome.LOST, "08000 08003 08006 08P01 57P01 57P02 57P05 25P03"),
        (Outcome.AMBIGUOUS, "08007 40003"),
        (Outcome.PERMANENT, "40002 23505 23503 22P02 42601 42P01 21000 34000 44000 P0001 HV000"),
        (Outcome.OVERLOAD, "53300 53000 53200 53400"),
        (Outcome.STORAGE, "53100 58030 58000 XX001 XX002"),
        (Outcome.READ_ONLY, "25006"),
        (Outcome.DEADLINE, "57014 25P04"),
        (Outcome.STALE_PLAN, "26000"),
        (Outcome.APP_STATE, "25P01 25P02 25001 3B001 2D000"),
        (Outcome.AUTH_CONFIG, "28000 28P01 3D000 42501 57P04"),
        (Outcome.UNKNOWN, "XX000 57000 0Y000 00000"),
        (Outcome.PERMANENT, "SHIP1 U0001 ZY000"),
    ],
)
def test_a_sqlstate_means_what_it_should(outcome, states):
    """The table, read back against what was meant; classes I to Z are the application's own."""
    found = {state: outcome_of(state) for state in states.split()}

    assert found == dict.fromkeys(states.split(), outcome)


@pytest.mark.parametrize("state", [None, "", "123", "4000l", "400011", "40 01"])
def test_what_is_no_sqlstate_is_not_judged(state):
    """Five digits and capitals, or nothing."""
    assert outcome_of(state) is None


@pytest.mark.parametrize(
    ("message", "outcome"),
    [
        ('connection failed: FATAL:  role "nobody" does not exist', Outcome.AUTH_CONFIG),
        ('connection failed: FATAL:  database "x" does not exist', Outcome.AUTH_CONFIG),
        ("connection failed: fe_sendauth: no password supplied", Outcome.AUTH_CONFIG),
        ("connection failed: FATAL:  no pg_hba.conf entry for host", Outcome.AUTH_CONFIG),
        ('connection failed: FATAL:  permission denied for database "x"', Outcome.AUTH_CONFIG),
        ("connection failed: server does not support SSL, but SSL was", Outcome.AUTH_CONFIG),
        ("connection failed: FATAL:  sorry, too many clients already", Outcome.OVERLOAD),
        ("connection failed: FATAL:  remaining connection slots are", Outcome.OVERLOAD),
        ('connection failed: FATAL:  too many connections for role "x"', Outcome.OVERLOAD),
        ("connection failed: FATAL:  the database system is starting up", Outcome.NOT_SENT),
        ("connection failed: FATAL:  the database system is in recovery", Outcome.NOT_SENT),
        ("connection failed: Connection refused", Outcome.NOT_SENT),
        ("connection failed: FATAL:  Rolle >>x<< existiert nicht", Outcome.NOT_SENT),
        ("failed to resolve host 'x': [Errno -2]", Outcome.NOT_SENT),
        ("consuming input failed: server closed the connection", None),
        ("the connection is closed", None),
    ],
)
def test_what_libpq_says_at_connect_is_understood_or_is_no_connection(message, outcome):
    """It shows no SQLSTATE; a message in another language is a connection that was not made."""
    assert connect_outcome(message) is outcome


@given(st.text())
def test_no_message_makes_anything_worse_than_not_sent(message):
    """Whatever the text says, nothing was sent: it can decide only how loud we are."""
    assert connect_outcome(f"connection failed: {message}") in (
        Outcome.NOT_SENT, Outcome.OVERLOAD, Outcome.AUTH_CONFIG
    )  # fmt: skip


def test_only_psycopg_says_it_in_words():
    """asyncpg has SQLSTATEs; its texts are left alone."""
    sign = Sign(types=("asyncpg.exceptions._base.InterfaceError",), text="connection failed")

    assert POSTGRESQL.by_text(sign) is None
    assert POSTGRESQL.by_type(sign).outcome is Outcome.APP_STATE
    assert POSTGRESQL.by_type(Sign(types=("psycopg.Error",))) is None


@pytest.mark.slow
def test_the_statements_do_on_a_server_what_they_say(postgres_url):
    """Advisory lock and transaction status, on two connections."""
    dialect = dialect_named("postgresql")
    engine = create_engine(postgres_url)
    lock, status = dialect.advisory_lock("migrations"), dialect.transaction_status

    with engine.connect() as one, engine.connect() as two:

        def ask(connection, statement, values=None):
            return connection.execute(text(statement), values or {}).scalar_one()

        taken = [ask(one, *lock.take), ask(two, *lock.take), ask(one, *lock.release)]
        taken += [ask(two, *lock.take), ask(two, *lock.release)]
        one.rollback()
        unwritten = ask(one, status.assigned)
        one.execute(text("CREATE TABLE seen (id int)"))
        xid = ask(one, status.assigned)
        known = [ask(two, status.status, {"xid": xid})]
        one.commit()
        known.append(ask(two, status.status, {"xid": xid}))
        one.execute(text("INSERT INTO seen VALUES (1)"))
        lost = ask(one, status.assigned)
        one.rollback()
        known.append(ask(two, status.status, {"xid": lost}))
        place = ask(one, status.place)
    engine.dispose()

    assert taken == [True, False, True, True, True]
    assert unwritten is not None  # a foreign table may have been written, which gets no number here
    assert known == ["in progress", "committed", "aborted"]
    assert place.count("/") == 1
