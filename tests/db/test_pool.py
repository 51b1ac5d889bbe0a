"""Permits in front of a real pool: nobody waits past the deadline, and every wait is explained."""

import asyncio
import gc
import random
import sqlite3
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError, TimeoutError as PoolTimeoutOfSqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool, StaticPool

from lateness import Lateness
from shipworthy.context import RequestRecord, deadline_scope, request_scope
from shipworthy.db import (
    CheckoutTimedOut,
    ConnectionLeaked,
    DatabaseRefused,
    DbSettings,
    DeadlockFound,
    LeakReturned,
    PoolDeadlock,
    PoolTimeout,
    pool as pool_module,
    protect,
)
from shipworthy.events import listen

TOLERANCE_SECONDS = 0.05
GUARD_SECONDS = 20.0


@contextmanager
def guarded(engine, **options):
    """The engine under guard, let go at the end, whatever came between."""
    protection = protect(engine, settings=DbSettings(**options))
    try:
        yield protection
    finally:
        protection.undo()
        if not hasattr(engine, "sync_engine"):
            engine.dispose()


@pytest.fixture
def heard():
    """The events of the test, in their order."""
    found = []
    stop = listen(found.append)
    yield found
    stop()


def in_threads(*works):
    """Run all at once, and return for each how long it took and what it raised."""
    ends = [None] * len(works)

    def run(index, work):
        began = time.monotonic()
        error = None
        try:
            work()
        except Exception as raised:
            error = raised
        ends[index] = (time.monotonic() - began, error)

    threads = [threading.Thread(target=run, args=item) for item in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(GUARD_SECONDS)
    assert None not in ends, "a caller never came back"
    return ends


def run_bounded(work):
    async def bounded():
        async with asyncio.timeout(GUARD_SECONDS):
            return await work()

    return asyncio.run(bounded())


async def ended(work):
    """How long a coroutine took, and what it raised."""
    began = time.monotonic()
    try:
        await work
    except Exception as error:
        return time.monotonic() - began, error
    return time.monotonic() - began, None


def on_sqlite(tmp_path, size):
    """An engine on a file with `size` connections that any thread may use."""
    return create_engine(
        f"sqlite:///{tmp_path / 'x.db'}",
        pool_size=size,
        max_overflow=0,
        connect_args={"check_same_thread": False},
    )


def asynchronous(url):
    return url.replace("+psycopg", "+asyncpg")


# -- the wait is bounded --


@pytest.mark.slow
def test_callers_over_the_limit_end_by_their_deadline_and_learn_who_holds(postgres_url, heard):
    """Holders that never return, 20 threads more than connections: each caller is told in time."""
    engine = create_engine(postgres_url, pool_size=3, max_overflow=2)
    with guarded(engine, checkout_seconds=0.5) as protection:
        held = [engine.connect() for _ in range(5)]  # the line of the holders

        with Lateness() as late:
            ends = in_threads(*[engine.connect] * 20)
        statistics = protection.statistics()
        for connection in held:
            connection.close()

    for seconds, error in ends:
        assert isinstance(error, PoolTimeout)
        assert isinstance(error, PoolTimeoutOfSqlalchemy)
        assert 0.5 <= seconds < 0.5 + late.allowed_seconds
        assert "QueuePool limit of size 3 overflow 2 reached" in str(error)
        assert "test_pool.py:" in str(error)
        assert "(5 times, for 0." in str(error)
    assert statistics.timeouts == 20
    assert (statistics.in_use, statistics.waiting) == (5, 0)
    assert len([fact for fact in heard if isinstance(fact, CheckoutTimedOut)]) == 20


@pytest.mark.slow
def test_tasks_over_the_limit_end_by_their_deadline_and_learn_who_holds(postgres_url):
    """The same in an event loop: 20 tasks more than connections, and none waits past its time."""

    async def work():
        engine = create_async_engine(asynchronous(postgres_url), pool_size=3, max_overflow=2)

        async def hold(ready, over):
            async with engine.connect():  # the line of the holders
                ready.set()
                await over.wait()

        with guarded(engine, checkout_seconds=0.5):
            over = asyncio.Event()
            readies = [asyncio.Event() for _ in range(5)]
            holders = [asyncio.create_task(hold(ready, over)) for ready in readies]
            for ready in readies:
                await ready.wait()
            with Lateness() as late:
                ends = await asyncio.gather(*(ended(engine.connect()) for _ in range(20)))
            over.set()
            await asyncio.gather(*holders)
            await engine.dispose()
        return late, ends

    late, ends = run_bounded(work)

    for seconds, error in ends:
        assert isinstance(error, PoolTimeout)
        assert seconds < 0.5 + late.allowed_seconds
        assert "in hold (5 times" in str(error)


def test_the_deadline_of_the_request_bounds_the_wait(tmp_path):
    """A caller with little time left does not wait for what the setting allows."""
    engine = on_sqlite(tmp_path, 1)
    with guarded(engine, deadlocks="wait"), engine.connect(), Lateness() as late:
        began = time.monotonic()
        with deadline_scope(began + 0.05), pytest.raises(PoolTimeout):
            engine.connect()
        seconds = time.monotonic() - began

    assert 0.05 <= seconds < 0.05 + late.allowed_seconds


def test_a_shorter_timeout_of_the_pool_wins(tmp_path):
    """What the service asked for itself is not made longer."""
    engine = create_engine(
        f"sqlite:///{tmp_path / 'x.db'}", pool_size=1, max_overflow=0, pool_timeout=0.01
    )
    with (
        guarded(engine, deadlocks="wait"),
        engine.connect(),
        pytest.raises(PoolTimeout, match=r"timeout 0\.01"),
    ):
        engine.connect()


def test_a_caller_that_waits_gets_the_next_connection_that_comes_back(tmp_path):
    """A return wakes the waiter, which is counted with the time it waited."""
    engine = on_sqlite(tmp_path, 1)
    with guarded(engine) as protection:
        held = engine.connect()
        waiter = threading.Thread(target=lambda: engine.connect().close())
        waiter.start()
        while not protection.statistics().waiting:
            time.sleep(0.001)

        held.close()
        waiter.join(5)

        statistics = protection.statistics()
    assert (statistics.waits, statistics.timeouts, statistics.in_use) == (1, 0, 0)
    assert statistics.wait_seconds > 0


@pytest.mark.slow
def test_a_failed_connect_wakes_the_next_waiter():
    """Two connects that fail after 0.2 s free their permits: four callers need 0.4 s."""

    def fail():
        time.sleep(0.2)
        raise sqlite3.OperationalError("no such host")

    engine = create_engine("sqlite:///x.db", creator=fail, pool_size=2, max_overflow=0)
    with guarded(engine, checkout_seconds=10.0) as protection, Lateness() as late:
        ends = in_threads(*[engine.connect] * 4)

    longest = max(seconds for seconds, _ in ends)
    assert all(isinstance(error, OperationalError) for _, error in ends)
    assert longest < 0.4 + late.allowed_seconds
    assert protection.statistics().in_use == 0


@pytest.mark.slow
def test_an_opening_breaker_sends_all_waiters_away_at_once():
    """Five refused connects open the breaker: who waits is refused then, not at the deadline."""
    gate = threading.Event()

    def refuse():
        gate.wait(10)
        raise ConnectionRefusedError("nobody listens")

    engine = create_engine("sqlite:///x.db", creator=refuse, pool_size=5, max_overflow=0)
    with guarded(engine, checkout_seconds=10.0) as protection:
        threading.Timer(0.1, gate.set).start()
        ends = in_threads(*[engine.connect] * 12)

    refused = [error for _, error in ends if isinstance(error, DatabaseRefused)]
    assert refused
    assert all(isinstance(error, OperationalError) for error in refused)
    assert all(error.retry_after_seconds > 0 for error in refused)
    assert max(seconds for seconds, _ in ends) < 5.0
    assert protection.statistics().breaker == "open"


# -- deadlocks --


def test_a_nested_checkout_with_all_connections_taken_fails_at_most_once(postgres_url, heard):
    """Four callers, four connections, each wants a second: one is refused at once, three go on."""
    engine = create_engine(postgres_url, pool_size=4, max_overflow=0)
    barrier = threading.Barrier(4)
    times = []

    def work():
        with engine.connect() as outer:  # the line that holds
            outer.execute(text("SELECT 1"))
            barrier.wait(5)
            began = time.monotonic()
            try:
                with engine.connect() as inner:  # the line that asks
                    inner.execute(text("SELECT 1"))
            finally:
                times.append(time.monotonic() - began)

    with guarded(engine), Lateness() as late:
        ends = in_threads(*[work] * 4)

    failed = [error for _, error in ends if error is not None]
    assert [type(error) for error in failed] == [PoolDeadlock]
    assert max(times) < late.allowed_seconds
    found = [fact for fact in heard if isinstance(fact, DeadlockFound)]
    assert len(found) == 1
    source = Path(__file__).read_text().splitlines()
    asks = 1 + next(i for i, line in enumerate(source) if "# the line that asks" in line)
    holds = 1 + next(i for i, line in enumerate(source) if "# the line that holds" in line)
    assert f"test_pool.py:{asks} in work" in str(failed[0])
    assert f"test_pool.py:{holds} in work" in str(failed[0])


def test_nested_checkouts_of_tasks_fail_at_most_once(postgres_url):
    """The same in an event loop, with both lines of the service's own code named."""

    async def work():
        engine = create_async_engine(asynchronous(postgres_url), pool_size=4, max_overflow=0)
        barrier = asyncio.Barrier(4)
        times = []

        async def nested():
            async with engine.connect():
                await barrier.wait()
                began = time.monotonic()
                try:
                    async with engine.connect() as inner:
                        await inner.execute(text("SELECT 1"))
                finally:
                    times.append(time.monotonic() - began)

        with guarded(engine), Lateness() as late:
            ends = await asyncio.gather(*(ended(nested()) for _ in range(4)))
            await engine.dispose()
        return ends, max(times), late

    ends, longest, late = run_bounded(work)

    failed = [error for _, error in ends if error is not None]
    assert [type(error) for error in failed] == [PoolDeadlock]
    assert str(failed[0]).count("in nested") == 2
    assert longest < late.allowed_seconds


def test_a_synchronous_wait_inside_the_event_loop_is_refused_at_once(tmp_path):
    """A task holds the connection, another blocks the loop for it: the first could never go on."""

    async def work():
        engine = on_sqlite(tmp_path, 1)
        with guarded(engine):
            ready, over = asyncio.Event(), asyncio.Event()

            async def hold():
                with engine.connect():
                    ready.set()
                    await over.wait()

            holder = asyncio.create_task(hold())
            await ready.wait()
            began = time.monotonic()
            with pytest.raises(PoolDeadlock, match="inside the event loop"):
                engine.connect()
            seconds = time.monotonic() - began
            over.set()
            await holder
        return seconds

    assert run_bounded(work) < 1.0


def test_a_dependency_that_took_a_connection_in_another_thread_is_seen(tmp_path):
    """One request, two worker threads: what the first took, the second waits for in vain."""
    import contextvars

    engine = on_sqlite(tmp_path, 1)
    record = RequestRecord("r", "r", "t", "s")
    held = []
    with guarded(engine), request_scope(record):
        # As a framework does it: each step in a thread of its own, in a copy of the context.
        first = contextvars.copy_context()
        in_threads(partial(first.run, lambda: held.append(engine.connect())))
        del first
        second = contextvars.copy_context()
        ((_, error),) = in_threads(lambda: second.run(engine.connect))
        held.pop().close()

    assert isinstance(error, PoolDeadlock)


def test_a_worker_thread_that_serves_another_request_now_is_no_deadlock(tmp_path):
    """The thread that took the connection waits, but for somebody else: its owner may go on."""
    import contextvars

    engine = on_sqlite(tmp_path, 1)
    requests = [RequestRecord(name, name, "t", "s") for name in "ab"]
    held, found = [], []

    def step(record, work):
        with request_scope(record):
            context = contextvars.copy_context()
        return context.run(work)

    def one_thread():
        step(requests[0], lambda: held.append(engine.connect()))
        try:
            step(requests[1], engine.connect)
        except Exception as error:
            found.append(error)

    with guarded(engine, checkout_seconds=0.05):
        in_threads(one_thread)
        held.pop().close()

    assert [type(error) for error in found] == [PoolTimeout]


# -- permits are not lost --


@pytest.mark.slow
def test_two_hundred_cancelled_checkouts_lose_no_permit(postgres_url):
    """Cancelled while waiting, while connecting, or just when granted: all permits come back."""
    draw = random.Random(20)

    async def work():
        engine = create_async_engine(asynchronous(postgres_url), pool_size=2, max_overflow=1)

        async def use():
            async with engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
                await asyncio.sleep(draw.random() * 0.002)

        with guarded(engine) as protection:
            for _ in range(20):
                tasks = [asyncio.create_task(use()) for _ in range(10)]
                for task in tasks:
                    await asyncio.sleep(draw.random() * 0.002)
                    task.cancel()
                ends = await asyncio.gather(*tasks, return_exceptions=True)
                assert all(
                    end is None or isinstance(end, asyncio.CancelledError) for end in ends
                ), ends
            statistics = protection.statistics()
            held = [await engine.connect() for _ in range(3)]
            full = protection.statistics().in_use
            for connection in held:
                await connection.close()
            await engine.dispose()
        return statistics, full, engine.pool.checkedout()

    statistics, full, out = run_bounded(work)

    assert (statistics.in_use, statistics.waiting) == (0, 0)
    assert full == 3
    assert out == 0


@pytest.mark.slow
def test_many_threads_on_few_connections_all_get_one(tmp_path):
    """Two thousand checkouts by twenty threads on three connections: none is lost or stuck."""
    engine = on_sqlite(tmp_path, 3)
    most = []

    def work():
        for _ in range(100):
            with engine.connect():
                most.append(protection.statistics().in_use)

    with guarded(engine, checkout_seconds=15.0) as protection:
        ends = in_threads(*[work] * 20)
        statistics = protection.statistics()

    assert [error for _, error in ends if error] == []
    assert max(most) <= 3
    assert (statistics.in_use, statistics.waiting, statistics.checkouts) == (0, 0, 2000)


def test_a_connection_the_collector_returns_gives_its_permit_back(tmp_path):
    """A connection that is dropped and not closed comes back when it is collected."""
    engine = on_sqlite(tmp_path, 1)
    with guarded(engine) as protection:
        fairy = engine.raw_connection()

        del fairy

        assert protection.statistics().in_use == 0


@pytest.mark.parametrize("taken", ["before", "under guard", "and disposed of"])
def test_the_collector_may_return_a_connection_inside_the_lock(tmp_path, monkeypatch, taken):
    """It works wherever memory is asked for; whoever has the lock gives the permit back then."""
    monkeypatch.setattr(pool_module, "_lock", threading.Lock())  # one that may be lost
    # A pool that cannot say what is out.
    engine = create_engine(f"sqlite:///{tmp_path / 'x.db'}", poolclass=NullPool)
    fairies = [engine.raw_connection()] if taken == "before" else []
    with guarded(engine) as protection:
        if taken != "before":
            fairies = [engine.raw_connection()]
        if taken == "and disposed of":
            engine.dispose()

        def collect():
            with pool_module._lock:
                fairies.clear()
                gc.collect()
            pool_module._settle()  # as whoever lets go of the lock does

        thread = threading.Thread(target=collect, daemon=True)
        thread.start()
        thread.join(30)  # it goes through all that this process holds
        ended = not thread.is_alive()
        if ended:
            engine.connect().close()

    assert ended
    assert protection.statistics().in_use == 0


def test_what_came_back_while_a_waiter_was_looked_at_is_passed_on(tmp_path):
    """Whoever returns a connection finds the lock taken, and goes: its owner passes it on."""
    engine = on_sqlite(tmp_path, 1)
    with guarded(engine, checkout_seconds=5.0) as protection:
        held = engine.connect()
        times = []

        def wants():
            began = time.monotonic()
            with engine.connect():
                times.append(time.monotonic() - began)

        thread = threading.Thread(target=wants)
        thread.start()
        while not protection.statistics().waiting:
            time.sleep(0.001)
        gate = getattr(type(engine.pool), pool_module.GATE)
        (waiting,) = gate.permits.queue
        with pool_module._lock:
            held.close()
        refused = gate._starve(waiting, 1, True)
        thread.join(GUARD_SECONDS)

    assert not refused
    assert times[0] < 2.0


def test_what_came_back_while_a_waiter_was_cancelled_is_passed_on(tmp_path):
    """The next in the queue does not wait for its deadline."""

    async def work():
        engine = create_async_engine(
            f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", pool_size=1, max_overflow=0
        )

        async def wants():
            async with engine.connect():
                return time.monotonic()

        with guarded(engine, checkout_seconds=5.0) as protection:
            held = await engine.connect()
            first, second = asyncio.create_task(wants()), asyncio.create_task(wants())
            while protection.statistics().waiting < 2:
                await asyncio.sleep(0.001)
            # Out of the queue by cancelling, before anybody is told.
            with pool_module._lock:
                await held.close()
            began = time.monotonic()
            first.cancel()
            took = await second - began
            await engine.dispose()
        return first.cancelled(), took

    cancelled, took = run_bounded(work)

    assert cancelled
    assert took < 2.0


def test_a_detached_connection_gives_its_permit_back(tmp_path):
    """Whoever takes a connection out of the pool for good leaves its place to others."""
    engine = on_sqlite(tmp_path, 1)
    with guarded(engine) as protection:
        connection = engine.connect()
        connection.detach()
        assert protection.statistics().in_use == 0
        engine.connect().close()
        connection.close()


# -- one connection for all --


def test_two_tasks_on_one_shared_connection_take_turns():
    """A StaticPool in two tasks at once: what one committed, the other's rollback cannot undo."""

    async def work():
        engine = create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool)
        with guarded(engine):
            async with engine.begin() as connection:
                await connection.execute(text("CREATE TABLE t (who TEXT)"))

            async def write(who, *, keep):
                async with engine.connect() as connection:
                    await connection.execute(text("INSERT INTO t VALUES (:who)"), {"who": who})
                    await asyncio.sleep(0.01)
                    await (connection.commit() if keep else connection.rollback())

            await asyncio.gather(write("kept", keep=True), write("dropped", keep=False))
            async with engine.connect() as connection:
                rows = (await connection.execute(text("SELECT who FROM t"))).scalars().all()
            await engine.dispose()
        return rows

    assert run_bounded(work) == ["kept"]


def test_who_waits_too_long_for_a_shared_connection_is_told_why():
    """The sentence names the pool, the reason, and the line that has the connection."""
    engine = create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    with guarded(engine, checkout_seconds=0.02), engine.connect():
        ((_, error),) = in_threads(engine.connect)

    assert isinstance(error, PoolTimeout)
    assert "StaticPool" in str(error)
    assert "would mix their transactions" in str(error)
    assert "test_pool.py:" in str(error)


def test_one_flow_may_nest_on_a_shared_connection():
    """Two sessions of one task on one connection go on as they ever did, and both give it back."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    with guarded(engine) as protection:
        with engine.connect() as outer:
            with engine.connect() as inner:
                assert inner.scalar(text("SELECT 1")) == 1
            assert protection.statistics().in_use >= 1
            assert outer.scalar(text("SELECT 1")) == 1
        del inner, outer

        assert protection.statistics().in_use == 0


# -- leaks --


@pytest.mark.slow
def test_a_connection_that_is_out_too_long_is_named_and_so_is_its_return(tmp_path, heard):
    """The line that took it, and where its owner stands now; then that it came back."""
    engine = on_sqlite(tmp_path, 2)
    over, named = threading.Event(), threading.Event()
    stop = listen(lambda _: named.set(), ConnectionLeaked)

    def forget():
        connection = engine.connect()
        over.wait(10)
        connection.close()

    with guarded(engine, leak_after_seconds=0.1) as protection:
        thread = threading.Thread(target=forget)
        thread.start()
        assert named.wait(5)
        over.set()
        thread.join(5)
        assert protection.statistics().leaks == 1
    stop()

    leaked = next(fact for fact in heard if isinstance(fact, ConnectionLeaked))
    assert "in forget" in leaked.taken_at
    assert "in forget" in leaked.stands_at
    assert leaked.held_seconds < 1.1
    assert [type(fact) for fact in heard if isinstance(fact, LeakReturned)] == [LeakReturned]


def test_a_connection_that_comes_back_in_time_is_no_leak(tmp_path, heard):
    """Nobody is named for a connection that was out for less."""
    engine = on_sqlite(tmp_path, 1)
    with guarded(engine, leak_after_seconds=0.05):
        engine.connect().close()
        time.sleep(0.1)

    assert [fact for fact in heard if isinstance(fact, (ConnectionLeaked, LeakReturned))] == []
