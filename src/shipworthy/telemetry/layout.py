"""What several segments hold, added up as whole rows: set by set costs several times as much. Pure.

Each segment has its slots in the order in which its process came to need them. A layout says where
each of them is in one common row, so that rows are rearranged and added as a whole.
"""

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import NamedTuple, final

from shipworthy.telemetry.snapshot import Series, Snapshot


class SegmentMetric(NamedTuple):
    """One metric of a segment: its name and declaration, and the label sets with their slots."""

    name: str
    declared: Series
    places: list[tuple[list[str], int, int]]


@final
class Layout:
    """The common row of several segments, as long as none of them has a new label set."""

    def __init__(self, segments: Sequence[Sequence[SegmentMetric]]) -> None:
        # By declaration: what two versions declare differently under one name is not added up.
        # A label set has several places where several registries of one segment count it.
        self._metrics: dict[
            tuple[object, ...], tuple[SegmentMetric, dict[tuple[str, ...], list[int]]]
        ] = {}
        self._length = 0
        placed = [self._place(segment) for segment in segments]
        self._arrange = [_picked(pairs, self._length) for pairs in placed]

    def total(self, rows: Sequence[list[float]]) -> list[Snapshot]:
        """Return the sum of the segments, of which `rows` are the slots as they are now.

        There is a second snapshot, and so on, only for what is declared differently.
        """
        arranged = [arrange(row) for arrange, row in zip(self._arrange, rows, strict=True)]
        numbers: list[float] = list(map(sum, zip(*arranged, strict=True)))
        told: list[Snapshot] = []
        for one, sets in self._metrics.values():
            snapshot = next((each for each in told if one.name not in each), None)
            if snapshot is None:
                snapshot = {}
                told.append(snapshot)
            series = snapshot[one.name] = one.declared.copy()
            size = slots_of(one.declared)
            series["sets"] = [
                (list(values), _added([numbers[at : at + size] for at in places]))
                for values, places in sets.items()
            ]
        return told

    def _place(self, segment: Sequence[SegmentMetric]) -> list[tuple[int, int, int]]:
        """Find or make the common place of each label set, and return it with its own slots."""
        pairs = []
        taken: dict[tuple[object, ...], int] = {}
        for one in segment:
            declared = one.declared
            shape = (
                one.name,
                declared["kind"],
                declared["fold"],
                tuple(declared["labels"]),
                tuple(declared["buckets"]),
            )
            _, sets = self._metrics.setdefault(shape, (one, {}))
            for values, at, end in one.places:
                key = shape, tuple(values)
                place = taken[key] = taken.get(key, -1) + 1
                places = sets.setdefault(key[1], [])
                if place == len(places):
                    places.append(self._length)
                    self._length += end - at
                pairs.append((places[place], at, end))
        return pairs


def slots_of(series: Series) -> int:
    """Return how many slots a label set of this metric has."""
    return len(series["buckets"]) + 2 if series["kind"] == "histogram" else 1


def _added(rows: list[list[float]]) -> list[float]:
    return rows[0] if len(rows) == 1 else list(map(sum, zip(*rows, strict=True)))


def _picked(
    pairs: list[tuple[int, int, int]], length: int
) -> Callable[[list[float]], Sequence[float]]:
    """Return what brings the slots of a segment into the common row, with 0 where it has none."""
    zero = max((end for _, _, end in pairs), default=0)
    # Two more, for `itemgetter` gives the thing itself where it is asked for one.
    picks = [zero] * (length + 2)
    for place, at, end in pairs:
        picks[place : place + end - at] = range(at, end)
    pick = itemgetter(*picks)

    def arrange(row: list[float]) -> Sequence[float]:
        found: Sequence[float] = pick([*row[:zero], 0.0])
        return found

    return arrange
