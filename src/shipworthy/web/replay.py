"""Run a request again whose database failed under it, for applications that nobody changes.

Not here: which failures allow it (`again`), and what is kept meanwhile (`exchange`).
"""

import random
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Annotated, Final, Literal, NamedTuple, final

from shipworthy.context import current_deadline
from shipworthy.db import (
    CUT_ATTRIBUTE,
    Attempt,
    Outcome,
    attempt_scope,
    database_outcome,
    guards_all,
    judge,
    strays,
)
from shipworthy.errors import Rejected
from shipworthy.events import Event, Label, Metric, OneOf, Severity, emit, event
from shipworthy.outbound import sees_calls
from shipworthy.resilience import RetryBudget, RetryRule, is_retrying, retrying_scope
from shipworthy.telemetry import Registry
from shipworthy.web.again import RUNS, RunFacts, Withheld, after
from shipworthy.web.answers import SAFE
from shipworthy.web.exchange import HeldAnswer, KeptRequest, fresh_scope
from shipworthy.web.line import App, Call, Receive, Scope, Send

# In its first run a request has the retries of the layers within.
_FIRST: Final = nullcontext()
_CONFLICTS: Final = frozenset({Outcome.RERUN, Outcome.STALE_PLAN})

RUN_AGAIN: Final = "run again"
REPLAYS: Final = Metric(
    "shipworthy_web_replays_total",
    "counter",
    "Requests that failed with their database: run again, or why not.",
    {"result": OneOf(RUN_AGAIN, *Withheld)},
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

    For `methods`, and for any call that holds an Idempotency-Key, where every engine of the process
    is guarded (`db.install`) and, for a method that is not safe, calls out are seen
    (`outbound.install`): otherwise nobody knows what a run has left. Only the answer of a run that
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
        for result in REPLAYS.zeros():
            self._counter.cell(*result)

    def around(self, call: Call, app: App) -> App:
        """Stand around the application where the call may be replayed."""
        method = call.scope.get("method")  # a websocket has none
        wanted = method in self._methods or (method and b"idempotency-key" in call.headers)
        if wanted and guards_all() and (method in SAFE or sees_calls()):
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
                run = _Run(number, attempt, HeldAnswer(send, attempt), strays())
                try:
                    try:
                        await app(call.scope, request.receive, run.answer.send)
                    finally:
                        if run.answer.lingers:
                            await run.answer.settle()
                except Exception:
                    if not await self._may_again(call, request, run):
                        await run.answer.release()
                        raise
                else:
                    if not run.answer.holds:
                        return
                    if not await self._may_again(call, request, run):
                        await run.answer.release()
                        return
                finally:
                    # They hold frames that hold this attempt: without this, a cycle for each.
                    if attempt.failures:
                        attempt.failures.clear()
            number += 1
            request.rewind()
            call.scope = fresh_scope(untouched)
            call.record.error = None

    async def _may_again(self, call: Call, request: KeptRequest, run: "_Run") -> bool:
        """Decide about a run that failed, wait if need be, and tell."""
        if not run.attempt.failures:
            return False
        now = self._now()
        facts = _facts(call, request, run)
        if run.number == 1:
            self._contention.deposit(now)
        budget = self._contention if _CONFLICTS.issuperset(facts.outcomes) else self._budget
        verdict = after(
            facts,
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
        outcome, method = facts.outcomes[-1], call.record.method
        if isinstance(verdict, Withheld):
            self._counter.cell(verdict).add()
            emit(ReplayWithheld, because=verdict, outcome=outcome, method=method, run=run.number)
            return False
        self._counter.cell(RUN_AGAIN).add()
        call.record.working().retries += 1
        emit(
            RequestReplayed,
            outcome=outcome,
            method=method,
            run=run.number + 1,
            error=type(run.attempt.failures[-1]).__qualname__,
        )
        return True

    def _left_seconds(self, call: Call, now: float) -> float:
        until = call.started + self._within_seconds
        deadline = current_deadline()
        return (until if deadline is None else min(until, deadline)) - now


class _Run(NamedTuple):
    """One call of the application; `strays` were there before it."""

    number: int
    attempt: Attempt
    answer: HeldAnswer
    strays: int


def _facts(call: Call, request: KeptRequest, run: _Run) -> RunFacts:
    failures = run.attempt.failures
    judged = [judge(error) for error in failures]
    return RunFacts(
        number=run.number,
        outcomes=[_outcome(error) for error in failures],
        commits=run.attempt.commits,
        strays=strays() - run.strays,
        calls_out=call.record.calls_out,
        begun=run.answer.passes,
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
