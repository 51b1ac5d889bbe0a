"""When a file of the log is put aside, and which ones go."""

import pytest
from hypothesis import given, strategies as st

from shipworthy.telemetry.rotation import RotationRule, aside

DAY = 86_400.0
NOON = 20_000 * DAY + DAY / 2


@pytest.mark.parametrize(
    ("rule", "size", "modified", "due"),
    [
        (RotationRule(), 10**12, 0.0, False),
        (RotationRule(size_bytes=100), 90, NOON, False),
        (RotationRule(size_bytes=100), 91, NOON, True),
        (RotationRule(size_bytes=100), 0, NOON, False),
        (RotationRule(age_seconds=DAY), 1, NOON - DAY / 2, False),
        (RotationRule(age_seconds=DAY), 1, NOON - DAY / 2 - 1, True),
        (RotationRule(age_seconds=DAY), 0, NOON - 9 * DAY, False),
        (RotationRule(age_seconds=DAY), 1, NOON + 9 * DAY, False),
    ],
    ids=["never", "fits", "too large", "empty", "today's", "yesterday's", "old and empty", "ahead"],
)
def test_a_file_is_due_when_it_is_full_or_of_an_earlier_period(
    rule: RotationRule, size: int, modified: float, due: bool
) -> None:
    """By what anybody can see of it; a clock that was put back ends none."""
    assert rule.due(size, modified, more_bytes=10, now=NOON) is due


@given(st.lists(st.floats(0, 4e9), unique=True, max_size=8), st.integers(0, 5))
def test_the_newest_stay_and_strangers_are_left_alone(moments: list[float], keep: int) -> None:
    """Names are in the order of time; a file that we did not name is not ours."""
    ours = sorted({aside("app.log", moment) for moment in moments})
    others = ["app.log", "app.log.1", "app.log.gz", "other.log", f"{aside('app.log', 0)}.gz"]
    others += [f"x{name}" for name in ours]

    gone = RotationRule(keep=keep).surplus("app.log", [*reversed(ours), *others])

    assert gone == (ours[: max(len(ours) - keep, 0)] if keep else [])


def test_a_file_is_named_after_the_moment_it_was_put_aside() -> None:
    """In UTC, readable, and with its sign for each microsecond."""
    assert aside("/var/log/app.log", 1_764_521_112.25) == "/var/log/app.log.20251130T164512.250000Z"
