"""What the kernel knows about this process, under the names every Prometheus dashboard expects."""

import os
import resource
import time
from pathlib import Path

from shipworthy.events import Metric
from shipworthy.telemetry.metrics import Registry

CPU = Metric(
    "process_cpu_seconds_total", "counter", "CPU time the processes used, user and system."
)
RESIDENT = Metric(
    "process_resident_memory_bytes", "gauge", "Memory the processes hold in RAM, in bytes."
)
OPEN = Metric("process_open_fds", "gauge", "File descriptors that are open.")
# The process nearest to its limit is the one that will fail, so the smallest limit is shown.
MOST = Metric(
    "process_max_fds", "gauge", "File descriptors one process may open, the lowest.", fold="min"
)
BORN = Metric(
    "process_start_time_seconds", "gauge", "Unix time the oldest process began.", fold="min"
)

_PROC = Path("/proc/self")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def process_metrics(registry: Registry) -> None:
    """Register CPU, memory, descriptors and start time of this process in `registry`.

    Memory, descriptors and start time are read from /proc and are not there without it (macOS).
    """
    registry.running_total(CPU, read=time.process_time)
    if _most_descriptors() != resource.RLIM_INFINITY:
        registry.gauge(MOST, read=_most_descriptors)
    if _PROC.is_dir():
        registry.gauge(RESIDENT, read=resident_bytes)
        registry.gauge(OPEN, read=_open_descriptors)
        started = _start_time_seconds()
        registry.gauge(BORN, read=lambda: started)


def _most_descriptors() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def resident_bytes() -> int:
    """Return the memory this process holds in RAM; 0 where the kernel does not tell (macOS)."""
    try:
        return int((_PROC / "statm").read_bytes().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0


def _open_descriptors() -> float:
    # One of them is the listing itself.
    return sum(1.0 for _ in (_PROC / "fd").iterdir()) - 1.0


def _start_time_seconds() -> float:
    # The name of the program, in brackets, may hold spaces and brackets of its own.
    after_name = (_PROC / "stat").read_text().rpartition(")")[2].split()
    ticks_since_boot = float(after_name[19])
    booted = next(
        float(line.split()[1])
        for line in Path("/proc/stat").read_text().splitlines()
        if line.startswith("btime ")
    )
    return booted + ticks_since_boot / os.sysconf("SC_CLK_TCK")
