"""The numbers of all breakers, pipelines and bulkheads, to be read by whoever exposes them."""

from collections.abc import Callable, Mapping

from shipworthy.events import Declared, Metric, OneOf
from shipworthy.resilience.breaker import BreakerStatistics, breakers
from shipworthy.resilience.call import pipelines
from shipworthy.resilience.circuit import BreakerState

Numbers = Mapping[tuple[str, ...], float]

_NAMES = Declared()

BREAKER_STATE = Metric(
    "shipworthy_breaker_state",
    "gauge",
    "1 for the state a breaker is in, 0 for the others.",
    {"breaker": _NAMES, "state": OneOf(*BreakerState)},
    fold="max",
)
BREAKER_KEEPS_OUT = Metric(
    "shipworthy_breaker_keeps_out",
    "gauge",
    "Processes in which a breaker has not closed again and in the last 45 s refused a call, or a "
    "trial or probe failed.",
    {"breaker": _NAMES},
)
BREAKER_OPENINGS = Metric(
    "shipworthy_breaker_openings_in_a_row",
    "gauge",
    "How often a breaker opened without a good spell between, in the process where most often.",
    {"breaker": _NAMES},
    fold="max",
)
BREAKER_CALLS = Metric(
    "shipworthy_breaker_calls_total",
    "counter",
    "Calls through a breaker by how they ended; refused ones were not made.",
    {
        "breaker": _NAMES,
        "outcome": OneOf("success", "failure", "neutral", "slow", "refused", "late"),
    },
)
BREAKER_OPENED = Metric(
    "shipworthy_breaker_opened_total",
    "counter",
    "How often a breaker opened; one whose trial calls fail has not closed, and is not counted.",
    {"breaker": _NAMES},
)
PIPELINE_CALLS = Metric(
    "shipworthy_pipeline_attempts_total",
    "counter",
    "Attempts of a pipeline by how they ended; refused ones were not made.",
    {"pipeline": _NAMES, "outcome": OneOf("success", "failure", "neutral", "refused")},
)
PIPELINE_RETRIES = Metric(
    "shipworthy_retry_total",
    "counter",
    "Retries that were made, and those refused because the budget was spent.",
    {"pipeline": _NAMES, "result": OneOf("made", "budget_spent")},
)
RETRY_BUDGET = Metric(
    "shipworthy_retry_budget_available",
    "gauge",
    "Retries that the budget of a pipeline has left.",
    {"pipeline": _NAMES},
)
FALLBACKS = Metric(
    "shipworthy_fallback_total",
    "counter",
    "Answers that stand in for another, by where they came from.",
    {"pipeline": _NAMES, "source": OneOf("replica", "stale", "default")},
)
BULKHEAD_CALLS = Metric(
    "shipworthy_bulkhead_calls",
    "gauge",
    "Calls in a bulkhead: under way, waiting, and the limit of those under way.",
    {"bulkhead": _NAMES, "what": OneOf("in_use", "waiting", "limit")},
)


def resilience_metrics() -> tuple[tuple[Metric, Callable[[], Numbers]], ...]:
    """Return each metric with the function that reads it: at once, from memory, in any thread."""
    return (
        (BREAKER_STATE, _breaker_states),
        (BREAKER_KEEPS_OUT, lambda: _of_breakers(lambda seen: seen.keeps_out)),
        (BREAKER_OPENINGS, lambda: _of_breakers(lambda seen: seen.openings_in_a_row)),
        (BREAKER_CALLS, _breaker_calls),
        (BREAKER_OPENED, lambda: _of_breakers(lambda seen: seen.opened_total)),
        (PIPELINE_CALLS, _pipeline_calls),
        (PIPELINE_RETRIES, _retries),
        (RETRY_BUDGET, _budgets),
        (FALLBACKS, _fallbacks),
        (BULKHEAD_CALLS, _bulkheads),
    )


def _breaker_states() -> Numbers:
    return {
        (name, state.value): float(breaker.state is state)
        for name, breaker in breakers().items()
        for state in BreakerState
    }


def _breaker_calls() -> Numbers:
    found: dict[tuple[str, ...], float] = {}
    for name, breaker in breakers().items():
        seen = breaker.statistics()
        found[name, "success"] = seen.success_total
        found[name, "failure"] = seen.failure_total
        found[name, "neutral"] = seen.neutral_total
        found[name, "slow"] = seen.slow_total
        found[name, "refused"] = seen.refused_total
        found[name, "late"] = seen.late_total
    return found


def _of_breakers(number: Callable[[BreakerStatistics], float]) -> Numbers:
    return {(name,): float(number(one.statistics())) for name, one in breakers().items()}


def _pipeline_calls() -> Numbers:
    found: dict[tuple[str, ...], float] = {}
    for name, pipeline in pipelines().items():
        seen = pipeline.statistics()
        found[name, "success"] = seen.success_total
        found[name, "failure"] = seen.failure_total
        found[name, "neutral"] = seen.neutral_total
        found[name, "refused"] = seen.refused_total
    return found


def _retries() -> Numbers:
    found: dict[tuple[str, ...], float] = {}
    for name, pipeline in pipelines().items():
        seen = pipeline.statistics()
        if seen.budget is not None:
            found[name, "made"] = seen.retry_total
            found[name, "budget_spent"] = seen.budget.refused_total
    return found


def _budgets() -> Numbers:
    return {
        (name,): seen.budget.available
        for name, pipeline in pipelines().items()
        if (seen := pipeline.statistics()).budget is not None
    }


def _fallbacks() -> Numbers:
    found: dict[tuple[str, ...], float] = {}
    for name, pipeline in pipelines().items():
        if pipeline.fallback is not None:
            seen = pipeline.statistics()
            found[name, "replica"] = seen.replica_total
            found[name, "stale"] = seen.stale_total
            found[name, "default"] = seen.default_total
    return found


def _bulkheads() -> Numbers:
    found: dict[tuple[str, ...], float] = {}
    for pipeline in pipelines().values():
        if pipeline.bulkhead is not None:
            seen = pipeline.bulkhead.statistics()
            found[seen.name, "in_use"] = seen.in_use
            found[seen.name, "waiting"] = seen.waiting
            found[seen.name, "limit"] = seen.limit
    return found
