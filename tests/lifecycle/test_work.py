"""Background work is counted, cancelled and named."""

import asyncio
import threading
from typing import Any

import pytest

from shipworthy.clock import ManualClock
from shipworthy.context import RequestRecord, request_scope
from shipworthy.lifecycle import (
    CommitRefused,
    begin_commit,
    commit_fence,
    commits_under_way,
    end_commit,
    fence,
    forget,
    refuse_commits,
    work_scope,
)
from shipworthy.lifecycle.work import Work, Works

pytestmark = pytest.mark.anyio


class Bench:
    """Works with a clock of the test's."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.works = Works(now=self.clock.now)
        self.tasks: list[asyncio.Task[None]] = []

    async def begin(self, name: str, **more: Any) -> tuple[Work, "asyncio.Task[None]"]:
        work = Work(name, **{"seconds": None, "began": self.clock.now(), **more})
        work.task = asyncio.create_task(self._hang(work))
        self.works.add(work)
        await asyncio.sleep(0)
        return work, work.task

    async def _hang(self, work: Work) -> None:
        with work_scope(work):
            await asyncio.Event().wait()  # it hangs here


async def test_what_has_a_time_of_its_own_is_cancelled_when_it_is_over() -> None:
    """Counted from the moment the process begins to leave."""
    bench = Bench()
    _, short = await bench.begin("short", seconds=2.0)
    _, long = await bench.begin("long")
    bench.works.cancel_late()
    bench.works.leave()
    bench.clock.advance(1.9)
    bench.works.cancel_late()
    await asyncio.sleep(0)
    early = short.done()
    bench.clock.advance(0.1)
    bench.works.cancel_late()
    await asyncio.wait({short})

    assert not early
    assert short.cancelled()
    assert not long.done()
    long.cancel()


async def test_a_task_that_has_more_to_do_is_spared() -> None:
    """The application's lifespan is ended by its own shutdown, not by a cancellation."""
    bench = Bench()
    _, task = await bench.begin("warm the cache")
    bench.works.cancel(spared={task})
    await asyncio.sleep(0)

    assert not task.done()
    task.cancel()
    bench.works.forget()


async def test_it_is_described_with_age_and_line() -> None:
    """The report of a shutdown names what holds it."""
    bench = Bench()
    _, task = await bench.begin("send mails")
    bench.clock.advance(3.0)

    (found,) = bench.works.describe()

    assert (found.name, found.for_seconds) == ("send mails", 3.0)
    assert "test_work.py" in found.stands
    assert "in _hang" in found.stands
    task.cancel()


async def test_only_the_oldest_are_described_where_no_more_are_shown() -> None:
    """A line costs some 20 us, and the drain looks often: thousands must not be looked up."""
    bench = Bench()
    tasks = [(await bench.begin(f"mail {number}"))[1] for number in range(5)]

    described = [work.name for work in bench.works.describe(2)]
    everything = len(bench.works.describe())
    nothing = bench.works.describe(0)

    assert described == ["mail 0", "mail 1"]
    assert (everything, nothing) == (5, [])
    for task in tasks:
        task.cancel()


async def test_a_thread_is_described_and_its_commits_are_refused() -> None:
    """L13: nobody can cancel it; nothing of it takes effect after its time."""
    works = Works(now=ManualClock().now)
    begun, go, refused = threading.Event(), threading.Event(), []

    def work_in_thread() -> None:
        work = Work("export", seconds=None, began=0.0)
        works.add(work)
        with work_scope(work):
            begun.set()
            go.wait(5)
            try:
                with commit_fence():
                    pass
            except CommitRefused as error:
                refused.append(str(error))
        works.drop(work)

    thread = threading.Thread(target=work_in_thread)
    thread.start()
    await asyncio.to_thread(begun.wait, 5)
    (found,) = works.describe()
    works.cancel()
    go.set()
    await asyncio.to_thread(thread.join, 5)
    works.forget()

    assert "in work_in_thread" in found.stands
    assert len(refused) == 1
    assert len(works) == 0


async def test_the_request_it_is_a_part_of_commits_no_more_either() -> None:
    """Once requests are cancelled: they may share a task, and then what is cancelled is both."""
    bench = Bench()
    with request_scope(RequestRecord("r", "c", "t", "s")):
        _, task = await bench.begin("part")
        bench.works.cancel()
        with pytest.raises(CommitRefused), commit_fence():
            pass
        bench.works.forget()
        with commit_fence():
            pass
    await asyncio.wait({task})


async def test_a_request_goes_on_when_the_time_of_its_background_work_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is within `lifecycle.drain`, and commits; only once requests are cancelled it does not."""
    bench = Bench()
    monkeypatch.setattr(fence, "SYSTEM_CLOCK", bench.clock)
    with request_scope(RequestRecord("r", "c", "t", "s")):
        work, task = await bench.begin("tell the index", seconds=0.2)
        thread = Work("export", seconds=0.2, began=0.0)
        bench.works.add(thread)
        bench.works.leave()
        bench.clock.advance(0.2)
        bench.works.cancel_late()
        with commit_fence():
            pass
        for late in (work, thread):
            with work_scope(late), pytest.raises(CommitRefused), commit_fence():
                pass
        bench.clock.advance(fence.ANSWER_SECONDS)
        bench.works.cancel()
        with pytest.raises(CommitRefused), commit_fence():
            pass
        bench.works.forget()
        with commit_fence():
            pass
    await asyncio.wait({task})

    assert task.cancelled()


async def test_work_in_the_task_of_its_request_is_not_cancelled_inside_a_commit_of_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The COMMIT may be in a task that it waits for; and who has committed may still answer."""
    bench = Bench()
    monkeypatch.setattr(fence, "SYSTEM_CLOCK", bench.clock)
    with request_scope(RequestRecord("r", "c", "t", "s")):
        _, task = await bench.begin("tell the index", seconds=0.0)
        number = begin_commit()
        bench.works.leave()
        looks = []
        for seconds in (0.0, fence.ANSWER_SECONDS / 2):
            bench.works.cancel_late()
            end_commit(number)
            looks.append(task.cancelling())
            bench.clock.advance(seconds)
        with commit_fence():  # gives it no more time
            pass
        bench.works.cancel_late()
        looks.append(task.cancelling())
    await asyncio.wait({task})

    assert looks == [0, 0, 1]
    bench.works.forget()


def test_a_commit_belongs_to_the_request_and_to_the_background_work_in_it() -> None:
    """Whichever of the two is to be cancelled: the task is the same."""
    request = RequestRecord("r", "c", "t", "s")
    with request_scope(request), work_scope("outer"), work_scope("inner"), commit_fence():
        (commit,) = commits_under_way()
        answers = [refuse_commits(work) for work in (request, "outer", "inner")]

    assert answers == [False, False, False]
    assert (commit.request_id, commit.work) == ("r", "outer, inner")


def test_work_apart_does_not_belong_to_the_request_that_began_it() -> None:
    """The request may be cancelled, and what goes on after it commits."""
    request, another = RequestRecord("r", "c", "t", "s"), RequestRecord("s", "c", "t", "s")
    with request_scope(request), work_scope("around"), work_scope("mail", apart=True):
        assert refuse_commits(request, "around")
        with commit_fence():
            assert not refuse_commits("mail")
            assert commits_under_way()[0].request_id == "r"
        with request_scope(another), commit_fence():
            assert not refuse_commits(another)
    forget(request, "around")
