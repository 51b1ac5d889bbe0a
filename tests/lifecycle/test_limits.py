"""What the process may use is the least of what everybody says."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from shipworthy.lifecycle import Limit, cpu_count_allowed, read_limits

MIB = 2**20


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with 1 GiB, of which 256 MiB are to be had, and one control group."""
    for path, text in {
        "proc/meminfo": "MemTotal: 1048576 kB\nMemAvailable: 262144 kB\nHugePages_Total: 0\n",
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
    }.items():
        write(tmp_path / path, text)
    return tmp_path


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_without_a_group_the_machine_limits(root: Path) -> None:
    """Where nobody else says less, and it is said who does."""
    limits = read_limits(root)

    assert limits.memory == Limit(value=1024 * MIB, source="the machine")
    assert limits.cpus == Limit(
        value=len(os.sched_getaffinity(0)), source="CPUs this process may run on"
    )
    assert limits.processes is None
    assert limits.lines()[0] == "memory: 1,024 MiB (the machine)"
    assert limits.lines()[3] == "processes and threads: no limit known"


def test_the_group_limits_when_it_gives_less(root: Path) -> None:
    """L27: a quota counts beside the affinity, and its part of a CPU is a whole worker."""
    write(root / "sys/fs/cgroup/memory.max", f"{512 * MIB}\n")
    write(root / "sys/fs/cgroup/cpu.max", "50000 100000\n")
    write(root / "sys/fs/cgroup/pids.max", "100\n")

    limits = read_limits(root)

    assert limits.memory == Limit(value=512 * MIB, source="/sys/fs/cgroup/memory.max")
    assert limits.cpus == Limit(value=0.5, source="/sys/fs/cgroup/cpu.max")
    assert limits.processes == Limit(value=100, source="/sys/fs/cgroup/pids.max")
    assert cpu_count_allowed(root) == 1
    assert limits.to_dict()["cpus"] == {"value": 0.5, "source": "/sys/fs/cgroup/cpu.max"}


def test_a_quota_of_more_than_there_is_gives_no_more(root: Path) -> None:
    """The affinity limits a quota of a hundred CPUs."""
    write(root / "sys/fs/cgroup/cpu.max", "10000000 100000\n")

    assert cpu_count_allowed(root) == len(os.sched_getaffinity(0))


def test_without_proc_nothing_is_known_of_memory(tmp_path: Path) -> None:
    """macOS: no limit is known, and nothing fails."""
    assert read_limits(tmp_path).memory is None
    assert cpu_count_allowed(tmp_path) >= 1


@pytest.mark.parametrize("rubbish", ["", "MemTotal: many kB\n", f"MemTotal: {'9' * 5000} kB\n"])
def test_rubbish_is_no_memory(root: Path, rubbish: str) -> None:
    """What cannot be a size is passed over."""
    write(root / "proc/meminfo", rubbish)

    assert read_limits(root).memory is None


RAISE = """
import resource, sys
from shipworthy.events import listen
from shipworthy.lifecycle import raise_descriptors
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
listen(lambda fact: print("said", fact.before, fact.after))
raise_descriptors()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def raised(soft: int, hard: int) -> list[str]:
    """Raise in a process of its own: a hard limit cannot be given back."""
    done = subprocess.run(
        [sys.executable, "-c", RAISE, str(soft), str(hard)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    return done.stdout.splitlines()


@pytest.mark.slow
def test_descriptors_are_raised_and_said() -> None:
    """L25: the soft limit of a login shell, 1,024, is no decision of anybody's."""
    hard = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 4096)

    assert raised(256, hard) == [f"said 256 {hard}", str(hard)]
    assert raised(hard, hard) == [str(hard)]


LIMITS = """
import resource, sys
from shipworthy.lifecycle import raise_descriptors, read_limits
resource.setrlimit(resource.RLIMIT_NOFILE, (256, int(sys.argv[1])))
own, raised = read_limits(), read_limits(raised=True)
raise_descriptors()
print(own.descriptors.value, raised.descriptors.value, read_limits().descriptors.value)
print(read_limits(raised=True).descriptors.source)
"""


@pytest.mark.slow
def test_what_a_worker_may_open_is_said_by_who_does_not_raise_its_own() -> None:
    """The supervisor tells the limits of the service: those of a worker, which raises its own."""
    hard = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 4096)

    done = subprocess.run(
        [sys.executable, "-c", LIMITS, str(hard)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )

    assert done.stdout.splitlines() == [f"256 {hard} {hard}", "RLIMIT_NOFILE"]
