"""Threads that all wait for connections: found with real threads, and not cried too soon."""

import asyncio
import gc
import threading
import time
from contextlib import contextmanager
from math import inf

import pytest
import uvloop
from anyio.to_thread import current_default_thread_limiter, run_sync
from sqlalchemy import create_engine

from shipworthy.db import (
    DbSettings,
    PoolStarvation,
    PoolTimeout,
    StarvationFound,
    protect,
    starvation,
)
from shipworthy.db.permits import Permits, Waiting
from shipworthy.db.place import NOWHERE
from shipworthy.db.starvation import QUIET_SECONDS, thread_waits, until_starved
from shipworthy.events import listen

GUARD_SECONDS = 20.0
loops = pytest.mark.parametrize(
    "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)


def run_bounded(work, new_loop=asyncio.new_event_loop):
    async def bounded():
        async with asyncio.timeout(GUARD_SECONDS):
            return await work()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(bounded())


@contextmanager
def guarded(tmp_path, size, **options):
    """An engine with `size` connections under guard."""
    engine = create_engine(f"sqlite:///{tmp_path / 'x.db'}", pool_size=size, max_overflow=0)
    protection = protect(engine, settings=DbSettings(checkout_seconds=10.0, **options))
    try:
        yield engine, protection
    finally:
        protection.undo()
        engine.dispose()


# -- the decision --


@pytest.mark.parametrize(
    ("facts", "seconds"),
    [
        ({}, 0.0),
        ({"waiting": 41, "borrowed": 41}, 0.0),
        ({"waiting": 39}, None),  # one works
        ({"borrowed": 39}, None),  # one is free
        ({"threads": inf}, None),
        ({"now": 10.0}, QUIET_SECONDS),
        ({"now": 10.0 + QUIET_SECONDS - 0.1}, pytest.approx(0.1)),
        ({"now": 99.0}, 0.0),
        ({"served_at": 12.0, "now": 12.0}, QUIET_SECONDS),  # the oldest has waited for long
        ({"served_at": 1.0, "now": 10.0}, QUIET_SECONDS),  # nobody has, and it was quiet before
    ],
)
def test_threads_are_starved_when_all_wait_and_nothing_came_back_for_a_while(facts, seconds):
    """All that there are, all at work, all of these waiting, and half a second without a return."""
    full = {"threads": 40, "borrowed": 40, "waiting": 40}
    usual = {**full, "oldest_since": 10.0, "served_at": 0.0, "now": 10.0 + QUIET_SECONDS}

    assert until_starved(**{**usual, **facts}) == seconds


class Flow:
    def __init__(self, over=False):
        self.over = over

    def done(self):
        return self.over


def test_a_holder_moves_while_its_code_runs_and_does_not_wait_itself():
    """Between two jobs it runs nowhere, and needs a thread."""
    runs, over, waits = Flow(), Flow(over=True), Flow()
    permits = Permits(1)
    moving = []
    for flow in (runs, over, waits):
        asked = Waiting(flow, NOWHERE, 0.0)
        holding = permits.ask(asked, 0.0)
        if flow is waits:
            permits.ask(Waiting(waits, NOWHERE, 0.0), 0.0)
        moving.append(permits.moves())
        permits.queue.clear()
        permits.give_back(holding, 0.0)

    assert moving == [True, False, False]


def test_a_holder_whose_code_is_gone_does_not_move_and_one_nobody_knows_does():
    """What is not known is trusted to come back."""
    permits = Permits(1)
    permits.ask(Waiting(Flow(), NOWHERE, 0.0), 0.0)  # nobody else has that flow
    gone = permits.moves()

    assert gone is False
    assert Permits(1, adopted=1).moves() is True


# -- with real threads --


@loops
@pytest.mark.slow
def test_the_newest_is_refused_and_its_thread_lets_a_holder_go_on(tmp_path, new_loop):
    """Two connections, four threads: holders between two jobs, and six who want one."""
    heard = []
    stop = listen(heard.append, StarvationFound)

    with guarded(tmp_path, 2) as (engine, protection):

        async def hold(taken, go):
            def take():
                return engine.connect()

            connection = await run_sync(take)
            taken.append(connection)
            await go.wait()
            await run_sync(connection.close)

        async def want():
            def briefly():
                with engine.connect():
                    pass

            try:
                await run_sync(briefly)
            except PoolTimeout as error:
                return error
            return None

        async def play():
            current_default_thread_limiter().total_tokens = 4
            go, taken = asyncio.Event(), []
            holders = [asyncio.create_task(hold(taken, go)) for _ in range(2)]
            while len(taken) < 2:
                await asyncio.sleep(0)
            wants = [asyncio.create_task(want()) for _ in range(6)]
            while protection.statistics().waiting < 4:
                await asyncio.sleep(0)
            go.set()
            began = time.monotonic()
            ends = await asyncio.gather(*wants)
            await asyncio.gather(*holders)
            return ends, time.monotonic() - began

        ends, took = run_bounded(play, new_loop)
    stop()

    refused = [error for error in ends if error is not None]
    # One of the four, and the two who came in its thread after it; then a holder had it.
    assert len(refused) == 3
    assert None not in ends[4:]
    assert {type(error) for error in refused} == {PoolStarvation}
    assert "4 worker threads wait for 2 connections of 'main'" in str(refused[0])
    assert str(refused[0]).count("test_starvation.py:") == 2
    assert refused[0].retry_after_seconds == 1.0
    assert protection.counts.starvations == 3
    assert [(fact.threads, fact.engine) for fact in heard] == [(4, "main")]
    assert took < 10.0  # nobody waited for the timeout


@pytest.mark.slow
def test_nobody_is_refused_while_a_holder_is_at_work(tmp_path, monkeypatch):
    """A thread outside of the pool of threads has the connection, and will give it back."""
    monkeypatch.setattr(starvation, "QUIET_SECONDS", 0.01)
    give_back, taken = threading.Event(), threading.Event()

    with guarded(tmp_path, 1) as (engine, protection):

        def hold():
            with engine.connect():
                taken.set()
                give_back.wait(GUARD_SECONDS)

        def briefly():
            with engine.connect():
                pass

        async def play():
            current_default_thread_limiter().total_tokens = 2
            wants = [asyncio.create_task(run_sync(briefly)) for _ in range(2)]
            while protection.statistics().waiting < 2:
                await asyncio.sleep(0)
            await asyncio.sleep(0.1)  # ten times as long as it would take to refuse
            give_back.set()
            await asyncio.gather(*wants)
            # Whose wait is over is not counted among those who wait.
            assert not starvation._crowds[asyncio.get_running_loop()]._waits

        holder = threading.Thread(target=hold)
        holder.start()
        taken.wait(GUARD_SECONDS)
        run_bounded(play)
        holder.join()

    assert protection.counts.starvations == 0


@pytest.mark.slow
def test_who_wants_to_wait_is_not_refused(tmp_path):
    """`db.deadlocks = "wait"` leaves it to the timeout."""
    with guarded(tmp_path, 1, deadlocks="wait") as (engine, protection):
        engine.pool._timeout = 2 * QUIET_SECONDS

        async def play():
            current_default_thread_limiter().total_tokens = 1
            connection = await run_sync(engine.connect)
            with pytest.raises(PoolTimeout) as raised:
                await run_sync(engine.connect)
            await run_sync(connection.close)
            return raised.value

        error = run_bounded(play)

    assert type(error) is PoolTimeout
    assert protection.counts.starvations == 0


def test_one_who_does_not_want_to_be_refused_is_asked_again(monkeypatch):
    """As long as a holder moves; what is asked last is whoever came last."""
    monkeypatch.setattr(starvation, "QUIET_SECONDS", 0.001)
    asked, over = [], threading.Event()

    def wait(name):
        def refuse(threads, first):
            asked.append((name, threads, first))
            if len(asked) < 3:
                return False
            over.set()
            return True

        waits = thread_waits(refuse, time.monotonic())
        over.wait(GUARD_SECONDS)
        waits.over(time.monotonic(), served=False)

    async def play():
        current_default_thread_limiter().total_tokens = 2
        first = asyncio.create_task(run_sync(wait, "first"))
        while current_default_thread_limiter().borrowed_tokens < 1:
            await asyncio.sleep(0)
        await asyncio.gather(first, run_sync(wait, "second"))

    run_bounded(play)

    assert len(asked) == 3
    assert {(threads, first) for _, threads, first in asked} == {(2, True)}


def test_who_got_a_connection_makes_it_news_again():
    """From then on it is quiet anew, and the next refusal is the first."""
    crowd = starvation.ThreadCrowd()
    loop = asyncio.new_event_loop()
    loop.close()
    crowd._refused = True

    crowd.join(loop, lambda threads, first: True, 1.0).over(2.0, served=False)
    before = (crowd._served_at, crowd._refused)
    crowd.join(loop, lambda threads, first: True, 3.0).over(4.0, served=True)

    assert before == (0.0, True)
    assert (crowd._served_at, crowd._refused) == (4.0, False)


def test_only_a_thread_of_anyio_is_watched():
    """Any other thread has no bound that could be met."""
    assert thread_waits(lambda threads, first: True, 0.0) is None


def test_a_loop_that_is_closed_looks_at_nothing():
    """A worker may outlive its loop, and its wait ends by its own time."""
    loop = asyncio.new_event_loop()
    loop.close()
    found = []

    class Worker(threading.Thread):
        def run(self):
            waits = thread_waits(lambda threads, first: True, 0.0)
            waits.over(1.0, served=True)
            found.append(waits)

    worker = Worker()
    worker.loop = loop
    worker.start()
    worker.join(GUARD_SECONDS)

    assert len(found) == 1


def test_a_loop_is_not_kept_by_what_is_known_of_its_threads():
    """Test suites make a loop for each test."""

    async def play():
        return await run_sync(thread_waits, lambda threads, first: False, time.monotonic())

    before = len(starvation._crowds)
    run_bounded(play).over(0.0, served=False)
    gc.collect()

    assert len(starvation._crowds) <= before
