"""One policy says what is kept for how long, and contradicts itself nowhere."""

from dataclasses import fields

import pytest

from shipworthy.settings import options_of
from shipworthy.telemetry.retention import RetentionSettings, StoredIn, policy


def test_every_setting_is_in_the_policy() -> None:
    """Whoever prints it prints all; each line names the setting that says it."""
    kept = list(policy(RetentionSettings()))
    keys = {option.key: option.field for option in options_of(RetentionSettings)}
    assert [one.setting for one in kept] == list(keys)
    for one in kept:
        assert one.seconds == getattr(RetentionSettings(), keys[one.setting])
    assert len(kept) == len(fields(RetentionSettings))


def test_what_is_ours_is_pruned_by_us() -> None:
    """Memory and file are ours; what others keep, they are told."""
    for one in policy(RetentionSettings()):
        assert one.by_us == (one.place in {StoredIn.MEMORY, StoredIn.FILE})


@pytest.mark.parametrize(
    ("coarse", "fine", "settings"),
    [
        ("minutes", "recent", RetentionSettings(minutes_seconds=60.0)),
        ("five_minutes", "minutes", RetentionSettings(five_minutes_seconds=86400.0)),
        ("hours", "five_minutes", RetentionSettings(hours_seconds=86400.0 * 7)),
    ],
)
def test_a_coarse_history_shorter_than_a_fine_one_is_refused(
    coarse: str, fine: str, settings: RetentionSettings
) -> None:
    """With both settings named, in every environment."""
    (problem,) = settings.refusals("development")
    assert f"retention.{coarse}:" in problem
    assert f"retention.{fine}," in problem


def test_the_defaults_are_accepted() -> None:
    """By the environment that refuses most."""
    assert RetentionSettings().refusals("production") == []
