"""Buckets of one process: a bounded number of keys, and none that is in use is ever forgotten.

A key that nobody needs any more is found by looking at a few keys whenever a new one comes, so no
call looks at all of them. When as many keys as may be known are in use, an unknown one shares a
slot of a sketch with others: it may be refused for what those have spent, and never gains by it.
So a flood of keys that are made up costs no more memory, and lets nobody off whom we know.

Not here: how a bucket is judged (`bucket`). What is kept is gone with the process.
"""

import threading
import time
from array import array
from collections.abc import Callable, Sequence
from functools import lru_cache
from threading import get_ident
from typing import Final, NamedTuple, final

from typing_extensions import override

from shipworthy.store.bucket import (
    Algorithm,
    Ask,
    Buckets,
    Quota,
    State,
    Taken,
    judge,
    judge_gcra,
    put_back,
    unspent_at_ns,
)

# Some 40 MB with keys of 30 characters.
KEYS_MOST: Final = 200_000
# So many keys are not worth being looked for, even when they count no longer: 3 MB. Most clients
# come again a while after that, and a key that is known is decided about in half the time.
_FEW: Final = 16_384
# For each new key one would do to keep up with those that end; two find them before they are many.
_PROBES: Final = 2
# Half a megabyte for each quota that unknown keys ask about while there is no room for them.
SLOTS: Final = 65_536
# What no thread is called.
_SEVERAL: Final = 0
# Limits may change while the service runs; what was counted under older ones is let go.
_SKETCHES_MOST: Final = 32


class _Kept(NamedTuple):
    """A state that does not say by itself until when it counts."""

    until_ns: int
    state: State


class BucketStatistics(NamedTuple):
    """How many keys are known, of how many, and how many decisions were made in the sketch."""

    keys: int
    keys_most: int
    sketched_total: int


@final
class MemoryBuckets(Buckets):
    """Buckets that live as long as this object; for any number of threads and event loops.

    `now_ns` never goes back. Keys are made by a keyed hash: what a client chooses must not decide
    which slot of the sketch it meets.
    """

    def __init__(
        self, keys_most: int = KEYS_MOST, *, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._keys_most = keys_most
        self._few = min(_FEW, keys_most // 2)
        self._now_ns = now_ns
        self._lock = threading.Lock()
        # The one that has made every decision so far.
        self._only_thread: int | None = None
        # A whole number is the state of GCRA, which is also the end of it.
        self._known: dict[str, int | _Kept] = {}
        # The same keys, in an order in which they can be looked at a few at a time.
        self._order: list[str] = []
        self._next = 0
        self._sketches: dict[Quota, array[int]] = {}
        self._sketched_total = 0

    def take_one(self, key: str, quota: Quota, cost: int = 1) -> Taken:
        """Take from one bucket if it allows it."""
        known = self._known.get(key)
        # What nearly every decision is, and no lock as long as one thread makes them all: it would
        # take a third of the time. When a second thread comes, one decision that is under way at
        # that moment may go uncounted, once in the life of the process. These are the lines of
        # `judge_gcra`, because a call and an answer by name would take as long again.
        if (
            type(known) is int
            and quota.is_gcra
            and (cost == 1 or 0 < cost <= quota.burst)
            and get_ident() == self._only_thread
        ):
            now = self._now_ns()
            interval = quota.interval_ns
            start = known if known > now else now  # noqa: FURB136 - max() takes longer
            ahead = start - now + (interval if cost == 1 else cost * interval)
            left = quota.burst_ns - ahead
            if left >= 0:
                self._known[key] = now + ahead
                return tuple.__new__(Taken, (True, left // interval, 0, ahead))
            there = (quota.burst_ns - start + now) // interval
            return tuple.__new__(Taken, (False, max(0, there), -left, start - now))
        ask = Ask(key, quota, cost)
        with self._alone():
            state, taken = self._judged(ask, self._now_ns())
            if taken.allowed:
                self._keep(ask, state)
            return taken

    def take_now(self, asks: Sequence[Ask]) -> tuple[Taken, ...]:
        """Take from each bucket if every one allows it; the keys are different ones."""
        if len(asks) == 1:
            return (self.take_one(*asks[0]),)
        with self._alone():
            now = self._now_ns()
            judged = [self._judged(ask, now) for ask in asks]
            allowed = all(taken.allowed for _, taken in judged)
            if allowed:
                for ask, (state, _) in zip(asks, judged, strict=True):
                    self._keep(ask, state)
        if allowed:
            return tuple(taken for _, taken in judged)
        # Nothing was taken, so of those that would have allowed it everything is left.
        return tuple(
            taken._replace(remaining=taken.remaining + ask.cost) if taken.allowed else taken
            for ask, (_, taken) in zip(asks, judged, strict=True)
        )

    def give_back_now(self, asks: Sequence[Ask]) -> None:
        """Put back what was taken."""
        with self._alone():
            for key, quota, cost in asks:
                known = self._known.get(key)
                slots = self._sketches.get(quota)
                if known is not None:
                    state = known.state if isinstance(known, _Kept) else known
                    self._known[key] = _kept(put_back(state, quota, cost), quota)
                elif slots is not None:
                    slot = _slot(key)
                    rough = _rough(quota)
                    slots[slot] = max(0, slots[slot] - cost * rough.interval_ns)

    def statistics(self) -> BucketStatistics:
        """Return how it stands; safe in any thread."""
        return BucketStatistics(len(self._known), self._keys_most, self._sketched_total)

    @override
    async def take(self, asks: Sequence[Ask]) -> tuple[Taken, ...]:
        return self.take_now(asks)

    @override
    async def give_back(self, asks: Sequence[Ask]) -> None:
        self.give_back_now(asks)

    @override
    async def close(self) -> None:
        return None

    def _alone(self) -> threading.Lock:
        """Return the lock, and notice a second thread: from then on every decision takes it."""
        if self._only_thread != get_ident():
            self._only_thread = get_ident() if self._only_thread is None else _SEVERAL
        return self._lock

    def _judged(self, ask: Ask, now: int) -> tuple[State | None, Taken]:
        """Judge one bucket; the state is None where that is kept in the sketch."""
        key, quota, cost = ask
        known = self._known.get(key)
        if known is not None:
            return judge(known.state if isinstance(known, _Kept) else known, quota, cost, now)
        self._look_at_some(now)
        slots = self._sketches.get(quota)
        spent_until = 0 if slots is None else slots[_slot(key)]
        room = len(self._known) < self._keys_most
        if quota.is_gcra:
            if room:
                # What may have been spent in the sketch counts on.
                return judge(spent_until, quota, cost, now)
        elif room and (not spent_until or spent_until + 2 * quota.period_ns <= now):
            # Of these the sketch does not know when what they count is over, so it waits longer.
            return judge(None, quota, cost, now)
        rough = _rough(quota)
        if cost > rough.burst:
            wait = max(0, spent_until - now) + quota.period_ns
            return None, Taken(allowed=False, remaining=0, retry_after_ns=wait, reset_ns=wait)
        self._sketched_total += 1
        return None, judge_gcra(spent_until, rough, cost, now)[1]

    def _keep(self, ask: Ask, state: State | None) -> None:
        key, quota, cost = ask
        if state is None:
            slots = self._sketches.get(quota)
            if slots is None:
                if len(self._sketches) >= _SKETCHES_MOST:
                    self._sketches.pop(next(iter(self._sketches)))
                slots = self._sketches[quota] = array("q", bytes(8 * SLOTS))
            slot = _slot(key)
            rough = _rough(quota)
            slots[slot] = max(slots[slot], self._now_ns()) + cost * rough.interval_ns
            return
        if key not in self._known:
            self._order.append(key)
        self._known[key] = _kept(state, quota)

    def _look_at_some(self, now: int) -> None:
        """Forget what counts no longer, of the next few keys, where they are many."""
        order = self._order
        if len(order) <= self._few:
            return
        for _ in range(min(_PROBES, len(order))):
            if self._next >= len(order):
                self._next = 0
            key = order[self._next]
            known = self._known[key]
            if (known.until_ns if isinstance(known, _Kept) else known) > now:
                self._next += 1
                continue
            del self._known[key]
            last = order.pop()
            if self._next < len(order):
                order[self._next] = last


def _kept(state: State, quota: Quota) -> int | _Kept:
    return state if isinstance(state, int) else _Kept(unspent_at_ns(state, quota), state)


def _slot(key: str) -> int:
    return hash(key) % SLOTS


@lru_cache(maxsize=_SKETCHES_MOST)
def _rough(quota: Quota) -> Quota:
    """Return what a slot of the sketch allows: by one instant, and in no window more than `quota`.

    An exact log or two counts have no place in a slot. Half of the count at once and the rest
    evenly over the period is at most the count in any.
    """
    if quota.is_gcra:
        return quota
    burst = (quota.count + 1) // 2
    return Quota(
        algorithm=Algorithm.GCRA,
        count=quota.count - burst + 1,
        period_ns=quota.period_ns,
        burst=burst,
    )
