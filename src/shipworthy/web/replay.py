"""Run a request again whose database failed under it, for applications that nobody changes.

Not here: which failures allow it (`again`), and what is kept meanwhile (`exchange`).
"""

import random
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Annotated, Final, Literal, final

from shipworthy.context import current_deadline
from shipworthy.db import (
    CUT_ATTRIBUTE,
    Attempt,
    Outcome,
    attempt_scope,
    database_outcome,
    judge,
)
from shipworthy.errors import Rejected
from shipworthy.events import Event, Label, Metric, Severity, emit, event
from shipworthy.resilience import RetryBudget, RetryRule, is_retrying, retrying_scope
from shipworthy.telemetry import Registry
from shipworthy.web.again import RUNS, RunFacts, Withheld, after
from shipworthy.web.exchange import HeldAnswer, KeptRequest, fresh_scope
from shipworthy.web.line import App, Call, Receive, Scope, Send

# In its first run a request has the retries of the layers within.
_FIRST: Final = nullcontext()
_CONFLICTS: Final = frozenset({Outcome.RERUN, Outcome.STALE_PLAN})

REPLAYS: Final = Metric(
    "shipworthy_web_replays_total",
    "counter",
    "Requests that failed with their database: run again, or why not.",
    ("result",),
)


@event(severity=Severity.WARNING)
class RequestReplayed(Event):
    """A request is run again, because its database failed."""

    outcome: Annotated[str, Label]
    method: str
    run: int
    error: str


@event(severity=Severity.WARNING)
class ReplayWithheld(Event):
    """A request that failed with its database is not run again."""

    because: Annotated[str, Label]
    outcome: Annotated[str, Label]
    method: str
    run: int


@final
class Replay:
    """Call the application again where nothing of its failed run is left, before anyone is told.

    For `methods`, and for any call that holds an Idempotency-Key. Only the answer of a run that
    failed is held back; the first byte of any other ends the chance. A request whose pipelines
    repeat by themselves keeps that in its first run; in the others this is the one layer that does.
    Replays begin no later than `within_seconds` after the request, and not after its deadline;
    `budget` bounds their number, and `contention` that of those after conflicts between callers.
    Safe for any number of tasks.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        mode: Literal["report", "enforce"],
        methods: tuple[str, ...],
        within_seconds: float,
        now: Callable[[], float],
        budget: RetryBudget | None = None,
        contention: RetryBudget | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._enforces = mode == "enforce"
        self._methods = frozenset(methods)
        self._within_seconds = within_seconds
        self._now = now
        self._budget = budget or RetryBudget()
        # Conflicts between callers say nothing of the health of a database, so they have their own:
        # one for each request that failed, and ten a second.
        self._contention = contention or RetryBudget(1.0, 10.0)
        self._draw = draw
        self._rule = RetryRule(attempts=RUNS)
        self._counter = registry.counter(REPLAYS)

    def around(self, call: Call, app: App) -> App:
        """Stand around the application where the call may be replayed."""
        method = call.scope.get("method")  # a websocket has none
        if method in self._methods or (method and b"idempotency-key" in call.headers):
            return partial(self._serve, call, app)
        return app

    async def _serve(
        self, call: Call, app: App, scope: Scope, receive: Receive, send: Send
    ) -> None:
        # Known only now: the guard of the keys stands around this one.
        if call.probe or not (call.keyed or scope["method"] in self._methods) or is_retrying():
            await app(scope, receive, send)
            return
        request = KeptRequest(receive)
        untouched = fresh_scope(scope)
        self._budget.deposit(call.started)
        number = 1
        while True:
            with _FIRST if number == 1 else retrying_scope(), attempt_scope() as attempt:
                answer = HeldAnswer(send, attempt)
                try:
                    await app(call.scope, request.receive, answer.send)
                except Exception:
                    if not await self._may_again(call, request, answer, attempt, number):
                        await answer.release()
                        raise
                else:
                    if not answer.holds:
                        return
                    if not await self._may_again(call, request, answer, attempt, number):
                        await answer.release()
                        return
            number += 1
            request.rewind()
            call.scope = fresh_scope(untouched)
            call.record.error = None

    async def _may_again(
        self, call: Call, request: KeptRequest, answer: HeldAnswer, attempt: Attempt, number: int
    ) -> bool:
        """Decide about a run that failed, wait if need be, and tell."""
        if not attempt.failures:
            return False
        now = self._now()
        run = _facts(call, request, answer, attempt, number)
        if number == 1:
            self._contention.deposit(now)
        budget = self._contention if _CONFLICTS.issuperset(run.outcomes) else self._budget
        verdict = after(
            run,
            rule=self._rule,
            left_seconds=self._left_seconds(call, now),
            budget=partial(budget.spend, now) if self._enforces else _spend_nothing,
            draw=self._draw,
        )
        if isinstance(verdict, float):
            if not self._enforces:
                verdict = Withheld.REPORTED
            elif not await request.stays(verdict):
                verdict = Withheld.TORN if request.torn else Withheld.GONE
        outcome, method = run.outcomes[-1], call.record.method
        if isinstance(verdict, Withheld):
            self._counter.cell(verdict).add()
            emit(ReplayWithheld, because=verdict, outcome=outcome, method=method, run=number)
            return False
        self._counter.cell("run again").add()
        emit(
            RequestReplayed,
            outcome=outcome,
            method=method,
            run=number + 1,
            error=type(attempt.failures[-1]).__qualname__,
        )
        return True

    def _left_seconds(self, call: Call, now: float) -> float:
        until = call.started + self._within_seconds
        deadline = current_deadline()
        return (until if deadline is None else min(until, deadline)) - now


def _facts(
    call: Call, request: KeptRequest, answer: HeldAnswer, attempt: Attempt, number: int
) -> RunFacts:
    judged = [judge(error) for error in attempt.failures]
    return RunFacts(
        number=number,
        outcomes=[_outcome(error) for error in attempt.failures],
        commits=attempt.commits,
        calls_out=call.record.calls_out,
        begun=answer.passes,
        torn=request.torn,
        gone=call.gone,
        retry_after_seconds=max(
            (one.retry_after_seconds or 0.0 for one in judged if one is not None), default=0.0
        ),
    )


def _outcome(error: BaseException) -> Outcome:
    # An open breaker, a pool without a free connection: the client knows best when to come again.
    if isinstance(error, Rejected):
        return Outcome.OVERLOAD
    # A connect that used its time up would use it up again, and somebody waits.
    if hasattr(error, CUT_ATTRIBUTE):
        return Outcome.DEADLINE
    return database_outcome(error) or Outcome.UNKNOWN


def _spend_nothing() -> bool:
    return True
