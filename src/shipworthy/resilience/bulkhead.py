"""So many calls at once to one target, so that it cannot take all of our threads with it."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, final

from typing_extensions import override

from shipworthy.errors import Rejected
from shipworthy.events import Event, Label, Severity, emit, event


@event(severity=Severity.WARNING)
class BulkheadFilled(Event):
    """A bulkhead began to refuse calls; it is said once until a place is free again."""

    bulkhead: Annotated[str, Label]
    limit: int
    queue: int


@final
class BulkheadFull(Rejected):
    """All places of the bulkhead `name` are taken, and no more may wait, or wait longer."""

    def __init__(self, name: str, *, limit: int, because: str) -> None:
        super().__init__(
            f"bulkhead '{name}' is full: {limit} calls are under way and {because}",
            retry_after_seconds=1.0,
        )
        self.name = name
        self.limit = limit

    @property
    @override
    def public_detail(self) -> str:
        return "something that this request needs is fully taken at the moment"


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkheadStatistics:
    """A bulkhead at one moment, and what it refused since the start."""

    name: str
    limit: int
    in_use: int
    waiting: int
    refused_total: int


@final
class Queued:
    """A caller in the queue; `granted` turns true when a place was handed to it."""

    __slots__ = ("granted", "wake")

    def __init__(self, wake: Callable[[], None]) -> None:
        self.granted = False
        self.wake = wake


class Bulkhead:
    """Let `limit` calls in at once; `queue` more may wait, in order, each up to `queue_seconds`.

    Without a queue by default: who waits for a slow target makes its own caller slow. It decides
    who is next and never waits; the pipeline does. A place that becomes free is handed to the
    first in the queue, so nobody overtakes. Safe to share between threads and event loops.
    Raises `ValueError` for a limit below 1.
    """

    def __init__(
        self, name: str, limit: int, queue: int = 0, *, queue_seconds: float = 1.0
    ) -> None:
        if limit < 1 or queue < 0 or not 0 < queue_seconds < float("inf"):
            raise ValueError(
                f"bulkhead '{name}': limit is 1 or more, queue 0 or more and queue_seconds above "
                f"0 s, got {limit}, {queue} and {queue_seconds} s"
            )
        self.name = name
        self.limit = limit
        self.queue = queue
        self.queue_seconds = queue_seconds
        self._lock = threading.Lock()
        self._in_use = 0
        self._waiting: deque[Queued] = deque()
        self._refused = 0
        self._said = False

    def enter(self, wake: Callable[[], None]) -> Queued | None:
        """Take a place and return None, or queue up: `wake` is called when one was granted.

        Raises `BulkheadFull` when the queue is full too. `wake` runs in the thread of whoever
        leaves, and must not block.
        """
        with self._lock:
            # That there is a place and a queue at once does not happen: `leave` hands it over.
            if self._in_use < self.limit:
                self._in_use += 1
                return None
            if len(self._waiting) < self.queue:
                waiter = Queued(wake)
                self._waiting.append(waiter)
                return waiter
        raise self._refusal(
            f"{self.queue} wait already" if self.queue else "none may wait for a place"
        )

    def leave(self) -> None:
        """Give a place back; it goes to the first in the queue."""
        with self._lock:
            if not self._waiting:
                self._in_use -= 1
                self._said = False
                return
            waiter = self._waiting.popleft()
            waiter.granted = True
        waiter.wake()

    def abandon(self, waiter: Queued) -> None:
        """Leave the queue, for one who has waited long enough or was cancelled.

        If a place was granted meanwhile, it is given back.
        """
        with self._lock:
            if not waiter.granted:
                self._waiting.remove(waiter)
                return
        self.leave()

    def overdue(self, waited_seconds: float) -> BulkheadFull:
        """Return the refusal of one who has waited in vain."""
        return self._refusal(f"none ended within {waited_seconds:.2f} s")

    def statistics(self) -> BulkheadStatistics:
        """Return how it stands."""
        with self._lock:
            return BulkheadStatistics(
                name=self.name,
                limit=self.limit,
                in_use=self._in_use,
                waiting=len(self._waiting),
                refused_total=self._refused,
            )

    def _refusal(self, because: str) -> BulkheadFull:
        with self._lock:
            self._refused += 1
            first, self._said = not self._said, True
        if first:
            emit(BulkheadFilled, bulkhead=self.name, limit=self.limit, queue=self.queue)
        return BulkheadFull(self.name, limit=self.limit, because=because)
