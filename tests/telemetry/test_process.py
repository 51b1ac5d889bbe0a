"""The process's own numbers, against what other tools say about it."""

import contextlib
import os
import time
from pathlib import Path

import psutil
import pytest

from shipworthy.telemetry import Registry, process, process_metrics

LINUX = pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no /proc")


def read() -> dict[str, float]:
    registry = Registry()
    process_metrics(registry)
    return {
        name: series["sets"][0][1][0]
        for name, series in registry.snapshot().items()
        if name.startswith("process_")
    }


def open_descriptors() -> int:
    """Count by asking for each one."""
    found = 0
    for number in range(1024):
        with contextlib.suppress(OSError):
            os.fstat(number)
            found += 1
    return found


@LINUX
def test_the_numbers_are_those_of_the_kernel() -> None:
    """Memory, CPU time, start and descriptors agree with psutil."""
    this = psutil.Process()

    seen = read()

    assert seen["process_resident_memory_bytes"] == pytest.approx(this.memory_info().rss, rel=0.1)
    assert seen["process_cpu_seconds_total"] == pytest.approx(time.process_time(), abs=0.5)
    assert seen["process_start_time_seconds"] == pytest.approx(this.create_time(), abs=1.5)
    assert seen["process_open_fds"] == open_descriptors()
    assert seen["process_max_fds"] == this.rlimit(psutil.RLIMIT_NOFILE)[0]


@LINUX
def test_an_open_descriptor_more_is_one_more() -> None:
    """The listing does not count itself."""
    before = read()["process_open_fds"]
    opened = os.open("/dev/null", os.O_RDONLY)

    after = read()["process_open_fds"]

    os.close(opened)
    assert after == before + 1


def test_without_proc_there_is_what_posix_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPU time and the limit of descriptors, and nothing made up."""
    monkeypatch.setattr(process, "_PROC", Path("/nowhere"))

    assert set(read()) == {"process_cpu_seconds_total", "process_max_fds"}


def test_no_limit_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unlimited number of descriptors is not shown as -1."""
    monkeypatch.setattr(
        process.resource, "getrlimit", lambda _: (process.resource.RLIM_INFINITY,) * 2
    )

    assert "process_max_fds" not in read()
