"""A task is cancelled once, and not inside a COMMIT."""

import asyncio
import threading

import pytest

from shipworthy.lifecycle import (
    CommitRefused,
    cancel_outside_commits,
    commit_fence,
    forget,
    work_scope,
)

pytestmark = pytest.mark.anyio


async def test_a_task_is_cancelled_when_its_commit_is_over() -> None:
    """L07: asked again and again, the answer changes with the end of the COMMIT."""
    inside, answered = asyncio.Event(), asyncio.Event()

    async def commits() -> None:
        with work_scope("work"), commit_fence():
            inside.set()
            await answered.wait()
        await asyncio.Event().wait()

    task = asyncio.create_task(commits())
    await inside.wait()
    during = cancel_outside_commits(task, "work")
    answered.set()
    await asyncio.sleep(0)
    after = cancel_outside_commits(task, "work")
    await asyncio.wait({task})
    forget("work")

    assert (during, after) == (False, True)
    assert task.cancelled()


async def test_who_unwinds_is_not_cancelled_a_second_time() -> None:
    """L11: its rollback must not be struck by the next look."""
    ends = []

    async def unwinds() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            ends.append("rolled back")
            with pytest.raises(CommitRefused), work_scope("work"), commit_fence():
                pass

    task = asyncio.create_task(unwinds())
    await asyncio.sleep(0)
    for _ in range(3):
        assert cancel_outside_commits(task, "work")
        await asyncio.sleep(0)
    await asyncio.wait({task})
    forget("work")

    assert ends == ["rolled back"]


async def test_a_task_of_another_loop_is_cancelled_there() -> None:
    """Some applications run a loop of their own in a thread."""
    ready: asyncio.Queue[asyncio.Task[None]] = asyncio.Queue()
    here, seen = asyncio.get_running_loop(), []

    async def waits() -> None:
        task = asyncio.current_task()
        here.call_soon_threadsafe(ready.put_nowait, task)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")

    thread = threading.Thread(target=asyncio.run, args=(waits(),))
    thread.start()
    cancel_outside_commits(await ready.get(), "work")
    await asyncio.to_thread(thread.join, 5)
    forget("work")

    assert seen == ["cancelled"]
