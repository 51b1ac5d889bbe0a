"""Lateness that lasts while requests come is an overload; what is late once is none."""

import pytest
from hypothesis import given, strategies as st

from shipworthy.admission import OverloadBegan, OverloadEnded, Pressure
from shipworthy.admission.pressure import REQUESTS


def pressed(pressure, *, since, seconds, step=0.05, requests=2):
    """Look every `step` while all is late and requests come; return what was new, and when."""
    told = []
    for number in range(int(seconds / step)):
        now = since + number * step
        pressure.entered += requests
        told.append((now, pressure.seen(now, late=True)))
    return [(now, what) for now, what in told if what is not None]


def new():
    return Pressure(begin_seconds=1.0, end_seconds=3.0)


def test_an_overload_begins_after_a_second_in_which_nothing_was_in_time():
    """Not before, and it is told once."""
    pressure = new()
    pressure.seen(10.0, late=False)
    ((at, what),) = pressed(pressure, since=10.05, seconds=2)
    assert what == OverloadBegan()
    assert 10.95 <= at <= 11.1
    assert pressure.overloaded


def test_one_look_in_time_begins_anew():
    """A burst that is served ends with nobody waiting, and that is seen."""
    pressure = new()
    assert pressed(pressure, since=10.0, seconds=0.9) == []
    pressure.seen(10.9, late=False)
    assert not pressure.late
    assert pressed(pressure, since=10.95, seconds=0.9) == []
    assert not pressure.overloaded


def test_what_is_late_once_is_no_overload_however_late_it_is():
    """A process that was stopped for an hour, a handler that blocks for a minute."""
    pressure = new()
    pressure.entered = 1000
    for now in (10.0, 3610.0, 3670.0):
        assert pressure.seen(now, late=True) is None
    assert not pressure.overloaded


def test_without_requests_nothing_is_an_overload():
    """Background work that keeps the loop is not made shorter by turning nobody away."""
    pressure = new()
    assert pressed(pressure, since=10.0, seconds=5, requests=0) == []
    assert pressure.late
    assert not pressure.maybe


def test_it_may_be_one_after_a_fifth_of_the_time():
    """So the important go first soon, and nobody is turned away yet."""
    pressure = new()
    pressed(pressure, since=10.0, seconds=0.3, requests=REQUESTS)
    assert pressure.maybe
    assert not pressure.overloaded


def test_it_is_over_when_nothing_was_late_for_three_seconds():
    """It tells how long it was."""
    pressure = new()
    ((began, _),) = pressed(pressure, since=10.0, seconds=2)
    assert pressure.maybe
    told = [pressure.seen(12.0 + 0.05 * look, late=False) for look in range(80)]
    (ended,) = [what for what in told if what is not None]
    assert isinstance(ended, OverloadEnded)
    assert 11.95 + 3.0 - began - 0.1 <= ended.seconds <= 11.95 + 3.0 - began + 0.1
    assert not pressure.overloaded


def test_as_long_as_somebody_is_turned_away_it_is_not_over():
    """Those who are served are in time, because the others are not."""
    pressure = new()
    pressed(pressure, since=10.0, seconds=2)
    for look in range(200):
        pressure.turned_away(12.0 + look * 0.05)
        assert pressure.seen(12.0 + look * 0.05, late=False) is None
    assert pressure.overloaded


@pytest.mark.slow
@given(st.lists(st.tuples(st.floats(0.001, 10.0), st.booleans(), st.integers(0, 30)), max_size=200))
def test_began_and_ended_take_turns_and_need_what_they_promise(looks):
    """Whatever is seen: no overload without ten late looks in a row, none ends before its time."""
    pressure = new()
    now, row, turn = 0.0, 0, OverloadBegan
    for gap, late, requests in looks:
        now += gap
        pressure.entered += requests
        row = row + 1 if late else 0
        told = pressure.seen(now, late=late)
        if told is not None:
            assert isinstance(told, turn)
            turn = OverloadEnded if turn is OverloadBegan else OverloadBegan
        if isinstance(told, OverloadBegan):
            assert row >= 10
        if isinstance(told, OverloadEnded):
            assert told.seconds >= 3.0
