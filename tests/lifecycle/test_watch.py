"""A check is asked again and again, never twice at once, and nobody waits for it."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from shipworthy.clock import SYSTEM_CLOCK
from shipworthy.lifecycle import Check, CheckChanged, CheckStatus
from shipworthy.lifecycle.hooks import leave_behind
from shipworthy.lifecycle.watch import Watch

HERE = str(Path(__file__).relative_to(Path.cwd()))

pytestmark = pytest.mark.anyio


def watch(ask: Any, **more: Any) -> Watch:
    chosen = {"interval_seconds": 0.005, "timeout_seconds": 0.02, **more}
    return Watch(Check("db", ask, **chosen), SYSTEM_CLOCK)


@asynccontextmanager
async def running(watched: Watch) -> AsyncIterator[Watch]:
    task = asyncio.create_task(watched.run())
    yield watched
    await leave_behind(task)
    assert task.cancelled()


async def until(condition: Callable[[], object]) -> None:
    """Wait until it holds; a test that waits in vain fails after five seconds."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


async def test_a_good_answer_passes() -> None:
    """None is good; the standing knows when and how long."""

    async def ask() -> None:
        await asyncio.sleep(0.01)

    watched = watch(ask, timeout_seconds=2)

    await watched.ask()

    assert watched.standing.status is CheckStatus.PASS
    assert watched.standing.answered_at is not None
    assert watched.standing.took_seconds > 0.005


@pytest.mark.parametrize(
    ("answer", "because"),
    [
        pytest.param("lag is 40 s", "lag is 40 s", id="a sentence"),
        pytest.param("", "it answered an empty text", id="an empty sentence"),
        pytest.param("password=hunter2", "password=***", id="a secret in it"),
        pytest.param("x" * 1000, "x" * 300, id="a very long one"),
        pytest.param(OSError("gone"), "OSError: gone", id="an exception"),
        pytest.param(asyncio.CancelledError(), "it was cancelled", id="its own cancellation"),
    ],
)
async def test_a_bad_answer_fails_with_its_reason(answer: Any, because: str) -> None:
    """A text says why not, and so does an exception; bounded and without secrets."""

    async def ask() -> str:
        if isinstance(answer, BaseException):
            raise answer
        return answer

    watched = watch(ask)

    await watched.ask()

    assert watched.standing.status is CheckStatus.FAIL
    assert watched.standing.because == because


async def test_no_answer_in_time_fails_and_names_the_line() -> None:
    """Hanging is an answer, and the report says where."""

    async def ask() -> None:
        await asyncio.Event().wait()

    watched = watch(ask)

    await watched.ask()

    assert watched.standing.status is CheckStatus.FAIL
    said, _, stands = watched.standing.because.partition("; it stands at ")
    assert re.fullmatch(r"no answer after \d\.\d s", said)
    assert re.fullmatch(rf"{re.escape(HERE)}:\d+ in ask", stands)


async def test_a_call_that_will_not_end_is_not_joined_by_a_second() -> None:
    """Each round counts as a failure; the check is called again once the old call is over."""
    let_go = asyncio.Event()
    calls = []

    async def ask() -> None:
        calls.append(True)
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    watched = watch(ask)

    async with running(watched):
        await until(lambda: watched.standing.took_seconds > 0.1)
        during = (len(calls), watched.standing.status)
        let_go.set()
        await until(lambda: watched.standing.status is CheckStatus.PASS)

    assert during == (1, CheckStatus.FAIL)
    assert len(calls) > 1


async def test_a_late_good_answer_is_not_taken_for_the_present() -> None:
    """What comes after its time tells of the past: the check is asked anew."""
    answers = iter([0.1, None])

    async def ask() -> str | None:
        seconds = next(answers)
        if seconds is None:
            return "away now"
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return None

    watched = watch(ask, fall=1)

    await watched.ask()
    first = watched.standing.because
    await watched.ask()

    assert first.startswith("no answer")
    assert watched.standing.because == "away now"


async def test_changes_are_told_and_nothing_else(heard: Any) -> None:
    """Many rounds, an event for each change of the status only; a good start is none."""
    changes = heard(CheckChanged)
    answers = [None, None, "one", None, "two", "three", "four", None, None]
    left = list(answers)

    async def ask() -> str | None:
        return left.pop(0)

    watched = watch(ask)
    for _ in answers:
        await watched.ask()

    assert [(fact.check, fact.status, fact.because) for fact in changes] == [
        ("db", "fail", "three"),
        ("db", "pass", ""),
    ]


async def test_it_is_asked_again_after_each_interval() -> None:
    """The background goes on whatever the answers are."""
    calls = []

    async def ask() -> None:
        calls.append(True)
        raise OSError("flaps")

    async with running(watch(ask)):
        await until(lambda: len(calls) >= 5)
    ended = len(calls)
    await asyncio.sleep(0.02)

    assert len(calls) == ended


async def test_it_is_not_asked_again_before_its_interval_is_over() -> None:
    """A check costs its dependency one question per interval."""
    calls = []

    async def ask() -> None:
        calls.append(True)

    async with running(watch(ask, interval_seconds=30)) as watched:
        await until(lambda: watched.standing.status is CheckStatus.PASS)
        for _ in range(20):
            await asyncio.sleep(0)

    assert len(calls) == 1


async def test_ending_the_watch_ends_its_call() -> None:
    """A call in progress is cancelled and gets to unwind."""
    entered, unwound = asyncio.Event(), []

    async def ask() -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            unwound.append(True)

    async with running(watch(ask, timeout_seconds=30)):
        await entered.wait()

    assert unwound == [True]


async def test_ending_a_watch_that_never_asked_is_fine() -> None:
    """Cancelled before its first step, there is nothing to end."""
    task = asyncio.create_task(watch(asyncio.sleep).run())

    await leave_behind(task)

    assert task.cancelled()
