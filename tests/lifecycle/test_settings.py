"""The section `lifecycle` and what follows from it."""

from pathlib import Path

import pytest

from shipworthy.errors import SettingsInvalid
from shipworthy.lifecycle import DrainRule, LifecycleSettings
from shipworthy.settings import load


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


def test_a_check_is_asked_often_enough_that_silence_is_an_alarm(tmp_path: Path) -> None:
    """HealthCheckStale fires after 15 minutes, and would always."""
    asked = {"SHIPWORTHY_LIFECYCLE__CHECK_INTERVAL": "10m"}
    kept = load(environ=asked, directory=tmp_path).of(LifecycleSettings)
    assert kept.check_interval_seconds == 600.0
    with pytest.raises(SettingsInvalid, match="check_interval"):
        load(environ={"SHIPWORTHY_LIFECYCLE__CHECK_INTERVAL": "16m"}, directory=tmp_path)


@pytest.mark.parametrize("lame_duck_seconds", [0.0, 5.0], ids=["development", "production"])
def test_the_defaults_can_be_kept_in_every_environment(lame_duck_seconds: float) -> None:
    """Nobody has to repair a budget they did not write."""
    assert LifecycleSettings(lame_duck_seconds=lame_duck_seconds).refusals("production") == []


def test_a_budget_that_does_not_add_up_is_refused_everywhere() -> None:
    """An impossible promise is no better on a laptop."""
    settings = LifecycleSettings(grace_seconds=10.0)

    (refusal,) = settings.refusals("development")

    assert refusal.startswith("lifecycle.grace is 10s, but ")
