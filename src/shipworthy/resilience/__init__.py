"""Policies around a call: deadline, retry and its budget, breaker, bulkhead, fallback.

A policy decides and remembers; it waits for nothing and does no I/O. `Pipeline` puts policies
around a call, sync or async, and is the only place here that waits. A `Judge` tells a pipeline
what an exception means: whether it may pass by itself, and whether something may have happened.

Not here: what a database error means and which transaction may run again (`db`), the same for
HTTP (`outbound`), whether a request may enter at all (`admission`), and the deadline itself, which
travels in `context`.
"""

from shipworthy.resilience.backoff import Backoff
from shipworthy.resilience.breaker import (
    Breaker,
    BreakerChanged,
    BreakerOpen,
    BreakerStatistics,
    BreakerWouldOpen,
    breakers,
)
from shipworthy.resilience.budget import BudgetStatistics, RetryBudget
from shipworthy.resilience.bulkhead import (
    Bulkhead,
    BulkheadFilled,
    BulkheadFull,
    BulkheadStatistics,
)
from shipworthy.resilience.call import (
    DeadlinePassed,
    FallbackUsed,
    Pipeline,
    PipelineBlock,
    PipelineStatistics,
    RetryBudgetSpent,
    pipelines,
)
from shipworthy.resilience.circuit import BreakerRule, BreakerState, Ended, Ticket
from shipworthy.resilience.failure import Effect, Failure, Judge, judge_io
from shipworthy.resilience.fallback import Answered, Fallback
from shipworthy.resilience.metrics import resilience_metrics
from shipworthy.resilience.retry import (
    Again,
    AskFirst,
    Decision,
    GiveUp,
    RetryRule,
    is_retrying,
    retrying_scope,
)
from shipworthy.resilience.settings import ResilienceSettings
from shipworthy.resilience.shown import RESILIENCE_SHOWN

__all__ = [
    "RESILIENCE_SHOWN",
    "Again",
    "Answered",
    "AskFirst",
    "Backoff",
    "Breaker",
    "BreakerChanged",
    "BreakerOpen",
    "BreakerRule",
    "BreakerState",
    "BreakerStatistics",
    "BreakerWouldOpen",
    "BudgetStatistics",
    "Bulkhead",
    "BulkheadFilled",
    "BulkheadFull",
    "BulkheadStatistics",
    "DeadlinePassed",
    "Decision",
    "Effect",
    "Ended",
    "Failure",
    "Fallback",
    "FallbackUsed",
    "GiveUp",
    "Judge",
    "Pipeline",
    "PipelineBlock",
    "PipelineStatistics",
    "ResilienceSettings",
    "RetryBudget",
    "RetryBudgetSpent",
    "RetryRule",
    "Ticket",
    "breakers",
    "is_retrying",
    "judge_io",
    "pipelines",
    "resilience_metrics",
    "retrying_scope",
]
