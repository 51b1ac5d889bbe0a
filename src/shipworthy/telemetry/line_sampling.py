"""Which of many lines are written: all up to a number in a second, then one in so many.

Pure: whoever has a line and a time asks.
"""

from typing import final

from shipworthy.telemetry.cells import Cell


@final
class Sampler:
    """Says for how many a line stands; counts in `left_out` those that are not written.

    Times are those of the lines, in seconds of any clock; one that jumps begins another second. For
    one thread, which is that of the log: no request waits for it.
    """

    __slots__ = ("_full", "_left_out", "_one_in", "_second", "_taken")

    def __init__(self, *, full_per_second: int, one_in: int, left_out: Cell) -> None:
        self._full = full_per_second
        self._one_in = one_in
        self._left_out = left_out
        self._second = -1
        self._taken = 0

    def weight(self, at: float) -> int:
        """Return 1 for a line that stands for itself, how many it stands for, or 0 for none."""
        second = int(at)
        if second != self._second:
            self._second = second
            self._taken = 0
        self._taken += 1
        beyond = self._taken - self._full
        if beyond <= 0:
            return 1
        if beyond % self._one_in:
            self._left_out.add()
            return 0
        return self._one_in
