"""Transactions that wrote for nobody we know are counted by their reason, and said once."""

from collections import Counter

import pytest

from shipworthy.audit import unattributed
from shipworthy.audit.unattributed import (
    UNATTRIBUTED,
    Because,
    WriteUnattributed,
    binding_metrics,
    note_unattributed,
    unattributed_writes,
)
from shipworthy.events import OneOf, listen


@pytest.fixture(autouse=True)
def counts(monkeypatch):
    monkeypatch.setattr(unattributed, "_counts", Counter())


def test_each_reason_is_counted_and_said_the_first_time():
    """A service that nobody names writes a million times; the log has one line of it."""
    heard = []
    stop = listen(heard.append)
    try:
        for because in (Because.REQUEST, Because.REQUEST, Because.AUTOCOMMIT):
            note_unattributed(because, "/notes")
    finally:
        stop()

    assert unattributed_writes() == {"request": 2, "autocommit": 1}
    said = [fact for fact in heard if isinstance(fact, WriteUnattributed)]
    assert [(fact.because, fact.route) for fact in said] == [
        ("request", "/notes"),
        ("autocommit", "/notes"),
    ]


def test_the_metric_has_a_label_for_each_reason_and_no_more():
    """Few values, whatever clients do."""
    note_unattributed(Because.ELSEWHERE, "/" * 5000)

    ((metric, read),) = binding_metrics()
    assert (metric, read()) == (UNATTRIBUTED, UNATTRIBUTED.zeros() | {("elsewhere",): 1})
    assert dict(metric.labels) == {"because": OneOf(*Because)}
