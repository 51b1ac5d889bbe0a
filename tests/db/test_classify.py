"""What a failure means, decided from its chain of causes and its phase."""

import asyncio
import socket
import sqlite3
import ssl
import subprocess
import sys
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

import asyncpg
import psycopg
import psycopg.errors
import pymysql.err
import pytest
import sqlalchemy.exc
from hypothesis import given, strategies as st
from sqlalchemy.orm.exc import StaleDataError

import shipworthy.db
from shipworthy.db import Classified, DbPhase, Outcome, classify, database_outcome
from shipworthy.db.classify import DEPTH, PHASE_ATTRIBUTE, Facts, decide, facts_of, verdict_of
from shipworthy.db.outcome import Sign
from shipworthy.errors import Draining, Rejected

PSYCOPG = ("psycopg.OperationalError", "psycopg.Error")
ASYNCPG = ("asyncpg.exceptions._base.PostgresError",)
PYMYSQL = ("pymysql.err.OperationalError", "pymysql.err.MySQLError")
SQLITE = ("sqlite3.OperationalError", "sqlite3.Error")
NOTHING_MAY_HAVE_HAPPENED = {Outcome.LOST, Outcome.NOT_SENT, Outcome.RERUN}


def wrapped(original: BaseException, *, invalidated: bool = False) -> sqlalchemy.exc.DBAPIError:
    """What SQLAlchemy makes of a driver's error."""
    return sqlalchemy.exc.OperationalError(
        "SELECT 1", None, original, connection_invalidated=invalidated
    )


def caused(error: BaseException, *causes: BaseException) -> BaseException:
    """A chain, as `raise ... from ...` makes it."""
    link = error
    for cause in causes:
        link.__cause__ = cause
        link = cause
    return error


def outcome_of(*signs: Sign, phase: DbPhase | None = None, invalidated: bool = False) -> Outcome:
    return decide(Facts(signs=signs, invalidated=invalidated), phase=phase).outcome


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (wrapped(psycopg.errors.SerializationFailure("no")), Outcome.RERUN),
        (caused(RuntimeError(), wrapped(psycopg.errors.DeadlockDetected())), Outcome.RERUN),
        (wrapped(asyncpg.LockNotAvailableError()), Outcome.RERUN),
        (wrapped(pymysql.err.OperationalError(1213, "Deadlock")), Outcome.RERUN),
        (wrapped(pymysql.err.OperationalError(1205, "Lock wait", sqlstate="HY000")), Outcome.RERUN),
        (StaleDataError("1 row expected, 0 matched"), Outcome.RERUN),
        (asyncpg.InvalidCachedStatementError(), Outcome.STALE_PLAN),
        (psycopg.errors.ReadOnlySqlTransaction(), Outcome.READ_ONLY),
        (sqlalchemy.exc.TimeoutError("QueuePool limit"), Outcome.NOT_SENT),
        (ConnectionRefusedError(111, "Connection refused"), Outcome.NOT_SENT),
        (socket.gaierror(-2, "Name or service not known"), Outcome.NOT_SENT),
        (Draining(), Outcome.NOT_SENT),
        (caused(Rejected("full", retry_after_seconds=1.0)), Outcome.NOT_SENT),
        (ConnectionResetError(104, "reset"), Outcome.AMBIGUOUS),
        (asyncio.IncompleteReadError(b"", 4), Outcome.AMBIGUOUS),
        (TimeoutError(), Outcome.DEADLINE),
        (asyncio.CancelledError(), Outcome.DEADLINE),
        (ssl.SSLCertVerificationError("self-signed"), Outcome.AUTH_CONFIG),
        (sqlalchemy.exc.PendingRollbackError("rolled back"), Outcome.APP_STATE),
        (sqlalchemy.exc.ResourceClosedError("closed"), Outcome.APP_STATE),
        (sqlalchemy.exc.DisconnectionError("stale"), Outcome.AMBIGUOUS),
        (sqlalchemy.exc.ArgumentError("no such thing"), Outcome.PERMANENT),
        (caused(sqlalchemy.exc.StatementError("bad", "", {}, ValueError(1))), Outcome.PERMANENT),
        (wrapped(Exception("of an unknown driver")), Outcome.UNKNOWN),
        (OSError(5, "Input/output error"), Outcome.UNKNOWN),
        (ValueError(1213), Outcome.UNKNOWN),
        (KeyError("40001"), Outcome.UNKNOWN),
    ],
    ids=lambda value: repr(value)[:70],
)
def test_an_exception_means_the_same_however_it_is_wrapped(error, outcome):
    """What the database or the operating system said decides, wherever in the chain it stands."""
    found = classify(error)

    assert found.outcome is outcome
    assert found.because


@pytest.mark.parametrize(
    ("phase", "outcome"),
    [
        (DbPhase.CONNECT, Outcome.NOT_SENT),
        (DbPhase.CHECKOUT, Outcome.NOT_SENT),
        (DbPhase.BEGIN, Outcome.LOST),
        (DbPhase.STATEMENT, Outcome.LOST),
        (DbPhase.COMMIT, Outcome.AMBIGUOUS),
        (DbPhase.ROLLBACK, Outcome.LOST),
        (None, Outcome.AMBIGUOUS),
    ],
)
@pytest.mark.parametrize(
    ("sign", "invalidated"),
    [
        (Sign(types=PSYCOPG), True),
        (Sign(types=PSYCOPG, sqlstate="57P01"), True),
        (Sign(types=ASYNCPG, sqlstate="08003"), True),
        (Sign(types=("asyncpg.exceptions._base.InterfaceError",)), True),
        (Sign(types=PYMYSQL, code=2013), True),
        (Sign(types=("sqlalchemy.exc.DBAPIError",)), True),
        (Sign(types=("builtins.ConnectionResetError", "builtins.ConnectionError")), False),
        (Sign(types=("builtins.EOFError",)), False),
    ],
    ids=str,
)
def test_a_lost_connection_means_what_its_phase_says(sign, invalidated, phase, outcome):
    """Before anything was sent, before COMMIT, or when a COMMIT may have been on its way."""
    found = outcome_of(sign, phase=phase, invalidated=invalidated)

    assert found is outcome


@pytest.mark.parametrize("phase", [*DbPhase, None])
def test_a_closed_sqlite_connection_hides_no_commit(phase):
    """There is no network in between: what was not committed is not there."""
    closed = wrapped(sqlite3.ProgrammingError("Cannot operate on a closed database."),
                     invalidated=True)  # fmt: skip

    found = classify(closed, phase=phase).outcome

    assert found in (Outcome.LOST, Outcome.NOT_SENT)


@pytest.mark.parametrize(
    ("sign", "at_commit"),
    [
        (Sign(types=PSYCOPG, sqlstate="40001"), Outcome.RERUN),
        (Sign(types=PSYCOPG, sqlstate="23503"), Outcome.PERMANENT),
        (Sign(types=PSYCOPG, sqlstate="57014"), Outcome.DEADLINE),
        (Sign(types=PSYCOPG, sqlstate="53100"), Outcome.STORAGE),
        (Sign(types=PSYCOPG, sqlstate="25P04"), Outcome.AMBIGUOUS),
        (Sign(types=PSYCOPG, sqlstate="08001"), Outcome.AMBIGUOUS),
        (Sign(types=PSYCOPG, sqlstate="XX000"), Outcome.AMBIGUOUS),
        (Sign(types=PYMYSQL, code=1213), Outcome.RERUN),
        (Sign(types=PYMYSQL, code=1317), Outcome.AMBIGUOUS),
        (Sign(types=PYMYSQL, code=1026), Outcome.AMBIGUOUS),
        (Sign(types=SQLITE, code=5), Outcome.RERUN),
        (Sign(types=SQLITE, code=9), Outcome.DEADLINE),
        (Sign(types=SQLITE, code=13), Outcome.STORAGE),
        (Sign(types=SQLITE, code=778), Outcome.AMBIGUOUS),
        (Sign(types=SQLITE, code=14), Outcome.AMBIGUOUS),
        (Sign(types=("builtins.TimeoutError",)), Outcome.AMBIGUOUS),
        (Sign(types=("asyncio.exceptions.CancelledError",)), Outcome.AMBIGUOUS),
        (Sign(types=("sqlalchemy.exc.TimeoutError",)), Outcome.NOT_SENT),
        (Sign(types=("shipworthy.errors.Rejected",)), Outcome.NOT_SENT),
        (Sign(types=("builtins.ValueError",)), Outcome.AMBIGUOUS),
    ],
    ids=str,
)
def test_an_answer_of_the_server_to_commit_is_no_doubt(sign, at_commit):
    """Only who did not answer, or may have done it all the same, leaves a COMMIT open."""
    found = outcome_of(sign, phase=DbPhase.COMMIT)

    assert found is at_commit


@pytest.mark.parametrize(
    ("sign", "outcome"),
    [
        (Sign(types=PSYCOPG, sqlstate="42704"), Outcome.AUTH_CONFIG),
        (Sign(types=PSYCOPG, sqlstate="53300"), Outcome.OVERLOAD),
        (Sign(types=PSYCOPG, sqlstate="28P01"), Outcome.AUTH_CONFIG),
        (Sign(types=PSYCOPG, sqlstate="57014"), Outcome.NOT_SENT),
        (Sign(types=PSYCOPG, text="Verbindung fehlgeschlagen"), Outcome.NOT_SENT),
        (Sign(types=("asyncpg.exceptions._base.ClientConfigurationError",)), Outcome.AUTH_CONFIG),
        (Sign(types=PYMYSQL, code=2013), Outcome.NOT_SENT),
        (Sign(types=("builtins.TimeoutError",)), Outcome.NOT_SENT),
        (Sign(types=("builtins.FileNotFoundError", "builtins.OSError")), Outcome.NOT_SENT),
        (Sign(types=("builtins.TypeError", "builtins.Exception")), Outcome.AUTH_CONFIG),
        (Sign(types=("builtins.RuntimeError", "builtins.Exception")), Outcome.NOT_SENT),
    ],
    ids=str,
)
def test_a_connect_that_fails_has_sent_nothing(sign, outcome):
    """Whoever could not connect may try again, unless somebody must change something first."""
    found = outcome_of(sign, phase=DbPhase.CONNECT)

    assert found is outcome


def test_the_deepest_cause_that_has_a_code_decides():
    """asyncpg says 08003, and below it why: the server was told to end the session."""
    error = caused(
        wrapped(asyncpg.ConnectionDoesNotExistError("closed"), invalidated=True).orig,
        asyncpg.AdminShutdownError("terminating"),
    )

    found = classify(wrapped(error, invalidated=True), phase=DbPhase.STATEMENT)

    assert (found.outcome, found.sqlstate) == (Outcome.LOST, "57P01")
    assert "57P01" in found.because


def test_the_walk_ends_four_causes_below_the_exception():
    """A chain may be long, or a circle; it is looked at down to a bound."""
    deep = caused(*[RuntimeError() for _ in range(DEPTH)], psycopg.errors.DeadlockDetected())
    circle = caused(one := RuntimeError(), RuntimeError(), one)

    assert classify(deep).outcome is Outcome.UNKNOWN
    assert len(facts_of(circle).signs) == DEPTH


def test_what_is_shown_are_the_codes_of_databases_only():
    """A number in somebody's exception is no error number."""
    found = classify(caused(KeyError(7), pymysql.err.IntegrityError(1062, "Duplicate entry 'x'")))

    assert found == Classified(
        outcome=Outcome.PERMANENT,
        sqlstate=None,
        code=1062,
        because="the server refused the statement or its data (1062)",
    )


def test_a_driver_we_do_not_know_is_read_with_the_dialect_that_is_named():
    """psycopg2 keeps the SQLSTATE in `pgcode`; somebody who knows the engine can say so."""

    class Foreign(Exception):
        pgcode = "40P01"

    assert classify(Foreign(), dialect="postgresql").outcome is Outcome.RERUN
    assert classify(Foreign(), dialect="postgresql").sqlstate == "40P01"
    assert classify(Foreign()).outcome is Outcome.UNKNOWN
    assert classify(Foreign(), dialect="oracle").outcome is Outcome.UNKNOWN


def test_the_phase_that_was_noted_on_any_link_counts_and_the_argument_wins():
    """`protect` notes it on the driver's exception, and on SQLAlchemy's where it can."""
    original = psycopg.OperationalError("server closed the connection unexpectedly")
    setattr(original, PHASE_ATTRIBUTE, "commit")
    error = wrapped(original, invalidated=True)

    assert classify(error).outcome is Outcome.AMBIGUOUS
    assert classify(error, phase=DbPhase.STATEMENT).outcome is Outcome.LOST


def test_a_phase_that_is_none_is_not_believed():
    """Whatever stands there, only a phase is one."""
    error = RuntimeError()
    setattr(error, PHASE_ATTRIBUTE, "lunch")

    assert facts_of(error).phase is None


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (ConnectionRefusedError(), True),
        (caused(pymysql.err.OperationalError(2003, "no"), ConnectionRefusedError()), True),
        (pymysql.err.OperationalError(2003, "timed out"), False),
        (psycopg.OperationalError("connection failed: Connection refused"), True),
        (psycopg.OperationalError("connection timeout expired"), False),
        (psycopg.errors.CannotConnectNow("starting up"), True),
        (sqlalchemy.exc.TimeoutError(), False),
    ],
    ids=repr,
)
def test_who_refuses_is_told_from_who_is_late(error, refused):
    """A refusal leaves no doubt that nobody is there; an expired wait does."""
    verdict = verdict_of(facts_of(error))

    assert verdict.outcome is Outcome.NOT_SENT
    assert verdict.refused is refused


def test_pymysql_keeps_the_cause_in_a_place_of_its_own():
    """Its connect raises from nothing, and remembers."""
    error = pymysql.err.OperationalError(2003, "Can't connect")
    error.original_exception = ConnectionRefusedError()

    assert verdict_of(facts_of(error)).refused


def test_a_plan_that_no_longer_fits_is_told_by_who_found_it_out():
    """0A000 is many things; the server's function is named in no language."""
    stale = Sign(types=PSYCOPG, sqlstate="0A000", routine="RevalidateCachedQuery")

    assert outcome_of(stale) is Outcome.STALE_PLAN
    assert outcome_of(Sign(types=PSYCOPG, sqlstate="0A000")) is Outcome.PERMANENT


def test_nothing_that_users_wrote_is_repeated():
    """A message holds their data; what we say holds codes and our own words."""
    secret = "Duplicate entry 'ada@example.org' for key 'mail'"

    found = classify(wrapped(pymysql.err.IntegrityError(1062, secret)))

    assert "ada" not in repr(found)


TYPES = st.sampled_from(
    [
        PSYCOPG, ASYNCPG, PYMYSQL, SQLITE, ("asyncpg.exceptions._base.InterfaceError",),
        ("psycopg.InterfaceError", "psycopg.Error"), ("asyncmy.errors.InterfaceError",),
        ("sqlalchemy.dialects.postgresql.asyncpg.AsyncAdapt_asyncpg_dbapi.Error",),
        ("sqlalchemy.dialects.oracle.cx.Error",), ("sqlalchemy.exc.DBAPIError",),
        ("builtins.ConnectionResetError", "builtins.ConnectionError", "builtins.OSError"),
        ("builtins.TimeoutError", "builtins.OSError"), ("builtins.RuntimeError",), (),
    ]
)  # fmt: skip
SIGNS = st.builds(
    Sign,
    types=TYPES,
    sqlstate=st.none() | st.text("0123456789AHPX", min_size=5, max_size=5) | st.text(max_size=6),
    code=st.none() | st.integers(-1, 5000) | st.integers(),
    routine=st.none() | st.just("RevalidateCachedQuery"),
    text=st.sampled_from(["", "connection failed: x", "connection to server at y: SSL", "z"]),
)
FACTS = st.builds(
    Facts,
    signs=st.lists(SIGNS, max_size=DEPTH).map(tuple),
    phase=st.none(),
    invalidated=st.booleans(),
)


@given(FACTS, st.none() | st.sampled_from(DbPhase), st.none() | st.sampled_from(["mysql", "x"]))
def test_every_failure_has_exactly_one_outcome(facts, phase, dialect):
    """Whatever arrives, in whatever phase, the decision is total and always the same."""
    found = decide(facts, phase=phase, dialect=dialect)

    assert isinstance(found.outcome, Outcome)
    assert found.because
    assert decide(facts, phase=phase, dialect=dialect) == found


@given(FACTS, st.sampled_from([DbPhase.COMMIT, None]))
def test_a_commit_is_declared_undone_only_by_who_can_know_it(facts, phase):
    """Where a COMMIT may be on its way, nothing but a definite answer lets it run again."""
    verdict = verdict_of(facts, phase=phase)

    if verdict.outcome is Outcome.LOST or (
        phase is DbPhase.COMMIT and verdict.outcome in NOTHING_MAY_HAVE_HAPPENED
    ):
        assert verdict.definite


@given(FACTS)
def test_a_connect_never_leaves_a_doubt(facts):
    """Nothing of the application was sent yet, so nothing of it can have happened."""
    found = decide(facts, phase=DbPhase.CONNECT).outcome

    assert found not in (
        Outcome.AMBIGUOUS, Outcome.LOST, Outcome.RERUN, Outcome.UNKNOWN, Outcome.PERMANENT
    )  # fmt: skip


@pytest.mark.parametrize("name", shipworthy.db.__all__)
def test_the_door_offers_what_it_says(name):
    """A name of the room is never a module of the same name, whoever was imported first."""
    for module in iter_modules(shipworthy.db.__path__, "shipworthy.db."):
        import_module(module.name)

    assert not isinstance(getattr(shipworthy.db, name), ModuleType)
    assert name in dir(shipworthy.db)


def test_the_door_refuses_other_names():
    """A slip of the pen is an AttributeError, as in any module."""
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = shipworthy.db.no_such_name


@pytest.mark.slow
def test_whoever_classifies_loads_neither_sqlalchemy_nor_a_driver():
    """The decision is pure; an application without a database pays nothing for it."""
    script = (
        "import sys; from shipworthy.db import classify; classify(ValueError());"
        "print(sorted({'sqlalchemy', 'psycopg'} & set(sys.modules)))"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[]"


def cut(phase):
    """What PyMySQL says of a connection whose socket was shut under it."""
    error = pymysql.err.OperationalError(2013, "Lost connection to MySQL server during query")
    error.__shipworthy_phase__ = phase
    error.__shipworthy_cut__ = 0.5
    return error


def test_what_was_cut_at_its_deadline_is_no_lost_connection():
    """Otherwise a statement that is too slow would be run again, and be too slow again."""
    assert classify(cut(DbPhase.STATEMENT)).outcome is Outcome.DEADLINE
    assert classify(cut(DbPhase.CONNECT)).outcome is Outcome.NOT_SENT


def test_a_commit_that_was_cut_may_have_taken_effect():
    """We cut our end; the server may have done its work."""
    assert classify(cut(DbPhase.COMMIT)).outcome is Outcome.AMBIGUOUS


def test_only_what_a_database_had_a_part_in_has_an_outcome():
    """An application's own TimeoutError is nothing of ours."""
    assert database_outcome(cut(DbPhase.STATEMENT)) is Outcome.DEADLINE
    assert database_outcome(sqlalchemy.exc.NoResultFound()) is Outcome.PERMANENT
    assert database_outcome(TimeoutError()) is None
    assert database_outcome(KeyError()) is None
