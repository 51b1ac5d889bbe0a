"""Keep the deadline of each connection: when it passes, the connection is cut.

A driver that waits for a silent peer cannot be asked to stop. But it comes back at once, with an
ordinary error of its own, when the socket under it is shut down, or SQLite is told to interrupt.
One thread looks after all synchronous connections, the event loop after its own.

Not here: how one driver's connection is cut (`dialects.drivers`), and what is guarded (`guard`).
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import final
from weakref import WeakMethod

from typing_extensions import override

from shipworthy.db.deadlines import Deadlines, Watched

THREAD = "shipworthy-db-watchdog"
_log = logging.getLogger("shipworthy.db")

Before = tuple[float, str]

# A cut finds nothing where a driver has no socket yet, as in the middle of a connect. So it is made
# again while its span lasts, each time after twice as long: 10 times, which is 20 s in all.
AGAIN_SECONDS = 0.02
AGAIN_TIMES = 10


class CallWatch(Watched):
    """The deadline of one connection. Spans nest: an inner one can only be shorter.

    `fired` says what was cut, once; a connection that was cut is not used again, except SQLite's,
    which lives on. A span that has not ended after a cut is cut again: `at` is then the next time.
    """

    __slots__ = ("__weakref__", "_cuts", "_lock", "cut", "fired", "what")

    def __init__(self, cut: Callable[[], None]) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._cuts = 0
        self.cut = cut
        self.what = ""
        self.fired = ""

    def begin(self, at: float, what: str) -> Before:
        """Have the connection cut at `at`; return what to give to `end`."""
        before = (self.at, self.what)
        if at < self.at:
            self.what = what
            self.fired = ""
            self._cuts = 0
            self.at = at
            if not Deadlines.covers(self):
                self.queue()
        return before

    def end(self, before: Before) -> str:
        """Go back to the deadline before; return what was cut meanwhile, or ''."""
        # Under the lock: once we are through, the connection may be somebody else's.
        with self._lock:
            self.at, self.what = before
            self._cuts = 0
            fired, self.fired = self.fired, ""
        if self.at != inf and not Deadlines.covers(self):
            self.queue()
        return fired

    def fire(self, now: float) -> None:
        """Cut the connection, and again until its span ends, unless that has ended just now."""
        with self._lock:
            if self.at > now:
                return
            self.at = now + AGAIN_SECONDS * 2**self._cuts if self._cuts < AGAIN_TIMES else inf
            self._cuts += 1
            self.fired = self.what
            # Under the lock: a span that has ended is not to be queued. First: a cut may fail.
            if self.at != inf:
                self.queue()
            self.cut()

    def serves_here(self) -> bool:
        """Say whether somebody looks at it while this flow runs."""
        return True

    def queue(self) -> None:
        """Have somebody look at the deadline in time."""
        WATCHDOG.queue(self)


@final
class LoopWatch(CallWatch):
    """The same for a connection of an event loop; touched in its thread only."""

    __slots__ = ("_handle", "_loop")

    def __init__(self, cut: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(cut)
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None

    @override
    def serves_here(self) -> bool:
        return asyncio._get_running_loop() is self._loop  # noqa: SLF001

    @override
    def queue(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self.queued = self.at
        look = WeakMethod(self._look)
        # Not `call_at`: the loop's clock need not be ours, and uvloop's stands still in a callback.
        self._handle = self._loop.call_later(max(0.0, self.at - monotonic()), _call, look)

    def _look(self) -> None:
        self.queued = inf
        now = monotonic()
        if self.at <= now:
            self.fire(now)
        elif self.at != inf:
            self.queue()


def _call(method: "WeakMethod[Callable[[], None]]") -> None:
    found = method()
    if found is not None:
        found()


@final
class Watchdog:
    """The thread that looks after watches. It runs while somebody keeps it, and starts when needed.

    `keep` and `leave` count who needs it; the last one to leave ends the thread.
    """

    _changed: threading.Condition
    _thread: threading.Thread | None

    def __init__(self) -> None:
        self._kept = 0
        self._start_anew()

    def keep(self) -> None:
        """Have the thread run as long as there is something to look at."""
        with self._changed:
            self._kept += 1

    def leave(self, *, join: bool = False) -> None:
        """Take a `keep` back; the last one ends the thread, and with `join` waits for its end."""
        with self._changed:
            self._kept -= 1
            thread = self._thread
            if self._kept or thread is None:
                return
            self._changed.notify_all()
        if join and thread is not threading.current_thread():
            thread.join(1.0)

    def queue(self, watched: Watched) -> None:
        """Look at `watched` by its deadline; a no-op when nobody keeps the thread."""
        with self._changed:
            if self._deadlines.push(watched):
                self._changed.notify_all()
            if self._thread is None and self._kept:
                self._thread = threading.Thread(target=self._run, name=THREAD, daemon=True)
                self._thread.start()

    def _run(self) -> None:
        with self._changed:
            while self._kept:
                now = monotonic()
                over = self._deadlines.due(now)
                if over:
                    self._changed.release()
                    try:
                        for watched in over:
                            if isinstance(watched, (CallWatch, Alarm)):
                                _fire(watched, now)
                    finally:
                        self._changed.acquire()
                    continue
                at = self._deadlines.next()
                self._changed.wait(None if at is None else max(0.0, at - now))
            self._thread = None

    def _start_anew(self) -> None:
        # Of an RLock: a connection that the garbage collector returns may come by while we are in.
        self._changed = threading.Condition()
        self._deadlines = Deadlines()
        self._thread = None

    after_fork = _start_anew


def _fire(watched: "CallWatch | Alarm", now: float) -> None:
    try:
        watched.fire(now)
    except Exception:  # noqa: BLE001 - whatever it is, it is said
        # One thread looks after all connections: what fails for one must not end it for the others.
        _log.exception("a deadline could not be kept; those of other connections are")


@final
class Alarm(Watched):
    """Call a method in the watchdog's thread, at an instant that may be set again and again."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[float], None]) -> None:
        super().__init__()
        # Weakly: whoever sets an alarm must not live until it rings.
        self._call = WeakMethod(call)

    def set(self, at: float) -> None:
        """Ring at `at`, in place of whatever was set before."""
        self.at = at
        if not Deadlines.covers(self):
            WATCHDOG.queue(self)

    def fire(self, now: float) -> None:
        """Ring, once."""
        self.at = inf
        call = self._call()
        if call is not None:
            call(now)


WATCHDOG = Watchdog()
# A thread does not survive a fork, and the lock of one that held it would never be released.
os.register_at_fork(after_in_child=WATCHDOG.after_fork)
