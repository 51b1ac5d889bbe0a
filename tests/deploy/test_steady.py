"""Behaviours that let a condition hold, and behaviours in which one part of it is missing."""

import pytest

from deploy.sample import ALERTS, BYTES, CAPACITY, IN_USE, LAG, REQUESTS, SECONDS, SEEN, STATE
from shipworthy.deploy.steady import (
    SteadySeries,
    Untestable,
    behaviours,
    held_labels,
    samples,
)
from shipworthy.events import (
    Absent,
    Age,
    Alert,
    Both,
    Combined,
    Compared,
    Condition,
    Expression,
    Increase,
    Mean,
    Number,
    Quantile,
    Rate,
    Selection,
    Unless,
    Value,
    Within,
    ratio,
)

_OK = SteadySeries(REQUESTS, (("route", "/"), ("status", "200")))
_BAD = SteadySeries(REQUESTS, (("route", "/"), ("status", "500")))
_FAST, _SLOW = (SteadySeries(SECONDS, (("route", "/"),), slow=slow) for slow in (False, True))
_MAIN, _OTHER = (SteadySeries(IN_USE, (("pool", name),)) for name in ("main", "other"))
_LAGS = SteadySeries(LAG, ())
_WORLD = {_OK: 9.0, _BAD: 1.0, _FAST: 3.0, _SLOW: 1.0, _MAIN: 4.0, _OTHER: 6.0, _LAGS: None}

_EVERY = Selection(metric=REQUESTS)
_FAILED = Selection(metric=REQUESTS, where={"status": ("500", "503")})
_NOT_FOUND = Selection(metric=REQUESTS, where={"status": "404"})
_TOOK = Selection(metric=SECONDS)
_OUT = Selection(metric=IN_USE)


@pytest.mark.parametrize(
    ("of", "value"),
    [
        (Rate(_EVERY, 60.0), 10.0),
        (Rate(_FAILED, 60.0), 1.0),
        (Rate(Selection(metric=REQUESTS, unless={"status": "500"}), 60.0), 9.0),
        (Increase(_EVERY), 50.0),
        (Increase(_EVERY, 60.0), 600.0),
        (Value(_OUT), 10.0),
        (Rate(_TOOK, 60.0), 4.0),
        (Mean(_TOOK, 60.0), (3 * 0.05 + 10.0) / 4),
        (Within(0.5, _TOOK, 60.0), 3.0),
        (Quantile(0.6, _TOOK, 60.0), 0.1 * 0.6 * 4 / 3),
        (Quantile(0.9, _TOOK, 60.0), 5.0),
        (ratio(Rate(_FAILED, 60.0), Rate(_EVERY, 60.0)), 0.1),
        (ratio(Rate(_NOT_FOUND, 60.0), Rate(_EVERY, 60.0)), 0.0),
        (Combined(Number(1.0), "-", Rate(_FAILED, 60.0)), 0.0),
        (Combined(Rate(_FAILED, 60.0), "*", Number(3.0)), 3.0),
        (Combined(Rate(_NOT_FOUND, 60.0), "+", Rate(_EVERY, 60.0), absent_zero=True), 10.0),
    ],
)
def test_what_goes_on_for_long_has_a_value(of: Expression, value: float) -> None:
    """A world in which all goes on as it is needs no history to say what a query shows."""
    (found,) = samples(of, _WORLD, 5.0).values()
    assert found == pytest.approx(value)


@pytest.mark.parametrize(
    "of",
    [
        Value(Selection(metric=LAG)),
        Rate(_NOT_FOUND, 60.0),
        Combined(Rate(_EVERY, 60.0), "/", Combined(Rate(_FAILED, 60.0), "-", Number(1.0))),
        Combined(Rate(_EVERY, 60.0), "+", Rate(_NOT_FOUND, 60.0)),
    ],
)
def test_what_is_not_there_and_what_is_divided_by_nothing_have_none(of: Expression) -> None:
    """As in Prometheus, where there is no series or a filter leaves none."""
    assert samples(of, _WORLD, 5.0) == {}


def test_of_no_observation_there_is_no_mean_and_no_quantile() -> None:
    """Prometheus says NaN, which is no sample to us."""
    quiet = {_FAST: 0.0, _SLOW: 0.0}
    assert samples(Mean(_TOOK, 60.0), quiet, 5.0) == samples(Quantile(0.5, _TOOK), quiet, 5.0) == {}


def test_label_sets_are_kept_apart() -> None:
    """Each pool has its own value."""
    by_pool = samples(Value(Selection(metric=IN_USE, by=("pool",))), _WORLD, 5.0)
    assert by_pool == {frozenset({("pool", "main")}): 4.0, frozenset({("pool", "other")}): 6.0}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_has_a_behaviour_that_fires_and_one_that_does_not(alert: Alert) -> None:
    """Every kind of condition is solved; promtool says in another test whether rightly."""
    found = behaviours(alert.when, 300.0)
    assert found.silent
    assert found.firing not in found.silent
    assert held_labels(alert.when, found.firing, 300.0).keys() == {
        "PoolExhausted": {"pool"},
        "SlowRoute": {"route"},
        "SlowOnAverage": {"route"},
        "FewAreFast": {"route"},
        "BreakerOpen": {"breaker"},
        "Stale": {"job_name"},
        "OneStatusMany": {"status"},
    }.get(alert.name, set())


def test_a_guard_is_seen_to_be_needed() -> None:
    """Of two parts that must hold, each is missing in one of the silent behaviours."""
    share = Compared(ratio(Rate(_FAILED, 600.0), Rate(_EVERY, 600.0)), ">", Number(0.05))
    enough = Compared(Increase(_FAILED, 600.0), ">=", Number(20.0))
    found = behaviours(Both(share, enough), 300.0)
    shares = [samples(share.left, world, 300.0)[frozenset()] for world in found.silent]
    counts = [samples(enough.left, world, 300.0)[frozenset()] for world in found.silent]
    assert [(part > 0.05, count >= 20) for part, count in zip(shares, counts, strict=True)] == [
        (False, True),
        (True, False),
    ]


@pytest.mark.parametrize(
    ("when", "complaint"),
    [
        # A share is never more than 1.
        (Compared(ratio(Rate(_FAILED), Rate(_EVERY)), ">", Number(1.5)), "which it fires"),
        # Nobody knows how slow what is beyond the last bucket is.
        (Compared(Quantile(0.9, _TOOK), ">", Number(7.0)), "which it fires"),
        (Compared(Rate(_EVERY), ">=", Number(0.0)), "which stays silent"),
        (
            Compared(
                Value(Selection(metric=STATE, where={"state": "open"}, unless={"state": "open"})),
                ">",
                Number(0.0),
            ),
            "no value that is not left out",
        ),
    ],
)
def test_what_can_never_fire_or_never_be_silent_is_said(when: Condition, complaint: str) -> None:
    """Such an alert is a mistake of its author, so it is not written."""
    with pytest.raises(Untestable, match=complaint):
        behaviours(when, 300.0)


@pytest.mark.parametrize(
    "when",
    [
        Compared(Value(Selection(metric=LAG)), "<", Number(5.0)),
        Compared(Value(Selection(metric=LAG)), "<=", Number(5.0)),
        Compared(Value(Selection(metric=LAG)), "!=", Number(5.0)),
        Compared(Rate(Selection(metric=BYTES)), "<=", Number(5.0)),
        Compared(Age(Selection(metric=SEEN)), ">", Number(5.0)),
        Compared(Value(_OUT), ">", Value(Selection(metric=CAPACITY))),
        Unless(
            Compared(Value(Selection(metric=LAG)), ">", Number(5.0)),
            Absent(Selection(metric=REQUESTS)),
        ),
        Both(
            Absent(Selection(metric=REQUESTS)),
            Compared(Value(Selection(metric=LAG)), ">", Number(5.0)),
        ),
    ],
)
def test_every_comparison_is_solved(when: Condition) -> None:
    """Also those that hold while little happens."""
    assert behaviours(when, 300.0).silent
