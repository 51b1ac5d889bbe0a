"""The section `resilience`."""

import pytest

from shipworthy.clock import ManualClock
from shipworthy.resilience import (
    BreakerRule,
    BreakerState,
    ResilienceSettings,
    RetryRule,
)


def test_the_defaults_are_those_of_the_rules() -> None:
    """One default in one place: the settings say nothing else than the classes do."""
    settings = ResilienceSettings()

    assert settings.breaker_rule == BreakerRule()
    assert settings.retry_rule == RetryRule()
    assert settings.new_budget().ratio == 0.2
    assert settings.refusals("production") == []


@pytest.mark.parametrize(
    ("mode", "state"),
    [
        ("enforce", BreakerState.CLOSED),
        ("report", BreakerState.METRICS_ONLY),
        ("off", BreakerState.DISABLED),
    ],
)
def test_a_new_breaker_does_what_is_set(mode, state: BreakerState) -> None:
    """Enforce, report, off, in the words of every guard."""
    breaker = ResilienceSettings(breaker=mode).new_breaker("ledger", clock=ManualClock())

    assert breaker.state is state


def test_times_that_exclude_each_other_are_refused() -> None:
    """In every environment, with the names that people write."""
    settings = ResilienceSettings(open_seconds=40.0, backoff_seconds=3.0)

    assert settings.refusals("development") == [
        "resilience.open_cap (30 s) is shorter than resilience.open (40 s)",
        "resilience.backoff_cap (2 s) is shorter than resilience.backoff (3 s)",
    ]
