"""A call with policies around it, sync and async."""

import asyncio
import contextlib
import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any

import pytest

from shipworthy.clock import ManualClock
from shipworthy.context import RequestRecord, current_deadline, deadline_scope, request_scope
from shipworthy.errors import Misuse
from shipworthy.events import Event
from shipworthy.resilience import (
    Answered,
    Backoff,
    Breaker,
    BreakerOpen,
    BreakerState,
    Bulkhead,
    BulkheadFull,
    DeadlinePassed,
    Effect,
    Failure,
    Fallback,
    FallbackUsed,
    Pipeline,
    RetryBudget,
    RetryBudgetSpent,
    RetryRule,
    is_retrying,
    judge_io,
    pipelines,
    retrying_scope,
)


class Busy(Exception):
    """The target was busy: passing, and without effect."""


class Clash(Exception):
    """Two callers were in each other's way: passing, and the target is well."""


def judge(error: BaseException) -> Failure | None:
    match error:
        case Busy():
            return Failure(transient=True, effect=Effect.NONE, because="it was busy")
        case Clash():
            return Failure(transient=True, effect=Effect.NONE, because="a clash", counts=False)
        case _:
            return judge_io(error)


class Target:
    """Fails as it is told, once for each error, and then answers; counts the calls."""

    def __init__(self, *errors: BaseException, clock: ManualClock | None = None) -> None:
        self.errors: Iterator[BaseException] = iter(errors)
        self.calls = 0

    def __call__(self, value: object = "answer") -> Any:
        self.calls += 1
        error = next(self.errors, None)
        if error is not None:
            raise error
        return value

    async def later(self, value: object = "answer") -> Any:
        await asyncio.sleep(0)
        return self(value)


class Waits:
    """The waits between attempts: they move the clock, and are remembered."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self.clock.advance(seconds)

    async def later(self, seconds: float) -> None:
        self(seconds)


def plenty() -> RetryBudget:
    """A budget that is not what the test is about."""
    return RetryBudget(reserve_per_second=100.0)


Way = Callable[[Pipeline, Target], Any]


def by_call(pipeline: Pipeline, target: Target) -> Any:
    return pipeline.call(target)


def by_decorator(pipeline: Pipeline, target: Target) -> Any:
    @pipeline
    def work() -> Any:
        return target()

    return work()


def by_call_async(pipeline: Pipeline, target: Target) -> Any:
    return asyncio.run(pipeline.call_async(target.later))


def by_decorator_async(pipeline: Pipeline, target: Target) -> Any:
    @pipeline
    async def work() -> Any:
        return await target.later()

    return asyncio.run(work())


def by_answer(pipeline: Pipeline, target: Target) -> Any:
    return pipeline.answer(target).value


def by_answer_async(pipeline: Pipeline, target: Target) -> Any:
    async def ask() -> Any:
        return (await pipeline.answer_async(target.later)).value

    return asyncio.run(ask())


def by_block(pipeline: Pipeline, target: Target) -> Any:
    with pipeline.block():
        return target()


def by_block_async(pipeline: Pipeline, target: Target) -> Any:
    async def work() -> Any:
        async with pipeline.block():
            return await target.later()

    return asyncio.run(work())


CALLS = [by_call, by_decorator, by_call_async, by_decorator_async, by_answer, by_answer_async]
BLOCKS = [by_block, by_block_async]
calls = pytest.mark.parametrize("way", CALLS)
ways = pytest.mark.parametrize("way", CALLS + BLOCKS)


@pytest.fixture
def waits(clock: ManualClock) -> Waits:
    return Waits(clock)


@pytest.fixture
def make(clock: ManualClock, waits: Waits) -> Callable[..., Pipeline]:
    def pipeline(name: str = "pay", **options: Any) -> Pipeline:
        options.setdefault("judge", judge)
        options.setdefault("draw", lambda: 0.5)
        return Pipeline(name, clock=clock, pause=waits, pause_async=waits.later, **options)

    return pipeline


@ways
def test_what_goes_well_is_passed_through(
    way: Way, make: Callable[..., Pipeline], clock: ManualClock
) -> None:
    """One call, its own answer, and everything that was held is given back."""
    target = Target()
    pipeline = make(
        breaker=Breaker("pay", clock=clock),
        retry=RetryRule(),
        bulkhead=Bulkhead("pay", 1),
        timeout_seconds=5.0,
    )

    answers = [way(pipeline, target), way(pipeline, target)]

    assert answers == ["answer", "answer"]
    assert target.calls == 2
    assert pipeline.statistics().success_total == 2
    assert pipeline.breaker is not None
    assert pipeline.breaker.statistics().in_flight == 0
    assert (current_deadline(), is_retrying()) == (None, False)


@calls
def test_a_passing_failure_is_tried_again(
    way: Way, make: Callable[..., Pipeline], waits: Waits
) -> None:
    """Twice, after half the ceiling each, and the third answer is the answer."""
    target = Target(Busy(), Busy())
    pipeline = make(retry=RetryRule(), budget=plenty())

    with request_scope(RequestRecord("r", "c", "t", "s")) as record:
        answer = way(pipeline, target)

    assert (answer, target.calls, waits.seconds) == ("answer", 3, [0.025, 0.05])
    assert pipeline.statistics().retry_total == 2
    assert record.work is not None
    assert record.work.retries == 2


@calls
def test_when_all_attempts_fail_the_last_error_is_raised(
    way: Way, make: Callable[..., Pipeline]
) -> None:
    """The error of the target itself, so that callers catch what they always caught."""
    last = Busy("third")
    target = Target(Busy("first"), Busy("second"), last)

    with pytest.raises(Busy) as raised:
        way(make(retry=RetryRule(), budget=plenty()), target)

    assert raised.value is last
    assert target.calls == 3


@calls
def test_what_may_have_taken_effect_is_not_repeated(
    way: Way, make: Callable[..., Pipeline]
) -> None:
    """A lost answer is raised, and costs no budget; only `idempotent` calls repeat it."""
    careful, repeatable = make(retry=RetryRule()), make(retry=RetryRule(), idempotent=True)
    lost, lost_again = Target(ConnectionResetError()), Target(ConnectionResetError())

    with pytest.raises(ConnectionResetError):
        way(careful, lost)
    answer = way(repeatable, lost_again)

    assert (lost.calls, lost_again.calls, answer) == (1, 2, "answer")
    assert careful.statistics().budget is not None
    assert careful.statistics().budget.spent_total == 0


@ways
def test_an_error_of_the_caller_is_neutral(
    way: Way, make: Callable[..., Pipeline], clock: ManualClock
) -> None:
    """It is raised at once, and a thousand of them open no breaker."""
    pipeline = make(retry=RetryRule(), breaker=Breaker("pay", clock=clock))
    target = Target(*[ValueError() for _ in range(30)])

    for _ in range(30):
        with pytest.raises(ValueError):
            way(pipeline, target)

    assert target.calls == 30
    assert pipeline.breaker is not None
    assert pipeline.breaker.statistics().neutral_total == 30
    assert pipeline.breaker.state is BreakerState.CLOSED


@calls
def test_a_clash_is_tried_again_and_speaks_against_nobody(
    way: Way, make: Callable[..., Pipeline], clock: ManualClock
) -> None:
    """Contention is not illness: the retry happens, the breaker does not count."""
    pipeline = make(retry=RetryRule(), breaker=Breaker("pay", clock=clock))
    target = Target(Clash())

    assert way(pipeline, target) == "answer"
    assert pipeline.breaker is not None
    seen = pipeline.breaker.statistics()
    assert (seen.success_total, seen.failure_total, seen.neutral_total) == (1, 0, 1)


@ways
def test_refused_connects_open_the_breaker_and_calls_are_refused(
    way: Way, make: Callable[..., Pipeline], clock: ManualClock
) -> None:
    """After five the target is left alone."""
    pipeline = make(breaker=Breaker("pay", clock=clock))
    target = Target(*[ConnectionRefusedError() for _ in range(9)])
    for _ in range(5):
        with pytest.raises(ConnectionRefusedError):
            way(pipeline, target)

    with pytest.raises(BreakerOpen):
        way(pipeline, target)

    assert target.calls == 5
    assert pipeline.statistics().refused_total == 1


@calls
def test_a_breaker_that_opens_between_attempts_leaves_the_error_there_was(
    way: Way, make: Callable[..., Pipeline], clock: ManualClock
) -> None:
    """A call that was attempted must not look like one that was never made."""
    pipeline = make(
        breaker=Breaker("pay", clock=clock), retry=RetryRule(attempts=9), budget=plenty()
    )
    errors = [ConnectionRefusedError(str(number)) for number in range(9)]
    errors[4].__cause__ = why = OSError("why")
    target = Target(*errors)

    with pytest.raises(ConnectionRefusedError, match="4") as raised:
        way(pipeline, target)

    assert target.calls == 5
    assert raised.value.__cause__ is why


def amplification(make: Callable[..., Pipeline], clock: ManualClock, layers: int) -> float:
    """Calls of the target for each call of ours, when every one fails, at 200 a second."""
    target = Target(*[Busy() for _ in range(40_000)])
    work: Callable[[], Any] = target
    kept = []
    for layer in range(layers):
        pipeline = make(f"layer {layer}", retry=RetryRule(backoff=Backoff(0.001, 1.0, 0.001)))
        kept.append(pipeline)
        work = pipeline(work)
    began = clock.now()
    total = 6_000
    for number in range(total):
        clock.advance(max(0.0, began + number / 200 - clock.now()))
        with pytest.raises(Busy):
            work()
    return target.calls / total


@pytest.mark.slow
@pytest.mark.parametrize("layers", [1, 3])
def test_retries_add_a_fifth_to_the_load_and_no_more(
    layers: int, make: Callable[..., Pipeline], clock: ManualClock
) -> None:
    """With everything failing: at most 1.21, and three nested layers still 1.21, not 27."""
    assert 1.19 < amplification(make, clock, layers) <= 1.21


@calls
def test_inside_a_retrying_layer_one_attempt_is_made(
    way: Way, make: Callable[..., Pipeline]
) -> None:
    """Whoever the outer layer is, a transaction say."""
    target = Target(Busy())

    with retrying_scope(), pytest.raises(Busy):
        way(make(retry=RetryRule()), target)

    assert target.calls == 1


@ways
def test_a_block_makes_one_attempt(way: Way, make: Callable[..., Pipeline]) -> None:
    """A block cannot run twice; a call can."""
    target = Target(Busy())
    pipeline = make(retry=RetryRule())

    if way in BLOCKS:
        with pytest.raises(Busy):
            way(pipeline, target)
    else:
        way(pipeline, target)

    assert target.calls == (1 if way in BLOCKS else 2)


def test_blocks_nest(make: Callable[..., Pipeline]) -> None:
    """The same pipeline may be entered within itself, and each gives back its own."""
    bulkhead = Bulkhead("pay", 2)
    pipeline = make(bulkhead=bulkhead, timeout_seconds=5.0)

    with pipeline.block():
        outer = current_deadline()
        with pipeline.block():
            inside = bulkhead.statistics().in_use
        assert current_deadline() == outer

    assert (inside, bulkhead.statistics().in_use, current_deadline()) == (2, 0, None)


def test_a_block_may_be_left_in_another_context(make: Callable[..., Pipeline]) -> None:
    """A generator that is a dependency in FastAPI has its two halves in two worker threads."""
    bulkhead = Bulkhead("pay", 1)
    pipeline = make(bulkhead=bulkhead, timeout_seconds=5.0)

    def dependency() -> Iterator[None]:
        with pipeline.block():
            yield

    generator = dependency()
    copy_context().run(next, generator)
    inside = bulkhead.statistics().in_use
    copy_context().run(next, generator, None)

    assert (inside, bulkhead.statistics().in_use) == (1, 0)
    assert pipeline.statistics().success_total == 1


def test_blocks_may_end_in_any_order(make: Callable[..., Pipeline]) -> None:
    """Generators take turns in one context; the first that was entered is not the last to end."""
    one, two = make("one", bulkhead=Bulkhead("one", 1)), make("two", bulkhead=Bulkhead("two", 1))

    def held(pipeline: Pipeline) -> Iterator[None]:
        with pipeline.block():
            yield

    first, second = held(one), held(two)
    next(first), next(second)
    with pytest.raises(Busy):
        first.throw(Busy())

    assert one.bulkhead is not None
    assert two.bulkhead is not None
    assert (one.bulkhead.statistics().in_use, two.bulkhead.statistics().in_use) == (0, 1)
    assert (one.statistics().failure_total, two.statistics().failure_total) == (1, 0)


def test_a_block_is_entered_once(make: Callable[..., Pipeline]) -> None:
    """What is shared is the pipeline."""
    block = make().block()
    with block:
        pass

    with pytest.raises(Misuse, match=r"entered a second time; .*`with pipeline.block\(\):`"), block:
        pass


@ways
def test_a_refused_call_gives_back_what_it_held(
    way: Way, make: Callable[..., Pipeline], clock: ManualClock
) -> None:
    """A place in the bulkhead is not lost to a breaker that is open."""
    bulkhead = Bulkhead("pay", 1)
    pipeline = make(bulkhead=bulkhead, breaker=Breaker("pay", clock=clock), timeout_seconds=5.0)
    assert pipeline.breaker is not None
    pipeline.breaker.isolate("test")

    for _ in range(3):
        with pytest.raises(BreakerOpen):
            way(pipeline, Target())

    assert bulkhead.statistics().in_use == 0
    assert current_deadline() is None


@calls
def test_the_spent_budget_is_stated_once(
    way: Way, make: Callable[..., Pipeline], facts: list[Event]
) -> None:
    """The original error is raised; the fact is stated again only after a retry was possible."""
    pipeline = make(retry=RetryRule(), budget=RetryBudget(ratio=0.0, reserve_per_second=0.0))

    for _ in range(3):
        with pytest.raises(Busy):
            way(pipeline, Target(Busy()))

    assert [type(fact) for fact in facts] == [RetryBudgetSpent]
    seen = pipeline.statistics().budget
    assert seen is not None
    assert seen.refused_total == 3


@ways
def test_the_smaller_deadline_holds(
    way: Way, make: Callable[..., Pipeline], clock: ManualClock
) -> None:
    """The pipeline's own, or the one around it; what is called sees it in the context."""
    seen: list[float | None] = []

    class Looking(Target):
        def __call__(self, value: object = "answer") -> Any:
            seen.append(current_deadline())
            return value

    now = clock.now()
    pipeline = make(timeout_seconds=2.0)
    way(pipeline, Looking())
    with deadline_scope(now + 1.0):
        way(pipeline, Looking())
    with deadline_scope(now + 60.0):
        way(pipeline, Looking())

    assert seen == [now + 2.0, now + 1.0, now + 2.0]


@ways
def test_after_the_deadline_nothing_is_begun(
    way: Way, make: Callable[..., Pipeline], clock: ManualClock
) -> None:
    """Nothing is sent, and the error says so."""
    target = Target()

    with deadline_scope(clock.now() - 0.5), pytest.raises(DeadlinePassed) as passed:
        way(make(timeout_seconds=2.0), target)

    assert target.calls == 0
    assert isinstance(passed.value, TimeoutError)
    assert not passed.value.begun
    assert str(passed.value) == "'pay' was not begun: its deadline passed 0.50 s before"


@calls
def test_no_attempt_begins_after_the_deadline(
    way: Way, make: Callable[..., Pipeline], waits: Waits
) -> None:
    """A wait that would end after it is not begun either."""
    target = Target(Busy(), Busy())

    with pytest.raises(Busy):
        way(make(retry=RetryRule(), budget=plenty(), timeout_seconds=0.06), target)

    assert target.calls == 2
    assert waits.seconds == [0.025]


def test_generators_are_refused(make: Callable[..., Pipeline]) -> None:
    """Calling one does nothing yet, so a pipeline around it would protect nothing."""

    def one() -> Iterator[int]:
        yield 1

    async def two():
        yield 1

    for generator in (one, two):
        with pytest.raises(Misuse, match="cannot go around the generator"):
            make()(generator)


def test_a_coroutine_function_is_awaited_or_refused(make: Callable[..., Pipeline]) -> None:
    """Calling one does nothing yet, too; as a decorator the pipeline sees what it is around."""

    class Client:
        async def __call__(self) -> str:
            raise Busy

    pipeline = make()
    with pytest.raises(Busy):
        asyncio.run(pipeline(Client())())
    for call in (make().call, make().answer):
        with pytest.raises(Misuse, match=r"Client.__call__, .* use `await pipeline"):
            call(Client())

    assert pipeline.statistics().failure_total == 1


def test_a_timeout_must_be_one(make: Callable[..., Pipeline]) -> None:
    """Nothing can be done in no time."""
    for seconds in (0.0, -1.0, float("inf")):
        with pytest.raises(ValueError, match="timeout_seconds is a finite time"):
            make(timeout_seconds=seconds)


def test_a_breaker_with_another_clock_is_refused(make: Callable[..., Pipeline]) -> None:
    """Times of two clocks mean nothing to each other."""
    with pytest.raises(ValueError, match="breaker 'ledger' has another clock"):
        make(breaker=Breaker("ledger"))


def test_a_decorated_function_keeps_its_name(make: Callable[..., Pipeline]) -> None:
    """And its arguments."""

    @make()
    def pay(amount: int, *, currency: str) -> tuple[int, str]:
        """Pay."""
        return amount, currency

    assert pay(3, currency="EUR") == (3, "EUR")
    assert (pay.__name__, pay.__doc__) == ("pay", "Pay.")


def test_a_failing_judge_leaves_nothing_behind(
    make: Callable[..., Pipeline], clock: ManualClock
) -> None:
    """Its error is raised, and the breaker's ticket is given back."""

    def broken(error: BaseException) -> Failure | None:
        raise LookupError("a judge's own mistake")

    pipeline = make(judge=broken, breaker=Breaker("pay", clock=clock))

    with pytest.raises(LookupError):
        pipeline.call(Target(Busy()))

    assert pipeline.breaker is not None
    assert pipeline.breaker.statistics().in_flight == 0
    assert pipeline.breaker.statistics().neutral_total == 1


def test_a_failed_call_leaves_no_cycle(make: Callable[..., Pipeline], clock: ManualClock) -> None:
    """What the error held is free as soon as the error is, without the collector."""
    pipeline = make(
        retry=RetryRule(), budget=plenty(), breaker=Breaker("pay", clock=clock), timeout_seconds=5.0
    )
    raised: list[weakref.ref[Busy]] = []

    def fail() -> None:
        error = Busy()
        raised.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    gc.disable()
    try:
        with contextlib.suppress(Busy):
            pipeline.call(fail)
        left = [ref() for ref in raised]
    finally:
        gc.enable()

    assert left == [None, None, None]


def test_the_newest_pipeline_of_a_name_is_found(make: Callable[..., Pipeline]) -> None:
    """As with breakers."""
    first, second = make("one"), make("one")

    assert pipelines()["one"] is second
    assert first.statistics().name == "one"


@ways
def test_a_full_bulkhead_refuses_at_once(way: Way, make: Callable[..., Pipeline]) -> None:
    """Without a queue nobody waits, the breaker is not asked, and the refusal is counted."""
    pipeline = make(bulkhead=Bulkhead("pay", 1), timeout_seconds=5.0)
    target = Target()

    with make(bulkhead=pipeline.bulkhead).block(), pytest.raises(BulkheadFull):
        way(pipeline, target)

    assert target.calls == 0
    assert pipeline.statistics().refused_total == 1
    assert current_deadline() is None


def test_slow_answers_are_counted_as_slow(
    make: Callable[..., Pipeline], clock: ManualClock
) -> None:
    """A call that goes well, but too late for anybody, is counted as slow."""
    pipeline = make(breaker=Breaker("pay", clock=clock))

    for seconds in (6.0, 4.9, 5.0):
        pipeline.call(clock.advance, seconds)

    assert pipeline.breaker is not None
    seen = pipeline.breaker.statistics()
    assert (seen.success_total, seen.slow_total) == (3, 2)


# The bulkhead, with real waits.


def test_a_thread_waits_for_its_place_and_gets_it() -> None:
    """The queue lets one wait; it goes on when the other leaves."""
    pipeline = Pipeline("pay", judge=judge, bulkhead=Bulkhead("pay", 1, queue=1, queue_seconds=10))
    inside, go = threading.Event(), threading.Event()

    def hold() -> None:
        inside.set()
        go.wait(10)

    def waiting() -> bool:
        assert pipeline.bulkhead is not None
        return pipeline.bulkhead.statistics().waiting == 1

    holder = threading.Thread(target=pipeline.call, args=(hold,))
    holder.start()
    inside.wait(10)
    answers: list[str] = []
    waiter = threading.Thread(target=lambda: answers.append(pipeline.call(Target())))
    waiter.start()
    while not waiting():
        time.sleep(0.001)
    go.set()
    holder.join(10)
    waiter.join(10)

    assert answers == ["answer"]


def test_a_thread_waits_no_longer_than_the_queue_or_the_deadline_allow() -> None:
    """Whichever is the smaller."""
    pipeline = Pipeline(
        "pay", judge=judge, bulkhead=Bulkhead("pay", 1, queue=1, queue_seconds=0.03)
    )

    with pipeline.block():
        with pytest.raises(BulkheadFull, match="none ended within"):
            pipeline.call(Target())
        with deadline_scope(time.monotonic() + 0.01), pytest.raises(BulkheadFull):
            pipeline.call(Target())

    assert pipeline.call(Target()) == "answer"


@pytest.mark.anyio
async def test_a_task_waits_for_its_place_and_gets_it() -> None:
    """Woken also by a thread that leaves."""
    pipeline = Pipeline("pay", judge=judge, bulkhead=Bulkhead("pay", 1, queue=1, queue_seconds=10))
    go = asyncio.Event()
    holder = asyncio.create_task(pipeline.call_async(go.wait))
    await asyncio.sleep(0)
    waiter = asyncio.create_task(pipeline.call_async(Target().later))
    await asyncio.sleep(0)

    go.set()

    assert await waiter == "answer"
    assert await holder


@pytest.mark.anyio
async def test_a_task_that_stops_waiting_leaves_the_queue() -> None:
    """By time or by cancel, no place is lost."""
    bulkhead = Bulkhead("pay", 1, queue=1, queue_seconds=0.02)
    pipeline = Pipeline("pay", judge=judge, bulkhead=bulkhead)

    async with pipeline.block():
        with pytest.raises(BulkheadFull):
            await pipeline.call_async(Target().later)
        waiter = asyncio.create_task(pipeline.call_async(Target().later))
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter

    assert (bulkhead.statistics().in_use, bulkhead.statistics().waiting) == (0, 0)
    assert await pipeline.call_async(Target().later) == "answer"


# Deadlines that cut, with real time.


async def for_ever() -> None:
    await asyncio.sleep(60)


@pytest.mark.anyio
async def test_an_async_call_is_cut_at_its_deadline() -> None:
    """It is our own deadline, so the target has failed; the caller is told what is not known."""
    pipeline = Pipeline("pay", judge=judge, breaker=Breaker("pay"), timeout_seconds=0.02)

    with pytest.raises(DeadlinePassed) as passed:
        await pipeline.call_async(for_ever)
    with pytest.raises(DeadlinePassed):
        async with pipeline.block():
            await for_ever()

    assert str(passed.value) == (
        "'pay' did not end within its 0.02 s; whether it took effect is unknown"
    )
    assert pipeline.breaker is not None
    assert pipeline.breaker.statistics().failure_total == 2
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@pytest.mark.anyio
async def test_a_deadline_of_the_caller_is_neutral() -> None:
    """Who came with little time left says nothing about the target."""
    pipeline = Pipeline("pay", judge=judge, breaker=Breaker("pay"), timeout_seconds=5.0)

    with deadline_scope(time.monotonic() + 0.02), pytest.raises(DeadlinePassed):
        await pipeline.call_async(for_ever)

    assert pipeline.breaker is not None
    seen = pipeline.breaker.statistics()
    assert (seen.failure_total, seen.neutral_total) == (0, 1)


@pytest.mark.anyio
async def test_a_cancel_from_outside_is_neutral_and_stays_a_cancel() -> None:
    """Clients that go away open no breaker, and nothing is retried."""
    pipeline = Pipeline(
        "pay", judge=judge, breaker=Breaker("pay"), retry=RetryRule(), timeout_seconds=5.0
    )
    for _ in range(30):
        task = asyncio.create_task(pipeline.call_async(for_ever))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert pipeline.breaker is not None
    seen = pipeline.breaker.statistics()
    assert (seen.state, seen.neutral_total, seen.in_flight) == (BreakerState.CLOSED, 30, 0)


@pytest.mark.anyio
async def test_a_driver_that_turns_the_cut_into_its_own_error_is_still_late() -> None:
    """What it raises is kept as the cause."""
    pipeline = Pipeline("pay", judge=judge, timeout_seconds=0.02)

    async def driver() -> None:
        try:
            await for_ever()
        except asyncio.CancelledError:
            raise ConnectionResetError from None

    with pytest.raises(DeadlinePassed) as passed:
        await pipeline.call_async(driver)

    assert isinstance(passed.value.__cause__, ConnectionResetError)


@pytest.mark.anyio
async def test_an_answer_in_spite_of_the_cut_is_the_answer() -> None:
    """What was done is not thrown away, and the cancel is taken back."""
    pipeline = Pipeline("pay", judge=judge, timeout_seconds=0.02)

    async def stubborn() -> str:
        try:
            await for_ever()
        except asyncio.CancelledError:
            return "done"
        return "never"

    answer = await pipeline.call_async(stubborn)
    async with pipeline.block():
        await stubborn()

    task = asyncio.current_task()
    assert task is not None
    assert (answer, task.cancelling()) == ("done", 0)


# Fallbacks.


def sync_answer(pipeline: Pipeline, target: Target) -> Answered[Any]:
    return pipeline.answer(target)


def async_answer(pipeline: Pipeline, target: Target) -> Answered[Any]:
    return asyncio.run(pipeline.answer_async(target.later))


answers = pytest.mark.parametrize("way", [sync_answer, async_answer])


def replica_of(way: Any, target: Target) -> Callable[..., Any]:
    return target if way is sync_answer else target.later


@answers
def test_a_stand_in_says_that_it_is_one(
    way: Any, make: Callable[..., Pipeline], facts: list[Event]
) -> None:
    """It is in the result, stated, and counted."""
    pipeline = make(fallback=Fallback(default=[]))

    answered = way(pipeline, Target(Busy("too much to do")))
    good = way(pipeline, Target())

    assert answered == Answered(value=[], source="default", because="too much to do")
    assert good == Answered(value="answer")
    assert [type(fact) for fact in facts] == [FallbackUsed]
    assert pipeline.statistics().default_total == 1


@answers
def test_a_replica_is_asked_first_then_what_is_remembered(
    way: Any, make: Callable[..., Pipeline], clock: ManualClock
) -> None:
    """The freshest stand-in there is."""
    target = Target()
    replica = Target(clock=clock)
    pipeline = make(fallback=Fallback(replica=replica_of(way, replica), stale_seconds=60.0))
    way(pipeline, target)
    target.errors = iter([Busy(), Busy(), Busy()])
    clock.advance(10)

    first = way(pipeline, target)
    replica.errors = iter([Busy(), Busy()])
    second = way(pipeline, target)
    clock.advance(60)
    with pytest.raises(Busy):
        way(pipeline, target)

    assert (first.source, first.value) == ("replica", "answer")
    assert (second.source, second.value, second.age_seconds) == ("stale", "answer", 10.0)


@answers
def test_an_error_of_the_caller_has_no_stand_in(way: Any, make: Callable[..., Pipeline]) -> None:
    """Nor one of the replica: a 404 stays one."""
    replica = Target(ValueError("replica"))
    pipeline = make(fallback=Fallback(replica=replica_of(way, replica), default=0))

    with pytest.raises(ValueError, match="call"):
        way(pipeline, Target(ValueError("call")))
    with pytest.raises(ValueError, match="replica"):
        way(pipeline, Target(Busy()))


@answers
def test_an_open_breaker_and_a_passed_deadline_have_one(
    way: Any, make: Callable[..., Pipeline], clock: ManualClock
) -> None:
    """After the deadline no replica is asked: there is no time for it."""
    replica = Target()
    pipeline = make(
        breaker=Breaker("pay", clock=clock),
        timeout_seconds=5.0,
        fallback=Fallback(replica=replica_of(way, replica), default=0),
    )
    assert pipeline.breaker is not None
    pipeline.breaker.isolate("test")

    open_ = way(pipeline, Target())
    with deadline_scope(clock.now()):
        late = way(pipeline, Target())

    assert (open_.source, late.source, replica.calls) == ("replica", "default", 1)


@ways
def test_a_result_that_may_be_a_stand_in_must_say_so(
    way: Way, make: Callable[..., Pipeline]
) -> None:
    """So a pipeline with a fallback is used by `answer` alone."""
    pipeline = make(fallback=Fallback(default=0))

    if way in {by_answer, by_answer_async}:
        assert way(pipeline, Target()) == "answer"
    else:
        with pytest.raises(Misuse, match="use answer"):
            way(pipeline, Target())
