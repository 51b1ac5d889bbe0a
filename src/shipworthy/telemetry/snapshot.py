"""What a process counted, as plain data, and how the data of several become one. Pure."""

from collections.abc import Callable, Iterable, Sequence
from math import nan
from typing import Any, Final, NotRequired, TypedDict

from shipworthy.events import OTHER

# Prometheus keeps every label set it has ever seen in memory; so do we. 2,000 is what OpenTelemetry
# allows a metric, and 200 routes with ten answers each.
SETS_PER_METRIC: Final = 2_000
SETS_PER_PROCESS: Final = 10_000

# Label values, and the numbers they have: one for a counter or a gauge; for a histogram the count
# of each bucket (not cumulated, the infinite one last) and then the sum; for a summary count, sum.
LabelSet = tuple[list[str], list[float]]
# Label values, index of the bucket, trace id, the value that was observed, and Unix time.
Exemplar = tuple[list[str], int, str, float, float]


class Series(TypedDict):
    """One metric with all its label sets, as plain data for JSON and pipes."""

    kind: str
    help: str
    labels: list[str]
    buckets: list[float]
    fold: str
    sets: list[LabelSet]
    exemplars: NotRequired[list[Exemplar]]


Snapshot = dict[str, Series]

# Of the numbers that several processes have for one label set.
FOLDS: Final[dict[str, Callable[[Iterable[float]], float]]] = {"sum": sum, "max": max, "min": min}


def from_json(plain: Any) -> Snapshot:
    """Return a snapshot that JSON has carried, in place: it says null where a number is none.

    The application may have observed one that is not finite.
    """
    for series in plain.values():
        for _, numbers in series["sets"]:
            if None in numbers:
                numbers[:] = [nan if number is None else number for number in numbers]
        if "exemplars" in series:
            series["exemplars"] = [one for one in series["exemplars"] if None not in one]
    snapshot: Snapshot = plain
    return snapshot


def folded(snapshots: Iterable[Snapshot], remarks: list[str] | None = None) -> Snapshot:
    """Return what these processes counted together, and change none of them.

    Counters and histograms add up, gauges are folded as their metric says, and of the exemplars of
    a bucket the latest stays. Where two processes declare a metric differently, which happens while
    one version replaces another, the earlier snapshot wins and `remarks` gets the name of what was
    left out.
    """
    first: Snapshot = {}
    alike: dict[str, list[Series]] = {}
    for snapshot in snapshots:
        for name, series in snapshot.items():
            if _alike(first.setdefault(name, series), series):
                alike.setdefault(name, []).append(series)
            elif remarks is not None and name not in remarks:
                remarks.append(name)
    return {name: _one(several) for name, several in alike.items()}


def _one(several: Sequence[Series]) -> Series:
    one = several[0].copy()
    fold = FOLDS[one["fold"]]
    rows: dict[tuple[str, ...], list[list[float]]] = {}
    for series in several:
        for values, numbers in series["sets"]:
            rows.setdefault(tuple(values), []).append(numbers)
    one["sets"] = [
        (list(values), found[0] if len(found) == 1 else list(map(fold, zip(*found, strict=True))))
        for values, found in rows.items()
    ]
    exemplars = [example for series in several for example in series.get("exemplars", ())]
    if exemplars:
        one["exemplars"] = _latest(exemplars)
    return one


def _latest(exemplars: list[Exemplar]) -> list[Exemplar]:
    latest: dict[tuple[tuple[str, ...], int], Exemplar] = {}
    for exemplar in sorted(exemplars, key=lambda one: one[4]):
        latest[tuple(exemplar[0]), exemplar[1]] = exemplar
    return list(latest.values())


def retired(
    snapshots: Iterable[Snapshot],
    *,
    sets_per_metric: int = SETS_PER_METRIC,
    sets_in_all: int = SETS_PER_PROCESS,
) -> Snapshot:
    """Return what stays true of processes that are gone: their counts, and none of their gauges.

    Whoever asks workers for snapshots hands this in beside the living ones, so that no counter
    goes backwards when a worker is replaced. It has as many label sets as one process may have;
    what is counted for more of them goes to `_other`, so that no sum is wrong.
    """
    kept: Snapshot = {}
    room = sets_in_all
    for name, series in folded(snapshots).items():
        if series["kind"] in ("counter", "histogram", "summary"):
            one = kept[name] = series.copy()
            one.pop("exemplars", None)
            one["sets"] = _bounded(series, min(sets_per_metric, max(room, 1)))
            room -= len(one["sets"])
    return kept


def _bounded(series: Series, most: int) -> list[LabelSet]:
    sets = series["sets"]
    if len(sets) <= most:
        return sets
    others = [OTHER] * len(series["labels"])
    kept = [one for one in sets if one[0] != others][: most - 1]
    taken = {tuple(values) for values, _ in kept}
    rest = [numbers for values, numbers in sets if tuple(values) not in taken]
    return [*kept, (others, [sum(column) for column in zip(*rest, strict=True)])]


def _alike(one: Series, other: Series) -> bool:
    return (
        one["kind"] == other["kind"]
        and one["labels"] == other["labels"]
        and one["fold"] == other["fold"]
        and _same(one["buckets"], other["buckets"])
    )


def _same(one: Sequence[float], other: Sequence[float]) -> bool:
    return list(one) == list(other)
