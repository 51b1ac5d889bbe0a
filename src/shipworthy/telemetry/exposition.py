"""Snapshots of several processes as one Prometheus text."""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from operator import add

from shipworthy.telemetry.metrics import Series, Snapshot

EXPOSITION_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_FOLDS: dict[str, Callable[[float, float], float]] = {"sum": add, "max": max, "min": min}


def exposition(snapshots: Sequence[Snapshot]) -> bytes:
    """Return the Prometheus text (format 0.0.4) of what these processes counted together.

    Counters and histograms add up, gauges are folded as their metric says. Where two processes
    declare a metric differently, which happens while one version replaces another, the earlier
    snapshot wins and a comment says what was left out.
    """
    lines: list[str] = []
    for name, series in sorted(_folded(snapshots, lines).items()):
        lines.append(f"# HELP {name} {_escaped(series['help'])}")
        lines.append(f"# TYPE {name} {series['kind']}")
        sample = _histogram if series["kind"] == "histogram" else _plain
        for values, numbers in sorted(series["sets"]):
            pairs = zip(series["labels"], values, strict=True)
            labels = ",".join(f'{label}="{_quoted(value)}"' for label, value in pairs)
            lines += sample(name, labels, series["buckets"], numbers)
    lines.append("")
    return "\n".join(lines).encode("utf-8", "backslashreplace")


def retired(snapshots: Sequence[Snapshot]) -> Snapshot:
    """Return what stays true of processes that are gone: their counts, and none of their gauges.

    Whoever asks workers for snapshots hands this in beside the living ones, so that no counter
    goes backwards when a worker is replaced.
    """
    kept = _folded(snapshots, [])
    return {name: series for name, series in kept.items() if series["kind"] != "gauge"}


def _folded(snapshots: Sequence[Snapshot], remarks: list[str]) -> Snapshot:
    folded: Snapshot = {}
    sets: dict[str, dict[tuple[str, ...], list[float]]] = {}
    for snapshot in snapshots:
        for name, series in snapshot.items():
            first = folded.setdefault(name, series)
            if _shape(first) != _shape(series):
                remarks.append(
                    f"# {name} is declared differently by another process, which is left out"
                )
                continue
            mine = sets.setdefault(name, {})
            fold = _FOLDS[first["fold"]]
            for values, numbers in series["sets"]:
                key = tuple(values)
                known = mine.get(key)
                mine[key] = numbers if known is None else list(map(fold, known, numbers))
    return {
        name: {**series, "sets": [(list(key), numbers) for key, numbers in sets[name].items()]}
        for name, series in folded.items()
    }


def _shape(series: Series) -> tuple[object, ...]:
    return series["kind"], series["fold"], [*series["labels"]], [*series["buckets"]]


def _plain(name: str, labels: str, _: Sequence[float], numbers: Sequence[float]) -> Iterator[str]:
    yield f"{name}{{{labels}}} {_number(numbers[0])}" if labels else f"{name} {_number(numbers[0])}"


def _histogram(
    name: str, labels: str, bounds: Sequence[float], numbers: Sequence[float]
) -> Iterator[str]:
    *counts, total = numbers
    before = f"{labels}," if labels else ""
    after = f"{{{labels}}}" if labels else ""
    cumulated = list(accumulate(counts))
    for bound, count in zip((*map(repr, bounds), "+Inf"), cumulated, strict=True):
        yield f'{name}_bucket{{{before}le="{bound}"}} {_number(count)}'
    yield f"{name}_sum{after} {_number(total)}"
    yield f"{name}_count{after} {_number(cumulated[-1])}"


def _number(value: float) -> str:
    # Whole numbers without their ".0": most are counts, and people read this page.
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', r"\"")
