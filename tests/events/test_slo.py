"""Objectives: who is called, how soon, and by what nobody is; evaluated over real histories."""

from typing import Any

import pytest

from shipworthy.events import (
    BURN_RULES,
    BurnRules,
    BurnWindow,
    Metric,
    OneOf,
    Selection,
    Slo,
    Urgency,
    alerts_of,
    panels_of,
)
from shipworthy.telemetry import History, Registry, evaluate, holds

CALLS = Metric("calls_total", "counter", "Calls.", {"how": OneOf("good", "bad")})
TOOK = Metric("took_seconds", "histogram", "Seconds.", buckets=(0.1, 0.25, 1.0))
HOUR, DAY = 3600.0, 86_400.0


def slo(**changes: Any) -> Slo:
    facts: dict[str, Any] = {"name": "calls", "help": "Calls are good.", "objective_ratio": 0.999}
    bad = Selection(metric=CALLS, where={"how": "bad"})
    return Slo(**{**facts, "total": Selection(metric=CALLS), "bad": bad, **changes})


QUICK = slo(
    name="quick", total=Selection(metric=TOOK), bad=None, within_seconds=0.25, objective_ratio=0.99
)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"name": "All calls"}, "lower case letters, digits and hyphens"),
        ({"help": ""}, "no sentence"),
        ({"objective_ratio": 1.0}, "an objective of 1 leaves no room for a failure"),
        ({"objective_ratio": 99.9}, "of 99.9 leaves no room"),
        ({"objective_ratio": 0.0}, "of 0 leaves no room"),
        ({"period_days": 0}, "longer than nothing, this one 0 days"),
        ({"period_days": 2}, "a window of 3d is longer than the period of 2 days"),
        (
            {"objective_ratio": 0.9},
            r"1h can never fire: it asks for 144% of failures \(14.4 x .* less than 1.39% of the",
        ),
        (
            {"rules": BurnRules(windows=(BurnWindow(0.1, 60.0, 60.0, Urgency.PAGE),))},
            "the short window of 1m is not shorter than the long one of 1m",
        ),
        ({"bad": None}, "either selected or slower"),
        ({"total": Selection(metric=CALLS, by=("how",))}, "kept apart by nothing"),
        ({"bad": Selection(metric=CALLS, by=("how",))}, "kept apart by nothing"),
        (
            {"total": Selection(metric=TOOK), "bad": None, "within_seconds": 0.3},
            "no bucket that ends at 0.3, .*; the nearest is 0.25",
        ),
    ],
)
def test_an_objective_that_cannot_be_kept_or_missed_is_refused(
    changes: dict[str, Any], problem: str
) -> None:
    """One of 100 % makes each failure an alarm, and one of a bound that is not counted none."""
    with pytest.raises(ValueError, match=problem):
        slo(**changes)


def test_the_factors_are_those_of_the_workbook() -> None:
    """2 % of a month in an hour is 14.4 times as fast as evenly."""
    factors = [round(window.factor(30.0), 6) for window in BURN_RULES.windows]

    assert factors == [14.4, 6.0, 3.0, 1.0]
    assert [window.name for window in BURN_RULES.windows] == ["1h", "6h", "1d", "3d"]
    assert BurnWindow(0.1, 90.0, 1.0, Urgency.PAGE).name == "90s"


class Service:
    """Calls of a service, counted, and what the alerts of its objective say."""

    def __init__(self, objective: Slo, interval_seconds: float) -> None:
        self.objective = objective
        self.history = History(interval_seconds=interval_seconds, span_seconds=31 * DAY)
        self.now = 0.0
        self._interval_seconds = interval_seconds
        self._registry = Registry()
        self._calls = self._registry.counter(CALLS)
        self._took = self._registry.histogram(TOOK)
        for how in ("good", "bad"):
            self._calls.cell(how)

    def call(self, good: float, bad: float) -> None:
        self._calls.cell("good").add(good)
        self._calls.cell("bad").add(bad)
        if self.objective is QUICK:
            for seconds, times in ((0.05, good), (0.5, bad)):
                for _ in range(int(times)):
                    self._took.cell().observe(seconds)

    def live(self, seconds: float, good: float = 0.0, bad: float = 0.0) -> None:
        """Go on for so long, with so many calls of each kind in each interval."""
        for _ in range(int(seconds / self._interval_seconds)):
            self.call(good, bad)
            self.now += self._interval_seconds
            self.history.add(self._registry.snapshot(), at=self.now, wall=self.now)

    def called(self) -> set[str]:
        """Return the alerts that hold."""
        return {
            alert.name
            for alert in alerts_of(self.objective)
            if holds(alert.when, self.history, self.now)
        }

    def seconds_until(self, name: str, good: float, bad: float) -> float:
        """Go on until an alert holds, and return how long that was."""
        began = self.now
        while name not in self.called():
            assert self.now - began < DAY, f"{name} never came"
            self.live(self._interval_seconds, good, bad)
        return self.now - began


@pytest.mark.slow
@pytest.mark.parametrize(("share", "expected_seconds"), [(1.0, 52), (0.5, 104), (0.05, 1037)])
def test_somebody_is_woken_when_the_budget_says_so(share: float, expected_seconds: float) -> None:
    """After an hour of good calls: long window x factor x (1 - objective) / share of failures."""
    service = Service(slo(), 10.0)
    service.live(HOUR + 600, good=1000)

    waited = service.seconds_until("CallsBurn1h", 1000 * (1 - share), 1000 * share)

    assert expected_seconds <= waited <= expected_seconds + 20


def test_the_alert_is_over_soon_after_its_cause() -> None:
    """The short window forgets within its five minutes what the long one knows for an hour."""
    service = Service(slo(), 30.0)
    service.live(2 * HOUR, good=1000)
    service.live(300, bad=1000)
    assert "CallsBurn1h" in service.called()

    service.live(300, good=1000)

    assert "CallsBurn1h" not in service.called()


def test_few_failures_in_a_quiet_night_wake_nobody() -> None:
    """Nine of twenty calls in an hour are 45 %, and nine."""
    service = Service(slo(), 60.0)
    service.live(HOUR, good=1 / 6)
    service.call(0, 9)
    service.live(60)

    assert service.called() == set()
    service.call(0, 1)
    service.live(60)
    assert "CallsBurn1h" in service.called()


def test_failures_that_go_on_at_little_traffic_are_told_by_their_number() -> None:
    """One in three minutes for six hours, of one call in each minute: no budget is told of less."""
    patient = BurnRules(windows=(), sustained_failures=100)
    service = Service(slo(rules=patient), 180.0)

    service.live(6 * HOUR, good=2, bad=1)
    assert "CallsMissedQuietly" in service.called()
    service.live(6 * HOUR, good=200, bad=1)
    assert "CallsMissedQuietly" not in service.called()


def test_no_call_at_all_is_no_failure() -> None:
    """A share of nothing is nothing, not everything."""
    for objective in (slo(), QUICK):
        service = Service(objective, 60.0)
        service.live(2 * HOUR)

        assert service.called() == set()


def test_a_call_that_is_too_slow_is_a_failure_of_an_objective_of_time() -> None:
    """By the count of the bucket that the objective names."""
    service = Service(QUICK, 60.0)
    service.live(HOUR, good=100)
    assert service.called() == set()

    service.live(HOUR, good=80, bad=20)

    assert {"QuickBurn1h", "QuickBurn6h"} <= service.called()


def test_what_is_left_of_a_budget_is_shown() -> None:
    """Half of it after half of the failures, and less than none when more was spent."""
    service = Service(slo(objective_ratio=0.98), HOUR)
    left, speed = panels_of(service.objective)

    def shown() -> float:
        return evaluate(left.shows[0][1], service.history, service.now)[()]

    service.live(DAY, good=99, bad=1)
    assert shown() == pytest.approx(0.5)
    assert [name for name, _ in speed.shows] == ["5m", "30m", "1h", "2h", "6h", "1d", "3d"]
    assert "14.4 (1h), 6 (6h), 3 (1d), 1 (3d)" in speed.help
    service.live(DAY, good=96, bad=4)
    assert shown() < 0


def test_a_budget_that_is_spent_is_told_though_nothing_burns_any_more() -> None:
    """Two days of 2 % are 40 days of 0.1 %; what was missed stays so until it has gone by."""
    service = Service(slo(), HOUR)
    service.live(20 * DAY, good=1000)
    assert service.called() == set()
    service.live(DAY, good=980, bad=20)
    assert "CallsBudgetSpent" not in service.called()
    service.live(DAY, good=980, bad=20)
    service.live(5 * DAY, good=1000)

    assert service.called() == {"CallsBudgetSpent"}
    service.live(25 * DAY, good=1000)
    assert service.called() == set()


def test_a_budget_of_nearly_nothing_is_spent_by_a_number_of_failures() -> None:
    """Nine of a hundred calls in a month are many times the budget, and nine."""
    service = Service(slo(), HOUR)
    service.live(4 * DAY, good=1)
    service.call(0, 9)
    service.live(4 * DAY, good=1)
    assert service.called() == set()

    service.call(0, 1)
    service.live(4 * DAY, good=1)

    assert "CallsBudgetSpent" in service.called()
