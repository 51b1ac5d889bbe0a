"""Buckets lose nothing and double nothing, whatever clock and counts do."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, strategies as st

from shipworthy.events import Kind
from shipworthy.telemetry import Snapshot
from shipworthy.telemetry.buckets import Bucket, BucketFill, Totals, Track, packed, unpacked

MINUTE = 60.0


def _snapshot(
    name: str,
    kind: Kind,
    sets: Mapping[str, Sequence[float]],
    *,
    fold: str = "sum",
    bounds: tuple[float, ...] = (),
) -> Snapshot:
    return {
        name: {
            "kind": kind,
            "help": "A number.",
            "labels": ["route"],
            "buckets": list(bounds),
            "fold": fold,
            "sets": [([label], list(numbers)) for label, numbers in sets.items()],
        }
    }


def _track(
    label: str, *, name: str = "t_total", kind: Kind = "counter", fold: str = "sum"
) -> Track:
    return Track(name, kind, fold, ("route",), (), (label,))


@given(
    st.lists(
        st.tuples(
            st.integers(0, 50),  # counted since the last snapshot
            st.booleans(),  # the service began anew before it
            st.integers(-7200, 7200),  # how far the wall clock jumps then
            st.booleans(),  # whether it jumps
        ),
        min_size=1,
        max_size=60,
    )
)
def test_every_count_is_in_one_bucket(lives: list[tuple[int, bool, int, bool]]) -> None:
    """The growth of all buckets is what was counted; the seconds are those that went by."""
    buckets, found = BucketFill(MINUTE), []
    buckets.add(_snapshot("t_total", "counter", {"/": [0.0]}), at=0.0, wall=10_000.0)
    value, wall, counted = 0.0, 10_000.0, 0.0
    for step, (grown, anew, jump, jumps) in enumerate(lives, 1):
        before, value = value, float(grown) if anew else value + grown
        # As everywhere: a count that fell began anew, one that did not is not known to have.
        counted += value if value < before else value - before
        wall += 10.0 + (jump if jumps else 0)
        snapshot = _snapshot("t_total", "counter", {"/": [value]})
        over = buckets.add(snapshot, at=10.0 * step, wall=wall)
        if over is not None:
            found.append(over)
    last = buckets.close()
    assert last is not None
    found.append(last)
    assert sum(b.numbers[_track("/")][0] for _, b in found if b.numbers) == counted
    assert sum(b.seconds for _, b in found) == pytest.approx(10.0 * len(lives))
    assert all(start % MINUTE == 0 for start, _ in found)
    assert buckets.close() is None


def test_a_pause_is_not_seen() -> None:
    """Where nobody looked for minutes, the growth counts and the time does not."""
    buckets = BucketFill(MINUTE)
    buckets.add(_snapshot("t_total", "counter", {"/": [1.0]}), at=0.0, wall=0.0)
    over = buckets.add(_snapshot("t_total", "counter", {"/": [9.0]}), at=500.0, wall=500.0)
    assert over == (0.0, Bucket(0.0, {_track("/"): [0.0]}))
    assert buckets.close() == (480.0, Bucket(0.0, {_track("/"): [8.0]}))


def test_a_gauge_is_its_mean_its_least_and_its_largest() -> None:
    """The peak between two points of a chart is not lost."""
    for fold, shown in (("sum", 4.0), ("max", 9.0), ("min", 1.0)):
        buckets = BucketFill(MINUTE)
        for step, number in enumerate((2.0, 9.0, 1.0)):
            snapshot = _snapshot("t", "gauge", {"/": [number]}, fold=fold)
            assert buckets.add(snapshot, at=step, wall=step) is None
        _, bucket = buckets.close() or (0.0, Bucket())
        assert bucket.numbers == {
            _track("/", name="t", kind="gauge", fold=fold): [12.0, 1.0, 9.0, 3.0]
        }
        assert Totals().add(bucket)["t"]["sets"] == [(["/"], [shown])]


def test_what_goes_and_comes_back_is_not_counted_twice() -> None:
    """A label set that was away, or a metric, begins with what it then has."""
    buckets = BucketFill(MINUTE)
    lives = [{"a": [5.0], "b": [1.0]}, {"b": [2.0]}, {"a": [6.0], "b": [2.0]}, {}, {"b": [9.0]}]
    for step, sets in enumerate(lives):
        snapshot = _snapshot("t_total", "counter", sets) if sets else {}
        buckets.add(snapshot, at=step, wall=step)
    _, bucket = buckets.close() or (0.0, Bucket())
    assert bucket.numbers == {_track("a"): [0.0], _track("b"): [1.0]}


def test_a_metric_that_is_declared_anew_is_another_track() -> None:
    """Numbers of another kind or shape are never added to the old ones."""
    buckets = BucketFill(MINUTE)
    buckets.add(_snapshot("t", "histogram", {"/": [1.0, 2.0, 3.0]}, bounds=(1.0,)), at=0, wall=0)
    buckets.add(
        _snapshot("t", "histogram", {"/": [1.0, 2.0, 3.0, 4.0]}, bounds=(1.0, 2.0)), at=1, wall=1
    )
    buckets.add(
        _snapshot("t", "histogram", {"/": [1.0, 3.0, 3.0, 6.0]}, bounds=(1.0, 2.0)), at=2, wall=2
    )
    _, bucket = buckets.close() or (0.0, Bucket())
    grown = {track.bounds: numbers for track, numbers in bucket.numbers.items()}
    assert grown == {(1.0,): [0.0, 0.0, 0.0], (1.0, 2.0): [0.0, 1.0, 0.0, 2.0]}
    # What shows both is one metric, so it shows the one that was first.
    assert Totals().add(bucket)["t"]["buckets"] == [1.0]
    assert len(Totals().add(bucket)["t"]["sets"]) == 1


TRACKS = st.builds(
    lambda label, kind, bounds: Track(
        f"t_{kind}", kind, "sum", ("route",), bounds if kind == "histogram" else (), (label,)
    ),
    st.text(max_size=3),
    st.sampled_from(["counter", "gauge", "histogram"]),
    st.sampled_from([(1.0,), (0.1, 5.0)]),
)


@st.composite
def _buckets(draw: st.DrawFn) -> Bucket:
    numbers = st.floats(0, 1e12)
    return Bucket(
        draw(st.floats(0, 3600)),
        {
            track: draw(st.lists(numbers, min_size=track.width, max_size=track.width))
            for track in draw(st.lists(TRACKS, unique=True, max_size=5))
        },
    )


@given(_buckets())
def test_a_bucket_is_read_as_it_was_packed(bucket: Bucket) -> None:
    """Every number to the last bit, of the wanted metrics alone where some are named."""
    numbers: dict[Track, int] = {}
    blob = packed(bucket, lambda track: numbers.setdefault(track, 7 + 3 * len(numbers)))
    tracks = {number: track for track, number in numbers.items()}
    assert unpacked(blob, bucket.seconds, tracks) == bucket
    some = unpacked(blob, bucket.seconds, tracks, wanted=["t_gauge"])
    assert some.numbers == {t: n for t, n in bucket.numbers.items() if t.kind == "gauge"}


def test_a_bucket_with_an_unknown_track_is_read_up_to_it() -> None:
    """Its width is not known, so what follows it cannot be told."""
    bucket = Bucket(60.0, {_track("a"): [1.0], _track("b"): [2.0]})
    blob = packed(bucket, lambda track: 1 if track.labels == ("a",) else 2)
    assert unpacked(blob, 60.0, {1: _track("a")}).numbers == {_track("a"): [1.0]}


@pytest.mark.parametrize("blob", [b"", b"nonsense"])
def test_spoilt_bytes_are_refused(blob: bytes) -> None:
    """With the error that whoever reads expects."""
    with pytest.raises(ValueError, match="spoilt"):
        unpacked(blob, 60.0, {})


@given(st.lists(_buckets(), min_size=2, max_size=4))
def test_merging_is_one_bucket_of_all(many: list[Bucket]) -> None:
    """Counts and seconds add up; a gauge keeps the extremes and the mean of all."""
    merged = Bucket()
    for one in many:
        merged.merge(one)
    assert merged.seconds == pytest.approx(sum(one.seconds for one in many))
    for track, numbers in merged.numbers.items():
        rows = [one.numbers[track] for one in many if track in one.numbers]
        columns = [sum(column) for column in zip(*rows, strict=True)]
        if track.kind == "gauge":
            columns[1], columns[2] = min(row[1] for row in rows), max(row[2] for row in rows)
        assert numbers == pytest.approx(columns)


def test_totals_go_on_from_bucket_to_bucket() -> None:
    """A snapshot made of them is as a service would show that never began anew."""
    totals = Totals()
    first = totals.add(Bucket(60.0, {_track("a"): [1.0]}))
    totals.add(Bucket(60.0, {_track("b"): [5.0]}))
    third = totals.add(Bucket(60.0, {_track("a"): [2.0]}))
    assert first["t_total"]["sets"] == [(["a"], [1.0])]
    assert third["t_total"]["sets"] == [(["a"], [3.0])]
