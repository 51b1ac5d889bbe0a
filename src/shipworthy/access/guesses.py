"""Who sends wrong tokens hears less and less, and who sends a right one never notices. Pure.

Nobody guesses 256 bits. What is bounded here is what the trying does: the lines in the log, and an
answer each time that tells a client with an old token nothing new. Only refusals are counted, so
however much somebody tries from a network, a good token from the same network passes.
"""

from collections import OrderedDict
from dataclasses import dataclass
from math import ceil
from typing import Final, final

MOST_GUESSES: Final = 10
WINDOW_SECONDS: Final = 60.0
# Who rotates addresses gains nothing by being forgotten: 10 more answers that say the same.
NETWORKS_MOST: Final = 1024


@dataclass(frozen=True, slots=True)
class Guess:
    """What becomes of one refused token.

    `wait_seconds` is when the next is answered for what it is; 0 where this one is. `told` is
    whether it is worth a line, and `held_back` how many before it were not.
    """

    wait_seconds: int
    told: bool
    held_back: int = 0


@final
class Guesses:
    """Counts refused tokens by network, in a window that begins with the first; one thread."""

    __slots__ = ("_by_network",)

    def __init__(self) -> None:
        # Of each: when its window began, how many there were in it.
        self._by_network: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def refused(self, network: str, now: float) -> Guess:
        """Count one refused token; `now` is in seconds of a clock that only goes forwards."""
        began, count = self._by_network.pop(network, (now, 0))
        held_back = 0
        if now - began >= WINDOW_SECONDS:
            # The first beyond the bound was told.
            held_back, began, count = max(0, count - MOST_GUESSES - 1), now, 0
        count += 1
        self._by_network[network] = began, count
        if len(self._by_network) > NETWORKS_MOST:
            self._by_network.popitem(last=False)
        if count <= MOST_GUESSES:
            return Guess(0, told=True, held_back=held_back)
        wait_seconds = max(1, ceil(began + WINDOW_SECONDS - now))
        return Guess(wait_seconds, told=count == MOST_GUESSES + 1)
