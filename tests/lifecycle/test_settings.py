"""The section `lifecycle` and what follows from it."""

import pytest

from shipworthy.lifecycle import DrainRule, LifecycleSettings


def test_the_rule_takes_every_time_from_the_settings() -> None:
    """Six different numbers, each in its own place."""
    settings = LifecycleSettings(
        grace_seconds=60.0,
        lame_duck_seconds=1.0,
        drain_seconds=2.0,
        idle_grace_seconds=3.0,
        cancel_seconds=4.0,
        stop_seconds=5.0,
    )

    assert settings.rule == DrainRule(
        grace_seconds=60.0,
        lame_duck_seconds=1.0,
        drain_seconds=2.0,
        idle_grace_seconds=3.0,
        cancel_seconds=4.0,
        stop_seconds=5.0,
    )


@pytest.mark.parametrize("lame_duck_seconds", [0.0, 5.0], ids=["development", "production"])
def test_the_defaults_can_be_kept_in_every_environment(lame_duck_seconds: float) -> None:
    """Nobody has to repair a budget they did not write."""
    assert LifecycleSettings(lame_duck_seconds=lame_duck_seconds).refusals("production") == []


def test_a_budget_that_does_not_add_up_is_refused_everywhere() -> None:
    """An impossible promise is no better on a laptop."""
    settings = LifecycleSettings(grace_seconds=10.0)

    (refusal,) = settings.refusals("development")

    assert refusal.startswith("lifecycle.grace is 10s, but ")
