"""The file of the history holds what was written, whatever ends the process and spoils the disk."""

import json
import random
import sqlite3
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from shipworthy.telemetry.buckets import Bucket, Track
from shipworthy.telemetry.lock_file import FileHeld
from shipworthy.telemetry.rollups import HistoryUnusable, Rollups, Tier

MINUTES, HOURS = Tier(60, 600.0), Tier(3600, 86400.0)


def _track(label: str, name: str = "t_total") -> Track:
    return Track(name, "counter", "sum", ("route",), (), (label,))


def _bucket(number: float, *labels: str) -> Bucket:
    return Bucket(60.0, {_track(label): [number] for label in labels or ("/",)})


def _open(folder: Path, *, bytes_max: int = 2**20) -> Rollups:
    return Rollups(folder / "history.sqlite", (HOURS, MINUTES), bytes_max=bytes_max)


def test_what_was_put_is_read_by_the_next_process(tmp_path: Path) -> None:
    """Minutes one by one, and their hour as one."""
    first = _open(tmp_path)
    for minute in range(3):
        first.put(7200.0 + 60 * minute, _bucket(1.0 + minute, "a", "b"))
    first.close()
    second = _open(tmp_path)
    minutes = list(second.read(MINUTES, 0.0, 1e9))
    assert minutes == [(7200.0 + 60 * m, _bucket(1.0 + m, "a", "b")) for m in range(3)]
    hours = list(second.read(HOURS, 0.0, 1e9))
    assert hours == [(7200.0, Bucket(180.0, {_track("a"): [6.0], _track("b"): [6.0]}))]
    assert list(second.read(MINUTES, 7260.0, 7320.0)) == minutes[1:2]
    assert [b.numbers for _, b in second.read(MINUTES, 0.0, 1e9, wanted=["other"])] == [{}] * 3
    second.close()


def test_a_minute_that_comes_twice_is_one_of_both(tmp_path: Path) -> None:
    """After a clock that went back nothing is lost, and the rate is still right."""
    rollups = _open(tmp_path)
    rollups.put(7200.0, _bucket(5.0))
    rollups.put(7200.0, _bucket(7.0))
    assert list(rollups.read(MINUTES, 0.0, 1e9)) == [(7200.0, Bucket(120.0, {_track("/"): [12.0]}))]
    rollups.close()


def test_so_many_are_kept_whatever_the_clock_says(tmp_path: Path) -> None:
    """One bucket of a year that is not yet does not throw the others away."""
    rollups = _open(tmp_path)
    rollups.put(4e9, _bucket(1.0))
    for minute in range(30):
        rollups.put(60.0 * minute, _bucket(1.0))
    starts = [start for start, _ in rollups.read(MINUTES, 0.0, 1e10)]
    assert starts == [*(60.0 * minute for minute in range(21, 30)), 4e9 // 60 * 60]
    rollups.close()


def test_the_file_does_not_grow_beyond_its_bound(tmp_path: Path) -> None:
    """The oldest of what takes most goes; the latest is there."""
    draw = random.Random(1)
    wide = Tier(60, 1e9)
    rollups = Rollups(tmp_path / "history.sqlite", (wide,), bytes_max=200_000)
    for minute in range(300):
        numbers = {_track(str(n)): [draw.random()] for n in range(200)}
        rollups.put(60.0 * minute, Bucket(60.0, numbers))
    assert rollups.size_bytes <= 200_000 * 1.1
    starts = [start for start, _ in rollups.read(wide, 0.0, 1e9)]
    assert starts[-1] == 60.0 * 299
    assert 50 < len(starts) < 300
    assert all(then - now == 60.0 for now, then in pairwise(starts))
    rollups.close()


def test_tracks_that_no_bucket_has_are_forgotten(tmp_path: Path) -> None:
    """Label values of a version of long ago do not stay for ever."""
    rollups = _open(tmp_path)
    rollups.put(0.0, _bucket(1.0, "old"))
    for hour in range(1, 27):
        rollups.put(3600.0 * hour, _bucket(1.0, "new"))
    rollups.put(3600.0 * 27, _bucket(1.0, "old"))
    assert [b.numbers for _, b in rollups.read(HOURS, 3600.0 * 27, 1e9)] == [{_track("old"): [1.0]}]
    rollups.close()
    with sqlite3.connect(tmp_path / "history.sqlite") as connection:
        rows = connection.execute("SELECT identity FROM track").fetchall()
    connection.close()
    assert sorted(json.loads(identity)[-1] for (identity,) in rows) == [["new"], ["old"]]


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    """The second is told to take a folder of its own, and may have it when the first is gone."""
    first = _open(tmp_path)
    with pytest.raises(FileHeld, match="another process"):
        _open(tmp_path)
    first.close()
    _open(tmp_path).close()


def test_a_file_that_is_spoilt_is_put_aside(tmp_path: Path) -> None:
    """Another one is begun; what was spoilt is there to be looked at, once."""
    file = tmp_path / "history.sqlite"
    for garbage in (b"not a database at all" * 100, b"again" * 1000):
        file.write_bytes(garbage)
        rollups = _open(tmp_path)
        assert rollups.put_aside
        rollups.put(0.0, _bucket(1.0))
        assert len(list(rollups.read(MINUTES, 0.0, 1e9))) == 1
        rollups.close()
        assert (tmp_path / "history.spoilt").read_bytes() == garbage


def test_pages_that_are_spoilt_are_found(tmp_path: Path) -> None:
    """A header that is whole does not hide a body that is not."""
    rollups = _open(tmp_path)
    rollups.put(0.0, _bucket(1.0))
    rollups.close()
    file = tmp_path / "history.sqlite"
    whole = file.read_bytes()
    file.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    again = _open(tmp_path)
    assert again.put_aside
    again.close()


def test_a_bucket_that_is_spoilt_is_passed_over(tmp_path: Path) -> None:
    """The others are read, and what is written to it begins anew."""
    rollups = _open(tmp_path)
    for minute in range(3):
        rollups.put(60.0 * minute, _bucket(1.0))
    rollups.close()
    connection = sqlite3.connect(tmp_path / "history.sqlite")
    connection.execute("UPDATE bucket SET packed = x'00' WHERE start = 60 OR width = 3600")
    connection.commit()
    connection.close()
    again = _open(tmp_path)
    assert [start for start, _ in again.read(MINUTES, 0.0, 1e9)] == [0.0, 120.0]
    again.put(60.0, _bucket(5.0))
    assert [b.numbers[_track("/")] for _, b in again.read(MINUTES, 60.0, 120.0)] == [[5.0]]
    again.close()


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("CREATE TABLE theirs (x)", "somebody else"),
        ("PRAGMA application_id = 1399351664; PRAGMA user_version = 9", "the form 9"),
    ],
)
def test_a_file_that_is_not_ours_is_left_alone(tmp_path: Path, script: str, says: str) -> None:
    """That of another program, or of a later version of ours."""
    file = tmp_path / "history.sqlite"
    connection = sqlite3.connect(file)
    connection.executescript(script)
    connection.close()
    before = file.read_bytes()
    with pytest.raises(HistoryUnusable, match=says):
        _open(tmp_path)
    assert file.read_bytes() == before


_WRITES = """
import sys
from pathlib import Path
from shipworthy.telemetry.buckets import Bucket, Track
from shipworthy.telemetry.lock_file import FileHeld
from shipworthy.telemetry.rollups import Rollups, Tier

rollups = Rollups(Path(sys.argv[1]), (Tier(60, 1e9), Tier(3600, 1e9)))
tracks = [Track("t_total", "counter", "sum", ("n",), (), (str(n),)) for n in range(200)]
for minute in range(1_000_000):
    rollups.put(60.0 * minute, Bucket(60.0, {track: [float(minute)] for track in tracks}))
    print(minute, flush=True)
"""


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_a_readable_file(tmp_path: Path) -> None:
    """Every minute of which it has said that it is written is there, and each is whole."""
    file = tmp_path / "history.sqlite"
    wide, hours = Tier(60, 1e9), Tier(3600, 1e9)
    for lines in (1, 7, 40):
        file.unlink(missing_ok=True)
        for suffix in ("-wal", "-shm"):
            Path(f"{file}{suffix}").unlink(missing_ok=True)
        with subprocess.Popen(
            [sys.executable, "-c", _WRITES, str(file)], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            for _ in range(lines):
                process.stdout.readline()
            process.kill()
            said = lines + len(process.stdout.readlines())
        rollups = Rollups(file, (wide, hours))
        minutes = [bucket for _, bucket in rollups.read(wide, 0.0, 1e9)]
        assert said <= len(minutes) <= said + 1
        assert all(len(bucket.numbers) == 200 for bucket in minutes)
        total = sum(next(iter(bucket.numbers.values()))[0] for bucket in minutes)
        by_hour = [next(iter(b.numbers.values()))[0] for _, b in rollups.read(hours, 0.0, 1e9)]
        assert sum(by_hour) == total
        rollups.close()
