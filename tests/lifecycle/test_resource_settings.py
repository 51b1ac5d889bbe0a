"""Marks in the wrong order, and bounds that cannot be kept, are refused in one sentence."""

import pytest

from shipworthy.lifecycle import ResourceSettings


def test_the_defaults_are_in_order() -> None:
    """Nobody has to set anything."""
    assert ResourceSettings().refusals("production") == []


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        (
            {"memory_warn_ratio": 0.95},
            "resources.memory_warn_ratio = 0.95 must be below resources.memory_act_ratio = 0.9",
        ),
        (
            {"memory_act_ratio": 0.95},
            (
                "resources.memory_act_ratio = 0.95 must be below "
                "resources.memory_emergency_ratio = 0.95"
            ),
        ),
        (
            {"descriptors_warn_ratio": 0.9},
            (
                "resources.descriptors_warn_ratio = 0.9 must be below "
                "resources.descriptors_act_ratio = 0.85"
            ),
        ),
        (
            {"blocked_seconds": 0.05},
            (
                "resources.blocked = 50ms is too short: a loop that moves is heard every 50 ms; "
                "give 100ms or more, or 0 for never"
            ),
        ),
    ],
)
def test_what_cannot_work_is_refused(chosen: dict[str, float], sentence: str) -> None:
    """One sentence each, with both values and where they are set."""
    assert ResourceSettings(**chosen).refusals("development") == [sentence]


def test_never_is_a_bound() -> None:
    """0 switches the watch off."""
    assert ResourceSettings(blocked_seconds=0.0).refusals("production") == []
