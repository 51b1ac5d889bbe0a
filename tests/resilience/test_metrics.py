"""The numbers of the room, as telemetry reads them."""

from shipworthy.clock import ManualClock
from shipworthy.resilience import (
    Breaker,
    Bulkhead,
    Ended,
    Fallback,
    Pipeline,
    RetryRule,
    judge_io,
    resilience_metrics,
)


def test_every_metric_reads_what_happened(clock: ManualClock) -> None:
    """One reading per breaker, pipeline and bulkhead, with as many labels as are declared."""
    breaker = Breaker("ledger", clock=clock)
    pipeline = Pipeline(
        "pay",
        judge=judge_io,
        breaker=breaker,
        retry=RetryRule(),
        bulkhead=Bulkhead("pay", 3),
        fallback=Fallback(default=0),
        clock=clock,
    )
    pipeline.answer(lambda: 1)
    for _ in range(5):
        breaker.record(breaker.admit(), Ended.REFUSED, 0.0)
    pipeline.answer(lambda: 1)

    read = {metric.name: reading() for metric, reading in resilience_metrics()}

    for metric, reading in resilience_metrics():
        assert all(len(labels) == len(metric.labels) for labels in reading())
    assert read["shipworthy_breaker_state"]["ledger", "open"] == 1
    assert read["shipworthy_breaker_state"]["ledger", "closed"] == 0
    assert read["shipworthy_breaker_calls_total"]["ledger", "failure"] == 5
    assert read["shipworthy_breaker_calls_total"]["ledger", "refused"] == 1
    assert read["shipworthy_breaker_opened_total"]["ledger",] == 1
    assert read["shipworthy_pipeline_attempts_total"]["pay", "success"] == 1
    assert read["shipworthy_pipeline_attempts_total"]["pay", "refused"] == 1
    assert read["shipworthy_retry_total"]["pay", "made"] == 0
    assert read["shipworthy_retry_budget_available"]["pay",] > 1
    assert read["shipworthy_fallback_total"]["pay", "default"] == 1
    assert read["shipworthy_bulkhead_calls"]["pay", "limit"] == 3
    assert read["shipworthy_bulkhead_calls"]["pay", "in_use"] == 0
