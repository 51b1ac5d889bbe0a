"""Metric cells: float slots for one label set, found once and then only added to.

The slots are in memory, or in the mapped file of a worker (`segment`), where they outlive it. An
addition costs the same statement either way.
"""

import time
from bisect import bisect_left
from typing import TYPE_CHECKING, final

from typing_extensions import override

if TYPE_CHECKING:
    Slots = memoryview[float]
else:
    Slots = memoryview


def memory_slots(count: int) -> Slots:
    """Return so many slots that are 0, in the memory of this process."""
    return memoryview(bytearray(8 * count)).cast("d")


def listed(slots: Slots) -> list[float]:
    """Return the numbers in these slots now."""
    return slots.tolist()  # type: ignore[return-value]  # they are floats, whatever it says


class _Placed:
    """Numbers that can be carried to other slots while threads add to them."""

    __slots__ = ("_slots",)

    _slots: Slots

    def numbers(self) -> list[float]:
        """Return what was counted, as a label set of a snapshot has it."""
        return listed(self._slots)

    def exemplars(self) -> list[tuple[int, str, float, float]]:
        """Return the examples: index of the bucket, trace id, value, Unix time."""
        return []

    def move(self, slots: Slots) -> None:
        """Go on in `slots`, which are 0 and as many as there were; no count is lost."""
        old = self._slots
        carried = listed(old)
        for index, number in enumerate(carried):
            slots[index] = number
        self._slots = slots
        # What threads counted between the look and the change. No addition is under way in the
        # old ones any more: each is one statement, see `Cell.add`.
        for index, number in enumerate(carried):
            slots[index] += old[index] - number


@final
class Cell(_Placed):
    """A number that goes up. Safe between threads: see `add`."""

    __slots__ = ()

    def __init__(self, slots: Slots | None = None) -> None:
        self._slots = memory_slots(1) if slots is None else slots

    @property
    def value(self) -> float:
        """Return what was counted."""
        return self._slots[0]

    def add(self, amount: float = 1.0) -> None:
        """Count `amount`, which is trusted to be finite and not negative.

        Must stay one statement without a call in it: CPython then switches no thread between the
        load and the store, and no count is lost (a test would tell).
        """
        self._slots[0] += amount


@final
class HistogramCell(_Placed):
    """Counts per bucket and a sum. Safe between threads as `Cell` is."""

    __slots__ = ("_bounds", "_exemplars")

    def __init__(self, bounds: tuple[float, ...], slots: Slots | None = None) -> None:
        self._bounds = bounds
        self._slots = memory_slots(len(bounds) + 2) if slots is None else slots
        # Trace id, value and Unix time of the last observation of each bucket that had a trace.
        self._exemplars: dict[int, tuple[str, float, float]] = {}

    def observe(self, value: float) -> None:
        """Count one observation, trusted to be finite, below the first bound it does not pass."""
        index = bisect_left(self._bounds, value)
        self._slots[index] += 1.0
        self._slots[-1] += value

    def observe_traced(self, value: float, trace_id: str) -> None:
        """Count as `observe` does, and keep the trace as the example of its bucket.

        For traces that are recorded: an example that leads nowhere is of no use.
        """
        index = bisect_left(self._bounds, value)
        self._slots[index] += 1.0
        self._slots[-1] += value
        self._exemplars[index] = (trace_id, value, time.time())

    @override
    def exemplars(self) -> list[tuple[int, str, float, float]]:
        return [(index, *kept) for index, kept in self._exemplars.copy().items()]
