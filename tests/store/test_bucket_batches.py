"""A store that blocks is asked by a thread for all who wait, and nobody waits longer than bound."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from lateness import Lateness
from shipworthy.store import Algorithm, Ask, BucketsUnavailable, Quota
from shipworthy.store.bucket_batches import BATCH_MOST, THREAD, BatchedBuckets
from shipworthy.store.bucket_rows import Wish, settle
from shipworthy.store.bucket_waiting import WAITING_MOST

pytestmark = pytest.mark.anyio
ASK = Ask("k", Quota(algorithm=Algorithm.GCRA, count=10_000, period_ns=10**16, burst=10_000))
# A bound that is met only when something is wrong.
PATIENCE = 20.0


class Held:
    """A shelf in memory, whose door the test opens and shuts."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.asked = threading.Event()
        self.batches: list[int] = []
        self.rows = {}
        self.error: Exception | None = None
        self.closed = False
        self.lock_is_free = True

    def settle(self, wishes: Sequence[Wish], *, deadline: float):
        self.batches.append(len(wishes))
        self.asked.set()
        assert self.open.wait(PATIENCE)
        if self.error is not None:
            raise self.error
        settled = settle(wishes, self.rows, 10**18)
        self.rows.update(settled.rows)
        return settled.answers

    def settle_now(self, wish: Wish):
        return self.settle([wish], deadline=0)[0] if self.lock_is_free else None

    def close(self) -> None:
        self.closed = True


@pytest.fixture
async def shelf():
    held = Held()
    yield held
    held.open.set()


async def test_what_comes_while_the_store_is_asked_goes_to_it_together(shelf):
    """Of 200 requests that wait for one transaction, the next takes as many as one may hold."""
    buckets = BatchedBuckets("together", shelf, bound_seconds=PATIENCE)
    shelf.open.clear()
    first = asyncio.create_task(buckets.take([ASK]))
    await asyncio.to_thread(shelf.asked.wait)
    rest = [asyncio.create_task(buckets.take([ASK])) for _ in range(200)]
    await asyncio.sleep(0)
    shelf.open.set()
    answers = [await first, *[await one for one in rest]]
    assert shelf.batches == [1, BATCH_MOST, BATCH_MOST, BATCH_MOST, 200 - 3 * BATCH_MOST]
    # In the order in which they came.
    assert [answer[0].remaining for answer in answers] == list(range(9_999, 9_798, -1))
    await buckets.close()


async def test_a_store_that_blocks_blocks_nobody_else(shelf):
    """The loop goes on, the caller is told within the bound, and those after it at once."""
    buckets = BatchedBuckets("blocked", shelf, bound_seconds=0.05)
    shelf.open.clear()
    loop = asyncio.get_running_loop()
    with Lateness() as late:
        began = loop.time()
        with pytest.raises(BucketsUnavailable, match=r"within 0\.05 s"):
            await buckets.take([ASK])
        took = loop.time() - began
    assert took <= 0.05 + late.allowed_seconds
    for _ in range(50):
        with pytest.raises(BucketsUnavailable, match="is open"):
            await buckets.take([ASK])
    assert shelf.batches == [1]
    shelf.open.set()
    await buckets.close()


async def test_who_has_gone_is_not_charged(shelf):
    """It waited behind another, and left: the store is not asked for it any more."""
    buckets = BatchedBuckets("gone", shelf, bound_seconds=PATIENCE)
    shelf.open.clear()
    first = asyncio.create_task(buckets.take([ASK]))
    await asyncio.to_thread(shelf.asked.wait)
    gone = asyncio.create_task(buckets.take([ASK]))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    shelf.open.set()
    await first
    assert (await buckets.take([ASK]))[0].remaining == 9_998
    await buckets.close()


@pytest.mark.parametrize("error", [BucketsUnavailable("full"), RuntimeError("a bug")])
async def test_a_store_that_fails_is_unavailable_to_all_who_wait(shelf, error):
    """Also where it raises what nobody thought of: the thread goes on."""
    buckets = BatchedBuckets("failing", shelf, bound_seconds=PATIENCE, failures=100)
    shelf.error = error
    results = await asyncio.gather(*(buckets.take([ASK]) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(one, BucketsUnavailable) and str(error.args[0]) in str(one)
               for one in results)  # fmt: skip
    assert len(set(map(id, results))) == 3
    shelf.error = None
    assert (await buckets.take([ASK]))[0].allowed
    await buckets.close()


async def test_a_request_that_could_never_be_admitted_is_told_so(shelf):
    buckets = BatchedBuckets("never", shelf, bound_seconds=PATIENCE)
    with pytest.raises(ValueError, match="costs between 1 and"):
        await buckets.take([ASK._replace(cost=10_001)])
    await buckets.give_back([ASK])
    await buckets.close()


async def test_when_too_many_wait_the_next_is_told_at_once(shelf):
    buckets = BatchedBuckets("crowd", shelf, bound_seconds=PATIENCE)
    shelf.open.clear()
    first = asyncio.create_task(buckets.take([ASK]))
    await asyncio.to_thread(shelf.asked.wait)
    crowd = [asyncio.create_task(buckets.take([ASK])) for _ in range(WAITING_MOST)]
    await asyncio.sleep(0)
    with pytest.raises(BucketsUnavailable, match="wait for the store of buckets already"):
        await buckets.take([ASK])
    shelf.open.set()
    await asyncio.gather(first, *crowd)
    await buckets.close()


async def test_a_quick_door_needs_no_thread(shelf):
    """Nobody waits where the lock is free, and who finds it taken waits in the thread."""
    quick = Held()
    buckets = BatchedBuckets("quick", shelf, quick=quick, bound_seconds=PATIENCE)
    assert (await buckets.take([ASK]))[0].allowed
    assert (quick.batches, shelf.batches) == ([1], [])
    quick.lock_is_free = False
    assert (await buckets.take([ASK]))[0].allowed
    assert shelf.batches == [1]
    await buckets.close()
    assert quick.closed
    assert shelf.closed


async def test_nobody_passes_those_who_wait(shelf):
    """While one waits in the thread the quick door is shut: it would let everybody past."""
    quick = Held()
    quick.lock_is_free = False
    buckets = BatchedBuckets("queue", shelf, quick=quick, bound_seconds=PATIENCE)
    shelf.open.clear()
    first = asyncio.create_task(buckets.take([ASK]))
    await asyncio.to_thread(shelf.asked.wait)
    quick.lock_is_free = True
    second = asyncio.create_task(buckets.take([ASK]))
    await asyncio.sleep(0)
    shelf.open.set()
    await asyncio.gather(first, second)
    assert quick.batches == []
    await buckets.close()


async def test_another_thread_does_not_use_the_quick_door(shelf):
    """It is of the first thread that came; the others' requests go to the store's own."""
    quick = Held()
    buckets = BatchedBuckets("threads", shelf, quick=quick, bound_seconds=PATIENCE)
    await buckets.take([ASK])
    await asyncio.to_thread(lambda: asyncio.run(buckets.take([ASK])))
    assert (quick.batches, shelf.batches) == ([1], [1])
    await buckets.close()


async def test_closing_ends_the_thread_and_refuses_what_comes(shelf):
    buckets = BatchedBuckets("closed", shelf, bound_seconds=PATIENCE)
    await buckets.take([ASK])
    await buckets.close()
    await buckets.close()
    assert shelf.closed
    assert THREAD not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(BucketsUnavailable, match="was closed"):
        await buckets.take([ASK])


async def test_a_loop_that_has_ended_holds_nobody_up(shelf):
    """Its request was on its way; the store answers into the void, and the next one too."""
    buckets = BatchedBuckets("ended", shelf, bound_seconds=PATIENCE)
    shelf.open.clear()

    def leave() -> None:
        async def ask() -> None:
            task = asyncio.create_task(buckets.take([ASK]))
            await asyncio.to_thread(shelf.asked.wait)
            task.cancel()

        asyncio.run(ask())

    await asyncio.to_thread(leave)
    shelf.open.set()
    assert (await buckets.take([ASK]))[0].allowed
    await buckets.close()
