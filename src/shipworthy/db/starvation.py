"""Threads that all wait for connections, so that none is left to give one back.

Frameworks run synchronous code in a bounded number of anyio's worker threads. A request that keeps
a connection from one such job to its next gets no thread for that as long as all of them wait for
connections. Where no door in front of the service prevents it, the newest who waits is refused, and
its thread is free for others. A pool tells of each wait, and says whether a holder may still move.

Not here: the permits, and refusing one who waits (`pool`); the door (`door`).
"""

import asyncio
import threading
from collections.abc import Callable
from time import monotonic
from typing import final
from weakref import WeakKeyDictionary

# Refuse one who waits, unless a holder may still move: how many threads wait, and whether it is the
# first since somebody got a connection. Says whether it did.
Refuse = Callable[[int, bool], bool]

# For so long no connection has come back while all threads wait. Holders that need no thread, as an
# asynchronous handler with a synchronous session, show within it that they go on.
QUIET_SECONDS = 0.5


def until_starved(
    *,
    threads: float,
    borrowed: int,
    waiting: int,
    oldest_since: float,
    served_at: float,
    now: float,
) -> float | None:
    """Return in how many seconds the threads are starved, 0 if they are, None if they are not.

    `threads` there are, `borrowed` of them are at work, `waiting` of these for connections, the
    oldest since `oldest_since`; the last that got one did at `served_at`.
    """
    if borrowed < threads or waiting < threads:
        return None
    return max(0.0, max(oldest_since, served_at) + QUIET_SECONDS - now)


@final
class ThreadWait:
    """The wait of one worker thread."""

    __slots__ = ("_crowd", "refuse", "since")

    def __init__(self, crowd: "ThreadCrowd", refuse: Refuse, since: float) -> None:
        self._crowd = crowd
        self.refuse = refuse
        self.since = since

    def over(self, now: float, *, served: bool) -> None:
        """End it; safe in any thread. `served` says that it got a connection."""
        self._crowd.left(self, now, served=served)


@final
class ThreadCrowd:
    """The worker threads of one event loop that wait for connections. Safe in any thread."""

    def __init__(self) -> None:
        self._waits: dict[ThreadWait, None] = {}
        self._lock = threading.Lock()
        self._threads = 0.0
        self._served_at = 0.0
        self._looking = False
        self._refused = False

    def join(self, loop: asyncio.AbstractEventLoop, refuse: Refuse, now: float) -> ThreadWait:
        """Take note of a wait that begins, and have `loop` look when no thread may be left."""
        wait = ThreadWait(self, refuse, now)
        with self._lock:
            self._waits[wait] = None
            if self._looking or len(self._waits) < self._threads:
                return wait
            self._looking = True
        look = self._look()
        try:
            asyncio.run_coroutine_threadsafe(look, loop)
        except RuntimeError:
            look.close()  # nobody serves a loop that is closed
        return wait

    def left(self, wait: ThreadWait, now: float, *, served: bool) -> None:
        """Take note that a wait is over."""
        with self._lock:
            self._waits.pop(wait, None)
            if served:
                self._served_at = now
                self._refused = False

    async def _look(self) -> None:
        """Refuse the newest as long as the threads are starved; ends when one works again."""
        from anyio.to_thread import current_default_thread_limiter

        limiter = current_default_thread_limiter()
        while True:
            with self._lock:
                self._threads = limiter.total_tokens
                waits = list(self._waits)
                rest = until_starved(
                    threads=limiter.total_tokens,
                    borrowed=limiter.borrowed_tokens,
                    waiting=len(waits),
                    oldest_since=waits[0].since if waits else 0.0,
                    served_at=self._served_at,
                    now=monotonic(),
                )
                if rest is None:
                    self._looking = False
                    return
            if rest:
                await asyncio.sleep(rest)
            elif waits[-1].refuse(len(waits), not self._refused):
                self._refused = True
                # Its thread is free in a moment; whoever waits in it next has us look again.
                self.left(waits[-1], 0.0, served=False)
            else:
                await asyncio.sleep(QUIET_SECONDS)


_crowds: WeakKeyDictionary[asyncio.AbstractEventLoop, ThreadCrowd] = WeakKeyDictionary()
_lock = threading.Lock()


def thread_waits(refuse: Refuse, now: float) -> ThreadWait | None:
    """Take note that this thread waits for a connection; None if it is no worker of anyio's.

    `refuse` is called in the loop's thread, and must not block.
    """
    # anyio offers no way to ask a worker thread for its loop that does not wait for the loop, which
    # may itself be waiting for a connection.
    loop = getattr(threading.current_thread(), "loop", None)
    if not isinstance(loop, asyncio.AbstractEventLoop):
        return None
    with _lock:
        crowd = _crowds.get(loop)
        if crowd is None:
            crowd = _crowds[loop] = ThreadCrowd()
    return crowd.join(loop, refuse, now)
