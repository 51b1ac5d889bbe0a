"""Metric cells: a float per label set, found once and then only added to."""

import logging
import math
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypedDict, TypeVar, cast, final

from shipworthy.events import Kind, Metric

# Prometheus keeps every label set it has ever seen in memory; so do we. 1,000 is 200 routes with
# five statuses each.
LABEL_SETS = 1000
LABEL_CHARACTERS = 200
OTHER = "_other"

_log = logging.getLogger("shipworthy.telemetry")

_OVERFLOW = Metric(
    "shipworthy_metrics_overflow_total",
    "counter",
    "Requests for a label set that was not taken, because the metric had as many as it may have.",
    ("metric",),
)
_UNREAD = Metric(
    "shipworthy_metrics_unread_total",
    "counter",
    "Readings that were left out of a scrape, because they failed or gave no finite number.",
    ("metric",),
)


# Label values, and the numbers they have: one for a counter or a gauge; for a histogram the count
# of each bucket (not cumulated, the infinite one last) and then the sum.
LabelSet = tuple[list[str], list[float]]


class Series(TypedDict):
    """One metric with all its label sets, as plain data for JSON and pipes."""

    kind: str
    help: str
    labels: list[str]
    buckets: list[float]
    fold: str
    sets: list[LabelSet]


Snapshot = dict[str, Series]
Read = Callable[[], float | Mapping[tuple[str, ...], float]]


@final
class Cell:
    """A number that goes up. Safe between threads: see `add`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def add(self, amount: float = 1.0) -> None:
        """Count `amount`, which is trusted to be finite and not negative.

        Must stay one statement without a call in it: CPython then switches no thread between the
        load and the store, and no count is lost (a test would tell).
        """
        self.value += amount

    def numbers(self) -> list[float]:
        return [self.value]


@final
class HistogramCell:
    """Counts per bucket and a sum. Safe between threads as `Cell` is."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0.0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one observation, trusted to be finite, below the first bound it does not pass."""
        index = bisect_left(self._bounds, value)
        self._counts[index] += 1.0
        self._sum += value

    def numbers(self) -> list[float]:
        return [*self._counts, self._sum]


C = TypeVar("C", Cell, HistogramCell)


class Family(Generic[C]):
    """All label sets of one metric."""

    def __init__(
        self, metric: Metric, make: Callable[[], C], *, limit: int, overflow: Cell
    ) -> None:
        self.metric = metric
        self._make: Callable[[], C] = make
        self._limit = limit
        self._overflow = overflow
        self._lock = threading.Lock()
        self._cells: dict[tuple[str, ...], C] = {} if metric.labels else {(): make()}

    def cell(self, *values: str) -> C:
        """Return the cell of this label set, its values in the order the metric declares.

        Keep it where the set is known beforehand; otherwise asking costs one look-up. A set beyond
        the limit, or with a value that is too long or not printable, shares the cell `_other`.
        Raises `ValueError` for a wrong number of values, `TypeError` for one that is no text.
        """
        found = self._cells.get(values)
        return found if found is not None else self._take(values)

    def _take(self, values: tuple[str, ...]) -> C:
        # Whatever is wrong with a set is found here, on its first use, and never looked for again.
        name, labels = self.metric.name, self.metric.labels
        if len(values) != len(labels):
            raise ValueError(f"metric {name} has the labels {labels}, got {len(values)} values")
        for value in values:
            if not isinstance(value, str):
                raise TypeError(f"metric {name}: a label value is text, got {type(value).__name__}")
        with self._lock:
            full = len(self._cells) >= self._limit and values not in self._cells
            if full or not _fits(values):
                self._overflow.add()
                values = (OTHER,) * len(labels)
            return self._cells.setdefault(values, self._make())

    def sets(self) -> list[LabelSet]:
        # From a copy: another thread may take a label set meanwhile.
        return [(list(values), cell.numbers()) for values, cell in self._cells.copy().items()]


Counter = Family[Cell]
Histogram = Family[HistogramCell]


class _Reading:
    """A metric whose numbers somebody else keeps; they are asked for on each snapshot."""

    def __init__(
        self, metric: Metric, read: Read, *, limit: int, overflow: Cell, unread: Cell
    ) -> None:
        self.metric = metric
        self._read = read
        self._limit = limit
        self._overflow = overflow
        self._unread = unread

    def sets(self) -> list[LabelSet]:
        try:
            answer = self._read()
            readings = answer if isinstance(answer, Mapping) else {(): answer}
            found = [(list(values), float(number)) for values, number in readings.items()]
        except Exception:  # noqa: BLE001 - one broken reading must not take the others with it
            _log.exception("the reading of metric %s failed", self.metric.name)
            self._unread.add()
            return []
        taken: list[LabelSet] = []
        for values, number in found:
            if len(values) != len(self.metric.labels) or not math.isfinite(number):
                self._unread.add()
            elif len(taken) == self._limit or not _fits(values):
                self._overflow.add()
            else:
                taken.append((values, [number]))
        return taken


class Registry:
    """The metrics of one process. Safe to share between threads; nothing in it is global."""

    def __init__(self, *, label_sets: int = LABEL_SETS) -> None:
        self._label_sets = label_sets
        self._lock = threading.Lock()
        self._known: dict[str, Counter | Histogram | _Reading] = {}
        # Each metric has its cell of these from the start: an alert on their increase needs the 0.
        self._overflow = Counter(_OVERFLOW, Cell, limit=label_sets, overflow=Cell())
        self._unread = Counter(_UNREAD, Cell, limit=label_sets, overflow=Cell())

    def counter(self, metric: Metric) -> Counter:
        """Return the counter of `metric`, the same one for the same declaration.

        Raises `ValueError` for another kind, or for a declaration that differs from the first one
        of that name.
        """

        def make() -> Counter:
            return Counter(
                metric, Cell, limit=self._label_sets, overflow=self._overflow.cell(metric.name)
            )

        return cast("Counter", self._register(metric, "counter", make))

    def histogram(self, metric: Metric) -> Histogram:
        """Return the histogram of `metric`; the rest is as with `counter`."""

        def make() -> Histogram:
            return Histogram(
                metric,
                lambda: HistogramCell(metric.buckets),
                limit=self._label_sets,
                overflow=self._overflow.cell(metric.name),
            )

        return cast("Histogram", self._register(metric, "histogram", make))

    def gauge(self, metric: Metric, *, read: Read) -> None:
        """Ask `read` on each snapshot for the number, or for one number per tuple of label values.

        `read` must answer at once, from memory. Raises `ValueError` as `counter` does, and when
        somebody reads this metric already.
        """
        self._register_reading(metric, "gauge", read)

    def running_total(self, metric: Metric, *, read: Read) -> None:
        """Ask `read` for a counter that somebody else keeps, the kernel say; else as `gauge`."""
        self._register_reading(metric, "counter", read)

    def snapshot(self) -> Snapshot:
        """Return every metric with its numbers, as plain data that survives JSON.

        Never raises for what a reading does: a number that cannot be read is left out and counted.
        """
        with self._lock:
            families = list(self._known.values())
        # These two last: the readings above them count into them.
        families += [self._overflow, self._unread]
        return {family.metric.name: _series(family.metric, family.sets()) for family in families}

    def _register_reading(self, metric: Metric, kind: Kind, read: Read) -> None:
        reading = _Reading(
            metric,
            read,
            limit=self._label_sets,
            overflow=self._overflow.cell(metric.name),
            unread=self._unread.cell(metric.name),
        )
        if self._register(metric, kind, lambda: reading) is not reading:
            raise ValueError(f"metric {metric.name} is registered already; it is read in one place")

    def _register(
        self, metric: Metric, kind: Kind, make: Callable[[], Counter | Histogram | _Reading]
    ) -> Counter | Histogram | _Reading:
        if metric.kind != kind:
            raise ValueError(f"metric {metric.name} is declared as a {metric.kind}, not a {kind}")
        with self._lock:
            known = self._known.get(metric.name)
            if known is None:
                known = self._known[metric.name] = make()
            elif known.metric != metric:
                raise ValueError(f"metric {metric.name} is declared twice, and differently")
            elif isinstance(known, _Reading):
                raise ValueError(f"metric {metric.name} is read in one place already")
            return known


def _fits(values: Iterable[str]) -> bool:
    """Tell whether these may become label values: short, and nothing a text could not hold."""
    return all(len(value) <= LABEL_CHARACTERS and value.isprintable() for value in values)


def _series(metric: Metric, sets: list[LabelSet]) -> Series:
    return {
        "kind": metric.kind,
        "help": metric.help,
        "labels": list(metric.labels),
        "buckets": [float(bound) for bound in metric.buckets],
        "fold": metric.fold,
        "sets": sets,
    }
