"""What the metrics were, snapshot by snapshot, in memory that is bounded.

Only changes are kept: a label set that stands still costs nothing, however long. Times are those of
a clock that does not jump (`Clock.now`); what the wall clock says of them is known from the latest
snapshot, so after a correction of the clock everything is shown where it belongs.

Pure: whoever has a snapshot and a time adds them.
"""

import math
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol, Self, final

from typing_extensions import override

from shipworthy.events import Kind
from shipworthy.telemetry.snapshot import Series, Snapshot

INTERVAL_SECONDS: Final = 10.0
SPAN_SECONDS: Final = 6 * 3600.0
BYTES_MAX: Final = 32 * 1024 * 1024
# Of all metrics together: what one service may have of them at most, see `metrics.LABEL_SETS`.
SETS_MAX: Final = 10_000
# As long as Prometheus takes a sample for the present one.
STALE_SECONDS: Final = 300.0

# What CPython needs for a label set beside its numbers: objects, arrays, entry, label values.
_SET_BYTES: Final = 900
_TIME_BYTES: Final = 8
# How much is given up at once where memory ends, and how often what is too old is let go of.
_GIVEN_UP_RATIO: Final = 1 / 8
_TRIM_EVERY: Final = 60
# What grew between fewer points than that in a window is a guess.
_POINTS_LEAST: Final = 4

Labels = tuple[str, ...]


@final
class Kept:
    """The numbers of one label set as they changed; all NaN from when it was gone."""

    __slots__ = ("breaks", "changed", "latest", "numbers", "width")

    def __init__(self, width: int) -> None:
        self.width = width
        self.latest: list[float] | None = None
        # The snapshots with a change, by number, and `width` numbers for each.
        self.changed = array("I")
        self.numbers = array("d")
        # Those of them at which a count fell, or the set went or came back.
        self.breaks = array("I")

    def row(self, snapshot: int) -> Sequence[float] | None:
        """Return the numbers as they were at that snapshot; None where there were none."""
        index = bisect_right(self.changed, snapshot) - 1
        return None if index < 0 else self._row(index)

    def rows(self, first: int, last: int) -> Iterator[tuple[int, int, Sequence[float] | None]]:
        """Yield the numbers with the first and last snapshot at which they were so."""
        index = bisect_right(self.changed, first) - 1
        if index < 0:
            if not self.changed or self.changed[0] > last:
                return
            index, first = 0, self.changed[0]
        while index < len(self.changed) and self.changed[index] <= last:
            following = self.changed[index + 1] - 1 if index + 1 < len(self.changed) else last
            yield max(first, self.changed[index]), min(last, following), self._row(index)
            index += 1

    def is_smooth(self, first: int, last: int) -> bool:
        """Say whether it was there at `first`, and neither fell nor went until `last`."""
        if not self.changed or self.changed[0] > first or self.row(first) is None:
            return False
        after = bisect_right(self.breaks, first)
        return after == len(self.breaks) or self.breaks[after] > last

    def put(
        self, snapshot: int, numbers: list[float] | None, *, may_fall: bool, anew: bool = False
    ) -> int:
        """Take the numbers of a later snapshot; return how many bytes that cost.

        `anew` says that they were counted from 0, whatever they were before.
        """
        before = self.latest
        if numbers == before and not anew:
            return 0
        self.latest = numbers
        self.changed.append(snapshot)
        self.numbers.extend(numbers if numbers is not None else [math.nan] * self.width)
        if anew or numbers is None or before is None or (not may_fall and _fell(numbers, before)):
            self.breaks.append(snapshot)
            return 8 + 8 * self.width
        return 4 + 8 * self.width

    def forget(self, before: int) -> None:
        """Let go of what was only so before that snapshot."""
        index = bisect_right(self.changed, before) - 1
        if index > 0:
            del self.changed[:index], self.numbers[: index * self.width]
        del self.breaks[: bisect_left(self.breaks, before)]

    @property
    def size_bytes(self) -> int:
        """How much memory it takes, about."""
        return _SET_BYTES + 4 * (len(self.changed) + len(self.breaks)) + 8 * len(self.numbers)

    def _row(self, index: int) -> Sequence[float] | None:
        start = index * self.width
        row = self.numbers[start : start + self.width]
        return None if math.isnan(row[0]) else row


def _interned(label: str) -> str:
    # A member of an enumeration is a text, but not one that can be interned.
    return sys.intern(str(label))


def _fell(now: Sequence[float], before: Sequence[float]) -> bool:
    return any(one < other for one, other in zip(now, before, strict=True))


class Remembered(Protocol):
    """Histories, of which one reaches back far enough."""

    def reaching(self, seconds: float) -> "History":
        """Return the finest history that holds as much."""
        ...


class _Shape:
    """What a metric is, and all its label sets."""

    __slots__ = ("bounds", "fold", "kind", "labels", "sets")

    def __init__(self, series: Series) -> None:
        self.kind: Kind = series["kind"]  # type: ignore[assignment]
        self.fold = series["fold"]
        self.labels = tuple(series["labels"])
        self.bounds = tuple(series["buckets"])
        self.sets: dict[Labels, Kept] = {}

    def is_of(self, series: Series) -> bool:
        return (self.kind, self.fold, self.labels, self.bounds) == (
            series["kind"],
            series["fold"],
            tuple(series["labels"]),
            tuple(series["buckets"]),
        )


@final
class History(Remembered):
    """Snapshots of the last `span_seconds`, in at most `bytes_max` of memory.

    Where memory ends before the span does, the oldest go: `shortened` counts those, and `untaken`
    the label sets that found no place among `sets_max`. Not safe between threads.
    """

    def __init__(
        self,
        *,
        interval_seconds: float = INTERVAL_SECONDS,
        span_seconds: float = SPAN_SECONDS,
        bytes_max: int = BYTES_MAX,
        sets_max: int = SETS_MAX,
    ) -> None:
        self.interval_seconds = interval_seconds
        self.span_seconds = span_seconds
        self.shortened = 0
        self.untaken = 0
        self.sets = 0
        # What the wall clock shows when the other one shows 0.
        self.offset_seconds = 0.0
        self._bytes_max = bytes_max
        self._sets_max = sets_max
        self._shapes: dict[str, _Shape] = {}
        self._times = array("d")
        self._anew = array("I")
        self._first = 0  # the number of the oldest snapshot
        self._bytes = 0

    @override
    def reaching(self, seconds: float) -> Self:
        return self

    @property
    def stale_seconds(self) -> float:
        """How old the latest numbers may be, and still be the present ones."""
        return max(STALE_SECONDS, 2 * self.interval_seconds)

    @property
    def reach_seconds(self) -> float:
        """How long a window it can answer for."""
        return self.end - self.begin if self.shortened else self.span_seconds

    @property
    def size_bytes(self) -> int:
        """How much memory it takes, about."""
        return self._bytes + _TIME_BYTES * len(self._times)

    @property
    def snapshots(self) -> int:
        """How many snapshots it holds."""
        return len(self._times)

    @property
    def begin(self) -> float:
        """The time of the oldest snapshot; infinite where there is none."""
        return self._times[0] if self._times else math.inf

    @property
    def end(self) -> float:
        """The time of the latest snapshot; minus infinity where there is none."""
        return self._times[-1] if self._times else -math.inf

    def add(self, snapshot: Snapshot, *, at: float, wall: float, anew: bool = False) -> bool:
        """Take a snapshot; say whether it was later than the one before, else it is not taken.

        `anew` says that its counts began at 0 after the one before, even where they are above it.
        """
        if at <= self.end:
            return False
        number = self._first + len(self._times)
        if anew:
            self._anew.append(number)
        self._times.append(at)
        self.offset_seconds = wall - at
        for name, series in snapshot.items():
            self._take(number, name, series, anew=anew)
        for name, shape in self._shapes.items():
            if name not in snapshot:
                self._miss(number, shape, ())
        oldest = bisect_left(self._times, at - self.span_seconds)
        if oldest >= _TRIM_EVERY:
            self._forget(oldest)
        while self.size_bytes > self._bytes_max and len(self._times) > 1:
            given_up = max(1, int(len(self._times) * _GIVEN_UP_RATIO))
            self.shortened += given_up
            self._forget(given_up)
        return True

    def shape(self, name: str) -> tuple[Kind, Labels, tuple[float, ...]] | None:
        """Return kind, labels and bounds of a metric; None where it was never seen."""
        shape = self._shapes.get(name)
        return None if shape is None else (shape.kind, shape.labels, shape.bounds)

    def kept(self, name: str) -> Mapping[Labels, Kept]:
        """Return the label sets of a metric."""
        shape = self._shapes.get(name)
        return {} if shape is None else shape.sets

    def between(self, start: float, end: float) -> tuple[int, int]:
        """Return the numbers of the first and the last snapshot after `start` and up to `end`.

        The first is above the last where there is none.
        """
        first = bisect_right(self._times, start)
        last = bisect_right(self._times, end) - 1
        return self._first + first, self._first + last

    def time(self, snapshot: int) -> float:
        """Return when that snapshot was taken."""
        return self._times[snapshot - self._first]

    def began_anew(self, after: int, until: int) -> bool:
        """Say whether counts began at 0 in one of the snapshots after the first named."""
        index = bisect_right(self._anew, after)
        return index < len(self._anew) and self._anew[index] <= until

    def present(self, at: float) -> int | None:
        """Return the number of the snapshot that is the present one at that time, if any."""
        first, last = self.between(at - self.stale_seconds, at)
        return last if first <= last else None

    def _take(self, number: int, name: str, series: Series, *, anew: bool) -> None:
        shape = self._shapes.get(name)
        if shape is None or not shape.is_of(series):
            if shape is not None:
                self._drop(shape, list(shape.sets))
            shape = self._shapes[name] = _Shape(series)
        seen = 0
        for values, numbers in series["sets"]:
            labels = tuple(values)
            kept = shape.sets.get(labels)
            if kept is None:
                if self.sets >= self._sets_max:
                    self.untaken += 1
                    continue
                kept = shape.sets[tuple(map(_interned, labels))] = Kept(len(numbers))
                self.sets += 1
                self._bytes += _SET_BYTES
            self._bytes += kept.put(number, [*numbers], may_fall=shape.kind == "gauge", anew=anew)
            seen += 1
        if seen != len(shape.sets):
            self._miss(number, shape, {tuple(values) for values, _ in series["sets"]})

    def _miss(self, number: int, shape: _Shape, seen: "set[Labels] | tuple[()]") -> None:
        for labels, kept in shape.sets.items():
            if labels not in seen:
                self._bytes += kept.put(number, None, may_fall=True)

    def _drop(self, shape: _Shape, gone: Sequence[Labels]) -> None:
        for labels in gone:
            self._bytes -= shape.sets.pop(labels).size_bytes
        self.sets -= len(gone)

    def _forget(self, count: int) -> None:
        del self._times[:count]
        self._first += count
        del self._anew[: bisect_left(self._anew, self._first)]
        self._bytes = 0
        for name, shape in list(self._shapes.items()):
            for kept in shape.sets.values():
                kept.forget(self._first)
                self._bytes += kept.size_bytes
            self._drop(
                shape,
                [
                    labels
                    for labels, kept in shape.sets.items()
                    if kept.latest is None and kept.changed[-1] <= self._first
                ],
            )
            if not shape.sets:
                del self._shapes[name]


@final
class Histories(Remembered):
    """Several histories, the finest first: a window is asked of the first that spans it.

    One that memory has shortened spans what it holds, unless the next one is too coarse to tell.
    One that no other goes back beyond spans all there is: a coarser one begins its counts with what
    came in its first interval, which a young service would not be seen to have counted.
    """

    def __init__(self, *finest_first: History) -> None:
        self.all = finest_first

    @override
    def reaching(self, seconds: float) -> History:
        found = self.all[0]
        begin = min(history.begin for history in self.all)
        for history in self.all:
            if history is not found and seconds < _POINTS_LEAST * history.interval_seconds:
                break
            found = history
            has_all = history.snapshots > 0 and not history.shortened and history.begin <= begin
            if has_all or seconds <= history.reach_seconds:
                break
        return found
