"""What an application asks of the life of its process, and tells it."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from shipworthy import lifecycle
from shipworthy.lifecycle import (
    BackgroundFailed,
    Component,
    DrainFacts,
    DrainHookFailed,
    Lifecycle,
    LifecycleSettings,
    Phase,
    process,
)

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
