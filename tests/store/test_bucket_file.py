"""Buckets in a file are shared by all processes of a machine, and outlive each of them."""

import asyncio
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path
from time import monotonic

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from racing import EXACT, GCRA, SLIDING, SMALLEST, quota, race

from shipworthy.store import Ask, BucketsUnavailable, open_buckets
from shipworthy.store.bucket_batches import BatchedBuckets
from shipworthy.store.bucket_file import FILE_NAME, FileShelf
from shipworthy.store.bucket_rows import Wish
from shipworthy.store.host_clock import HostClock

SECOND = 1_000_000_000
WALL = 1_700_000_000 * SECOND


class Machine:
    """A machine whose clocks the test moves."""

    def __init__(self) -> None:
        self.steady = 1000 * SECOND
        self.wall = WALL
        self.boot = "b1"

    def clock(self) -> HostClock:
        return HostClock(boot=self.boot, steady_ns=lambda: self.steady, wall_ns=lambda: self.wall)


@pytest.fixture
def machine():
    return Machine()


@pytest.fixture
def path(tmp_path):
    return tmp_path / FILE_NAME


def take(shelf, *asks):
    (answer,) = shelf.settle([Wish(asks)], deadline=monotonic() + 20)
    return answer


def rows_in(path):
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT key, until_ns, rest FROM buckets ORDER BY key").fetchall()
    finally:
        connection.close()


@pytest.mark.parametrize("algorithm", [GCRA, EXACT, SLIDING])
def test_two_who_have_the_file_open_share_its_buckets(path, machine, algorithm):
    """What one has taken the other cannot, and a refusal leaves the file as it is."""
    one, other = (FileShelf(path, clock=machine.clock()) for _ in range(2))
    ask = Ask("k", quota(algorithm, 2, 60 * SECOND))
    assert take(one, ask)[0].allowed
    assert take(other, ask)[0].allowed
    before = rows_in(path)
    refused = take(one, ask)[0]
    assert not refused.allowed
    assert rows_in(path) == before
    machine.steady += refused.retry_after_ns
    assert take(other, ask)[0].allowed
    one.close()
    other.close()


def test_state_outlives_whoever_wrote_it(path, machine):
    """A worker is replaced: its successor goes on with the same buckets, at the same time."""
    ask = Ask("k", quota(EXACT, 1, 60 * SECOND))
    first = FileShelf(path, clock=machine.clock())
    take(first, ask)
    first.close()
    machine.steady += 59 * SECOND
    second = FileShelf(path, clock=machine.clock())
    assert take(second, ask)[0].retry_after_ns == SECOND
    machine.steady += SECOND
    assert take(second, ask)[0].allowed
    second.close()


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_wall_clock_that_is_set_changes_nothing(path, machine, hours):
    """Neither for who runs nor for who is started after it: nobody gains, and nobody waits."""
    ask = Ask("k", quota(GCRA, 1, 60 * SECOND))
    before = FileShelf(path, clock=machine.clock())
    take(before, ask)
    machine.wall += hours * 3600 * SECOND
    after = FileShelf(path, clock=machine.clock())
    for shelf in (before, after):
        assert take(shelf, ask)[0].retry_after_ns == 60 * SECOND
    machine.steady += 60 * SECOND
    assert take(after, ask)[0].allowed
    before.close()
    after.close()


def test_a_machine_that_starts_anew_in_the_past_goes_on_from_what_was_seen(path, machine):
    ask = Ask("k", quota(GCRA, 1, 60 * SECOND))
    first = FileShelf(path, clock=machine.clock())
    machine.steady += 100 * SECOND
    take(first, ask)
    first.close()
    machine.boot, machine.steady, machine.wall = "b2", 0, 0
    second = FileShelf(path, clock=machine.clock())
    assert take(second, ask)[0].retry_after_ns == 60 * SECOND
    second.close()


def test_what_has_run_out_is_deleted_by_whoever_comes(path, machine):
    """Of 3,000 keys that live for a second each, never more than some three seconds' lie there."""
    shelf = FileShelf(path, clock=machine.clock())
    for number in range(3_000):
        take(shelf, Ask(f"{number * 2654435761 % 2**32:08x}", quota(GCRA, 1, SECOND)))
        machine.steady += SECOND // 100
    assert 100 <= len(rows_in(path)) <= 400
    shelf.close()


def test_the_file_is_ours_alone(path, machine):
    FileShelf(path, clock=machine.clock()).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_spoilt_file_is_put_aside(path, machine):
    """Where it is found so at start, and where it becomes so: the buckets begin anew."""
    path.write_bytes(b"no database at all" * 500)
    shelf = FileShelf(path, clock=machine.clock())
    assert path.with_suffix(".spoilt").read_bytes().startswith(b"no database")
    ask = Ask("k", quota(GCRA, 1, 60 * SECOND))
    assert take(shelf, ask)[0].allowed
    shelf.close()

    shelf = FileShelf(path, clock=machine.clock())
    with path.open("r+b") as file:
        file.write(b"\xff" * path.stat().st_size)
    path.with_name(path.name + "-wal").unlink(missing_ok=True)
    # A page that it has in its memory still answers; another connection has changed the file.
    with pytest.raises(BucketsUnavailable, match="cannot be used"):
        for number in range(2_000):
            take(shelf, Ask(f"{number:08x}", quota(GCRA, 1, 60 * SECOND)))
            shelf._connection.execute("PRAGMA shrink_memory")
            shelf._connection.execute("PRAGMA cache_size = 1")
    assert take(shelf, ask)[0].allowed
    shelf.close()


def test_a_file_of_a_newer_version_is_left_alone(path, machine):
    FileShelf(path, clock=machine.clock()).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 9")
    connection.close()
    with pytest.raises(BucketsUnavailable, match="version 9, and this program knows version 1"):
        FileShelf(path, clock=machine.clock())


def test_a_full_file_is_unavailable_and_makes_room_by_what_has_run_out(path, machine):
    """A flood of made-up keys fills the file and no more; once they have run out it goes on."""
    shelf = FileShelf(path, clock=machine.clock(), most_bytes=100_000)
    with pytest.raises(BucketsUnavailable, match="full"):
        for number in range(5_000):
            take(shelf, Ask(f"{number:032x}", quota(GCRA, 1, SECOND)))
    assert path.stat().st_size <= 100_000
    machine.steady += 2 * SECOND
    for number in range(10):
        try:
            assert take(shelf, Ask(f"f{number:031x}", quota(GCRA, 1, SECOND)))[0].allowed
            break
        except BucketsUnavailable:
            continue
    else:
        raise AssertionError("it never made room")
    shelf.close()


def test_a_place_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BucketsUnavailable, match="cannot be opened"):
        FileShelf(tmp_path / "file" / FILE_NAME)


@pytest.mark.slow
def test_who_leaves_takes_nothing_from_those_who_stay(path):
    """Another process opens the file and closes it, and is not the last who does.

    It would be, and throw the log away with all that was taken, if we had let go of our locks.
    """
    ask = Ask("k", quota(EXACT, 3))
    ours = [FileShelf(path), FileShelf(path)]
    take(ours[0], ask)
    other = (
        "import sys; from pathlib import Path; from shipworthy.store.bucket_file import FileShelf;"
        "FileShelf(Path(sys.argv[1])).close()"
    )
    subprocess.run([sys.executable, "-c", other, str(path)], check=True)
    assert path.with_name(path.name + "-wal").exists()
    take(ours[1], ask)
    third = FileShelf(path)
    assert take(third, ask)[0].remaining == 0
    for shelf in (*ours, third):
        shelf.close()


@pytest.mark.slow
def test_a_lock_that_is_held_costs_the_bound_and_not_the_loop(path):
    """Another process stopped with the lock: the loop is free meanwhile, and it goes on after."""

    async def run() -> None:
        buckets = open_buckets(f"sqlite:///{path}", bound_seconds=0.05)
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        ask = Ask("k", quota(GCRA, 10))
        turns = 0

        async def spin() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0.001)

        spinning = asyncio.create_task(spin())
        with pytest.raises(BucketsUnavailable):
            await buckets.take([ask])
        spinning.cancel()
        # 50 ms, of which the loop was blocked for none; on a loaded machine there are fewer turns.
        assert turns >= 5
        holder.execute("COMMIT")
        holder.close()
        assert (await buckets.take([ask]))[0].allowed
        await buckets.close()

    asyncio.run(run())


def test_who_finds_the_lock_taken_waits_for_it_in_the_thread(path, machine):
    """And has it once it is free, within its bound."""

    async def run() -> None:
        shelf, quick = (FileShelf(path, clock=machine.clock()) for _ in range(2))
        buckets = BatchedBuckets("waits", shelf, quick=quick, bound_seconds=20)
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        waiting = asyncio.create_task(buckets.take([Ask("k", quota(GCRA, 10))]))
        while not any(thread.name == "shipworthy-buckets" for thread in threading.enumerate()):
            await asyncio.sleep(0.001)
        assert not waiting.done()
        holder.execute("ROLLBACK")
        holder.close()
        assert (await waiting)[0].allowed
        await buckets.close()

    asyncio.run(run())


@pytest.mark.slow
def test_eight_processes_admit_exactly_the_quota(path):
    """Whoever asks one after the other or four at once, and nothing is burnt in the others."""
    got = race(f"sqlite:///{path}")
    assert got["admitted"] == SMALLEST, got
    shelf = FileShelf(path)
    left = [
        take(shelf, Ask(key, quota(kind, count)))[0].remaining + 1
        for key, kind, count in (("race-gcra", GCRA, 100), ("race-sliding", SLIDING, 80))
    ]
    assert left == [100 - SMALLEST, 80 - SMALLEST]
    shelf.close()
