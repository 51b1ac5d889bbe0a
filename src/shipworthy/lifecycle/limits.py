"""What this process may use, and who says so: control groups, ulimit, the machine."""

import math
import os
import resource
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shipworthy.events import Event, Severity, emit, event
from shipworthy.lifecycle.cgroup import Cgroup, Limit

# Some containers give a thousand million, and there are programs that close each number up to the
# limit when they start. Nothing we serve needs more than this.
DESCRIPTORS = 65_536


@event(severity=Severity.INFO)
class DescriptorsRaised(Event):
    """The soft limit of file descriptors was raised towards the hard one."""

    before: int
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the process may use; None is no limit that is known.

    `memory` is in bytes, `cpus` may be a fraction, `processes` counts threads too.
    """

    memory: Limit | None
    cpus: Limit
    descriptors: Limit | None
    processes: Limit | None

    def to_dict(self) -> dict[str, Any]:
        """Return them as JSON can carry it."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Say each in a line, for people."""
        shown: tuple[tuple[str, Limit | None, Callable[[float], str]], ...] = (
            ("memory", self.memory, lambda value: f"{value / 2**20:,.0f} MiB"),
            ("CPUs", self.cpus, "{:g}".format),
            ("file descriptors", self.descriptors, "{:.0f}".format),
            ("processes and threads", self.processes, "{:.0f}".format),
        )
        return [
            f"{name}: {show(limit.value)} ({limit.source})" if limit else f"{name}: no limit known"
            for name, limit, show in shown
        ]


def read_limits(
    root: Path = Path("/"), *, cgroup: Cgroup | None = None, raised: bool = False
) -> Limits:
    """Read what this process may use, the smallest of all that apply; never raises.

    With `raised` the file descriptors are those after `raise_descriptors`, which a worker calls.
    `root` stands in for `/` in tests, for what is read from files.
    """
    group = cgroup or Cgroup(root)
    own = Limit(value=_affinity(), source="CPUs this process may run on")
    return Limits(
        memory=_least(
            group.memory_limit(),
            _ulimit(resource.RLIMIT_AS, "RLIMIT_AS"),
            _machine_memory(root),
        ),
        cpus=_least(group.cpu_limit(), own) or own,
        descriptors=_descriptors(raised=raised),
        processes=group.pids_limit(),
    )


def cpu_count_allowed(root: Path = Path("/")) -> int:
    """Return how many CPUs can work for us at once: by affinity and by quota, rounded up.

    Not `os.cpu_count()`, which is the machine's: with a quota of 2 CPUs, 24 threads that work
    serve half of what 2 serve (measured by the authors of automaxprocs).
    """
    return max(1, math.ceil(read_limits(root).cpus.value))


def raise_descriptors() -> DescriptorsRaised | None:
    """Raise the soft limit of file descriptors to the hard one, at most to 65,536, and say so.

    Returns what was done, or None when there was nothing to do or it was refused.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _raised(soft, hard)
    if most == soft:
        return None
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):  # macOS has further limits of its own
        return None
    emit(DescriptorsRaised, before=soft, after=most)
    return DescriptorsRaised(before=soft, after=most)


def machine_memory(root: Path = Path("/")) -> tuple[int | None, int | None]:
    """Return the bytes of this machine that nobody could have any more, and all it has."""
    rows = _meminfo(root)
    total, free = rows.get("MemTotal"), rows.get("MemAvailable")
    return (total - free if total is not None and free is not None else None), total


def _least(*limits: Limit | None) -> Limit | None:
    return min((limit for limit in limits if limit), key=lambda limit: limit.value, default=None)


def _ulimit(which: int, name: str) -> Limit | None:
    soft, _ = resource.getrlimit(which)
    return None if soft == resource.RLIM_INFINITY else Limit(value=soft, source=name)


def _descriptors(*, raised: bool) -> Limit | None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _raised(soft, hard) if raised else soft
    return None if most == resource.RLIM_INFINITY else Limit(value=most, source="RLIMIT_NOFILE")


def _raised(soft: int, hard: int) -> int:
    """Return the soft limit that we set: the hard one, at most 65,536, and never a lower one."""
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    return soft if soft == resource.RLIM_INFINITY or soft >= most else most


def _machine_memory(root: Path) -> Limit | None:
    _, total = machine_memory(root)
    return None if total is None else Limit(value=total, source="the machine")


def _meminfo(root: Path) -> dict[str, int]:
    try:
        text = (root / "proc/meminfo").read_text()
    except (OSError, ValueError):
        return {}
    rows = (row.split() for row in text.splitlines())
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if _is_size(row)}


def _is_size(row: list[str]) -> bool:
    return row[2:] == ["kB"] and row[1].isdecimal() and len(row[1]) <= 20


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
