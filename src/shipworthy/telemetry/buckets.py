"""Snapshots as buckets of time: how much each count grew, and what each gauge was.

Pure. A bucket is what is kept for long. Buckets can be added up: a minute that the clock showed
twice is one bucket with the growth of both, and says that 120 seconds of it were seen. A count that
fell began anew, so nothing is lost over a restart.
"""

import zlib
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from math import floor
from operator import add, sub
from typing import Final, final

from typing_extensions import override

from shipworthy.events import Kind
from shipworthy.telemetry.history import Labels
from shipworthy.telemetry.snapshot import Series, Snapshot

# A gauge in a bucket: the sum over its snapshots, the least, the largest, and how many there were.
_GAUGE_WIDTH: Final = 4
# Fast enough for each minute; a higher level gains 3 % on counts.
_LEVEL: Final = 1
# A longer pause is one in which nobody looked, and is not taken as seen.
_PAUSE_SECONDS: Final = 60.0


@final
@dataclass(frozen=True, slots=True)
class Track:
    """What identifies the numbers of one label set, also in a later version of the service."""

    name: str
    kind: Kind
    fold: str
    names: tuple[str, ...]
    bounds: tuple[float, ...]
    labels: Labels
    # Kept, as it is asked for with every snapshot.
    _hash: int = field(init=False, repr=False, compare=False, default=0)

    def __post_init__(self) -> None:
        identity = (self.name, self.kind, self.fold, self.names, self.bounds, self.labels)
        object.__setattr__(self, "_hash", hash(identity))

    @override
    def __hash__(self) -> int:
        return self._hash

    @property
    def width(self) -> int:
        """How many numbers a bucket has of it."""
        match self.kind:
            case "counter":
                return 1
            case "gauge":
                return _GAUGE_WIDTH
            case _:
                return len(self.bounds) + 2


@final
@dataclass(slots=True)
class Bucket:
    """What was seen in a length of time: `seconds` of it, and numbers by track."""

    seconds: float = 0.0
    numbers: dict[Track, list[float]] = field(default_factory=dict)

    def merge(self, other: "Bucket") -> None:
        """Add what another has seen."""
        self.seconds += other.seconds
        for track, numbers in other.numbers.items():
            known = self.numbers.get(track)
            if known is None:
                self.numbers[track] = [*numbers]
            elif track.kind == "gauge":
                self.numbers[track] = [
                    known[0] + numbers[0],
                    min(known[1], numbers[1]),
                    max(known[2], numbers[2]),
                    known[3] + numbers[3],
                ]
            else:
                self.numbers[track] = list(map(add, known, numbers))


@final
class BucketFill:
    """Makes buckets of `width_seconds` by the wall clock from the snapshots of a running service.

    A clock that jumps ends the bucket that is begun: what was seen until then stays where it was.
    """

    def __init__(self, width_seconds: float) -> None:
        self._width_seconds = width_seconds
        self._start: float | None = None
        self._at = 0.0
        self._open = Bucket()
        self._before: dict[str, dict[Labels, list[float]]] = {}
        # One object for each track, however often it is seen.
        self._tracks: dict[str, tuple[Series, dict[Labels, Track]]] = {}

    def add(self, snapshot: Snapshot, *, at: float, wall: float) -> tuple[float, Bucket] | None:
        """Take a snapshot; return the bucket before it and when that began, if it is over."""
        start = floor(wall / self._width_seconds) * self._width_seconds
        seen_seconds = at - self._at if self._start is not None else 0.0
        over = None
        if self._start is not None and start != self._start:
            over = self._start, self._open
            self._open = Bucket()
        self._start, self._at = start, at
        self._open.seconds += seen_seconds if seen_seconds <= _PAUSE_SECONDS else 0.0
        for name, series in snapshot.items():
            self._take(name, series)
        for name in self._before.keys() - snapshot.keys():
            del self._before[name], self._tracks[name]
        return over

    def close(self) -> tuple[float, Bucket] | None:
        """Return what is begun, as it is over now; the next snapshot begins anew."""
        if self._start is None:
            return None
        over, self._start, self._open = (self._start, self._open), None, Bucket()
        return over

    def _take(self, name: str, series: Series) -> None:
        known = self._tracks.get(name)
        if known is None or not _is_same(known[0], series):
            known = self._tracks[name] = series, {}
            self._before.pop(name, None)
        _, tracks = known
        before = self._before.get(name, {})
        now: dict[Labels, list[float]] = {}
        for values, numbers in series["sets"]:
            labels = tuple(values)
            track = tracks.get(labels)
            if track is None:
                track = tracks[labels] = track_of(name, series, labels)
            now[labels] = numbers
            if track.kind == "gauge":
                self._measure(track, numbers[0])
            else:
                self._grow(track, numbers, before.get(labels))
        self._before[name] = now
        if len(tracks) != len(now):
            for labels in tracks.keys() - now.keys():
                del tracks[labels]

    def _measure(self, track: Track, number: float) -> None:
        known = self._open.numbers.get(track)
        if known is None:
            self._open.numbers[track] = [number, number, number, 1.0]
            return
        known[0] += number
        known[1] = min(known[1], number)
        known[2] = max(known[2], number)
        known[3] += 1.0

    def _grow(self, track: Track, numbers: Sequence[float], before: Sequence[float] | None) -> None:
        known = self._open.numbers.get(track)
        if known is None:
            known = self._open.numbers[track] = [0.0] * track.width
        if before is None or numbers == before:
            # What a set had counted before it was first seen, nobody knows when.
            return
        fell = any(now < then for now, then in zip(numbers, before, strict=True))
        grown = numbers if fell else map(sub, numbers, before)
        for index, number in enumerate(grown):
            known[index] += number


def track_of(name: str, series: Series, labels: Labels) -> Track:
    """Return the track of a label set in a snapshot."""
    kind: Kind = series["kind"]  # type: ignore[assignment]
    return Track(
        name, kind, series["fold"], tuple(series["labels"]), tuple(series["buckets"]), labels
    )


def packed(bucket: Bucket, number_of: Callable[[Track], int]) -> bytes:
    """Return a bucket as bytes, its tracks as the numbers that `number_of` gives them."""
    tracks = sorted((number_of(track), track) for track in bucket.numbers)
    # Their differences are all alike, and so take next to nothing.
    numbers = array("I", [number for number, _ in tracks])
    steps = array("I", map(sub, numbers, (0, *numbers)))
    values = array("d")
    for _, track in tracks:
        values.extend(bucket.numbers[track])
    return zlib.compress(
        len(steps).to_bytes(4, "little") + steps.tobytes() + values.tobytes(), _LEVEL
    )


def unpacked(
    packed: bytes,
    seconds: float,
    tracks: Mapping[int, Track],
    *,
    wanted: Iterable[str] | None = None,
) -> Bucket:
    """Return the bucket of these bytes, of the `wanted` metrics alone where some are named.

    A track that is not among `tracks` ends the reading, as its width is not known. Raises
    `ValueError` for bytes that are none of ours.
    """
    names = None if wanted is None else frozenset(wanted)
    try:
        raw = zlib.decompress(packed)
    except zlib.error as error:
        raise ValueError(f"a bucket is spoilt: {error}") from error
    end = 4 + 4 * int.from_bytes(raw[:4], "little")
    steps, values = array("I"), array("d")
    steps.frombytes(raw[4:end])
    values.frombytes(raw[end:])
    bucket, place = Bucket(seconds), 0
    for number in accumulate(steps):
        track = tracks.get(number)
        if track is None:
            break
        following = place + track.width
        if names is None or track.name in names:
            bucket.numbers[track] = values[place:following].tolist()
        place = following
    return bucket


@final
class Totals:
    """Adds up buckets to what a service would show that counts since the first of them.

    A gauge is the largest where it is folded so, the least where that is its fold, else its mean.
    """

    def __init__(self) -> None:
        self._totals: dict[Track, list[float]] = {}

    def add(self, bucket: Bucket) -> Snapshot:
        """Return the snapshot at the end of the bucket, which follows the one before."""
        snapshot: Snapshot = {}
        for track, numbers in bucket.numbers.items():
            if track.kind == "gauge":
                shown = [_shown(track, numbers)]
            else:
                known = self._totals.get(track)
                # A copy, as whoever has the snapshot before keeps its numbers.
                shown = [*numbers] if known is None else list(map(add, known, numbers))
                self._totals[track] = shown
            series = snapshot.get(track.name)
            if series is None:
                series = snapshot[track.name] = {
                    "kind": track.kind,
                    "help": "",
                    "labels": [*track.names],
                    "buckets": [*track.bounds],
                    "fold": track.fold,
                    "sets": [],
                }
            # Another version counts something else by this name: the first one stays.
            if track.names == tuple(series["labels"]) and track.bounds == tuple(series["buckets"]):
                series["sets"].append(([*track.labels], shown))
        return snapshot


def _shown(track: Track, numbers: Sequence[float]) -> float:
    match track.fold:
        case "max":
            return numbers[2]
        case "min":
            return numbers[1]
        case _:
            return numbers[0] / numbers[3]


def _is_same(one: Series, other: Series) -> bool:
    return (one["kind"], one["fold"], one["labels"], one["buckets"]) == (
        other["kind"],
        other["fold"],
        other["labels"],
        other["buckets"],
    )
