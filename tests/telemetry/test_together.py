"""The archive: whatever dies when, nothing is lost, doubled or left behind."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from math import nan
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from shipworthy.events import Declared, Metric
from shipworthy.telemetry import (
    Registry,
    Segment,
    SegmentDirectory,
    Series,
    Snapshot,
    exposition,
    folded,
    together,
)
from shipworthy.telemetry.segment import SLOTS_BYTES

ORDERS = Metric("orders_total", "counter", "Orders.", {"channel": Declared()})
SECONDS = Metric("took_seconds", "histogram", "Seconds.", {}, (0.1, 1.0))
DEPTH = Metric("depth", "gauge", "Depth.")
KERNEL = Metric("kernel_total", "counter", "Kernel.")


MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


class Worker:
    """What a worker process does with its metrics, in this process."""

    def __init__(self, directory: Path, name: str) -> None:
        self.registry = Registry()
        self.kernel = 0.0
        self.registry.gauge(DEPTH, read=lambda: 1.0)
        self.registry.running_total(KERNEL, read=lambda: self.kernel)
        self.segment = Segment.begin(directory, name)
        self.registry.keep_in(self.segment)

    def count(self, channel: str, amount: int) -> None:
        self.registry.counter(ORDERS).cell(channel).add(amount)
        self.registry.histogram(SECONDS).cell().observe(0.5)
        self.kernel += amount

    def say(self) -> None:
        self.segment.say(self.registry.rest())

    def die(self) -> None:
        # Death lets go of the lock, and does nothing else.
        self.segment.close()


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder where the cells of a run are: in memory, where the system has that."""
    with TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder)


def number(snapshots: list[Snapshot], name: str, *labels: str) -> float:
    found = folded(snapshots).get(name)
    sets = found["sets"] if found else []
    return sum(numbers[0] for values, numbers in sets if not labels or values == list(labels))


def files(path: Path) -> list[str]:
    return sorted(file.name for file in path.iterdir())


class Deaths(RuleBasedStateMachine):
    """Workers begin, count, say and die; readers look and die in the middle of burying."""

    workers = Bundle("workers")

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory(dir=MEMORY)
        self.path = Path(self.folder.name)
        self.readers = [SegmentDirectory(self.path), SegmentDirectory(self.path)]
        self.counted = {"web": 0, "phone": 0}
        self.observed = 0
        self.said = 0.0
        self.said_by: dict[Worker, float] = {}
        self.began = self.alive = 0
        self.last = 0.0

    @rule(target=workers)
    def begin(self) -> Worker:
        self.began += 1
        self.alive += 1
        return Worker(self.path, f"w-{self.began}")

    @rule(worker=workers, channel=st.sampled_from(["web", "phone"]), amount=st.integers(1, 9))
    def count(self, worker: Worker, channel: str, amount: int) -> None:
        worker.count(channel, amount)
        self.counted[channel] += amount
        self.observed += 1

    @rule(worker=workers)
    def say(self, worker: Worker) -> None:
        worker.say()
        self.said += worker.kernel - self.said_by.get(worker, 0.0)
        self.said_by[worker] = worker.kernel

    @rule(worker=consumes(workers))
    def die(self, worker: Worker) -> None:
        worker.die()
        self.alive -= 1

    @rule(worker=consumes(workers))
    def die_in_the_middle_of_saying(self, worker: Worker) -> None:
        (self.path / f"{worker.segment.name}.part").write_bytes(b'{"half')
        worker.die()
        self.alive -= 1

    @rule()
    def die_before_there_is_a_segment(self) -> None:
        (self.path / f"w-x.{self.began}.new").write_bytes(b"")

    @rule()
    def a_reader_dies_between_the_files_of_one_segment(self) -> None:
        (self.path / "w-y.said").write_bytes(b'{"depth": {}}')

    @rule(at=st.sampled_from(["_keep", "_remove"]))
    def a_reader_dies_in_the_middle_of_burying(self, at: str) -> None:
        """Before the archive is replaced, or before the first segment is removed."""

        class Killed(BaseException):
            pass

        def killed(*_: object) -> None:
            raise Killed

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SegmentDirectory, at, killed)
            with suppress(Killed):
                self.readers[0].told()
        self.readers[0].close()
        self.readers[0] = SegmentDirectory(self.path)

    @rule(reader=st.sampled_from([0, 1]))
    def look(self, reader: int) -> None:
        told = self.readers[reader].told()
        for channel, count in self.counted.items():
            assert number(told, "orders_total", channel) == count
        seconds = folded(told).get("took_seconds")
        assert sum(seconds["sets"][0][1][:3]) == self.observed if seconds else not self.observed
        assert number(told, "kernel_total") == self.said
        assert number(told, "depth") <= self.alive
        assert number(told, "orders_total") >= self.last
        self.last = number(told, "orders_total")
        # Two for each that lives, the archive and the lock.
        assert len(files(self.path)) <= 2 * self.alive + 2

    @invariant()
    def the_archive_is_whole(self) -> None:
        archive = self.path / "archive"
        if archive.exists():
            assert orjson.loads(archive.read_bytes())["format"] == 1

    def teardown(self) -> None:
        for reader in self.readers:
            reader.close()
        self.folder.cleanup()


Deaths.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestDeaths = pytest.mark.slow(Deaths.TestCase)


@pytest.mark.slow
def test_a_thousand_restarts_leave_two_files_and_every_count(memory: Path) -> None:
    """Killed or not, looked at or not in between."""
    directory = SegmentDirectory(memory)
    most = 0
    for born in range(1000):
        worker = Worker(memory, f"w-{born}")
        worker.count("web", 1)
        worker.say()
        worker.die()
        if born % 3 == 0:
            told = directory.told()
            assert number(told, "orders_total") == born + 1
            most = max(most, len(files(memory)))
    told = directory.told()

    assert number(told, "orders_total") == 1000
    assert number(told, "kernel_total") == 1000
    assert number(told, "depth") == 0
    assert files(memory) == ["archive", "lock"]
    assert most == 2
    directory.close()


def test_one_that_is_known_to_have_ended_is_buried_though_a_child_holds_its_lock(
    tmp_path: Path,
) -> None:
    """The supervisor knows of the end; a child of the application's may live on for long."""
    directory = SegmentDirectory(tmp_path)
    worker = Worker(tmp_path, "w")
    worker.count("web", 3)
    worker.say()

    before, after = directory.told(), directory.told(ended=["w"])

    assert (number(before, "orders_total"), number(after, "orders_total")) == (3, 3)
    assert (number(before, "depth"), number(after, "depth")) == (1, 0)
    assert not (tmp_path / "w.cells").exists()
    worker.die()
    directory.close()


def test_a_full_disk_buries_nobody_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The dead are told of as they are, until there is room."""
    directory = SegmentDirectory(tmp_path)
    worker = Worker(tmp_path, "w")
    worker.count("web", 3)
    worker.die()
    (tmp_path / "archive.part").mkdir()

    full = number(directory.told(), "orders_total")
    again = number(directory.told(), "orders_total")
    (tmp_path / "archive.part").rmdir()
    freed = number(directory.told(), "orders_total")

    assert (full, again, freed) == (3, 3, 3)
    assert "archive cannot be written" in caplog.text
    assert not (tmp_path / "w.cells").exists()
    directory.close()


def test_an_archive_that_cannot_be_read_is_begun_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of another version, or damaged; Prometheus takes it for a restart, and the page is there."""
    for text in ('{"format": 0}', "{half", "[]"):
        (tmp_path / "archive").write_text(text)
        directory = SegmentDirectory(tmp_path)
        assert directory.told() == [{}]
        directory.close()
    assert caplog.text.count("begun anew") == 3


def test_a_sum_that_is_no_number_spoils_nothing(tmp_path: Path) -> None:
    """What the application has observed goes through two files, living and dead."""
    directory = SegmentDirectory(tmp_path)
    worker = Worker(tmp_path, "w")
    worker.count("web", 3)
    summary: Series = {
        "kind": "summary",
        "help": "Size.",
        "labels": [],
        "buckets": [],
        "fold": "sum",
        "sets": [([], [1.0, nan])],
    }
    worker.segment.say({"size": summary})

    pages = [exposition(directory.told())]
    worker.die()
    another = SegmentDirectory(tmp_path)
    pages += [exposition(one.told()) for one in (directory, another)]
    another.close()

    for page in pages:
        assert b"size_sum NaN" in page
        assert b'orders_total{channel="web"} 3' in page
    directory.close()


def test_a_file_that_is_no_segment_spoils_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Others are told of each time, what is left out is said once, and nothing stays open."""
    directory = SegmentDirectory(tmp_path)
    worker = Worker(tmp_path, "w")
    worker.count("web", 3)
    (tmp_path / "x.cells").write_bytes(b"x")
    (tmp_path / "later.cells").write_bytes(bytes(SLOTS_BYTES) + b'{"format": 99}\n["else"]\n')
    directory.told()
    before = _open_under(tmp_path)

    for _ in range(3):
        assert number(directory.told(), "orders_total") == 3

    assert _open_under(tmp_path) == before
    assert caplog.text.count("is left out of the metrics") == 2
    assert "later has format 99" in caplog.text
    worker.die()
    directory.close()


def _open_under(folder: Path) -> list[str]:
    """Return what this process has open there; what else it opens and closes is no matter."""
    found = []
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(str(fd.readlink()))
    return sorted(path for path in found if path.startswith(str(folder)))


def test_a_reader_that_stands_still_is_waited_for_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped process may hold the lock; the caller hears so."""
    monkeypatch.setattr(together, "_PATIENCE_SECONDS", 0.01)
    directory = SegmentDirectory(tmp_path)
    fd = os.open(tmp_path / "lock", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)

    with pytest.raises(TimeoutError, match=r"another process has held .*lock for 0\.01 s"):
        directory.told()
    os.close(fd)
    assert directory.told() == [{}]
    directory.close()
