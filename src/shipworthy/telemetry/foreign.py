"""The application's own `prometheus_client` metrics, shown beside ours. We do not depend on it.

Each worker tells of its registry as it tells of its gauges, so several workers need neither that
library's multiprocess mode nor a directory for it.
"""

import logging
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, final

from shipworthy.telemetry.metrics import LABEL_CHARACTERS, Store
from shipworthy.telemetry.snapshot import (
    SETS_PER_METRIC,
    SETS_PER_PROCESS,
    Exemplar,
    Series,
    Snapshot,
)

_log = logging.getLogger("shipworthy.telemetry")

_STALE_SECONDS: Final = 10.0
# Of a histogram: far beyond what anybody reads.
_BUCKETS_MAX: Final = 200
# What that library says of the process by itself, as we do.
_SAME: Final = frozenset(
    f"process_{name}"
    for name in (
        "cpu_seconds_total",
        "max_fds",
        "open_fds",
        "resident_memory_bytes",
        "start_time_seconds",
    )
)
_FOLDS: Final = {"max": "max", "livemax": "max", "min": "min", "livemin": "min"}


@final
class ForeignMetrics:
    """Tells what `prometheus_client` counts in this process, if the application has imported it.

    A metric whose name one of ours has is left out, and said in the log once; `taken` returns
    those names.
    """

    def __init__(self, taken: Callable[[], set[str]], *, now: Callable[[], float]) -> None:
        self._taken = taken
        self._now = now
        self._read_at = -math.inf
        self._last: Snapshot = {}
        self._said: set[str] = set()

    def names(self) -> set[str]:
        """Return none: what is there is asked for each time."""
        return set()

    def keep_in(self, store: Store | None) -> None:
        """Keep nothing there: the cells are the library's."""

    def rest(self, *, asked: bool) -> Snapshot:
        """Return all of it, as it was up to ten seconds ago where nobody has asked.

        Their collectors may do anything, and each series costs microseconds.
        """
        if not asked and self._now() - self._read_at < _STALE_SECONDS:
            return self._last
        return self.snapshot()

    def snapshot(self) -> Snapshot:
        """Return what its default registry says, none where nobody has imported it."""
        self._last = self._collected()
        self._read_at = self._now()
        return self._last

    def _collected(self) -> Snapshot:
        library = sys.modules.get("prometheus_client")
        registry = getattr(library, "REGISTRY", None)
        if registry is None:
            return {}
        try:
            return self._read(registry)
        except Exception as error:  # noqa: BLE001 - a collector of the application's has failed
            self._say_once("", f"the metrics of prometheus_client could not be read: {error!r}")
            return {}

    def _read(self, registry: Any) -> Snapshot:
        taken = self._taken()
        told: Snapshot = {}
        room = SETS_PER_PROCESS
        for family in registry.collect():
            for name, series in _converted(family, _fold_of(registry, family.name)):
                if clash := name if name in taken else _clash(name, series["kind"], taken):
                    if name not in _SAME:
                        self._say_once(
                            name,
                            f"the application's metric {name} is not shown: we have {clash}; give "
                            "it another name",
                        )
                    continue
                most = min(SETS_PER_METRIC, room)
                if len(series["sets"]) > most:
                    self._say_once(
                        f"{name} ",
                        f"the application's metric {name} has {len(series['sets'])} label sets, "
                        f"and only {most} are shown; a label takes too many values",
                    )
                    del series["sets"][most:]
                room -= len(series["sets"])
                told[name] = series
        return told

    def _say_once(self, what: str, sentence: str) -> None:
        if what not in self._said:
            self._said.add(what)
            _log.warning("%s", sentence)


def _clash(name: str, kind: str, taken: set[str]) -> str:
    """Return the one of ours that a sample of this metric would be taken for."""
    suffixes = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}
    return next((name + end for end in suffixes.get(kind, ()) if name + end in taken), "")


def _fold_of(registry: Any, name: str) -> str:
    """Return how the gauges of several workers come together; theirs is per process by default."""
    collector = getattr(registry, "_names_to_collectors", {}).get(name)
    return _FOLDS.get(getattr(collector, "_multiprocess_mode", ""), "sum")


def _converted(family: Any, fold: str) -> Iterable[tuple[str, Series]]:
    kind, name = family.type, family.name
    samples = [one for one in family.samples if not one.name.endswith("_created")]
    match kind:
        case "counter":
            yield f"{name}_total", _plain("counter", family, samples)
        case "histogram":
            yield from _histogram(name, family, samples)
        case "summary":
            yield name, _summary(name, family, samples)
        case "info":
            yield f"{name}_info", _plain("gauge", family, samples, fold="max")
        case "gauge" | "stateset":
            yield name, _plain("gauge", family, samples, fold=fold)
        case "unknown":
            yield name, _plain("unknown", family, samples)
        case _:
            return  # histograms of gauges: nobody has a use for their sum over workers


def _series(kind: str, family: Any, labels: Iterable[str]) -> Series:
    return {
        "kind": kind,
        "help": family.documentation or f"{family.name} (it says no more).",
        "labels": list(labels),
        "buckets": [],
        "fold": "sum",
        "sets": [],
    }


def _names(samples: Iterable[Any], *, without: str = "") -> list[str]:
    """Return the labels of all samples; a set that lacks one has it empty, which is the same."""
    found = dict.fromkeys(label for one in samples for label in one.labels)
    found.pop(without, None)
    return list(found)


def _values(labels: Mapping[str, str], names: Iterable[str]) -> tuple[str, ...]:
    return tuple(_text(str(labels.get(name, ""))[:LABEL_CHARACTERS]) for name in names)


def _text(value: str) -> str:
    # A file name that is no UTF-8 comes as a lone surrogate, which JSON cannot say.
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def _plain(kind: str, family: Any, samples: list[Any], *, fold: str = "sum") -> Series:
    series = _series(kind, family, _names(samples))
    series["fold"] = fold
    sets = {_values(one.labels, series["labels"]): float(one.value) for one in samples}
    series["sets"] = [
        (list(values), [number]) for values, number in sets.items() if math.isfinite(number)
    ]
    return series


def _summary(name: str, family: Any, samples: list[Any]) -> Series:
    mine = [one for one in samples if one.name in (f"{name}_count", f"{name}_sum")]
    series = _series("summary", family, _names(mine))
    sets: dict[tuple[str, ...], list[float]] = {}
    for one in mine:
        numbers = sets.setdefault(_values(one.labels, series["labels"]), [0.0, 0.0])
        numbers[one.name == f"{name}_sum"] = float(one.value)
    series["sets"] = [(list(values), numbers) for values, numbers in sets.items()]
    return series


def _histogram(name: str, family: Any, samples: list[Any]) -> Iterable[tuple[str, Series]]:
    series = _series("histogram", family, _names(samples, without="le"))
    buckets = [one for one in samples if one.name == f"{name}_bucket"]
    bounds = sorted({float(one.labels["le"]) for one in buckets})
    if len(bounds) > _BUCKETS_MAX or not bounds or bounds[-1] != math.inf:
        return
    series["buckets"] = bounds[:-1]
    place = {bound: index for index, bound in enumerate(bounds)}
    cumulated: dict[tuple[str, ...], list[float]] = {}
    exemplars: list[Exemplar] = []
    for one in buckets:
        values = _values(one.labels, series["labels"])
        index = place[float(one.labels["le"])]
        cumulated.setdefault(values, [0.0] * (len(bounds) + 1))[index] = float(one.value)
        example = one.exemplar
        if example is not None and example.labels.keys() == {"trace_id"}:
            at = float(example.timestamp or 0.0)
            trace_id = str(example.labels["trace_id"])
            exemplars.append((list(values), index, trace_id, float(example.value), at))
    for one in samples:
        if one.name == f"{name}_sum":
            values = _values(one.labels, series["labels"])
            if values in cumulated:
                cumulated[values][-1] = float(one.value)
    for values, (*counts, total) in cumulated.items():
        each = [count - before for count, before in zip(counts, [0.0, *counts], strict=False)]
        series["sets"].append((list(values), [*each, total]))
    if exemplars:
        series["exemplars"] = exemplars
    yield name, series
