"""A call with policies around it: the one place in this room that waits.

From the outside in: fallback, deadline, bulkhead, retry with its budget, breaker, the call.
"""

import asyncio
import functools
import inspect
import random
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Token
from dataclasses import dataclass
from types import CoroutineType, TracebackType
from typing import Annotated, Any, ParamSpec, TypeVar, cast, final
from weakref import WeakValueDictionary

from shipworthy.clock import SYSTEM_CLOCK, Clock
from shipworthy.context import enter_deadline, leave_deadline, note_retry, peek_deadline
from shipworthy.errors import Misuse, Rejected, ShipworthyError
from shipworthy.events import Event, Label, Severity, emit, event
from shipworthy.resilience.breaker import Breaker, BreakerOpen
from shipworthy.resilience.budget import BudgetStatistics, RetryBudget
from shipworthy.resilience.bulkhead import Bulkhead, Queued
from shipworthy.resilience.circuit import Ended, Ticket
from shipworthy.resilience.expiry import Expiries, Expiry
from shipworthy.resilience.failure import Effect, Failure, Judge
from shipworthy.resilience.fallback import Answered, Fallback, key_of
from shipworthy.resilience.retry import (
    GiveUp,
    RetryRule,
    enter_retrying,
    is_retrying,
    leave_retrying,
)

P = ParamSpec("P")
T = TypeVar("T")


@event(severity=Severity.WARNING)
class RetryBudgetSpent(Event):
    """A retry was not made because the budget is spent; it is said once until one is made."""

    pipeline: Annotated[str, Label]


@event(severity=Severity.WARNING)
class FallbackUsed(Event):
    """Something else was answered in place of what a call should have given."""

    pipeline: Annotated[str, Label]
    source: Annotated[str, Label]
    because: str


@final
class DeadlinePassed(ShipworthyError, TimeoutError):
    """The time of a call was over; `begun` says whether it had been sent by then."""

    status = 504

    def __init__(self, name: str, *, seconds: float, begun: bool) -> None:
        self.name = name
        self.seconds = seconds
        self.begun = begun
        super().__init__(
            f"'{name}' did not end within its {seconds:.2f} s; whether it took effect is unknown"
            if begun
            else f"'{name}' was not begun: its deadline passed {-seconds:.2f} s before"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineStatistics:
    """What a pipeline did since the start; `budget` is None where nothing is retried."""

    name: str
    success_total: int
    failure_total: int
    neutral_total: int
    refused_total: int
    retry_total: int
    replica_total: int
    stale_total: int
    default_total: int
    budget: BudgetStatistics | None


@final
class _Run:
    """One call on its way: what the sync and the async shell have in common."""

    # Class attributes as defaults, not slots: most calls set three of these and no more.
    deadline: float | None = None
    _attempt = 0
    _deadline_token: Token[float | None] | None = None
    _last: BaseException | None = None
    _own_deadline = False
    _retries = False
    _retry_token: Token[bool] | None = None
    _ticket: Ticket | None = None
    _within = False

    def __init__(self, pipeline: "Pipeline", *, once: bool = False) -> None:
        self._pipeline = pipeline
        self.started = self._begun = now = pipeline.now()
        deadline = peek_deadline()
        timeout_seconds = pipeline.timeout_seconds
        if timeout_seconds is not None and (deadline is None or now + timeout_seconds < deadline):
            self.deadline = now + timeout_seconds
            self._own_deadline = True
            self._deadline_token = enter_deadline(self.deadline)
        elif deadline is not None:
            if deadline <= now:
                pipeline.refused += 1
                raise DeadlinePassed(pipeline.name, seconds=deadline - now, begun=False)
            self.deadline = deadline
        if pipeline.retry is not None and not once and not is_retrying():
            self._retries = True
            self._retry_token = enter_retrying(True)  # noqa: FBT003 - a contextvar's set

    def take_place(self) -> None:
        """Take a place in the bulkhead, or wait in its queue for one, in this thread."""
        bulkhead = cast("Bulkhead", self._pipeline.bulkhead)
        given = threading.Event()
        queued = self._queue_up(bulkhead, given.set)
        if queued is not None:
            try:
                given.wait(self._queue_seconds(bulkhead))
            except BaseException:  # Ctrl-C
                bulkhead.abandon(queued)
                raise
            self._waited(bulkhead, queued)

    async def take_place_async(self) -> None:
        """Do as `take_place` in this task."""
        bulkhead = cast("Bulkhead", self._pipeline.bulkhead)
        loop = asyncio.get_running_loop()
        given = asyncio.Event()
        # Whoever leaves may do so in another thread.
        queued = self._queue_up(bulkhead, lambda: _wake(loop, given))
        if queued is None:
            return
        try:
            async with asyncio.timeout(self._queue_seconds(bulkhead)):
                await given.wait()
        except TimeoutError:
            pass  # looked at below: a place may have been granted in the same moment
        except BaseException:
            bulkhead.abandon(queued)
            raise
        self._waited(bulkhead, queued)

    def _queue_up(self, bulkhead: Bulkhead, wake: Callable[[], None]) -> Queued | None:
        try:
            queued = bulkhead.enter(wake)
        except Rejected:
            self._pipeline.refused += 1
            raise
        self._within = queued is None
        return queued

    def _queue_seconds(self, bulkhead: Bulkhead) -> float:
        if self.deadline is None:
            return bulkhead.queue_seconds
        return max(0.0, min(bulkhead.queue_seconds, self.deadline - self._pipeline.now()))

    def _waited(self, bulkhead: Bulkhead, queued: Queued) -> None:
        """Go on after the wait for a place, or refuse."""
        self._begun = self._pipeline.now()
        if queued.granted:
            self._within = True
            return
        bulkhead.abandon(queued)
        self._pipeline.refused += 1
        raise bulkhead.overdue(self._begun - self.started)

    def watch(self, deadline: float) -> Expiry:
        """Have this task cancelled at `deadline`, unless the expiry that is returned is left."""
        pipeline, loop = self._pipeline, asyncio.get_running_loop()
        expiries = pipeline.expiries
        if expiries is None or expiries.loop is not loop:
            # Two loops in two threads take turns here; what each has begun, its own timers end.
            expiries = pipeline.expiries = Expiries(loop, pipeline.now)
        task = asyncio.current_task(loop)
        assert task is not None  # whoever awaits is a task
        return expiries.enter(task, deadline, pipeline.now())

    def attempt(self) -> None:
        """Begin the first attempt, if the breaker lets it."""
        pipeline = self._pipeline
        breaker = pipeline.breaker
        if breaker is not None:
            # Asked here, which spares a call, as `count_success` does at the end.
            circuit = breaker.circuit
            if circuit.steady:
                self._ticket = circuit.admit_steady()
            else:
                self._admit(breaker)
        if pipeline.budget is not None:
            pipeline.budget.deposit(self._begun)
        self._attempt = 1

    def attempt_again(self) -> None:
        """Begin a further attempt, if the breaker lets it."""
        pipeline = self._pipeline
        self._begun = pipeline.now()
        if pipeline.breaker is not None:
            self._admit(pipeline.breaker)
        pipeline.retries += 1
        note_retry()
        self._attempt += 1

    def _admit(self, breaker: Breaker) -> None:
        try:
            self._ticket = breaker.admit()
        except BreakerOpen:
            self._pipeline.refused += 1
            if self._last is None:
                raise
        else:
            return
        # What has been attempted is not a call that was never made. Raised out here, because there
        # it would lose its own cause and context.
        raise self._last

    def succeeded(self) -> None:
        """Note that the attempt went well, and give back whatever is held."""
        pipeline = self._pipeline
        pipeline.successes += 1
        ticket, breaker = self._ticket, pipeline.breaker
        if ticket is not None and breaker is not None:
            self._ticket = None
            now = pipeline.now()
            elapsed_seconds = now - self._begun
            if not breaker.count_success(ticket, elapsed_seconds, now):
                breaker.record_at(ticket, Ended.SUCCESS, elapsed_seconds, now)
        if self._retry_token is not None:
            leave_retrying(self._retry_token)
        if self._deadline_token is not None:
            leave_deadline(self._deadline_token)
        if self._within:
            cast("Bulkhead", pipeline.bulkhead).leave()

    def cut(self) -> DeadlinePassed:
        """Note that the attempt was cut at the deadline, and return what to raise."""
        # A caller who came with little time left says nothing about the target.
        self._record(Ended.FAILURE if self._own_deadline else Ended.NEUTRAL)
        deadline = cast("float", self.deadline)
        return DeadlinePassed(self._pipeline.name, seconds=deadline - self.started, begun=True)

    def failed(self, error: BaseException) -> float | None:
        """Note that the attempt failed; returns the wait before the next one, None without one."""
        pipeline = self._pipeline
        if not isinstance(error, Exception):
            self._record(Ended.NEUTRAL)
            return None
        failure = pipeline.judge(error)
        if failure is None:
            self._record(Ended.NEUTRAL)
            return None
        if not failure.counts:
            self._record(Ended.NEUTRAL)
        else:
            self._record(Ended.REFUSED if failure.refused else Ended.FAILURE)
        return self._after(failure, error)

    def _after(self, failure: Failure, error: Exception) -> float | None:
        pipeline = self._pipeline
        rule = pipeline.retry
        # Nobody here can find out whether a call took effect, so the question is not paid for.
        if (
            rule is None
            or not self._retries
            or (failure.effect is Effect.UNKNOWN and not pipeline.idempotent)
        ):
            return None
        now = pipeline.now()
        decision = rule.after(
            failure,
            attempt=self._attempt,
            left_seconds=float("inf") if self.deadline is None else self.deadline - now,
            budget=functools.partial(pipeline.spend, now),
            draw=pipeline.draw,
        )
        if isinstance(decision, GiveUp):
            return None
        self._last = error
        return decision.wait_seconds

    def leave_context(self) -> None:
        """Give the deadline back before all else, for a block that may be left in another context.

        The one it was entered in is over then, and the deadline with it.
        """
        token, self._deadline_token = self._deadline_token, None
        if token is not None:
            with suppress(ValueError):
                leave_deadline(token)

    def over(self) -> None:
        """Give back whatever is held by a call that ended in any other way."""
        # An error holds the frames it went through, and one of them holds this object.
        self._last = None
        if self._ticket is not None:
            self._record(Ended.NEUTRAL)
        if self._retry_token is not None:
            leave_retrying(self._retry_token)
        if self._deadline_token is not None:
            leave_deadline(self._deadline_token)
        if self._within:
            cast("Bulkhead", self._pipeline.bulkhead).leave()

    def _record(self, ended: Ended) -> None:
        pipeline = self._pipeline
        if ended is Ended.NEUTRAL:
            pipeline.neutrals += 1
        else:
            pipeline.failures += 1
        ticket, breaker = self._ticket, pipeline.breaker
        if ticket is not None and breaker is not None:
            self._ticket = None
            now = pipeline.now()
            breaker.record_at(ticket, ended, now - self._begun, now)


class Pipeline:
    """Policies around calls to one target, as a decorator, a call or a block.

    `judge` tells what an exception means. `timeout_seconds` is for the whole call with all its
    attempts, and the smaller of it and the deadline around the call holds. It travels in the
    context; an async call is also cut there, a sync one ends when what it calls heeds it (a
    database that is protected, an outbound call). What may have taken effect is repeated only if
    `idempotent`. One layer retries: inside another pipeline that does, this one makes one attempt.

    A `block` cannot run twice, so there nothing is retried. With a `fallback`, use `answer` and
    `answer_async`: their result says where it came from. Safe to share between threads, tasks and
    event loops. The newest of a name is in `pipelines()`.
    """

    def __init__(
        self,
        name: str,
        *,
        judge: Judge,
        breaker: Breaker | None = None,
        retry: RetryRule | None = None,
        budget: RetryBudget | None = None,
        bulkhead: Bulkhead | None = None,
        timeout_seconds: float | None = None,
        fallback: Fallback | None = None,
        idempotent: bool = False,
        clock: Clock = SYSTEM_CLOCK,
        draw: Callable[[], float] = random.random,
        pause: Callable[[float], object] = time.sleep,
        pause_async: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        if timeout_seconds is not None and not 0 < timeout_seconds < float("inf"):
            raise ValueError(
                f"pipeline '{name}': timeout_seconds is a finite time above 0 s, got "
                f"{timeout_seconds} s"
            )
        if breaker is not None and breaker.clock is not clock:
            raise ValueError(f"pipeline '{name}': breaker '{breaker.name}' has another clock")
        self.name = name
        self.judge = judge
        self.breaker = breaker
        self.retry = retry
        # There is no retry without a budget: that is how one failure becomes a large load.
        self.budget = RetryBudget() if retry is not None and budget is None else budget
        self.bulkhead = bulkhead
        self.timeout_seconds = timeout_seconds
        self.fallback = fallback
        self.idempotent = idempotent
        self.now = clock.now
        self.draw = draw
        self._pause = pause
        self._pause_async = pause_async
        self.expiries: Expiries | None = None
        self._said_spent = False
        self.successes = self.failures = self.neutrals = self.refused = self.retries = 0
        self._stand_ins = {"replica": 0, "stale": 0, "default": 0}
        _pipelines[name] = self

    def __call__(self, fn: Callable[P, T]) -> Callable[P, T]:
        """Decorate a function or a coroutine function.

        Raises `Misuse` for a generator, whose call does nothing yet, and with a fallback, which
        would change what the function returns.
        """
        self._refuse_fallback()
        if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            raise Misuse(
                f"pipeline '{self.name}' cannot go around the generator {fn.__qualname__}, whose "
                f"call does nothing yet; use `with pipeline.block():` inside of it"
            )
        if inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(type(fn).__call__):

            @functools.wraps(fn)
            async def around_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                return await self._call_async(cast("Callable[P, Any]", fn), args, kwargs)

            return cast("Callable[P, T]", around_async)

        @functools.wraps(fn)
        def around(*args: P.args, **kwargs: P.kwargs) -> T:
            return self._call(fn, args, kwargs)

        return around

    def call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `fn`; raises what it raises, `BreakerOpen`, `BulkheadFull` or `DeadlinePassed`.

        Raises `Misuse` for a coroutine function, whose call does nothing yet.
        """
        if self.fallback is not None:
            self._refuse_fallback()
        result = self._call(fn, args, kwargs)
        if isinstance(result, CoroutineType):
            raise self._unawaited(result, "call_async")
        return result

    async def call_async(
        self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Do as `call` for a coroutine function, and cut it at the deadline."""
        if self.fallback is not None:
            self._refuse_fallback()
        return await self._call_async(fn, args, kwargs)

    def block(self) -> "PipelineBlock":
        """Return what makes one `with` or `async with` block the call; its error is judged.

        Raises `Misuse` with a fallback: a block has no result that could say where it came from.
        """
        self._refuse_fallback()
        return PipelineBlock(self)

    def answer(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Answered[T]:
        """Call `fn`, or return what the fallback has in its place; raises when it has nothing."""
        fallback = self.fallback
        key = None if fallback is None else key_of(fn, args, kwargs)
        began = self.now()
        try:
            value = self._call(fn, args, kwargs)
        except Exception as error:
            if fallback is None or not self._may_stand_in(error):
                raise
            if fallback.replica is not None and self._left(began) > 0:
                try:
                    found = fallback.replica(*args, **kwargs)
                except Exception as second:
                    if not self._may_stand_in(second):
                        raise
                else:
                    return self._instead(
                        Answered(value=found, source="replica", because=str(error))
                    )
            answered = fallback.stand_in(key, str(error), self.now())
            if answered is None:
                raise
            return self._instead(answered)
        if isinstance(value, CoroutineType):
            raise self._unawaited(value, "answer_async")
        if fallback is not None:
            fallback.remember(key, value, self.now())
        return Answered(value=value)

    async def answer_async(
        self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Answered[T]:
        """Do as `answer` for a coroutine function; the replica is one too, in the time left."""
        fallback = self.fallback
        key = None if fallback is None else key_of(fn, args, kwargs)
        began = self.now()
        try:
            value = await self._call_async(fn, args, kwargs)
        except Exception as error:
            if fallback is None or not self._may_stand_in(error):
                raise
            left_seconds = self._left(began)
            if fallback.replica is not None and left_seconds > 0:
                limit = None if left_seconds == float("inf") else left_seconds
                try:
                    async with asyncio.timeout(limit):
                        found = await fallback.replica(*args, **kwargs)
                except Exception as second:
                    if not self._may_stand_in(second):
                        raise
                else:
                    return self._instead(
                        Answered(value=found, source="replica", because=str(error))
                    )
            answered = fallback.stand_in(key, str(error), self.now())
            if answered is None:
                raise
            return self._instead(answered)
        if fallback is not None:
            fallback.remember(key, value, self.now())
        return Answered(value=value)

    def spend(self, now: float) -> bool:
        """Take one retry from the budget, and say it once when there is none."""
        if self.budget is not None and self.budget.spend(now):
            self._said_spent = False
            return True
        if not self._said_spent:
            self._said_spent = True
            emit(RetryBudgetSpent, pipeline=self.name)
        return False

    def statistics(self) -> PipelineStatistics:
        """Return what it did."""
        return PipelineStatistics(
            name=self.name,
            success_total=self.successes,
            failure_total=self.failures,
            neutral_total=self.neutrals,
            refused_total=self.refused,
            retry_total=self.retries,
            replica_total=self._stand_ins["replica"],
            stale_total=self._stand_ins["stale"],
            default_total=self._stand_ins["default"],
            budget=None if self.budget is None else self.budget.statistics(self.now()),
        )

    def _call(self, fn: Callable[..., T], args: Any, kwargs: Any) -> T:
        run = _Run(self)
        try:
            if self.bulkhead is not None:
                run.take_place()
            run.attempt()
            while True:
                try:
                    result = fn(*args, **kwargs)
                except BaseException as error:
                    wait_seconds = run.failed(error)
                    if wait_seconds is None:
                        raise
                else:
                    run.succeeded()
                    return result
                self._pause(wait_seconds)
                run.attempt_again()
        except BaseException:
            run.over()
            raise

    async def _call_async(self, fn: Callable[..., Awaitable[T]], args: Any, kwargs: Any) -> T:
        run = _Run(self)
        expiry = None
        try:
            if self.bulkhead is not None:
                await run.take_place_async()
            run.attempt()
            while True:
                if run.deadline is not None:
                    expiry = run.watch(run.deadline)
                try:
                    result = await fn(*args, **kwargs)
                except BaseException as error:
                    if expiry is not None and expiry.too_late(error):
                        raise run.cut() from error
                    wait_seconds = run.failed(error)
                    if wait_seconds is None:
                        raise
                else:
                    if expiry is not None and expiry.leave():
                        expiry.task.uncancel()
                    run.succeeded()
                    return result
                await self._pause_async(wait_seconds)
                run.attempt_again()
        except BaseException:
            run.over()
            raise

    def _left(self, began: float) -> float:
        now = self.now()
        ends = [began + self.timeout_seconds] if self.timeout_seconds is not None else []
        outer = peek_deadline()
        if outer is not None:
            ends.append(outer)
        return min(ends) - now if ends else float("inf")

    def _may_stand_in(self, error: Exception) -> bool:
        # What the target answered well, if unwelcome, has no stand-in: a 404 stays one.
        return isinstance(error, (Rejected, DeadlinePassed)) or self.judge(error) is not None

    def _instead(self, answered: Answered[Any]) -> Answered[Any]:
        self._stand_ins[answered.source] += 1
        emit(FallbackUsed, pipeline=self.name, source=answered.source, because=answered.because)
        return answered

    def _unawaited(self, result: "CoroutineType[Any, Any, Any]", instead: str) -> Misuse:
        result.close()
        return Misuse(
            f"pipeline '{self.name}' was to call the coroutine function {result.__qualname__}, "
            f"whose call does nothing yet; use `await pipeline.{instead}(...)`"
        )

    def _refuse_fallback(self) -> None:
        if self.fallback is not None:
            raise Misuse(
                f"pipeline '{self.name}' has a fallback, so its result must say where it came "
                f"from: use answer() or answer_async()"
            )


@final
class PipelineBlock:
    """One entry into a pipeline as a block, made by `Pipeline.block`.

    It may be left in another context than it was entered in, as a generator of FastAPI's is whose
    two halves run in worker threads; then nobody between sees its deadline in the context.
    """

    __slots__ = ("_expiry", "_pipeline", "_run")

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._run: _Run | None = None
        self._expiry: Expiry | None = None

    def __enter__(self) -> None:
        run = self._enter()
        try:
            if self._pipeline.bulkhead is not None:
                run.take_place()
            run.attempt()
        except BaseException:
            run.over()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave(error)

    async def __aenter__(self) -> None:
        pipeline, run = self._pipeline, self._enter()
        try:
            if pipeline.bulkhead is not None:
                await run.take_place_async()
            run.attempt()
            if run.deadline is not None:
                self._expiry = run.watch(run.deadline)
        except BaseException:
            run.over()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave(error)

    def _enter(self) -> _Run:
        if self._run is not None:
            raise Misuse(
                f"a block of pipeline '{self._pipeline.name}' is entered a second time; each needs "
                f"its own: `with pipeline.block():`"
            )
        self._run = run = _Run(self._pipeline, once=True)
        return run

    def _leave(self, error: BaseException | None) -> None:
        run, expiry = cast("_Run", self._run), self._expiry
        run.leave_context()
        if error is None:
            if expiry is not None and expiry.leave():
                expiry.task.uncancel()
            run.succeeded()
            return
        try:
            if expiry is not None and expiry.too_late(error):
                raise run.cut() from error
            run.failed(error)
        finally:
            run.over()


def _wake(loop: asyncio.AbstractEventLoop, given: asyncio.Event) -> None:
    # A loop that has closed took its waiters with it.
    if not loop.is_closed():
        loop.call_soon_threadsafe(given.set)


_pipelines: WeakValueDictionary[str, Pipeline] = WeakValueDictionary()


def pipelines() -> dict[str, Pipeline]:
    """Return the pipelines of this process by name, the newest of each name."""
    # The list of references is taken in one step, so a pipeline may be made meanwhile.
    found = [pipeline for ref in _pipelines.valuerefs() if (pipeline := ref()) is not None]
    return {pipeline.name: pipeline for pipeline in sorted(found, key=lambda one: one.name)}
