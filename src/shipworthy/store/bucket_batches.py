"""Keep a store that blocks away from the event loop: one thread asks it for all who wait.

What came while the store was asked goes to it together, in one transaction and in the order in
which it came. So a store that takes a millisecond for each transaction is asked a thousand times a
second, and answers as many requests as there are.

Not here: what is decided (`bucket_rows`), and how a store reads and writes (`bucket_file`,
`bucket_sql`).
"""

import asyncio
import threading
from collections.abc import Sequence
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Final, Protocol, final

from typing_extensions import override

from shipworthy.store.bucket import Ask, Buckets, BucketsUnavailable, Taken
from shipworthy.store.bucket_away import BOUND_SECONDS, StoreBreaker
from shipworthy.store.bucket_rows import Answer, Wish
from shipworthy.store.bucket_waiting import WAITING_MOST, BucketRequest, crowded

THREAD: Final = "shipworthy-buckets"
# So that one transaction holds no lock for long, whatever waits.
BATCH_MOST: Final = 64
CLOSE_SECONDS: Final = 1.0


class Shelf(Protocol):
    """Where rows of buckets lie. Used by one thread at a time, which may be blocked by it."""

    def settle(self, wishes: Sequence[Wish], *, deadline: float) -> Sequence[Answer]:
        """Answer all of it in one transaction, by an instant of the monotonic clock.

        Raises `BucketsUnavailable` where that cannot be done; then nothing was taken, as far as is
        known.
        """
        ...

    def close(self) -> None:
        """Let go of what was opened."""
        ...


class QuickShelf(Shelf, Protocol):
    """One that answers where it is asked, without a wait, unless another holds its lock."""

    def settle_now(self, wish: Wish) -> Answer | None:
        """Answer in the thread of the caller; None where the lock is another's just now."""
        ...


@final
class BatchedBuckets(Buckets):
    """Buckets on a shelf, for any number of tasks; the thread begins with the first that needs it.

    Each call ends within `bound_seconds` and the lateness of a timer. `quick` is a second door to
    the same rows that is tried before the thread is; it is used by one thread only, the first.
    After so many `failures` at a stretch nobody is let through for a while (`StoreBreaker`).
    """

    def __init__(
        self,
        name: str,
        shelf: Shelf,
        *,
        quick: QuickShelf | None = None,
        bound_seconds: float = BOUND_SECONDS,
        failures: int = 1,
    ) -> None:
        self._breaker = StoreBreaker(name, failures=failures)
        self._shelf = shelf
        self._quick = quick
        self._quick_in: int | None = None
        self._waiting = 0
        self._bound = bound_seconds
        self._queue: SimpleQueue[BucketRequest | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    @override
    async def take(self, asks: Sequence[Ask]) -> tuple[Taken, ...]:
        return await self._settle(Wish(tuple(asks)))

    @override
    async def give_back(self, asks: Sequence[Ask]) -> None:
        await self._settle(Wish(tuple(asks), back=True))

    @override
    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._quick is not None:
            self._quick.close()
        if self._thread is None:
            self._shelf.close()
            return
        self._queue.put(None)
        # The thread may be held by its server; it lets go of it when that is over.
        await asyncio.to_thread(self._thread.join, CLOSE_SECONDS)

    async def _settle(self, wish: Wish) -> tuple[Taken, ...]:
        if self._closed:
            raise BucketsUnavailable("the store of buckets was closed; this process is leaving")
        return await self._breaker.through(partial(self._answered, wish))

    async def _answered(self, wish: Wish) -> Answer:
        answer = self._at_once(wish)
        return await self._in_turn(wish) if answer is None else answer

    def _at_once(self, wish: Wish) -> Answer | None:
        # Not past those who wait: they would be passed by everybody.
        if self._quick is None or self._waiting:
            return None
        here = threading.get_ident()
        if self._quick_in is None:
            self._quick_in = here
        return self._quick.settle_now(wish) if self._quick_in == here else None

    async def _in_turn(self, wish: Wish) -> Answer:
        if self._queue.qsize() >= WAITING_MOST:
            raise crowded()
        request = BucketRequest(wish, self._bound)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=THREAD, daemon=True)
            self._thread.start()
        self._queue.put(request)
        self._waiting += 1
        try:
            return await request.answered()
        finally:
            self._waiting -= 1

    def _run(self) -> None:
        going_on = True
        while going_on:
            batch, going_on = self._next()
            # Those whose time is over have gone, and are not charged.
            now = monotonic()
            live = [one for one in batch if one.deadline > now and not one.future.done()]
            if live:
                self._answer(live)
        self._shelf.close()

    def _next(self) -> tuple[list[BucketRequest], bool]:
        """Wait for somebody, and return all who are there by then; False after the last."""
        batch: list[BucketRequest] = []
        one = self._queue.get()
        while one is not None:
            batch.append(one)
            if len(batch) == BATCH_MOST:
                return batch, True
            try:
                one = self._queue.get_nowait()
            except Empty:
                return batch, True
        return batch, False

    def _answer(self, batch: list[BucketRequest]) -> None:
        answers: Sequence[Answer | BucketsUnavailable]
        try:
            answers = self._shelf.settle(
                [one.wish for one in batch], deadline=max(one.deadline for one in batch)
            )
        except BucketsUnavailable as error:
            # One for each: an exception is changed by being raised.
            answers = [BucketsUnavailable(str(error)) for _ in batch]
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait for ever
            answers = [BucketsUnavailable(f"the store of buckets failed: {error!r}") for _ in batch]
        for one, answer in zip(batch, answers, strict=True):
            one.answer = answer
        for loop in {one.loop for one in batch}:
            mine = [one for one in batch if one.loop is loop]
            try:
                loop.call_soon_threadsafe(_deliver, mine)
            except RuntimeError:  # that loop has ended, and nobody waits there
                continue


def _deliver(batch: list[BucketRequest]) -> None:
    for one in batch:
        one.deliver()
