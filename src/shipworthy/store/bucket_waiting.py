"""One request that waits for a store of buckets: it is answered, or it stops waiting in time."""

import asyncio
from time import monotonic
from typing import Final, final

from shipworthy.store.bucket import BucketsUnavailable
from shipworthy.store.bucket_rows import Answer, Wish

# Whoever comes while so many wait is told at once: there is no hope for it within its bound.
WAITING_MOST: Final = 1_000


def crowded() -> BucketsUnavailable:
    """Return what is raised where too many wait already."""
    return BucketsUnavailable(
        f"{WAITING_MOST} requests wait for the store of buckets already; it answers too slowly for "
        f"what comes"
    )


@final
class BucketRequest:
    """What one request wants, and its answer once there is one; of the event loop it was made in.

    Whoever answers sets `answer`, from any thread, and then has `deliver` called in `loop`. So a
    loop that is late finds what has come meanwhile, and calls nothing away that is there.
    """

    __slots__ = ("_bound", "answer", "began", "deadline", "future", "loop", "wish")

    def __init__(self, wish: Wish, bound_seconds: float) -> None:
        self.wish = wish
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Answer] = self.loop.create_future()
        self.began = monotonic()
        self.deadline = self.began + bound_seconds
        self.answer: Answer | BucketsUnavailable | None = None
        self._bound = bound_seconds

    async def answered(self) -> Answer:
        """Wait for the answer; raises `BucketsUnavailable` when the bound has passed."""
        timer = self.loop.call_later(self._bound, self._look_once_more)
        try:
            return await self.future
        finally:
            timer.cancel()

    @property
    def gone(self) -> bool:
        """Say whether nobody waits any more, so that it need not be charged."""
        return self.future.done() or self.deadline <= monotonic()

    def deliver(self) -> None:
        """Wake whoever waits, once."""
        if self.future.done() or self.answer is None:
            return
        if isinstance(self.answer, BucketsUnavailable):
            self.future.set_exception(self.answer)
        else:
            self.future.set_result(self.answer)

    def _look_once_more(self) -> None:
        # A loop that was late rings before it reads its sockets: what lies there is read first.
        self.loop.call_later(0, self._expire)

    def _expire(self) -> None:
        if self.answer is None:
            self.answer = BucketsUnavailable(
                f"the store of buckets did not answer within {self._bound:g} s (waited "
                f"{monotonic() - self.began:.3f} s); is it overloaded, or a lock held there?"
            )
        self.deliver()
