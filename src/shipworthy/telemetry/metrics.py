"""The metrics of one process: which there are, their label sets, and the bounds on those."""

import logging
import math
import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar, cast

from shipworthy.events import OTHER, Declared, Kind, Metric, OneOf
from shipworthy.telemetry.cells import Cell, HistogramCell, Slots, memory_slots
from shipworthy.telemetry.snapshot import (
    FOLDS,
    SETS_PER_METRIC,
    SETS_PER_PROCESS,
    Exemplar,
    LabelSet,
    Series,
    Snapshot,
    folded,
)

LABEL_CHARACTERS = 200

_log = logging.getLogger("shipworthy.telemetry")

OVERFLOW = Metric(
    "shipworthy_metrics_overflow_total",
    "counter",
    "Requests for a label set that was counted as another, because a value was outside of what its "
    "label may be, or the metric or the process had as many sets as it may have.",
    {"metric": Declared(1000)},
)
UNREAD = Metric(
    "shipworthy_metrics_unread_total",
    "counter",
    "Readings that were left out of a scrape, because they failed or gave no finite number.",
    {"metric": Declared(1000)},
)

Read = Callable[[], float | Mapping[tuple[str, ...], float]]


class Store(Protocol):
    """Where cells have their slots, if not in the memory of the process."""

    def take(self, series: Series, name: str, values: Sequence[str], count: int) -> Slots | None:
        """Return slots that are 0 for a label set of a metric, none where there is no room."""
        ...


class MetricSource(Protocol):
    """Who counts elsewhere what a registry shows, too; a registry is one."""

    def names(self) -> set[str]:
        """Return the names of its metrics."""
        ...

    def snapshot(self) -> Snapshot:
        """Return all of it."""
        ...

    def rest(self, *, asked: bool) -> Snapshot:
        """Return what the store of `keep_in` does not have; `asked` is by somebody who waits."""
        ...

    def keep_in(self, store: Store | None) -> None:
        """Have its cells in `store`, if it has any."""
        ...


C = TypeVar("C", Cell, HistogramCell)


class _Room:
    """What the metrics of a process share: how many label sets they may have, and the store."""

    def __init__(self, *, per_metric: int, in_all: int) -> None:
        self.per_metric = per_metric
        self.left = in_all
        self.store: Store | None = None
        # Reentrant: whoever carries the cells to another store reaches their families, too.
        self.lock = threading.RLock()


class Admission:
    """Which values a label set may have: what is outside of a label's domain becomes `_other`."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        # Of a domain that is bounded by a count: those that came first.
        self._seen: dict[str, set[str]] = {name: set() for name in metric.labels}

    def of(self, values: Sequence[str]) -> tuple[str, ...]:
        """Return the values that stand for these; the same tuple where all of them may be.

        Raises `ValueError` for a wrong number of values, `TypeError` for one that is no text.
        """
        name, labels = self._metric.name, self._metric.labels
        if len(values) != len(labels):
            raise ValueError(
                f"metric {name} has the labels {', '.join(labels) or 'none'}, "
                f"got {len(values)} values"
            )
        return tuple(self._value(label, value) for label, value in zip(labels, values, strict=True))

    def _value(self, label: str, value: str) -> str:
        if not isinstance(value, str):
            name = self._metric.name
            raise TypeError(f"metric {name}: a label value is text, got {type(value).__name__}")
        domain = self._metric.labels[label]
        if value == OTHER or isinstance(domain, OneOf):
            return value if domain.holds(value) else OTHER
        seen = self._seen[label]
        if value in seen:
            return value
        # Short, and nothing a text could not hold.
        fits = len(value) <= LABEL_CHARACTERS and value.isprintable()
        if not fits or not domain.holds(value) or len(seen) >= domain.most:
            return OTHER
        seen.add(value)
        return value


class Family(Generic[C]):
    """All label sets of one metric."""

    def __init__(
        self, metric: Metric, make: Callable[[Slots | None], C], *, room: _Room, overflow: Cell
    ) -> None:
        self.metric = metric
        self._make: Callable[[Slots | None], C] = make
        self._size = len(metric.buckets) + 2 if metric.kind == "histogram" else 1
        self._room = room
        self._overflow = overflow
        self._admission = Admission(metric)
        self._cells: dict[tuple[str, ...], C] = {}
        # Those that found no place in the store.
        self._loose: set[tuple[str, ...]] = set()
        if not metric.labels:
            self._place(())

    def cell(self, *values: str) -> C:
        """Return the cell of this label set, its values in the order the metric declares.

        Keep it where the set is known beforehand; otherwise asking costs one look-up. A value
        outside of its label's domain is counted as `_other`, and so is a whole set beyond the
        limits. Raises `ValueError` for a wrong number of values, `TypeError` for one that is no
        text.
        """
        found = self._cells.get(values)
        return found if found is not None else self._take(values)

    def _take(self, values: tuple[str, ...]) -> C:
        # Whatever is wrong with a set is found here, on its first use, and never looked for again.
        room = self._room
        with room.lock:
            admitted = self._admission.of(values)
            cell = self._cells.get(admitted)
            if cell is None and (len(self._cells) >= room.per_metric or room.left <= 0):
                admitted = (OTHER,) * len(values)
                cell = self._cells.get(admitted)
            if admitted != values:
                self._overflow.add()
            return self._place(admitted) if cell is None else cell

    def _place(self, values: tuple[str, ...]) -> C:
        slots = self._slots(values)
        cell = self._cells[values] = self._make(slots)
        self._room.left -= 1
        return cell

    def _slots(self, values: tuple[str, ...]) -> Slots | None:
        store = self._room.store
        if store is None:
            return None
        slots = store.take(series_of(self.metric), self.metric.name, values, self._size)
        if slots is None:
            self._loose.add(values)
        return slots

    def settle(self) -> None:
        """Carry the cells to the store of the room, to memory where it has none."""
        self._loose.clear()
        for values, cell in self._cells.items():
            cell.move(self._slots(values) or memory_slots(self._size))

    def series(self, *, rest: bool = False) -> Series:
        """Return the metric with its numbers; with `rest` only what the store does not have."""
        # From a copy: another thread may take a label set meanwhile.
        cells = self._cells.copy()
        series = series_of(self.metric)
        series["sets"] = [
            (list(values), cell.numbers())
            for values, cell in cells.items()
            if not rest or values in self._loose
        ]
        exemplars: list[Exemplar] = [
            (list(values), index, trace_id, value, at)
            for values, cell in cells.items()
            for index, trace_id, value, at in cell.exemplars()
        ]
        if exemplars:
            series["exemplars"] = exemplars
        return series


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
        self._admission = Admission(metric)

    def series(self) -> Series:
        series = series_of(self.metric)
        series["sets"] = self._sets()
        return series

    def _sets(self) -> list[LabelSet]:
        try:
            answer = self._read()
            readings = answer if isinstance(answer, Mapping) else {(): answer}
            found = [(tuple(values), float(number)) for values, number in readings.items()]
        except Exception:  # noqa: BLE001 - one broken reading must not take the others with it
            _log.exception("the reading of metric %s failed", self.metric.name)
            self._unread.add()
            return []
        taken: dict[tuple[str, ...], float] = {}
        fold = FOLDS[self.metric.fold]
        for values, number in found:
            if not math.isfinite(number):
                self._unread.add()
                continue
            try:
                admitted = self._admission.of(values)
            except (ValueError, TypeError):
                self._unread.add()
                continue
            if admitted not in taken and len(taken) >= self._limit:
                admitted = (OTHER,) * len(values)
            if admitted != values:
                self._overflow.add()
            before = taken.get(admitted)
            taken[admitted] = number if before is None else fold((before, number))
        return [(list(values), [number]) for values, number in taken.items()]


class Registry:
    """The metrics of one process. Safe to share between threads; nothing in it is global.

    A metric has at most `sets_per_metric` label sets and all together at most `sets_in_all`, and
    beyond them one more for each metric, `_other`.
    """

    def __init__(
        self, *, sets_per_metric: int = SETS_PER_METRIC, sets_in_all: int = SETS_PER_PROCESS
    ) -> None:
        self._room = _Room(per_metric=sets_per_metric, in_all=sets_in_all)
        self._known: dict[str, Counter | Histogram | _Reading] = {}
        self._joined: list[MetricSource] = []
        # What is joined and left out, said once each.
        self._unlike: set[str] = set()
        # Each metric has its cell of these from the start: an alert on their increase needs the 0.
        # They have a room of their own, so that they can tell when the other one is full.
        self._own = _Room(per_metric=1000, in_all=2000)
        self._overflow = Counter(OVERFLOW, Cell, room=self._own, overflow=Cell())
        self._unread = Counter(UNREAD, Cell, room=self._own, overflow=Cell())

    def counter(self, metric: Metric) -> Counter:
        """Return the counter of `metric`, the same one for the same declaration.

        Raises `ValueError` for another kind, or for a declaration that differs from the first one
        of that name.
        """

        def make() -> Counter:
            overflow = self._overflow.cell(metric.name)
            return Counter(metric, Cell, room=self._room, overflow=overflow)

        return cast("Counter", self._register(metric, "counter", make))

    def histogram(self, metric: Metric) -> Histogram:
        """Return the histogram of `metric`; the rest is as with `counter`."""

        def make() -> Histogram:
            return Histogram(
                metric,
                lambda slots: HistogramCell(metric.buckets, slots),
                room=self._room,
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

    def join(self, source: MetricSource) -> None:
        """Show with each snapshot what `source` counts; what both have is added up."""
        self._joined.append(source)

    def names(self) -> set[str]:
        """Return the names of the metrics that are registered here, or in what is joined."""
        return {*self._known, OVERFLOW.name, UNREAD.name}.union(
            *(one.names() for one in self._joined)
        )

    def snapshot(self) -> Snapshot:
        """Return every metric with its numbers, as plain data that survives JSON.

        Never raises for what a reading does: a number that cannot be read is left out and counted.
        """
        return self._told([one.snapshot() for one in self._joined], rest=False)

    def rest(self, *, asked: bool = True) -> Snapshot:
        """Return what the store of `keep_in` does not have: readings, exemplars, what is joined.

        Where nobody has `asked`, what is costly to read may be as it was a while ago.
        """
        others = [one.rest(asked=asked) for one in self._joined]
        return {
            name: series
            for name, series in self._told(others, rest=True).items()
            if series["sets"] or series.get("exemplars")
        }

    def keep_in(self, store: Store | None) -> None:
        """Have the cells in `store` from now on, with what they counted; in memory for None.

        No count is lost, of those neither that threads make meanwhile. A child that this process
        forks counts for itself, in memory.
        """
        with self._room.lock, self._own.lock:
            self._room.store = self._own.store = store
            for family in (*self._known.values(), self._overflow, self._unread):
                if not isinstance(family, _Reading):
                    family.settle()
        for source in self._joined:
            source.keep_in(store)
        if store is not None:
            _stored.add(self)

    def renew_locks(self) -> None:
        """Forget who holds the locks: in the child of a fork, a thread that is not there."""
        self._room.lock = threading.RLock()
        self._own.lock = threading.RLock()

    def _told(self, others: list[Snapshot], *, rest: bool) -> Snapshot:
        with self._room.lock:
            known = list(self._known.values())
        told = {
            one.metric.name: one.series() if isinstance(one, _Reading) else one.series(rest=rest)
            for one in known
        }
        # These two last: the readings above count into them.
        for family in (self._overflow, self._unread):
            told[family.metric.name] = family.series(rest=rest)
        if not others:
            return told
        remarks: list[str] = []
        together = folded([told, *others], remarks)
        for name in remarks:
            if name not in self._unlike:
                self._unlike.add(name)
                _log.warning(
                    "the application's metric %s is not shown: one of that name is declared "
                    "differently; give it another name",
                    name,
                )
        return together

    def _register_reading(self, metric: Metric, kind: Kind, read: Read) -> None:
        reading = _Reading(
            metric,
            read,
            limit=self._room.per_metric,
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
        with self._room.lock:
            known = self._known.get(metric.name)
            if known is None:
                known = self._known[metric.name] = make()
            elif known.metric != metric:
                raise ValueError(f"metric {metric.name} is declared twice, and differently")
            elif isinstance(known, _Reading):
                raise ValueError(f"metric {metric.name} is read in one place already")
            return known


def series_of(metric: Metric) -> Series:
    """Return the metric as data, without numbers."""
    return {
        "kind": metric.kind,
        "help": metric.help,
        "labels": list(metric.labels),
        "buckets": [float(bound) for bound in metric.buckets],
        "fold": metric.fold,
        "sets": [],
    }


_stored: "weakref.WeakSet[Registry]" = weakref.WeakSet()


def _forget_in_child() -> None:
    # The store is the parent's.
    registries = list(_stored)
    for registry in registries:
        registry.renew_locks()
    for registry in registries:
        registry.keep_in(None)


os.register_at_fork(after_in_child=_forget_in_child)
