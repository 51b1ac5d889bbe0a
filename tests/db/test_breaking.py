"""One ticket for each checkout: what the breaker is told, and when."""

from types import SimpleNamespace

import pytest
from sqlalchemy.exc import OperationalError

from shipworthy.db import DatabaseRefused, judge
from shipworthy.db.breaking import Breaking
from shipworthy.errors import Rejected
from shipworthy.resilience import BreakerOpen, BreakerState, ResilienceSettings


def counts(breaking):
    told = breaking.breaker.statistics()
    return told.success_total, told.failure_total, told.neutral_total


def test_a_checkout_that_was_answered_is_a_success_when_it_comes_back():
    """One success, however many statements were answered."""
    breaking, record = Breaking("t1", judge, ResilienceSettings()), SimpleNamespace()
    breaking.handed_over(record, breaking.ask())
    breaking.answered(record, 0.01)
    breaking.answered(record, 0.02)

    breaking.returned(record)
    breaking.returned(record)

    assert counts(breaking) == (1, 0, 0)


def test_a_checkout_without_a_statement_says_nothing_of_the_database():
    """It is neutral: an idle connection is no evidence."""
    breaking, record = Breaking("t2", judge, ResilienceSettings()), SimpleNamespace()
    breaking.handed_over(record, breaking.ask())

    breaking.returned(record)

    assert counts(breaking) == (0, 0, 1)


def test_a_lost_connection_is_told_at_once_and_once():
    """The failure counts when it shows, not when the connection comes back."""
    breaking, record = Breaking("t3", judge, ResilienceSettings()), SimpleNamespace()
    breaking.handed_over(record, breaking.ask())

    opened = breaking.broke(record, ConnectionResetError("gone"), 0.1)
    breaking.broke(record, ConnectionResetError("gone"), 0.1)
    breaking.returned(record)

    assert opened is False
    assert counts(breaking) == (0, 1, 0)


def test_an_error_of_the_caller_is_an_answer():
    """What the caller did wrong does not speak against the database."""
    breaking, record = Breaking("t4", judge, ResilienceSettings()), SimpleNamespace()
    breaking.handed_over(record, breaking.ask())

    breaking.broke(record, ValueError("not for a database"), 0.1)
    breaking.returned(record)

    assert counts(breaking) == (1, 0, 0)


def test_a_cancelled_checkout_and_a_refusal_of_ours_are_neutral():
    """Neither says anything of the database."""
    breaking = Breaking("t5", judge, ResilienceSettings())

    breaking.failed(breaking.ask(), KeyboardInterrupt(), 0.1)
    breaking.failed(breaking.ask(), Rejected("full", retry_after_seconds=1.0), 0.1)

    assert counts(breaking) == (0, 0, 2)


def test_five_refused_connects_open_it_and_the_next_caller_is_told():
    """The refusal is an OperationalError with the time to come back, new each time."""
    breaking = Breaking("t6", judge, ResilienceSettings())
    opened = [
        breaking.failed(breaking.ask(), ConnectionRefusedError("nobody"), 0.1) for _ in range(5)
    ]

    with pytest.raises(DatabaseRefused) as caught:
        breaking.ask()

    assert opened == [False, False, False, False, True]
    assert breaking.state is BreakerState.OPEN
    assert isinstance(caught.value, OperationalError)
    assert isinstance(caught.value.orig, BreakerOpen)
    assert caught.value.retry_after_seconds > 0
    assert breaking.refusal() is not breaking.refusal()


def test_a_breaker_of_a_database_waits_no_longer_the_second_time_or_the_tenth():
    """A unit of a few seconds must see that the server is back, without a prober too."""
    rule = Breaking("t7", judge, ResilienceSettings(open_seconds=2.0)).breaker.rule

    assert (rule.open_seconds, rule.open_cap_seconds) == (2.0, 2.0)
