"""What is remembered survives restarts, jumping clocks and disks that fail."""

import os
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typing_extensions import override

from shipworthy.clock import Clock
from shipworthy.events import (
    Combined,
    Compared,
    Declared,
    Event,
    Increase,
    Metric,
    Number,
    Rate,
    Selection,
    Value,
    listen,
)
from shipworthy.telemetry import Registry, Snapshot
from shipworthy.telemetry.keeping import (
    HistorySpoilt,
    HistoryUnkept,
    Keeping,
    state_folder,
)
from shipworthy.telemetry.retention import RetentionSettings
from shipworthy.telemetry.settings import HistorySettings

ASKED = Metric("t_asked_total", "counter", "Asked.", {"route": Declared()})
HELD = Metric("t_held", "gauge", "Held.")
BY_ROUTE = Selection(metric=ASKED, by=("route",))


class JumpingClock(Clock):
    """A clock whose wall time may jump."""

    def __init__(self, wall: float = 1_700_000_000.0) -> None:
        self._now = 1000.0
        self._wall = wall

    @override
    def now(self) -> float:
        return self._now

    @override
    def wall(self) -> float:
        return self._wall

    def advance(self, seconds: float) -> None:
        self._now += seconds
        self._wall += seconds

    def jump(self, seconds: float) -> None:
        self._wall += seconds


def _snapshot(asked: float, held: float = 0.0) -> Snapshot:
    return {
        metric.name: {
            "kind": metric.kind,
            "help": metric.help,
            "labels": list(metric.labels),
            "buckets": [],
            "fold": metric.fold,
            "sets": [(["/"] * len(metric.labels), [number])],
        }
        for metric, number in ((ASKED, asked), (HELD, held))
    }


def _keeping(folder: Path, clock: Clock, **settings: object) -> Keeping:
    return Keeping(HistorySettings(**settings), RetentionSettings(), folder, clock=clock)  # type: ignore[arg-type]


def _live(keeping: Keeping, clock: JumpingClock, seconds: float, *, begin: float = 0.0) -> float:
    """Let a service live: one request a second; return how many there were."""
    asked = begin
    for _ in range(int(seconds // 10)):
        clock.advance(10.0)
        asked += 10.0
        keeping.take(_snapshot(asked, held=asked))
    return asked


@contextmanager
def _heard(*kinds: type[Event]) -> Iterator[list[Event]]:
    facts: list[Event] = []
    stop = listen(facts.append, *kinds)
    try:
        yield facts
    finally:
        stop()


def test_a_chart_is_there_without_a_file(tmp_path: Path) -> None:
    """A rate over the last ten minutes, from memory alone."""
    clock = JumpingClock()
    keeping = _keeping(tmp_path, clock, file=False)
    keeping.begin()
    _live(keeping, clock, 1200)
    window, points = keeping.series(
        Rate(BY_ROUTE), since=clock.wall() - 600, until=clock.wall(), points=20
    )
    assert window == 40.0
    assert [point.wall - clock.wall() for point in points] == [30.0 * n - 600 for n in range(21)]
    assert all(point.values == {("/",): pytest.approx(1.0)} for point in points)
    assert not list(tmp_path.iterdir())
    keeping.end()


def test_a_service_of_a_moment_leaves_no_file(tmp_path: Path) -> None:
    """What did not live for a minute has nothing to remember."""
    clock = JumpingClock(wall=1_700_000_040.0)
    keeping = _keeping(tmp_path / "state", clock)
    keeping.begin()
    _live(keeping, clock, 20)
    keeping.end()
    assert not (tmp_path / "state").exists()


def test_the_next_process_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    """Charts and windows reach over the restart; counts that begin anew lose and double nothing."""
    clock = JumpingClock()
    first = _keeping(tmp_path, clock)
    first.begin()
    _live(first, clock, 3600)
    first.end()
    second = _keeping(tmp_path, clock)
    second.begin()
    _live(second, clock, 3600)
    grown = second.value(Increase(BY_ROUTE, 7200.0), window_seconds=300.0)
    # Of the two hours, the first ten seconds of each process were counted before they were seen.
    assert grown[("/",)] == pytest.approx(7200.0, rel=0.01)
    assert second.holds(Compared(Rate(BY_ROUTE, 6000.0), ">", Number(0.9)))
    second.end()


def test_counts_that_are_higher_after_a_restart_are_not_taken_for_growth(tmp_path: Path) -> None:
    """Ten minutes of one a second, then a process that has counted a million before it is seen."""
    clock = JumpingClock()
    first = _keeping(tmp_path, clock)
    _live(first, clock, 600)
    first.end()
    second = _keeping(tmp_path, clock)
    second.begin()
    _live(second, clock, 60, begin=1000.0)
    grown = second.value(Increase(BY_ROUTE, 600.0), window_seconds=300.0)
    assert grown[("/",)] == pytest.approx(540 + 1000 + 60, rel=0.05)
    second.end()


@pytest.mark.slow
def test_a_chart_of_weeks_comes_from_the_file(tmp_path: Path) -> None:
    """By five minutes for two weeks, by the hour beyond; the newest is not missing."""
    clock = JumpingClock()
    keeping = _keeping(tmp_path, clock, every_seconds=60.0)
    asked = 0.0
    for _ in range(9 * 24 * 12):
        clock.advance(300.0)
        asked += 300.0
        keeping.take(_snapshot(asked, held=7.0))
    for days, width in ((1, 300.0), (8, 300.0), (30, 3600.0)):
        since = clock.wall() - days * 86400
        window, points = keeping.series(Rate(BY_ROUTE), since=since, until=clock.wall(), points=40)
        assert window >= 4 * width
        seen = [point.values[("/",)] for point in points if point.values]
        assert seen == pytest.approx([1.0] * len(seen), rel=0.02)
        assert len(seen) >= len(points) * min(1.0, 8.8 / days) - 1
        assert points[-1].values
        _, levels = keeping.series(
            Value(Selection(metric=HELD)), since=since, until=clock.wall(), points=40
        )
        assert {point.values[()] for point in levels if point.values} == {7.0}
    # A window that is too short for points so far apart is wider there, and means the same.
    _, points = keeping.series(
        Combined(Increase(BY_ROUTE, 60.0), "/", Number(60.0)),
        since=clock.wall() - 8 * 86400,
        until=clock.wall(),
        points=10,
    )
    assert points[-1].values[("/",)] == pytest.approx(1.0, rel=0.02)
    keeping.end()


@pytest.mark.parametrize("hours", [2, 6, 24, 24 * 30])
def test_a_chart_of_hours_shows_what_a_young_service_has(tmp_path: Path, hours: int) -> None:
    """Its minutes are in memory; the file has a bucket or two, in which nothing is seen to grow."""
    clock = JumpingClock(wall=1_700_000_040.0)
    keeping = _keeping(tmp_path, clock)
    keeping.begin()
    _live(keeping, clock, 600)
    for of in (Rate(BY_ROUTE), Value(Selection(metric=HELD))):
        _, points = keeping.series(
            of, since=clock.wall() - hours * 3600, until=clock.wall(), points=120
        )
        seen = [point for point in points if point.values]
        assert seen[-1].wall == clock.wall()
        assert len(seen) >= 600 // (hours * 3600 / 120)
    keeping.end()


@pytest.mark.parametrize("jump", [-7200.0, -45.0, 45.0, 7200.0, 86400.0 * 500])
def test_a_clock_that_jumps_loses_and_doubles_nothing(tmp_path: Path, jump: float) -> None:
    """Not in memory, where windows go by the other clock, and not in the file."""
    clock = JumpingClock()
    keeping = _keeping(tmp_path, clock)
    asked = _live(keeping, clock, 1200)
    clock.jump(jump)
    asked = _live(keeping, clock, 1200, begin=asked)
    clock.jump(-jump)
    asked = _live(keeping, clock, 1200, begin=asked)
    grown = keeping.value(Increase(BY_ROUTE, 3600.0), window_seconds=300.0)
    assert grown[("/",)] == pytest.approx(3600.0, rel=0.01)
    _, points = keeping.series(
        Rate(BY_ROUTE), since=clock.wall() - 3300, until=clock.wall(), points=50
    )
    assert all(point.values == {("/",): pytest.approx(1.0, rel=0.01)} for point in points)
    keeping.end()
    with sqlite3.connect(tmp_path / "history.sqlite") as connection:
        for width in (60, 300, 3600):
            (seconds,) = connection.execute(
                "SELECT sum(seconds) FROM bucket WHERE width = ?", (width,)
            ).fetchone()
            assert seconds == 3590.0
    connection.close()


def test_a_folder_that_cannot_be_written_costs_only_the_file(tmp_path: Path) -> None:
    """It is told once an hour and counted each minute; charts and alerts go on in memory."""
    (tmp_path / "state").write_text("a file where the folder should be")
    clock, registry = JumpingClock(), Registry()
    keeping = _keeping(tmp_path / "state", clock)
    keeping.metrics(registry)
    with _heard(HistoryUnkept) as facts:
        keeping.begin()
        _live(keeping, clock, 600)
    assert keeping.value(Rate(BY_ROUTE), window_seconds=300.0)
    assert len(facts) == 1
    kept = registry.snapshot()
    assert (["minute"], [10.0]) in kept["shipworthy_history_unkept_total"]["sets"]
    assert kept["shipworthy_history_series"]["sets"] == [([], [2.0])]
    sizes = {labels[0]: numbers for labels, numbers in kept["shipworthy_history_bytes"]["sets"]}
    assert sizes["memory"] > [1000.0]
    assert sizes["file"] == [0.0]
    keeping.end()


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit on a file's size here")
def test_a_disk_that_is_full_costs_only_its_minutes(tmp_path: Path) -> None:
    """When there is room again, the file goes on, and what was in it is still there."""
    clock = JumpingClock()
    keeping = _keeping(tmp_path, clock)
    asked = _live(keeping, clock, 300)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with _heard(HistoryUnkept) as facts:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        try:
            asked = _live(keeping, clock, 300, begin=asked)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(facts) == 1
    _live(keeping, clock, 300, begin=asked)
    keeping.end()
    with sqlite3.connect(tmp_path / "history.sqlite") as connection:
        (minutes,) = connection.execute("SELECT count(*) FROM bucket WHERE width = 60").fetchone()
    connection.close()
    assert minutes in {10, 11}


def test_a_file_that_is_spoilt_while_it_is_open_is_put_aside(tmp_path: Path) -> None:
    """The service goes on, and a minute later the history has another file."""
    clock = JumpingClock()
    keeping = _keeping(tmp_path, clock)
    asked = _live(keeping, clock, 300)
    file = tmp_path / "history.sqlite"
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    size = file.stat().st_size
    with file.open("r+b") as raw:
        raw.write(os.urandom(size))
    with _heard(HistoryUnkept, HistorySpoilt) as facts:
        asked = _live(keeping, clock, 300, begin=asked)
    assert [type(fact) for fact in facts] == [HistoryUnkept, HistorySpoilt]
    assert keeping.value(Increase(BY_ROUTE, 500.0), window_seconds=300.0)
    keeping.end()
    assert (tmp_path / "history.spoilt").exists()


def test_two_services_with_one_folder_do_not_share_a_file(tmp_path: Path) -> None:
    """The second remembers in memory, and takes over when the first is gone."""
    clock = JumpingClock()
    first, second = _keeping(tmp_path, clock), _keeping(tmp_path, clock)
    _live(first, clock, 120)
    with _heard(HistoryUnkept) as facts:
        second.begin()
        asked = _live(second, clock, 120)
        assert len(facts) == 1
        first.end()
        _live(second, clock, 120, begin=asked)
    second.end()
    third = _keeping(tmp_path, clock)
    third.begin()
    assert third.value(Increase(BY_ROUTE, 360.0), window_seconds=300.0)
    third.end()


def test_the_folder_is_as_set_or_as_systemd_says_or_beside_the_application(tmp_path: Path) -> None:
    """In that order."""
    environ = {"STATE_DIRECTORY": "/var/lib/shop:/var/lib/other"}
    assert state_folder(HistorySettings(folder="x"), tmp_path, environ) == tmp_path / "x"
    assert state_folder(HistorySettings(), tmp_path, environ) == Path("/var/lib/shop")
    assert state_folder(HistorySettings(), tmp_path, {}) == tmp_path / ".shipworthy"


def test_version_control_passes_over_our_folder(tmp_path: Path) -> None:
    """One that we name ourselves; in one that was named to us, nothing else is written."""
    clock = JumpingClock()
    for folder, hidden in ((tmp_path / ".shipworthy", True), (tmp_path / "theirs", False)):
        keeping = _keeping(folder, clock)
        _live(keeping, clock, 120)
        keeping.end()
        assert (folder / ".gitignore").exists() == hidden
