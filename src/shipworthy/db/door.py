"""Who may come in, where worker threads wait for connections: decided without a clock.

A request that keeps a connection from one job in a worker thread to its next needs a thread to give
it back. When all threads wait for connections there is none, and nothing moves. So no more such
requests are let in at once than there are connections, and the rest waits outside, where it holds
no thread. Which routes these are is learned from what their requests do; a route nobody knows yet
may wait a moment, and is never refused.

Not here: the waiting, and the answer to those who waited in vain (`web`); what helps where no such
door stands (`starvation`).
"""

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import Protocol, final
from weakref import WeakSet

# Routes that are remembered of each kind; any more stay unknown.
ROUTES = 1024
# Requests that may wait at once; each is a coroutine and holds nothing else.
WAITING = 10_000
# How long a route that nobody knows waits at most, and how long a place is kept for a request that
# has no connection. A service's first request may take so long until it asks for one.
PATIENCE_SECONDS = 2.0
# The same for one of a route that holds, and did not ask yet: it may not have a thread to begin in.
UNASKED_SECONDS = 10.0
# Requests in a row without a connection, after which a route is free, or free again.
FREE_AFTER = 3
FORGET_AFTER = 1000
# Requests after which no more is guessed of a service that has kept no connection yet.
OPEN_AFTER = 100
# Places before any pool is known: SQLAlchemy's own pool, 5 and 10 over.
GUESS = 15
# With several pools: so many requests more than the smallest has connections. So many threads may
# wait for that pool when all go there at once, and frameworks have 40.
SPARE_THREADS = 8
# Of a path only so much is looked at; a longer segment than the second is no name.
_PATH_CHARACTERS, _NAME_CHARACTERS = 256, 32
# What workers said and the loop did not read yet; more can be said only between two requests.
_NEWS = 1024

_DIGIT = re.compile("[0-9]")
# It looks at each segment once, so the time it takes grows with the path and no faster.
_VARIES = re.compile(rf"/(?:[^/0-9]*[0-9][^/]*|[^/]{{{_NAME_CHARACTERS + 1},}})")


def route_key(method: str, path: str) -> str:
    """Return what is the same for all requests of a route, as far as its path can tell.

    A segment that holds a digit, or is longer than 32 characters, stands as `*`. The time it takes
    is bounded, whatever the path.
    """
    if len(path) > _NAME_CHARACTERS or _DIGIT.search(path):
        path = _VARIES.sub("/*", path[:_PATH_CHARACTERS])
    return f"{method} {path}"


class AskedPool(Protocol):
    """What the door wants to know of a pool that was asked for a connection."""

    @property
    def capacity(self) -> int | None:
        """How many connections there can be; None is a pool without a limit."""
        ...

    def serves(self, request: object) -> bool:
        """Say whether `request` has a connection, or waits for one."""
        ...


class Standing(Enum):
    """How a visit stands with the door."""

    WAITING = "waiting"
    PLACED = "placed"
    LET_IN = "let in"
    REFUSED = "refused"
    OVER = "over"


@final
class RouteMemory:
    """What is known of the requests of one route. A free one hears of its requests by itself."""

    __slots__ = ("_door", "holds", "key", "late", "without")

    def __init__(self, door: "PoolDoor", key: str) -> None:
        self._door = door
        self.key = key
        self.holds = False
        # Whether its requests take connections when their answer has begun.
        self.late = False
        self.without = 0

    @property
    def free(self) -> bool:
        """Whether its requests need no place."""
        return not self.holds and self.without >= FREE_AFTER

    def asks(self, pool: AskedPool) -> None:
        """Hear that a request asks for a connection in a worker thread; safe in any thread."""
        self._door.news.append((self, None, pool))

    def kept(self) -> None:
        """Hear that a connection was out for longer than the job that took it; in any thread."""
        self._door.keeps = True


@final
class Visit:
    """One request at the door. `wake` is called, in whatever thread, when it need not wait more."""

    __slots__ = (
        "_door",
        "answering",
        "asked",
        "look_at",
        "placed_at",
        "pools",
        "request",
        "route",
        "since",
        "standing",
        "until",
        "wake",
    )

    def __init__(
        self, door: "PoolDoor", route: RouteMemory, request: object, since: float, until: float
    ) -> None:
        self._door = door
        self.route = route
        self.request = request
        self.since = since
        self.until = until
        self.look_at = self.placed_at = since
        self.standing = Standing.WAITING
        self.pools: tuple[AskedPool, ...] = ()
        self.asked = False
        self.answering = False
        self.wake: Callable[[], None] = _nobody

    def asks(self, pool: AskedPool) -> None:
        """Hear that the request asks for a connection in a worker thread; safe in any thread."""
        if not any(known is pool for known in self.pools):
            self.asked = True
            self.pools = (*self.pools, pool)
            self._door.news.append((self.route, self, pool))

    def kept(self) -> None:
        """Hear that a connection was out for longer than the job that took it; in any thread."""
        self._door.keeps = True

    def served(self) -> bool:
        """Say whether it has a connection now, or waits for one."""
        return any(pool.serves(self.request) for pool in self.pools)


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorStatistics:
    """The door at one moment, and since the start; `limit` None is a door that stands open."""

    limit: int | None
    inside: int
    waiting: int
    waited_total: int
    refused_total: int


@final
class PoolDoor:
    """Let in no more requests that may keep a connection than there are connections.

    They wait in the order they came. It stands open where requests give each connection back in the
    job that took it. Not safe between threads by itself, except where it says so.
    """

    def __init__(self) -> None:
        self.keeps = False
        self.limit: int | None = GUESS
        self.news: deque[tuple[RouteMemory, Visit | None, AskedPool]] = deque(maxlen=_NEWS)
        self._holding: dict[str, RouteMemory] = {}
        self._others: dict[str, RouteMemory] = {}
        self._pools: WeakSet[AskedPool] = WeakSet()
        self._pools_counted = -1
        # In the order in which they are looked at again.
        self._places: dict[Visit, None] = {}
        self._queue: dict[Visit, None] = {}
        self._over = 0
        self._waited = 0
        self._refused = 0

    @property
    def open(self) -> bool:
        """Whether it stands open: then it is told of connections itself. Safe in any thread."""
        return self._over >= OPEN_AFTER and not self.keeps

    def free(self, key: str) -> RouteMemory | None:
        """Return the route if its requests need no place, None if they must `arrive`.

        Then it is told of their connections itself. Safe in any thread.
        """
        if self.news:
            return None
        route = self._others.get(key)
        return route if route is not None and route.free else None

    def asks(self, pool: AskedPool) -> None:
        """Hear that a request asks for a connection: while it stands open, no difference."""

    def kept(self) -> None:
        """Hear that a connection was out for longer than the job that took it; in any thread."""
        self.keeps = True

    def arrive(self, key: str, request: object, now: float, until: float) -> Visit:
        """Let a request in, or have it wait until `until` at the latest: see its `standing`."""
        self._hear(now)
        visit = Visit(self, self._route(key), request, now, until)
        if visit.route.free:
            visit.standing = Standing.LET_IN
            return visit
        self._queue[visit] = None
        self._look_round(now)
        if visit.standing is Standing.WAITING:
            self._waited += 1
            if len(self._queue) > WAITING:
                self._decide(visit, now)
        return visit

    def look(self, visit: Visit, now: float) -> float:
        """Decide about one who waits; return in how many seconds to ask again, 0 when decided."""
        self._look_round(now)
        if visit.standing is not Standing.WAITING:
            return 0.0
        at = visit.until
        if not visit.route.holds:
            at = min(at, visit.since + PATIENCE_SECONDS)
        if at <= now:
            self._decide(visit, now)
            return 0.0
        # Whoever waits does so because there are places, and all are taken.
        return min(at, next(iter(self._places)).look_at) - now

    def let_in(self, visit: Visit, now: float) -> None:
        """Let in one who would have to wait."""
        del self._queue[visit]
        self._place(visit, now)
        visit.wake()

    def answering(self, visit: Visit, now: float) -> None:
        """Hear that the answer begins: what has no connection then, as a stream, needs no place."""
        self._hear(now)
        visit.answering = True
        if visit.standing is Standing.PLACED and not visit.route.late and not visit.served():
            self._vacate(visit)
            self._look_round(now)

    def leave(self, visit: Visit, now: float) -> None:
        """Hear that the request is over, or does not want to come in any more."""
        self._hear(now)
        self._queue.pop(visit, None)
        self._places.pop(visit, None)
        if visit.standing in (Standing.PLACED, Standing.LET_IN):
            self._over += 1
            if not visit.asked:
                self._went_without(visit.route)
        visit.standing = Standing.OVER
        self._look_round(now)

    def waits_since(self) -> float:
        """Return since when the first in the queue waits, infinite without one; in any thread."""
        first = next(iter(self._queue), None)
        return inf if first is None else first.since

    def statistics(self) -> DoorStatistics:
        """Return how it stands; safe in any thread."""
        return DoorStatistics(
            limit=self.limit,
            inside=len(self._places),
            waiting=len(self._queue),
            waited_total=self._waited,
            refused_total=self._refused,
        )

    def _look_round(self, now: float) -> None:
        """Do what is due: learn, take places back, and let in whoever may."""
        self._hear(now)
        self._measure()
        if self._queue and self._full():
            self._take_back(now)
        while self._queue and not self._full():
            self.let_in(next(iter(self._queue)), now)

    def _full(self) -> bool:
        return self.limit is not None and len(self._places) >= self.limit

    def _measure(self) -> None:
        if self.open:
            self.limit = None
        elif self.limit is None or len(self._pools) != self._pools_counted:
            self._pools_counted = len(self._pools)
            self.limit = _places_for([pool.capacity for pool in self._pools])

    def _take_back(self, now: float) -> None:
        """Take places from requests that have had theirs for a while, and have no connection."""
        while self._places:
            visit = next(iter(self._places))
            if visit.look_at > now:
                return
            unasked = visit.route.holds and not visit.asked
            if visit.served() or (unasked and now < visit.placed_at + UNASKED_SECONDS):
                del self._places[visit]
                self._keep(visit, now)
            else:
                self._vacate(visit)
                if not visit.asked:
                    self._went_without(visit.route)

    def _hear(self, now: float) -> None:
        while self.news:
            route, visit, pool = self.news.popleft()
            if pool not in self._pools:
                self._pools.add(pool)
                self._pools_counted = -1
            self._now_holds(route)
            if visit is not None and visit.standing is Standing.LET_IN:
                # Its place was given up too early, so there may be one too many for a while.
                route.late = route.late or visit.answering
                self._place(visit, now)

    def _decide(self, visit: Visit, now: float) -> None:
        if not visit.route.holds:
            self.let_in(visit, now)
            return
        del self._queue[visit]
        visit.standing = Standing.REFUSED
        self._refused += 1

    def _place(self, visit: Visit, now: float) -> None:
        visit.standing = Standing.PLACED
        visit.placed_at = now
        self._keep(visit, now)

    def _keep(self, visit: Visit, now: float) -> None:
        visit.look_at = now + PATIENCE_SECONDS
        self._places[visit] = None

    def _vacate(self, visit: Visit) -> None:
        del self._places[visit]
        visit.standing = Standing.LET_IN
        visit.pools = ()  # the next one it asks is news

    def _route(self, key: str) -> RouteMemory:
        route = self._holding.get(key) or self._others.get(key)
        if route is None:
            route = RouteMemory(self, key)
            self._remember(route)
        return route

    def _remember(self, route: RouteMemory) -> None:
        if len(self._others) >= ROUTES:
            del self._others[next(iter(self._others))]
        self._others[route.key] = route

    def _now_holds(self, route: RouteMemory) -> None:
        route.without = 0
        if not route.holds and len(self._holding) < ROUTES:
            route.holds = True
            self._others.pop(route.key, None)
            self._holding[route.key] = route

    def _went_without(self, route: RouteMemory) -> None:
        was_free = route.free
        route.without += 1
        if route.holds and route.without >= FORGET_AFTER:
            route.holds = False
            self._holding.pop(route.key, None)
            self._remember(route)
        if route.free and not was_free:
            for visit in [waiting for waiting in self._queue if waiting.route is route]:
                del self._queue[visit]
                visit.standing = Standing.LET_IN
                visit.wake()


def _places_for(capacities: list[int | None]) -> int | None:
    # For a connection of a pool without a limit, None or 0, nobody waits.
    limited = [capacity for capacity in capacities if capacity]
    if limited:
        return min(sum(limited), min(limited) + SPARE_THREADS)
    return None if capacities else GUESS


def _nobody() -> None:
    """Wake nobody: it does not wait yet."""
