"""What a client is told of each failure, and what not."""

import asyncpg
import pymysql
import pytest
import sqlalchemy.exc

from shipworthy.db import DatabaseRefused, DbPhase, LostCommit, PoolTimeout, TransactionOverdue
from shipworthy.errors import Draining, RequestInvalid
from shipworthy.lifecycle import CommitRefused
from shipworthy.resilience import BreakerOpen, DeadlinePassed
from shipworthy.web.answers import FAILED, answer_for, is_refusal

SECRET = "INSERT INTO cards VALUES ('4111')"


def of_a_database(original: Exception, phase: DbPhase) -> Exception:
    error = sqlalchemy.exc.OperationalError(SECRET, {}, original)
    error.__shipworthy_phase__ = phase
    return error


LOST = pymysql.err.OperationalError(2013, "Lost connection to MySQL server during query")
FAILURES = {
    "a database that is away": (ConnectionRefusedError(), DbPhase.CONNECT, 503, 1.0),
    "a connection lost in a statement": (LOST, DbPhase.STATEMENT, 503, 1.0),
    "a connection lost in a commit": (LOST, DbPhase.COMMIT, 500, None),
    "a deadlock": (pymysql.err.OperationalError(1213, "Deadlock"), DbPhase.STATEMENT, 409, 1.0),
    "a cancelled query": (asyncpg.QueryCanceledError("canceled"), DbPhase.STATEMENT, 504, 1.0),
    "no slots": (pymysql.err.OperationalError(1040, "Too many"), DbPhase.CONNECT, 503, 1.0),
    "a replica": (
        asyncpg.ReadOnlySQLTransactionError("read-only"),
        DbPhase.STATEMENT,
        503,
        5.0,
    ),
    "a wrong statement": (
        pymysql.err.ProgrammingError(1064, "syntax"),
        DbPhase.STATEMENT,
        500,
        None,
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_of_a_database_says_what_the_client_can_do(name):
    """The status and Retry-After follow from what happened; no word of the inside goes out."""
    original, phase, status, after = FAILURES[name]

    answer = answer_for(of_a_database(original, phase))

    assert (answer.status, answer.retry_after_seconds) == (status, after)
    assert "4111" not in answer.detail
    assert bool(answer.retry_after) == (after is not None)


def test_a_refused_commit_tells_whether_the_request_took_effect():
    """What was applied before the refused transaction is not denied, nor is it promised."""
    whole, part = answer_for(CommitRefused()), answer_for(CommitRefused(in_part=True))

    assert (whole.status, whole.kind) == (503, "urn:shipworthy:problem:commitrefused")
    assert whole.detail.endswith("nothing of this transaction was applied; send it again")
    assert (part.status, part.kind) == (503, "urn:shipworthy:problem:interrupted")
    assert part.detail.endswith("whether it took effect is not known")
    assert part.retry_after_seconds == 1.0


def test_a_lost_commit_is_told_apart_from_what_failed():
    """Whoever asked must look before they send it again."""
    answer = answer_for(of_a_database(LOST, DbPhase.COMMIT))

    assert answer.kind == "urn:shipworthy:problem:lost-commit"
    assert "not known" in answer.detail


def test_a_lost_commit_of_a_unit_names_the_operation():
    """By its id it can be looked for; the statement that finds out stays inside."""
    lost = LostCommit(
        "orders.pay", operation_id="op-7", because="nobody answers", question=SECRET, error=LOST
    )

    answer = answer_for(lost)

    assert (answer.status, answer.kind) == (500, "urn:shipworthy:problem:lost-commit")
    assert "op-7" in answer.detail
    assert "4111" not in answer.detail


def test_what_no_database_had_a_part_in_is_a_plain_failure():
    """An application's own TimeoutError or KeyError is not ours to interpret."""
    assert answer_for(KeyError("id")) is FAILED
    assert answer_for(TimeoutError()) is FAILED
    assert not is_refusal(KeyError("id"))


def test_a_refusal_is_answered_with_its_status_and_when_to_come_again():
    """Whole seconds, rounded up; the pool's lines and the breaker's reasons stay inside."""
    draining = answer_for(Draining(retry_after_seconds=1.2))
    full = answer_for(PoolTimeout("held by /srv/app/models.py:12", retry_after_seconds=1.0))
    refused = answer_for(
        DatabaseRefused(BreakerOpen("db:main", because="5 refused", retry_after_seconds=0.4))
    )

    assert draining.retry_after == ((b"retry-after", b"2"),)
    assert (draining.status, full.status, refused.status) == (503, 503, 503)
    assert "models.py" not in full.detail
    assert "main" not in refused.detail
    away = answer_for(of_a_database(ConnectionRefusedError(), DbPhase.CONNECT))
    assert refused.kind == away.kind == "urn:shipworthy:problem:database-unavailable"


def test_a_request_that_cannot_be_used_is_the_clients_to_mend():
    """400 with the sentence, and no Retry-After: the same would be refused again."""
    answer = answer_for(RequestInvalid("sort: no such column"))

    assert (answer.status, answer.detail, answer.retry_after) == (400, "sort: no such column", ())
    assert answer.kind == "urn:shipworthy:problem:requestinvalid"
    assert is_refusal(RequestInvalid(""))


def test_words_of_somebody_elses_exception_are_not_for_clients():
    """Only ours promise that `public_detail` is."""
    error = ValueError()
    error.public_detail = "postgresql://a:hunter2@db"

    assert answer_for(error) is FAILED


def test_a_deadline_that_passed_is_a_gateway_timeout():
    """Whatever was waited for."""
    assert answer_for(DeadlinePassed("payments", seconds=2.0, begun=True)).status == 504
    assert answer_for(TransactionOverdue("'orders.pay' was rolled back after 5 s")).status == 504
