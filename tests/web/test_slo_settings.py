"""Section [slo]: what no alert could come of is refused, with what to write instead."""

import re
from typing import Any

import pytest

from shipworthy.events import BURN_RULES
from shipworthy.web import SloSettings


def test_a_service_that_nobody_has_told_anything_has_two_objectives() -> None:
    """99.9 % are answered, 99 % within half a second; by the windows of the workbook."""
    settings = SloSettings()

    assert settings.refusals("production") == []
    available, quick = settings.objectives()
    assert (available.objective_ratio, quick.objective_ratio) == (0.999, 0.99)
    assert (quick.within_seconds, quick.period_days) == (0.5, 30.0)
    assert available.rules == quick.rules == BURN_RULES


def test_an_objective_of_0_is_none() -> None:
    """Its threshold is not looked at then."""
    settings = SloSettings(availability_ratio=0, latency_ratio=0, latency_seconds=0.42)

    assert settings.refusals("production") == []
    assert settings.objectives() == ()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"availability_ratio": 1.0},
            "slo.availability_ratio: an objective of 1 leaves no room for a failure or none for a",
        ),
        ({"latency_seconds": 0.4}, "slo.latency: .* no bucket that ends at 0.4, .* nearest is 0.5"),
        (
            {"latency_ratio": 0.9},
            "slo.latency_ratio: the window of 1h can never fire: .* less than 1.39% of the budget",
        ),
        (
            {"period_seconds": 86_400.0, "ticket": ("10% in 2d and 2h",), "latency_ratio": 0.0},
            "slo.availability_ratio: a window of 2d is longer than the period of 1 days",
        ),
        ({"page": ("quickly",)}, "slo.page: 'quickly' is no window; write .* '2% in 1h and 5m'"),
    ],
)
def test_what_no_alert_could_come_of_is_refused(changes: dict[str, Any], problem: str) -> None:
    """In one sentence each, that says what to write."""
    (told,) = SloSettings(**changes).refusals("development")

    assert re.match(problem, told)
