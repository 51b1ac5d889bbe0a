"""What is kept for how long, in one place: section [retention].

Pure. What is ours we prune; what is another's (Prometheus, whoever collects the log) is told in the
configuration that `generate monitoring` prints from the same policy.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import final

from shipworthy.settings import duration, section


class StoredIn(StrEnum):
    """Where something is kept."""

    MEMORY = "memory"  # of the supervisor
    FILE = "file"  # the history in the state folder
    PROMETHEUS = "prometheus"
    LOGS = "logs"  # whoever collects standard output
    AUDIT = "audit"  # the trail in the application's database


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Retained:
    """One thing that is kept: for how long, which setting says so, and whether we prune it."""

    what: str
    place: StoredIn
    seconds: float
    setting: str
    by_us: bool


@section("retention")
@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionSettings:
    """What is kept for how long: by us, and by others as their configuration is to say."""

    recent_seconds: float = duration(
        "6h",
        "how long every snapshot of the metrics stays in the supervisor's memory",
        minimum="10m",
        maximum="24h",
    )
    minutes_seconds: float = duration(
        "48h", "how long the history has a point for each minute", minimum="6h", maximum="14d"
    )
    five_minutes_seconds: float = duration(
        "14d", "how long the history has one for each five minutes", minimum="1d", maximum="90d"
    )
    hours_seconds: float = duration(
        "400d", "how long the history has one for each hour", minimum="1d", maximum="3660d"
    )
    prometheus_seconds: float = duration(
        "15d", "how long Prometheus keeps samples, where it is generated", minimum="1d"
    )
    access_lines_seconds: float = duration(
        "30d", "how long access lines are to be kept by whoever collects the log", minimum="1h"
    )
    log_lines_seconds: float = duration(
        "90d", "how long all other lines are to be kept by whoever collects the log", minimum="1h"
    )
    security_lines_seconds: float = duration(
        "400d", "how long refusals and orders of operators are to be kept", minimum="1h"
    )

    def refusals(self, environment: str) -> list[str]:
        """Name what contradicts itself; it is refused everywhere."""
        del environment
        ascending = (
            ("recent", self.recent_seconds),
            ("minutes", self.minutes_seconds),
            ("five_minutes", self.five_minutes_seconds),
            ("hours", self.hours_seconds),
        )
        return [
            f"retention.{coarse}: {longer:g}s is less than the {shorter:g}s of retention.{fine}, "
            "and what is coarse is kept for what is older; raise it"
            for (fine, shorter), (coarse, longer) in pairwise(ascending)
            if longer < shorter
        ]


def policy(chosen: RetentionSettings) -> Iterator[Retained]:
    """Yield all that is kept of what a service says of itself, the nearest first.

    How long the trail is kept, its own settings say (`audit.keep_payload` and the like); `audit
    retain` prunes it.
    """
    yield _ours("every snapshot of the metrics", StoredIn.MEMORY, chosen.recent_seconds, "recent")
    yield _ours("metrics by the minute", StoredIn.FILE, chosen.minutes_seconds, "minutes")
    yield _ours(
        "metrics by five minutes", StoredIn.FILE, chosen.five_minutes_seconds, "five_minutes"
    )
    yield _ours("metrics by the hour", StoredIn.FILE, chosen.hours_seconds, "hours")
    yield _theirs("samples", StoredIn.PROMETHEUS, chosen.prometheus_seconds, "prometheus")
    yield _theirs("access lines", StoredIn.LOGS, chosen.access_lines_seconds, "access_lines")
    yield _theirs("log lines", StoredIn.LOGS, chosen.log_lines_seconds, "log_lines")
    yield _theirs("security lines", StoredIn.LOGS, chosen.security_lines_seconds, "security_lines")


def _ours(what: str, place: StoredIn, seconds: float, key: str) -> Retained:
    return Retained(what=what, place=place, seconds=seconds, setting=f"retention.{key}", by_us=True)


def _theirs(what: str, place: StoredIn, seconds: float, key: str) -> Retained:
    return Retained(
        what=what, place=place, seconds=seconds, setting=f"retention.{key}", by_us=False
    )
