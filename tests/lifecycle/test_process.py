"""What an application asks of the life of its process, and tells it."""

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Callable
from typing import Any

import pytest

from shipworthy import lifecycle
from shipworthy.clock import SYSTEM_CLOCK
from shipworthy.context import RequestRecord, request_scope
from shipworthy.errors import ComponentFailed, Misuse
from shipworthy.lifecycle import (
    BackgroundFailed,
    CommitRefused,
    Component,
    DrainFacts,
    DrainHookFailed,
    Lifecycle,
    LifecycleSettings,
    Phase,
    commit_fence,
    process,
)
from shipworthy.lifecycle.work import Works

pytestmark = pytest.mark.anyio

EMPTY = DrainFacts(in_flight=0, idle_connections=0, quiet_seconds=60.0)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lives and callbacks of other tests are not ours."""
    monkeypatch.setattr(process, "_lives", [])
    monkeypatch.setattr(process, "_callbacks", [])


async def life(*components: Component, **times: Any) -> Lifecycle:
    made = Lifecycle(LifecycleSettings(**{"idle_grace_seconds": 0.0, **times}))
    for component in components:
        made.add(component)
    await made.start()
    made.started()
    return made


async def through(alive: Lifecycle) -> None:
    """Drive a drain to its end, as a server does."""
    alive.begin_drain()
    async with asyncio.timeout(5):
        while not alive.advance(EMPTY).reached(Phase.STOPPING):
            await asyncio.sleep(0.001)


async def test_without_a_life_nothing_drains_and_work_just_runs() -> None:
    """In a test, a job or a shell: no harm is done."""
    waiting = asyncio.create_task(lifecycle.until_draining())
    async with lifecycle.background("work"):
        with lifecycle.background_thread("work"):
            pass
    answer = await lifecycle.start_background("answer", asyncio.sleep(0, 42))

    assert answer == 42
    assert not lifecycle.draining()
    assert not waiting.done()
    waiting.cancel()


async def test_who_asks_or_waits_learns_that_the_process_leaves() -> None:
    """From the first word on, and each callback once."""
    told: list[str] = []

    @lifecycle.on_drain
    def tell() -> None:
        told.append("callback")

    alive = await life()
    waiting = asyncio.create_task(lifecycle.until_draining())
    await asyncio.sleep(0)
    before = lifecycle.draining(), waiting.done()
    alive.begin_drain()
    alive.begin_drain()
    await asyncio.wait_for(waiting, 5)
    await lifecycle.until_draining()
    lifecycle.on_drain(lambda: told.append("late"))

    assert before == (False, False)
    assert lifecycle.draining()
    assert told == ["callback", "late"]
    await alive.stop()
    assert not lifecycle.draining()


def test_who_waited_in_a_loop_that_is_gone_harms_nobody() -> None:
    """Test suites leave such behind; the next drain must not stumble over it."""
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(lifecycle.until_draining())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()

    async def drain() -> bool:
        alive = await life()
        alive.begin_drain()
        await alive.stop()
        return waiting.done()

    assert not asyncio.run(drain())
    process._waiting.clear()
    waiting._log_destroy_pending = False  # type: ignore[attr-defined]


async def test_an_async_callback_is_waited_for_and_a_failure_is_stated(
    heard: Callable[..., list[Any]],
) -> None:
    """A coroutine that nobody awaits would be the quietest of failures."""
    failed = heard(DrainHookFailed, BackgroundFailed)
    diary: list[str] = []

    @lifecycle.on_drain
    async def flush() -> None:
        await asyncio.sleep(0.01)
        diary.append("flushed")

    @lifecycle.on_drain
    def breaks() -> None:
        raise RuntimeError("on purpose")

    alive = await life()
    await through(alive)

    assert diary == ["flushed"]
    assert [(f.name, f.because) for f in failed] == [
        ("lifecycle.drain_hook_failed", "RuntimeError: on purpose")
    ]
    await alive.stop()


async def test_background_work_ends_before_components_stop() -> None:
    """L06: it may use the pool that a component is."""
    diary: list[str] = []

    async def stop() -> None:
        diary.append("the pool stops")

    async def work() -> None:
        async with lifecycle.background("send mails"):
            await asyncio.sleep(0.05)
            diary.append("mails are sent")

    async def report() -> None:
        await asyncio.sleep(0.05)
        diary.append("report is made")

    alive = await life(Component("pool", None, stop))
    working = asyncio.create_task(work())
    lifecycle.start_background("report", report())
    await asyncio.sleep(0)
    await through(alive)
    stopped = await alive.stop()
    await working

    assert sorted(diary[:2]) == ["mails are sent", "report is made"]
    assert diary[2:] == ["the pool stops"]
    assert stopped.clean


async def test_what_outlasts_the_drain_is_cancelled_and_what_ignores_that_is_named() -> None:
    """L11: within the time to cancel; the report has its line."""
    ends: list[str] = []

    async def polite() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ends.append("unwound")
            raise

    async def deaf() -> None:
        while not over.is_set():
            try:
                await over.wait()  # it is deaf here
            except asyncio.CancelledError:
                ends.append("swallowed")

    over = asyncio.Event()
    alive = await life(drain_seconds=0.01, cancel_seconds=0.05)
    lifecycle.start_background("polite", polite())
    left = lifecycle.start_background("deaf", deaf())
    await asyncio.sleep(0)
    await through(alive)
    stopped = await alive.stop()
    over.set()
    await left

    assert sorted(ends) == ["swallowed", "unwound"]
    (hook,) = stopped.left_behind
    assert hook.name == "background deaf"
    assert "in deaf" in hook.because


async def test_work_with_a_time_of_its_own_does_not_hold_the_whole_drain() -> None:
    """`seconds` counts from the first word."""
    alive = await life(drain_seconds=15.0)
    task = lifecycle.start_background("index", asyncio.Event().wait(), seconds=0.02)
    await through(alive)

    assert task.cancelled()
    assert not alive.was_in(Phase.CANCELLING)
    await alive.stop()


async def test_without_a_drain_before_it_the_stop_gives_work_its_time() -> None:
    """Another server ended the traffic, and says only shutdown."""
    alive = await life()
    done: list[str] = []

    async def work() -> None:
        await asyncio.sleep(0.02)
        done.append("done")

    lifecycle.start_background("work", work())
    stopped = await alive.stop()

    assert done == ["done"]
    assert stopped.clean


async def test_what_started_work_raises_is_stated_and_kept_for_who_asks(
    heard: Callable[..., list[Any]],
) -> None:
    """Nobody awaits it, so nobody would hear."""
    failed = heard(BackgroundFailed)

    async def breaks() -> None:
        raise RuntimeError("postgresql://shop:s3cret@db/shop is down")

    task = lifecycle.start_background("mails", breaks())
    await asyncio.wait({task})

    (fact,) = failed
    assert fact.work == "mails"
    assert "is down" in fact.because
    assert "s3cret" not in fact.because + fact.stack
    assert "in breaks" in fact.stack
    with pytest.raises(RuntimeError):
        await task


@pytest.mark.filterwarnings("error")
async def test_who_starts_work_in_a_thread_without_a_loop_is_told_what_to_do() -> None:
    """A handler that is not async: one sentence, and no coroutine is left that nobody awaited."""

    async def send() -> None:
        raise NotImplementedError

    sending = send()
    with pytest.raises(Misuse, match=r"'mail'.*not async.*background_thread"):
        await asyncio.to_thread(lifecycle.start_background, "mail", sending)

    assert inspect.getcoroutinestate(sending) == inspect.CORO_CLOSED


async def test_a_thread_at_work_is_waited_for() -> None:
    """It counts as in flight."""
    begun, go = threading.Event(), threading.Event()

    def export() -> None:
        with lifecycle.background_thread("export"):
            begun.set()
            go.wait(5)

    alive = await life(drain_seconds=10.0)
    thread = threading.Thread(target=export)
    thread.start()
    await asyncio.to_thread(begun.wait, 5)
    alive.begin_drain()
    during = alive.advance(EMPTY)
    go.set()
    thread.join(5)
    after = alive.advance(EMPTY)

    assert (during, after) == (Phase.DRAINING, Phase.STOPPING)
    await alive.stop()


async def test_what_was_cancelled_commits_no_more_after_the_stop_either() -> None:
    """L13: the thread goes on when the pools are closed; only the next life begins anew."""
    record = RequestRecord("r", "c", "t", "s")
    begun, go = threading.Event(), threading.Event()
    ends: list[str] = []

    def commit() -> str:
        try:
            with commit_fence():
                return "committed"
        except CommitRefused:
            return "refused"

    def export() -> None:
        with request_scope(record):
            with lifecycle.background_thread("export"):
                begun.set()
                go.wait(5)
                ends.append(commit())
            ends.append(commit())

    alive = await life(drain_seconds=0.0, cancel_seconds=0.01, stop_seconds=0.2)
    thread = threading.Thread(target=export)
    thread.start()
    await asyncio.to_thread(begun.wait, 5)
    await through(alive)
    stopped = await alive.stop()
    go.set()
    await asyncio.to_thread(thread.join, 5)
    alive.renewed(alive.settings)
    with request_scope(record):
        ends.append(commit())

    assert [hook.name for hook in stopped.left_behind] == ["background export"]
    assert ends == ["refused", "refused", "committed"]


async def test_work_that_a_stop_begins_is_waited_for_before_the_next_level_stops() -> None:
    """The last mail of an application's shutdown needs the broker; and what hangs is named once."""
    diary: list[str] = []

    async def mail() -> None:
        await asyncio.sleep(0.02)
        diary.append("mail is sent")

    async def last_word() -> None:
        diary.append("the last word is said")

    async def stop_app() -> None:
        lifecycle.start_background("mail", mail())

    async def stop_broker() -> None:
        diary.append("the broker stops")
        lifecycle.start_background("last word", last_word())

    alive = await life(
        Component("app", None, stop_app, requires=("broker",)),
        Component("broker", None, stop_broker, stop_seconds=0.1),
    )
    await through(alive)
    stopped = await alive.stop()

    assert diary == ["mail is sent", "the broker stops", "the last word is said"]
    assert stopped.clean
    assert len(alive.works) == 0


async def test_work_that_a_stop_begins_and_that_does_not_end_is_cancelled_or_named() -> None:
    """Within the time to stop, of which the levels after it get theirs; and once."""
    over = asyncio.Event()
    stops: list[str] = []

    async def deaf() -> None:
        while not over.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await over.wait()  # it is deaf here

    async def stop_app() -> None:
        begun.append(lifecycle.start_background("deaf", deaf()))
        begun.append(lifecycle.start_background("slow", asyncio.sleep(60)))

    async def stop_broker() -> None:
        stops.append("broker")

    begun: list[asyncio.Task[None]] = []
    alive = await life(
        Component("app", None, stop_app, requires=("broker",)),
        Component("broker", None, stop_broker, stop_seconds=0.1),
        stop_seconds=0.2,
    )
    await through(alive)
    stopped = await alive.stop()
    over.set()
    await begun[0]

    assert [hook.name for hook in stopped.left_behind] == ["background deaf"]
    assert "in deaf" in stopped.left_behind[0].because
    assert begun[1].cancelled()
    assert stops == ["broker"]


async def test_a_start_that_failed_ends_work_before_what_it_uses() -> None:
    """Nobody waits for a start that failed: it is cancelled at once."""
    diary: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            diary.append("the work unwinds")

    async def start() -> None:
        lifecycle.start_background("work", work())

    async def stop() -> None:
        diary.append("the pool stops")

    async def fail() -> None:
        await asyncio.sleep(0)
        raise OSError("no route")

    alive = Lifecycle(LifecycleSettings())
    alive.add(Component("pool", start, stop))
    alive.add(Component("app", fail, requires=("pool",)))
    began = SYSTEM_CLOCK.now()
    with pytest.raises(ComponentFailed):
        await alive.start()

    assert diary == ["the work unwinds", "the pool stops"]
    assert SYSTEM_CLOCK.now() - began < 1.0


async def test_a_hook_goes_with_the_life_in_which_it_was_registered() -> None:
    """A start-up registers its own each time: in a suite of many lives old ones would pile up."""
    told: list[str] = []
    lifecycle.on_drain(lambda: told.append("of the process"))
    alive = Lifecycle(LifecycleSettings())
    alive.on_drain(lambda: told.append("of the parts"))
    for number in range(3):
        await alive.start()
        alive.started()
        lifecycle.on_drain(lambda number=number: told.append(f"of life {number}"))
        alive.on_drain(lambda number=number: told.append(f"of life {number}, too"))
        await alive.stop()
        alive = alive.renewed(alive.settings)

    assert told == [
        word
        for number in range(3)
        for word in (
            "of the parts",
            f"of life {number}",
            f"of life {number}, too",
            "of the process",
        )
    ]


async def test_a_drain_that_begins_while_somebody_begins_to_wait_is_not_missed() -> None:
    """In the loop of another thread: between the question and the wait."""

    class Leaving:
        """A life that begins to leave right after it was asked for the first time."""

        works = Works(now=SYSTEM_CLOCK.now)
        asked = False

        @property
        def draining(self) -> bool:
            before, self.asked = self.asked, True
            process.leave_life(self)
            return before

        def on_drain(self, callback: Callable[[], object]) -> None:
            raise NotImplementedError

    leaving = Leaving()
    process.begin_life(leaving)
    async with asyncio.timeout(5):
        await lifecycle.until_draining()

    assert leaving.asked
    process.end_life(leaving)


async def test_of_two_lives_the_one_that_started_last_holds() -> None:
    """Until it has stopped; a life within another leaves with that one, and is not counted."""
    first = await life()
    second = await life()
    within = Lifecycle(LifecycleSettings())
    second.take_in(within)
    await within.start()
    first.begin_drain()
    only_first = lifecycle.draining()
    second.begin_drain()
    both = lifecycle.draining()
    await within.stop()
    await second.stop()
    rest = lifecycle.draining()
    await first.stop()

    assert (only_first, both, rest) == (False, True, True)
    assert not lifecycle.draining()


async def test_a_start_that_failed_leaves_no_life_behind() -> None:
    """What asks later is told that nothing drains."""

    async def breaks() -> None:
        raise RuntimeError("on purpose")

    alive = Lifecycle(LifecycleSettings())
    alive.add(Component("broken", breaks))
    with pytest.raises(Exception, match="on purpose"):
        await alive.start()
    alive.begin_drain()

    assert not lifecycle.draining()
