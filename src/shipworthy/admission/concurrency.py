"""How many requests are served at once while more come than can be. Pure.

While all is well there is no limit, and it is only learned how long each route takes. In an
overload the limit follows what requests take now, measured by what they took before: as long as
that is more than half as long again, fewer are let in.
"""

from math import inf, sqrt
from typing import Final, final

# Half as long again is no queue yet: requests differ.
TOLERANCE: Final = 1.5
# The most by which one look lowers the limit, before it is smoothed.
STEEPEST: Final = 0.5
SMOOTHING: Final = 0.2
# By so much it is lowered at each look that finds the event loop late.
BACK_OFF: Final = 0.9
# So many requests make a look, or so much time.
ENOUGH: Final = 10
LOOK_SECONDS: Final = 0.1
_AT_LAST_SECONDS: Final = 1.0
# How slowly a route's own time is unlearned: by half in so many requests.
_MEMORY: Final = 50
# What requests need by their number and their own time is given to them so many times over.
SPARE: Final = 2.0
# The limit rises no further above what was ever inside at once.
_ABOVE_PEAK: Final = 5.0
# Routes that are remembered; those of an application are fewer, whatever its clients ask for.
ROUTES: Final = 1024


@final
class _Route:
    """What a route takes by itself, None until that is known, and what it took lately."""

    __slots__ = ("count", "own_seconds", "total_seconds")

    def __init__(self) -> None:
        self.own_seconds: float | None = None
        self.count = 0
        self.total_seconds = 0.0

    def fold(self, *, only_less: bool) -> None:
        """Believe what was seen, a little; with `only_less` no more than that it takes less."""
        mean = self.total_seconds / self.count
        if self.own_seconds is None:
            self.own_seconds = mean
        elif mean < self.own_seconds or not only_less:
            weight = self.count / (self.count + _MEMORY)
            self.own_seconds += (mean - self.own_seconds) * weight


@final
class ConcurrencyLimit:
    """Follow how long requests take; `limit` is infinite as long as nothing is overloaded.

    It never falls below `floor`, nor below twice what the requests need that end (their number
    in a second times what they take by themselves): no overload that has another cause can make
    it smaller than that.
    """

    __slots__ = ("_floor", "_looked_at", "_peak", "_routes", "limit")

    def __init__(self, *, floor: int) -> None:
        self.limit = inf
        self._floor = float(floor)
        self._routes: dict[str, _Route] = {}
        self._looked_at = -inf
        self._peak = 1

    def ended(self, route: str, seconds: float) -> None:
        """Hear that a request of `route` was served, after so long inside."""
        known = self._routes.get(route)
        if known is None:
            if len(self._routes) >= ROUTES:
                return
            known = self._routes[route] = _Route()
        known.count += 1
        known.total_seconds += seconds

    def own_seconds(self, route: str) -> float:
        """Return what a route takes by itself, 0 where that is not known."""
        known = self._routes.get(route)
        return 0.0 if known is None or known.own_seconds is None else known.own_seconds

    def learn(self, now: float, *, late: bool) -> None:
        """Look while nothing is overloaded; of what is late nothing is learned."""
        if late:
            return
        if now - self._looked_at < _AT_LAST_SECONDS:
            return
        for route in self._routes.values():
            if route.count:
                route.fold(only_less=False)
        self._forget(now)

    def begin(self, now: float, inside: int) -> None:
        """Begin to limit: by what is inside, or where that takes longer already, by what it needs.

        What is inside then is more than can be served, and what it needs is known.
        """
        self._peak = max(inside, 1)
        _, slower, needed = self._seen(now)
        self.limit = float(self._peak)
        if slower > TOLERANCE:
            self.limit = min(self.limit, needed * SPARE)
        self.limit = max(self.limit, self._floor)
        self._forget(now)

    def end(self, now: float) -> None:
        """Limit no more."""
        self.limit = inf
        self._forget(now)

    def adjust(self, now: float, inside: int, *, late: bool) -> None:
        """Look while overloaded, and move the limit; `late` is an event loop that comes late.

        Threads that compute keep the interpreter from it, so fewer of them are let in. Where it
        computes itself there is hardly more than one inside, which no limit changes.
        """
        self._peak = max(self._peak, inside)
        since = now - self._looked_at
        if since < LOOK_SECONDS:
            return
        count, slower, needed = self._seen(now)
        if count < ENOUGH and since < _AT_LAST_SECONDS:
            return
        if late:
            self.limit = min(self.limit, inside) * BACK_OFF
        elif count:
            gradient = max(STEEPEST, TOLERANCE / max(slower, TOLERANCE))
            wanted = self.limit * gradient + sqrt(self.limit)
            moved = self.limit + (wanted - self.limit) * SMOOTHING
            # Of a limit that nobody meets, nothing is learned that would allow a higher one.
            if moved < self.limit or inside >= self.limit / 2:
                self.limit = min(moved, self._peak * _ABOVE_PEAK)
        self.limit = max(self.limit, needed * SPARE, self._floor)
        for route in self._routes.values():
            if route.count:
                route.fold(only_less=True)
        self._forget(now)

    def _seen(self, now: float) -> tuple[int, float, float]:
        """Return the requests since the last look, how many times their own time they took, and
        how many of them at once their own time needs."""
        count, times, needed = 0, 0.0, 0.0
        for route in self._routes.values():
            if not route.count:
                continue
            own = route.own_seconds
            if own is None:
                own = route.total_seconds / route.count
            count += route.count
            times += route.total_seconds / own if own else route.count
            needed += route.count * own
        return count, times / count if count else 1.0, needed / max(now - self._looked_at, 1e-3)

    def _forget(self, now: float) -> None:
        self._looked_at = now
        for route in self._routes.values():
            route.count = 0
            route.total_seconds = 0.0
