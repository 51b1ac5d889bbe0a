"""Points of the past, and what comes after them."""

import datetime as dt

import pytest

from shipworthy.audit.model import Entry
from shipworthy.audit.moment import Moment, microseconds_of, time_of
from shipworthy.errors import Misuse


def entry(seq, at, tx):
    return Entry(
        seq=seq,
        position=seq,
        at_microseconds=at,
        tx=tx,
        table_id=1,
        shape_id=1,
        op="U",
        key="[]",
        old=None,
        new=None,
    )


def test_what_was_written_later_comes_after_and_so_does_all_of_a_split_transaction():
    """By time or by number; `split` names who wrote on both sides."""
    timed = Moment(numbered=False, bound=100, at_microseconds=100, split=frozenset({"half"}))
    assert timed.is_after(entry(1, 101, "x"))
    assert timed.is_after(entry(1, 99, "half"))
    assert not timed.is_after(entry(9, 100, "x"))
    numbered = Moment(numbered=True, bound=5, at_microseconds=100)
    assert numbered.is_after(entry(6, 1, "x"))
    assert not numbered.is_after(entry(5, 200, "x"))
    assert "tx IN" in str(timed.after())
    assert "tx IN" not in str(numbered.after())


def test_a_time_is_written_in_microseconds_and_back():
    """In whatever zone; without one it is refused."""
    at = dt.datetime(2026, 11, 30, 12, 0, 0, 123456, tzinfo=dt.timezone(dt.timedelta(hours=3)))
    assert time_of(microseconds_of(at)) == at
    with pytest.raises(Misuse):
        microseconds_of(dt.datetime(2026, 11, 30))  # noqa: DTZ001
