"""What pipelines and the breaker are told of a failure."""

import asyncio

import psycopg
import psycopg.errors
import pymysql.err
import pytest
import sqlalchemy.exc

from shipworthy.db import DbPhase, judge
from shipworthy.db.classify import PHASE_ATTRIBUTE
from shipworthy.errors import Draining
from shipworthy.resilience import Effect


def in_phase(error: BaseException, phase: DbPhase) -> BaseException:
    setattr(error, PHASE_ATTRIBUTE, phase)
    return error


LOST = psycopg.OperationalError


@pytest.mark.parametrize(
    ("error", "transient", "effect", "counts"),
    [
        (psycopg.errors.DeadlockDetected(), True, Effect.NONE, False),
        (psycopg.errors.InvalidSqlStatementName(), True, Effect.NONE, False),
        (ConnectionRefusedError(), True, Effect.NONE, True),
        (sqlalchemy.exc.TimeoutError("no connection"), True, Effect.NONE, False),
        (in_phase(LOST("closed"), DbPhase.STATEMENT), True, Effect.NONE, True),
        (in_phase(LOST("closed"), DbPhase.COMMIT), True, Effect.UNKNOWN, True),
        (psycopg.errors.QueryCanceled(), False, Effect.UNKNOWN, True),
        (psycopg.errors.InternalError_(), False, Effect.UNKNOWN, True),
        (psycopg.errors.DiskFull(), False, Effect.NONE, False),
        (psycopg.errors.ReadOnlySqlTransaction(), False, Effect.NONE, False),
    ],
    ids=lambda value: f"{value!r} {getattr(value, PHASE_ATTRIBUTE, '')}",
)
def test_a_failure_of_the_database_is_judged_by_its_outcome(error, transient, effect, counts):
    """Whether to try again, what may have happened, and whether the breaker should hear of it."""
    failure = judge(error)

    assert failure is not None
    assert (failure.transient, failure.effect, failure.counts) == (transient, effect, counts)


@pytest.mark.parametrize(
    "error",
    [
        psycopg.errors.UniqueViolation(),
        psycopg.errors.InFailedSqlTransaction(),
        psycopg.errors.InvalidPassword(),
        pymysql.err.ProgrammingError(1064, "syntax"),
        ValueError("of the application"),
        asyncio.CancelledError(),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_answer_is_no_failure(error):
    """The database did its work, or had no part in it: nobody tries again, no breaker counts it."""
    assert judge(error) is None


def test_an_unknown_error_in_a_phase_of_the_database_is_a_failure():
    """Where `protect` noted a phase, the error came out of a call to the database."""
    failure = judge(in_phase(RuntimeError("what is this"), DbPhase.STATEMENT))

    assert failure is not None
    assert failure.effect is Effect.UNKNOWN


def test_a_refused_connect_leaves_no_doubt():
    """The breaker may open at once."""
    assert judge(ConnectionRefusedError()).refused
    assert not judge(psycopg.errors.DeadlockDetected()).refused


def test_who_says_when_is_believed_and_an_overloaded_server_gets_time():
    """Slots and memory do not come back at once."""
    assert judge(Draining(retry_after_seconds=3.0)).retry_after_seconds == 3.0
    assert judge(psycopg.errors.TooManyConnections()).retry_after_seconds == 0.25
    assert judge(psycopg.errors.DeadlockDetected()).retry_after_seconds is None
