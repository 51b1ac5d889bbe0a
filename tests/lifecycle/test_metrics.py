"""The numbers of the life of a process: its checks, and background work that failed."""

import pytest

from shipworthy.events import OTHER, FirstNames
from shipworthy.lifecycle import CheckStatus, HealthReport, lifecycle_metrics, metrics
from shipworthy.lifecycle.drain import Phase
from shipworthy.lifecycle.health import Answer, CheckReport
from shipworthy.lifecycle.metrics import (
    BACKGROUND_FAILURES,
    CHECK_AGE,
    CHECK_SECONDS,
    CHECKS,
    count_background_failure,
)


def check(name: str, status: CheckStatus, age_seconds: float | None) -> CheckReport:
    return CheckReport(
        name=name,
        kinds=("ready",),
        status=status,
        status_seconds=1.0,
        age_seconds=age_seconds,
        took_seconds=0.25,
        output="",
    )


def health() -> HealthReport:
    fine = Answer(ok=True)
    return HealthReport(
        phase=Phase.READY,
        since=0.0,
        transitions=(),
        live=fine,
        ready=fine,
        startup=fine,
        checks=(check("db", CheckStatus.FAIL, 3.0), check("new", CheckStatus.UNKNOWN, None)),
        components=(),
    )


def test_each_check_is_counted_by_what_is_known_of_it() -> None:
    """One that has not answered yet has no age; 0 stands for what it is not."""
    read = {metric: reading() for metric, reading in lifecycle_metrics(health)}

    assert {key for key, value in read[CHECKS].items() if value} == {
        ("db", "fail"),
        ("new", "unknown"),
    }
    assert len(read[CHECKS]) == 6
    assert read[CHECK_AGE] == {("db",): 3.0}
    assert read[CHECK_SECONDS] == {("db",): 0.25, ("new",): 0.25}


def test_background_work_that_failed_is_counted_by_a_bounded_number_of_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever names each piece of work anew shares one name after the hundredth."""
    monkeypatch.setattr(metrics, "_failed", type(metrics._failed)())
    monkeypatch.setattr(metrics, "_names", FirstNames(100))
    for number in range(150):
        count_background_failure(f"mail {number}")
    count_background_failure("mail 0")

    read = dict(lifecycle_metrics(health))[BACKGROUND_FAILURES]()

    assert len(read) == 101
    assert (read["mail 0",], read[OTHER,]) == (2, 50)
