"""The shells read what is there, say what changed, and return what is to be done."""

import contextlib
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shipworthy.lifecycle import (
    ProcessResources,
    Recycle,
    ResourceChanged,
    ResourceOverBudget,
    ResourceSettings,
    ResourceUnread,
    ServiceResources,
    WorkerUse,
)

MIB = 2**20


class Group:
    """A machine with one control group of version 2, whose files can be set."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._write("proc/self/cgroup", "0::/shop\n")
        self._write("proc/self/mountinfo", "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
        self.set("memory.max", str(1000 * MIB))
        self.set("memory.current", str(400 * MIB))

    def set(self, file: str, text: str) -> None:
        self._write(f"sys/fs/cgroup/shop/{file}", f"{text}\n")

    def _write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.fixture
def group(tmp_path: Path) -> Group:
    return Group(tmp_path)


def service(group: Group, **chosen: Any) -> ServiceResources:
    return ServiceResources(ResourceSettings(**chosen), root=group.root)


def worker(mib: int, pid: int = 7) -> WorkerUse:
    return WorkerUse(pid=pid, rss_bytes=mib * MIB, serving=True)


def numbers(resources: Any) -> dict[str, dict[tuple[str, ...], float]]:
    return {metric.name: dict(read()) for metric, read in resources.metrics()}


def until(condition: Callable[[], object]) -> None:
    give_up = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.002)


def test_a_leak_is_told_and_its_worker_named(group: Group, heard: Callable[..., list[Any]]) -> None:
    """L24, from the files of the kernel to the decision: working set, not what is cached."""
    said = heard(ResourceChanged)
    resources = service(group)

    assert resources.tick([worker(300)], wanted=2, now=1.0) == []
    group.set("memory.current", str(1000 * MIB))
    group.set("memory.stat", f"inactive_file {300 * MIB}")
    assert resources.tick([worker(500)], wanted=2, now=2.0) == []
    group.set("memory.stat", f"inactive_file {80 * MIB}")
    assert resources.tick([worker(900)], wanted=2, now=2.5) == [], "a second is not over"
    (recycle,) = resources.tick([worker(900)], wanted=2, now=3.0)

    assert isinstance(recycle, Recycle)
    assert recycle.pid == 7
    (event,) = [fact for fact in said if fact.resource == "memory"]
    assert (event.level, event.value, event.limit) == ("act", 920 * MIB, 1000 * MIB)
    assert event.because == recycle.because


@pytest.mark.parametrize("raised", [True, False])
def test_the_limit_of_descriptors_is_that_of_a_worker(group: Group, *, raised: bool) -> None:
    """A worker raises its own unless it is told not to; the supervisor's own is nobody's matter."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = hard if hard != resource.RLIM_INFINITY else 65_536
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
    try:
        limit = service(group, raise_descriptors=raised).limits.descriptors
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert limit is not None
    assert limit.value == (min(most, 65_536) if raised else 300)


def test_its_metrics(group: Group) -> None:
    """What is not known is left out, instead of a zero that nobody measured."""
    group.set("cpu.stat", "nr_periods 100\nnr_throttled 7\nthrottled_usec 1500000")
    group.set("memory.events", "max 3\noom_kill 1")
    group.set("memory.pressure", "some avg10=25.00 avg60=0.00 avg300=0.00 total=0")
    resources = service(group, memory_warn_ratio=0.4)
    resources.tick([], wanted=1, now=1.0)

    found = numbers(resources)

    assert found["shipworthy_resource_used_ratio"]["memory",] == pytest.approx(0.4)
    assert ("processes",) not in found["shipworthy_resource_used_ratio"]
    assert found["shipworthy_resource_level"]["memory",] == 1
    assert found["shipworthy_resource_level"]["processes",] == 0
    assert found["shipworthy_cgroup_cpu_periods_total"] == {(): 100}
    assert found["shipworthy_cgroup_cpu_throttled_periods_total"] == {(): 7}
    assert found["shipworthy_cgroup_cpu_throttled_seconds_total"] == {(): 1.5}
    assert found["shipworthy_cgroup_memory_limit_hits_total"] == {(): 3}
    assert found["shipworthy_cgroup_oom_kills_total"] == {(): 1}
    assert found["shipworthy_pressure_ratio"] == {("memory",): 0.25}


def test_without_a_group_nothing_is_counted(tmp_path: Path) -> None:
    """No group, no /proc: the service runs on and says nothing it does not know."""
    resources = ServiceResources(ResourceSettings(), root=tmp_path)

    assert resources.tick([worker(100)], wanted=1, now=1.0) == []
    assert numbers(resources)["shipworthy_cgroup_oom_kills_total"] == {}


def test_without_a_limit_of_the_group_the_machine_counts(group: Group) -> None:
    """A group without a limit: what the machine has, and what nobody could have any more."""
    group.set("memory.max", "max")
    group._write("proc/meminfo", "MemTotal: 1024000 kB\nMemAvailable: 204800 kB\n")
    resources = service(group)
    resources.tick([worker(10)], wanted=1, now=1.0)

    (memory, *_) = resources.reports()

    assert memory.ratio == pytest.approx(0.8)
    assert "of the machine are in use (80%)" in memory.because


def test_what_is_over_the_budget_is_told(group: Group, heard: Callable[..., list[Any]]) -> None:
    """After the first start, as an event."""
    said = heard(ResourceOverBudget)
    group.set("cpu.max", "50000 100000")

    service(group).tick([worker(50, 1), worker(50, 2)], wanted=2, now=1.0)

    assert [(fact.resource, fact.because[:27]) for fact in said] == [
        ("cpu", "2 workers share 0.5 CPUs: t")
    ]


def test_what_cannot_be_read_is_told_once(group: Group, heard: Callable[..., list[Any]]) -> None:
    """A file that says nonsense is named; the service goes on without it."""
    said = heard(ResourceUnread)
    group.set("memory.current", "much")
    resources = service(group)

    for second in range(3):
        resources.tick([worker(50)], wanted=1, now=float(second))

    assert [(fact.source, fact.because) for fact in said if "cgroup" in fact.source] == [
        ("/sys/fs/cgroup/shop/memory.current", "it says 'much' where a number is expected")
    ]


def test_the_disk_is_asked_beside(group: Group, heard: Callable[..., list[Any]]) -> None:
    """L28: in a thread, since a disk on a network may never answer; a missing one is told once."""
    said = heard(ResourceUnread)
    resources = service(group, disk_path=str(group.root))
    resources.tick([], wanted=1, now=1.0)
    until(lambda: resources._disk.size_bytes)
    resources.tick([], wanted=1, now=2.0)
    assert 0 < numbers(resources)["shipworthy_resource_used_ratio"]["disk",] <= 1

    missing = service(group, disk_path=str(group.root / "none"))
    for second in range(3):
        missing.tick([], wanted=1, now=20.0 * (second + 1))
        until(lambda: not any(t.name == "shipworthy disk" for t in threading.enumerate()))

    assert [fact.because for fact in said] == ["No such file or directory"]


def test_a_disk_that_does_not_answer_holds_up_nobody(group: Group) -> None:
    """While one thread waits for it there is no second one."""
    resources = service(group)
    never = threading.Event()
    resources._disk._ask = never.wait  # type: ignore[method-assign]

    for second in range(5):
        resources.tick([], wanted=1, now=20.0 * (second + 1))
    waiting = [t for t in threading.enumerate() if t.name == "shipworthy disk"]
    never.set()

    assert len(waiting) == 1
    waiting[0].join()


def test_a_disk_that_cannot_be_asked_for_want_of_a_thread_is_told_once_and_asked_again(
    group: Group, heard: Callable[..., list[Any]]
) -> None:
    """At the limit of processes no thread starts: the supervisor's tick must survive that.

    A stack larger than all there is to address is refused as a thread too many is.
    """
    said = heard(ResourceUnread)
    resources = service(group, disk_path=str(group.root))
    before = threading.stack_size(2**46)
    try:
        for second in range(3):
            resources.tick([], wanted=1, now=20.0 * (second + 1))
    finally:
        threading.stack_size(before)
    assert [fact.source for fact in said] == [str(group.root)]
    assert said[0].because.startswith("no thread could be started to ask the disk: ")

    resources.tick([], wanted=1, now=100.0)
    until(lambda: resources._disk.size_bytes)


@pytest.fixture
def no_descriptor_left() -> Iterator[int]:
    """Open descriptors until no more can be had, and give how many this process may open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(soft, 400)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    held: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        yield most
    finally:
        for number in held:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs a list of descriptors")
def test_a_process_without_a_descriptor_left_counts_all_of_them(no_descriptor_left: int) -> None:
    """L25: the count itself needs one; that it fails says that all are in use, not nothing."""
    process = ProcessResources(ResourceSettings())

    for now in (1.0, 3.0, 20.0):
        process.tick(connections=0, lag_seconds=lambda: None, now=now)
        assert process.reports()[0].used == no_descriptor_left
        assert "file descriptors are open (100%)" in process.not_ready


def test_a_process_reads_its_descriptors(tmp_path: Path, heard: Callable[..., list[Any]]) -> None:
    """One entry in the folder for each, and one for the listing itself."""
    said = heard(ResourceChanged)
    for number in range(11):
        (tmp_path / str(number)).touch()
    process = ProcessResources(ResourceSettings(worker_connections=5), descriptors=tmp_path)

    process.tick(connections=5, lag_seconds=lambda: 0.3, now=1.0)
    process.tick(connections=0, lag_seconds=lambda: 1 / 0, now=1.5)
    process.tick(connections=5, lag_seconds=lambda: 0.3, now=4.0)

    assert [fact.resource for fact in said] == ["connections", "loop_lag"]
    described = {row["resource"]: row for row in process.described()}
    assert described["descriptors"]["used"] == 10
    assert described["loop_lag"]["level"] == "warn"
    assert process.not_ready == ""
    assert numbers(process)["shipworthy_resource_level"]["connections",] == 1


def test_a_process_without_a_list_of_its_descriptors(tmp_path: Path) -> None:
    """macOS: not known, so never near the limit."""
    process = ProcessResources(ResourceSettings(), descriptors=tmp_path / "none")

    process.tick(connections=0, lag_seconds=lambda: None, now=1.0)

    assert {row["used"] for row in process.described() if row["resource"] != "connections"} == {
        None
    }
