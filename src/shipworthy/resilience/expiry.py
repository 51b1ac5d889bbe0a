"""Deadlines of tasks: one timer for many, because a timer each would cost more than the call."""

import asyncio
from collections.abc import Callable
from typing import Any, final


@final
class Expiry:
    """One task that is to be cancelled at `deadline`, unless it has left by then."""

    __slots__ = ("cancelling", "deadline", "fired", "pending", "task", "timer")

    def __init__(
        self, task: asyncio.Task[Any], deadline: float, pending: "dict[Expiry, None]"
    ) -> None:
        self.pending = pending
        self.task = task
        self.deadline = deadline
        self.cancelling = task.cancelling()
        self.fired = False
        self.timer: asyncio.TimerHandle | None = None

    def fire(self) -> None:
        self.fired = True
        self.task.cancel()

    def leave(self) -> bool:
        """End it, and say whether the deadline was faster."""
        if self.timer is not None:
            self.timer.cancel()
        else:
            self.pending.pop(self, None)
        return self.fired

    def too_late(self, error: BaseException) -> bool:
        """End it, and say whether `error` comes from it and not from another canceller.

        As in `asyncio.timeout`: the cancel is taken back, and if others remain, it is theirs.
        """
        if not self.leave():
            return False
        others = self.task.uncancel() > self.cancelling
        return not (others and isinstance(error, asyncio.CancelledError))


@final
class Expiries:
    """Cancel the tasks of one event loop at their deadlines; used from that loop only.

    Calls of one pipeline have one timeout, so their deadlines come in the order in which they
    begin: a dictionary keeps that order, one timer waits for its first entry, and leaving deletes
    an entry. A deadline that is out of order gets a timer of its own.
    """

    __slots__ = ("_latest", "_now", "_pending", "_waiting", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, now: Callable[[], float]) -> None:
        self.loop = loop
        self._now = now
        self._pending: dict[Expiry, None] = {}
        self._latest = float("-inf")
        self._waiting = False

    def enter(self, task: asyncio.Task[Any], deadline: float, now: float) -> Expiry:
        """Begin to watch `task`."""
        expiry = Expiry(task, deadline, self._pending)
        if deadline < self._latest:
            expiry.timer = self.loop.call_later(deadline - now, expiry.fire)
            return expiry
        self._latest = deadline
        self._pending[expiry] = None
        if not self._waiting:
            self._arm(deadline - now)
        return expiry

    def _arm(self, seconds: float) -> None:
        self._waiting = True
        self.loop.call_later(max(0.0, seconds), self._due)

    def _due(self) -> None:
        self._waiting = False
        now = self._now()
        for expiry in list(self._pending):
            if expiry.deadline > now:
                # Never sooner than the loop's clock can tell apart, or it would spin.
                self._arm(max(expiry.deadline - now, 0.001))
                return
            del self._pending[expiry]
            expiry.fire()
