"""Which deadline comes next, for things that are guarded again and again: decided without a clock.

A connection is guarded for each statement, and nearly every guard is lifted long before its
deadline. So an entry in the heap is not moved when its deadline moves: it is looked at when its
instant comes, and put back if the deadline is later. To arm and disarm costs an assignment.
"""

import heapq
from itertools import count
from math import inf
from typing import final


class Watched:
    """One thing with at most one deadline; `at` is infinite while it is not guarded.

    `queued` is the instant at which the heap will look at it.
    """

    __slots__ = ("at", "queued")

    def __init__(self) -> None:
        self.at = inf
        self.queued = inf


@final
class Deadlines:
    """The heap. Not safe between threads by itself, except for `covers`."""

    __slots__ = ("_heap", "_order")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Watched]] = []
        self._order = count()

    def __len__(self) -> int:
        return len(self._heap)

    @staticmethod
    def covers(watched: Watched) -> bool:
        """Say whether the heap will look at `watched` by its deadline: then nothing is to be done.

        Set `at` first. The other side, `due`, takes `queued` away before it reads `at`, so in
        whatever order two threads meet here, one of them sees the other.
        """
        return watched.queued <= watched.at

    def push(self, watched: Watched) -> bool:
        """Have `watched` looked at by its deadline; true when it is now the first of all."""
        watched.queued = watched.at
        heapq.heappush(self._heap, (watched.at, next(self._order), watched))
        return self._heap[0][2] is watched

    def due(self, now: float) -> list[Watched]:
        """Return what is over its deadline at `now`; the rest is looked at again later."""
        over = []
        while self._heap and self._heap[0][0] <= now:
            at, _, watched = heapq.heappop(self._heap)
            if at != watched.queued:
                continue  # an older entry of one that was queued again, for earlier
            watched.queued = inf
            if watched.at <= now:
                over.append(watched)
            elif watched.at != inf:
                self.push(watched)
        return over

    def next(self) -> float | None:
        """Return the instant to look again, None when there is nothing to look at."""
        return self._heap[0][0] if self._heap else None
