"""Code of others is called for as long as it was given, and then named and left."""

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from types import CoroutineType
from typing import Any

import pytest

from shipworthy.clock import SYSTEM_CLOCK
from shipworthy.errors import StartFailed
from shipworthy.lifecycle import threads_at_work, where
from shipworthy.lifecycle.hooks import HookOutcome, attempt, explain, leave_behind

HERE = str(Path(__file__).relative_to(Path.cwd()))

pytestmark = pytest.mark.anyio


async def tried(work: Any, seconds: float = 5.0, **more: Any) -> HookOutcome:
    return await attempt(work, seconds=seconds, clock=SYSTEM_CLOCK, **more)


def line_of(text: str) -> int:
    """Return the number of the one line of this file that ends with the comment `text`."""
    lines = Path(__file__).read_text().splitlines()
    (number,) = [n for n, line in enumerate(lines, start=1) if line.endswith(f"# {text}")]
    return number


async def hang() -> None:
    await asyncio.Event().wait()  # it hangs here


async def outer() -> None:
    await hang()


async def test_what_ends_well_has_no_because() -> None:
    """The outcome says nothing but how long it took."""

    async def work() -> None:
        await asyncio.sleep(0.01)

    outcome = await tried(work)

    assert outcome.because == ""
    assert outcome.error is None
    assert not outcome.late
    assert 0.005 < outcome.took_seconds < 2


async def test_what_raises_is_explained_and_kept() -> None:
    """The text is for people, the exception for whoever wants to raise from it."""

    async def work() -> None:
        raise OSError("no route to postgresql://app:hunter2@db/orders")

    outcome = await tried(work)

    assert outcome.because.startswith("OSError: no route to postgresql://app:")
    assert "hunter2" not in outcome.because
    assert isinstance(outcome.error, OSError)


async def test_what_cannot_even_be_called_is_a_failure_too() -> None:
    """A hook of the wrong shape is reported like one that fails."""
    outcome = await tried(lambda: None)

    assert outcome.because.startswith("TypeError: ")


async def test_what_cancels_itself_is_a_failure() -> None:
    """A CancelledError from inside does not look like ours."""

    async def work() -> None:
        raise asyncio.CancelledError

    assert (await tried(work)).because == "it was cancelled"


async def test_what_hangs_is_cancelled_after_its_time_and_named_with_its_line() -> None:
    """The line is the innermost one of the service's own code, not asyncio's."""
    unwound = []

    async def work() -> None:
        try:
            await outer()
        finally:
            unwound.append(True)

    outcome = await tried(work, 0.02)

    assert outcome.late
    assert outcome.because == (
        f"it was not done after 0.0 s and stands at {HERE}:{line_of('it hangs here')} in hang"
    )
    assert unwound == [True]


async def test_what_swallows_its_cancellation_is_left_behind() -> None:
    """The caller goes on after the time and a moment to unwind, whatever the task wants."""
    let_go = asyncio.Event()
    ended = []

    async def work() -> None:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue
        ended.append(True)

    outcome = await tried(work, 0.02)
    still_running = not ended
    let_go.set()
    await asyncio.sleep(0.01)

    assert outcome.late
    assert outcome.took_seconds < 1
    assert still_running
    assert ended == [True]


async def test_no_time_left_still_gives_the_first_step() -> None:
    """A hook that only sets a flag works even at the deadline."""
    flag = []

    async def work() -> None:
        flag.append(True)

    outcome = await tried(work, -1.0)

    assert flag == [True]
    assert outcome.because == ""


async def test_another_task_can_be_looked_at() -> None:
    """When the hook only waits for a task, the report names the line of that task."""
    busy = asyncio.create_task(hang())

    async def work() -> None:
        await asyncio.Event().wait()

    outcome = await tried(work, 0.02, looked_at=lambda: busy)
    nothing_to_look_at = await tried(work, 0.02, looked_at=lambda: None)
    await leave_behind(busy)

    assert f"{HERE}:{line_of('it hangs here')} in hang" in outcome.because
    assert " in work" in nothing_to_look_at.because


async def test_a_caller_that_is_cancelled_takes_its_work_with_it() -> None:
    """Nothing goes on unseen when whoever waits is called off."""
    unwound = []

    async def work() -> None:
        try:
            await hang()
        finally:
            unwound.append(True)

    waiting = asyncio.create_task(tried(work))
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.wait({waiting})

    assert waiting.cancelled()
    assert unwound == [True]


async def test_an_error_of_a_task_left_behind_is_not_complained_about() -> None:
    """What a task raises on its way out was looked at, so the loop keeps quiet."""
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, said: complaints.append(said))

    async def work() -> None:
        try:
            await hang()
        finally:
            raise OSError("on the way out")

    outcome = await tried(work, 0.01)
    await asyncio.sleep(0.01)

    assert outcome.late
    assert complaints == []


async def test_leaving_nothing_behind_is_fine() -> None:
    """No tasks, no wait."""
    await leave_behind()


async def test_where_falls_back_to_the_library_when_there_is_no_line_of_ours() -> None:
    """A task of asyncio's own is named with asyncio's line."""
    task = asyncio.create_task(asyncio.sleep(5))
    await asyncio.sleep(0)

    stands = where(task)
    await leave_behind(task)

    assert stands.startswith(sys.base_prefix)
    assert stands.endswith(" in sleep")


async def test_where_prefers_the_service_to_a_package() -> None:
    """A line in a driver says less than the line that called it."""
    from anyio import sleep_forever

    async def work() -> None:
        await sleep_forever()

    task, bare = asyncio.create_task(work()), asyncio.create_task(sleep_forever())
    await asyncio.sleep(0)

    stands, stands_bare = where(task), where(bare)
    await leave_behind(task, bare)

    assert stands.endswith(" in work")
    assert "anyio" in stands_bare


async def test_where_follows_generator_based_awaitables() -> None:
    """An awaitable whose `__await__` is a generator is looked through."""

    class Held:
        def __await__(self) -> Any:
            yield from asyncio.Event().wait().__await__()  # the generator hangs here

    async def work() -> None:
        await Held()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)

    stands = where(task)
    await leave_behind(task)

    assert stands.endswith(f"{line_of('the generator hangs here')} in __await__")


async def test_where_follows_a_context_that_a_generator_makes() -> None:
    """Its way in and its way out: what hangs there is the service's own, not contextlib's."""

    @asynccontextmanager
    async def lived(hangs: str) -> AsyncIterator[None]:
        if hangs == "in":
            await asyncio.Event().wait()  # it hangs on its way in
        yield
        await asyncio.Event().wait()  # it hangs on its way out

    async def live(hangs: str) -> None:
        async with lived(hangs):
            pass

    for hangs in ("in", "out"):
        task = asyncio.create_task(live(hangs))
        await asyncio.sleep(0)
        stands = where(task)
        await leave_behind(task)
        line = line_of(f"it hangs on its way {hangs}")
        assert stands == f"{HERE}:{line} in lived"


async def test_a_task_that_is_over_stands_nowhere() -> None:
    """There is no frame any more, and saying so does not fail."""
    task = asyncio.create_task(asyncio.sleep(0))
    await task

    assert isinstance(task.get_coro(), CoroutineType)
    assert where(task) == "no line of Python"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError(), "ValueError"),
        (ValueError("two\n  lines"), "ValueError: two lines"),
        (ValueError("x" * 1000), "ValueError: " + "x" * 288),
        (StartFailed("the app said no"), "the app said no"),
        (StartFailed(), "StartFailed"),
    ],
    ids=["no text", "many lines", "very long", "a sentence of ours", "ours without a sentence"],
)
async def test_an_explanation_is_one_bounded_line(error: Exception, text: str) -> None:
    """Whatever the exception holds, a report stays readable."""
    assert explain(error) == text


async def test_where_is_known_when_the_working_directory_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deployment removes the old directory: the file is named in full then."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    task = asyncio.create_task(hang())
    await asyncio.sleep(0)

    stands = where(task)
    await leave_behind(task)

    assert stands == f"{__file__}:{line_of('it hangs here')} in hang"


def test_threads_at_work_are_named_with_their_lines() -> None:
    """Of a pool, and of the service's own; not one that waits for work."""
    go, begun = threading.Event(), threading.Barrier(3)

    def export() -> None:
        begun.wait(5)
        go.wait(5)

    own = threading.Thread(target=export, name="exporter", daemon=True)
    own.start()
    with ThreadPoolExecutor(2, "pool") as pool:
        pool.submit(time.sleep, 0.0).result(5)
        waiting = {name for name, _ in threads_at_work()}
        pool.submit(export)
        begun.wait(5)
        found = dict(threads_at_work())
        of_pools = dict(threads_at_work(of_pools=True))
        go.set()
    own.join(5)

    assert not any(name.startswith("pool") for name in waiting)
    assert "in export" in found.pop("exporter")
    ((name, line),) = of_pools.items()
    assert name.startswith("pool")
    assert "test_hooks.py" in line
    assert found.items() >= of_pools.items()
