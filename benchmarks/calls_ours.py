"""Our arms: a pipeline around a call that goes well, and a breaker that lets none through."""

from calls import Arm, work, work_async

from shipworthy.resilience import Breaker, Pipeline, RetryRule, judge_io


def arms() -> dict[str, Arm]:
    """Return the calls to compare."""
    whole = Pipeline(
        "whole", judge=judge_io, breaker=Breaker("whole"), retry=RetryRule(), timeout_seconds=5.0
    )
    breaker = Pipeline("breaker", judge=judge_io, breaker=Breaker("alone"))
    shut = Breaker("shut")
    shut.isolate("to measure a rejection")
    refusing = Pipeline("refusing", judge=judge_io, breaker=shut)
    return {
        "Pipeline: breaker, retry, budget, deadline": Arm("sync", whole(work)),
        "Pipeline: breaker": Arm("sync", breaker(work)),
        "Pipeline, async: breaker, retry, budget, deadline": Arm("async", whole(work_async)),
        "Pipeline, async: breaker": Arm("async", breaker(work_async)),
        "Breaker, rejected": Arm("rejected", shut.admit),
        "Pipeline, rejected": Arm("rejected", refusing(work)),
    }
