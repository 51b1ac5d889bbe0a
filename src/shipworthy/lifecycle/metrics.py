"""What the life of this process is in numbers: its checks, and background work that failed."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from shipworthy.events import Declared, FirstNames, Metric, OneOf
from shipworthy.lifecycle.checks import CheckStatus
from shipworthy.lifecycle.health import CheckReport, HealthReport

_CHECK: Final = {"check": Declared()}

CHECKS: Final = Metric(
    "shipworthy_check_status",
    "gauge",
    "1 for what is known from a health check, 0 for the others; in how many processes.",
    {"check": Declared(), "status": OneOf(*CheckStatus)},
)
CHECK_SECONDS: Final = Metric(
    "shipworthy_check_seconds",
    "gauge",
    "Seconds that a health check took when it answered last, in the slowest process.",
    _CHECK,
    fold="max",
)
CHECK_AGE: Final = Metric(
    "shipworthy_check_age_seconds",
    "gauge",
    "Seconds since a health check answered, in the process where it is longest.",
    _CHECK,
    fold="max",
)
BACKGROUND_FAILURES: Final = Metric(
    "shipworthy_background_failures_total",
    "counter",
    "Background work that raised, by its name.",
    {"work": Declared(100)},
)

Numbers = Mapping[tuple[str, ...], float]

_failed: Final = Counter[str]()
_names: Final = FirstNames(100)


def count_background_failure(name: str) -> None:
    """Count background work that raised; names beyond the first 100 are counted as `_other`."""
    _failed[_names.of(name)] += 1


def lifecycle_metrics(
    health: Callable[[], HealthReport],
) -> tuple[tuple[Metric, Callable[[], Numbers]], ...]:
    """Return each metric with how to read it, of the life that `health` tells of."""
    return (
        (CHECKS, lambda: dict(_statuses(health().checks))),
        (CHECK_SECONDS, lambda: {(one.name,): one.took_seconds for one in health().checks}),
        (
            CHECK_AGE,
            lambda: {
                (one.name,): one.age_seconds
                for one in health().checks
                if one.age_seconds is not None
            },
        ),
        (BACKGROUND_FAILURES, lambda: {(name,): n for name, n in _failed.copy().items()}),
    )


def _statuses(checks: tuple[CheckReport, ...]) -> Iterator[tuple[tuple[str, ...], float]]:
    for one in checks:
        for status in CheckStatus:
            yield (one.name, status), float(one.status is status)
