"""What a protected engine counts, as metrics: read when somebody asks, so it costs nothing before.

Not here: the registry they are put into (`telemetry`, by `assembly`).
"""

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from shipworthy.db.install import protections_here
from shipworthy.db.outcome import Outcome
from shipworthy.db.unit import CommitAnswer
from shipworthy.events import Declared, Metric, OneOf

if TYPE_CHECKING:
    from shipworthy.db.guard import PoolStatistics

_LABELS = {"engine": Declared()}

CAPACITY = Metric(
    "shipworthy_pool_capacity", "gauge", "Connections a pool may open at most.", _LABELS
)
IN_USE = Metric("shipworthy_pool_in_use", "gauge", "Connections that are out.", _LABELS)
USED = Metric(
    "shipworthy_pool_used_ratio",
    "gauge",
    "The share of its connections that are out, in the process where it is largest: a pool is of "
    "one process, and another one's free connections help nobody there.",
    _LABELS,
    fold="max",
)
WAITING = Metric("shipworthy_pool_waiting", "gauge", "Callers that wait for one.", _LABELS)
CHECKOUTS = Metric(
    "shipworthy_pool_checkouts_total", "counter", "Times a connection was asked for.", _LABELS
)
WAITS = Metric(
    "shipworthy_pool_waits_total", "counter", "Times no connection was free at once.", _LABELS
)
WAIT_SECONDS = Metric(
    "shipworthy_pool_wait_seconds_total", "counter", "Seconds callers waited in all.", _LABELS
)
TIMEOUTS = Metric(
    "shipworthy_pool_timeouts_total", "counter", "Callers that got none in time.", _LABELS
)
DEADLOCKS = Metric(
    "shipworthy_pool_deadlocks_total",
    "counter",
    "Callers refused because all holders waited for one more.",
    _LABELS,
)
STARVATIONS = Metric(
    "shipworthy_pool_starvations_total",
    "counter",
    "Callers refused because all worker threads waited for connections.",
    _LABELS,
)
LEAKS = Metric(
    "shipworthy_pool_leaks_total", "counter", "Connections that were out for too long.", _LABELS
)
CUTS = Metric(
    "shipworthy_db_cuts_total", "counter", "Calls that were cut at their deadline.", _LABELS
)
SLOW = Metric(
    "shipworthy_db_slow_statements_total", "counter", "Statements over the warning.", _LABELS
)
UNANSWERED = Metric(
    "shipworthy_db_unanswered_commits_total",
    "counter",
    "COMMITs that were sent and whose answer did not come.",
    _LABELS,
)

RERUNS = Metric(
    "shipworthy_tx_reruns_total",
    "counter",
    "Transactions run again, by what their failure meant.",
    # As many names as `transaction` counts.
    {"unit": Declared(200), "outcome": OneOf(*Outcome)},
)
COMMITS = Metric(
    "shipworthy_ambiguous_commits_total",
    "counter",
    "COMMITs whose answer was lost, by what became of them.",
    {"resolution": OneOf(*CommitAnswer, "lost")},
)

Reading = Callable[[], Mapping[tuple[str, ...], float]]


def db_metrics() -> tuple[tuple[Metric, Reading], ...]:
    """Return each metric with how to read it, for all engines under guard at that time."""
    return (
        (CAPACITY, _reading(lambda it: it.capacity)),
        (IN_USE, _reading(lambda it: it.in_use)),
        (USED, _reading(lambda it: it.in_use / it.capacity if it.capacity else None)),
        (WAITING, _reading(lambda it: it.waiting)),
        (CHECKOUTS, _reading(lambda it: it.checkouts)),
        (WAITS, _reading(lambda it: it.waits)),
        (WAIT_SECONDS, _reading(lambda it: it.wait_seconds)),
        (TIMEOUTS, _reading(lambda it: it.timeouts)),
        (DEADLOCKS, _reading(lambda it: it.deadlocks)),
        (STARVATIONS, _reading(lambda it: it.starvations)),
        (LEAKS, _reading(lambda it: it.leaks)),
        (CUTS, _reading(lambda it: it.cuts)),
        (SLOW, _reading(lambda it: it.slow)),
        (UNANSWERED, _reading(lambda it: it.unanswered)),
        (RERUNS, lambda: _counts("reruns")),
        (COMMITS, _commits),
    )


def _reading(number: "Callable[[PoolStatistics], float | None]") -> Reading:
    def read() -> dict[tuple[str, ...], float]:
        found: dict[tuple[str, ...], float] = {}
        for protection in protections_here():
            statistics = protection.statistics()
            value = number(statistics)
            # A pool without a limit has no capacity to show.
            if value is not None:
                found[statistics.name,] = value
        return found

    return read


def _commits() -> dict[tuple[str, ...], float]:
    return COMMITS.zeros() | {(name,): count for name, count in _counts("commits").items()}


def _counts(name: str) -> Mapping[Any, float]:
    transaction = sys.modules.get("shipworthy.db.transaction")
    return getattr(transaction.transaction_counts(), name) if transaction else {}
