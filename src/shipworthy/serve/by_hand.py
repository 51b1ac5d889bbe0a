"""Breakers that an operator has set by hand, in one worker process."""

from collections.abc import Mapping
from typing import final
from weakref import WeakKeyDictionary

from shipworthy.resilience import Breaker, BreakerState, breakers

# What settings say of a breaker; a breaker that was isolated goes back to it.
_BY_SETTING = frozenset({BreakerState.DISABLED, BreakerState.METRICS_ONLY})


@final
class ByHand:
    """Holds breakers open as ordered, also those that are made later. For one thread."""

    def __init__(self) -> None:
        self._orders: dict[str, str] = {}
        self._before: WeakKeyDictionary[Breaker, BreakerState] = WeakKeyDictionary()

    def isolate(self, name: str, because: str) -> None:
        """Hold the breaker of this name open; without effect where there is none."""
        breaker = breakers().get(name)
        if breaker is not None:
            self._orders[name] = because
            self._hold(breaker, because)

    def expect(self, orders: Mapping[str, str]) -> None:
        """Take over what was ordered before this process was there: reasons by name."""
        self._orders |= orders
        self.carry_out()

    def carry_out(self) -> None:
        """Isolate what was ordered and came only now; costs nothing where nothing is."""
        if not self._orders:
            return
        found = breakers()
        for name in self._orders.keys() & found.keys():
            if found[name] not in self._before:
                self._hold(found[name], self._orders[name])

    def close(self, name: str) -> None:
        """Close a breaker; one that only measures, or does nothing, by its settings does so again.

        To close that would make it refuse calls from then on, which nobody has set.
        """
        self._orders.pop(name, None)
        breaker = breakers().get(name)
        if breaker is None:
            return
        before = self._before.pop(breaker, breaker.state)
        if before not in _BY_SETTING:
            breaker.close()
        elif breaker.state is BreakerState.ISOLATED:
            breaker.metrics_only() if before is BreakerState.METRICS_ONLY else breaker.disable()

    def _hold(self, breaker: Breaker, because: str) -> None:
        self._before.setdefault(breaker, breaker.state)
        breaker.isolate(because)
