"""Reads what is used, asks the judges, and says what they found: once for the service, once for
each worker.

Not here: what a level means (`watermarks`), and how a worker is replaced (`serve`).
"""

import errno
import os
import resource
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, final

from shipworthy.events import Event, Label, Measure, Metric, OneOf, Severity, emit, event
from shipworthy.lifecycle.cgroup import Cgroup, CgroupUse
from shipworthy.lifecycle.limits import Limits, machine_memory, read_limits
from shipworthy.lifecycle.resource_settings import ResourceSettings
from shipworthy.lifecycle.watermarks import (
    RESOURCES,
    Decision,
    LeaveForRecycle,
    LevelChange,
    OverBudget,
    ProcessJudge,
    ProcessUse,
    Recycle,
    ResourceReport,
    ServiceJudge,
    ServiceUse,
    WorkerUse,
)

INTERVAL_SECONDS = 1.0
_DISK_SECONDS = 10.0

Reading = Callable[[], Mapping[tuple[str, ...], float]]


@event(severity=Severity.WARNING)
class ResourceChanged(Event):
    """The use of a resource has come nearer to its limit, or is well below it again."""

    resource: Annotated[str, Label]
    level: Annotated[str, Label]
    value: Annotated[float, Measure]
    limit: float
    because: str


@event(severity=Severity.WARNING)
class ResourceOverBudget(Event):
    """More was asked for than there is."""

    resource: Annotated[str, Label]
    because: str


@event(severity=Severity.WARNING)
class ResourceUnread(Event):
    """What the kernel says of a resource cannot be read, so nothing is known of it."""

    source: str
    because: str


USED = Metric(
    "shipworthy_resource_used_ratio",
    "gauge",
    "Share of the limit of a resource that is in use; of several processes the highest.",
    {"resource": OneOf(*RESOURCES)},
    fold="max",
)
LEVEL = Metric(
    "shipworthy_resource_level",
    "gauge",
    "How near to its limit a resource is: 0 ok, 1 told, 2 acted upon, 3 emergency.",
    {"resource": OneOf(*RESOURCES)},
    fold="max",
)
PERIODS = Metric(
    "shipworthy_cgroup_cpu_periods_total",
    "counter",
    "Scheduling periods in which the control group wanted the CPU.",
)
THROTTLED = Metric(
    "shipworthy_cgroup_cpu_throttled_periods_total",
    "counter",
    "Scheduling periods in which the control group had used up its CPU quota.",
)
THROTTLED_SECONDS = Metric(
    "shipworthy_cgroup_cpu_throttled_seconds_total",
    "counter",
    "Seconds in which processes of the control group waited for the next period.",
)
LIMIT_HITS = Metric(
    "shipworthy_cgroup_memory_limit_hits_total",
    "counter",
    "Times the control group was at its memory limit and the kernel had to look for memory.",
)
OOM_KILLS = Metric(
    "shipworthy_cgroup_oom_kills_total",
    "counter",
    "Processes of the control group the kernel has killed for want of memory.",
)
PRESSURE = Metric(
    "shipworthy_pressure_ratio",
    "gauge",
    "Share of the last 10 s in which somebody waited for the resource, as the kernel tells.",
    {"resource": OneOf("memory", "cpu")},
    fold="max",
)


@final
class ServiceResources:
    """The resources of the whole service; the supervisor ticks it, at most once a second.

    `root` stands in for `/` in tests. Reads some twenty small files of the kernel a second, from
    memory; the disk is asked in a thread, since one on a network may never answer. Belongs to one
    thread.
    """

    def __init__(self, settings: ResourceSettings, *, root: Path = Path("/")) -> None:
        self._root = root
        self._cgroup = Cgroup(root, unread=_unread)
        self._judge = ServiceJudge(
            memory=settings.memory,
            worker_memory_bytes=settings.worker_memory_bytes,
            processes_warn_ratio=settings.processes_warn_ratio,
            throttled_warn_ratio=settings.throttled_warn_ratio,
            disk_warn_ratio=settings.disk_warn_ratio,
        )
        self._disk = _Disk(settings.disk_path or ".")
        self._use = CgroupUse()
        self._due = 0.0
        self.limits: Limits = read_limits(
            root, cgroup=self._cgroup, raised=settings.raise_descriptors
        )

    def tick(
        self, workers: Iterable[WorkerUse], *, wanted: int, now: float
    ) -> list[Recycle | LeaveForRecycle]:
        """Read and judge when a second is over; return what is to be done, and say the rest."""
        if now < self._due:
            return []
        self._due = now + INTERVAL_SECONDS
        self._use = use = self._cgroup.use()
        used, limit = use.memory_bytes, use.memory_limit_bytes
        of_group = used is not None and limit is not None
        if not of_group:
            used, limit = machine_memory(self._root)
        decisions = self._judge.tick(
            ServiceUse(
                memory_bytes=used,
                memory_limit_bytes=limit,
                memory_of="control group" if of_group else "machine",
                processes=use.pids,
                processes_limit=use.pids_limit,
                cpu_periods=use.cpu_periods,
                cpu_throttled_periods=use.cpu_throttled_periods,
                disk_bytes=self._disk.used_bytes,
                disk_size_bytes=self._disk.size_bytes,
                workers=tuple(workers),
                workers_wanted=wanted,
                cpus=self.limits.cpus.value,
            ),
            now,
        )
        self._disk.look(now)
        return _said(decisions)

    def reports(self) -> list[ResourceReport]:
        """Return how each resource stands, as of the last tick."""
        return self._judge.reports()

    def metrics(self) -> tuple[tuple[Metric, Reading], ...]:
        """Return each metric with how to read it."""
        return (
            *report_metrics(self.reports),
            (PERIODS, self._reading("cpu_periods")),
            (THROTTLED, self._reading("cpu_throttled_periods")),
            (THROTTLED_SECONDS, self._reading("cpu_throttled_seconds")),
            (LIMIT_HITS, self._reading("memory_limit_hits")),
            (OOM_KILLS, self._reading("oom_kills")),
            (PRESSURE, self._pressures),
        )

    def _reading(self, name: str) -> Reading:
        def read() -> dict[tuple[str, ...], float]:
            number = getattr(self._use, name)
            return {} if number is None else {(): float(number)}

        return read

    def _pressures(self) -> dict[tuple[str, ...], float]:
        known = {
            "memory": self._use.memory_pressure_ratio,
            "cpu": self._use.cpu_pressure_ratio,
        }
        return {(name,): ratio for name, ratio in known.items() if ratio is not None}


@final
class ProcessResources:
    """The resources of one worker process; its heartbeat ticks it, at most once a second.

    Belongs to one thread; `not_ready` may be read from any.
    """

    def __init__(self, settings: ResourceSettings, *, descriptors: Path | None = None) -> None:
        self._descriptors = descriptors or Path("/proc/self/fd")
        self._judge = ProcessJudge(
            descriptors=settings.descriptors,
            lag_seconds=settings.loop_lag_seconds,
            connections=settings.worker_connections,
        )
        self._due = 0.0

    def tick(
        self, *, connections: int, lag_seconds: Callable[[], float | None], now: float
    ) -> None:
        """Read and judge when a second is over, and say what has changed.

        `lag_seconds` is asked then for the most the event loop was late since the last time.
        """
        if now < self._due:
            return
        self._due = now + INTERVAL_SECONDS
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        _said(
            self._judge.tick(
                ProcessUse(
                    descriptors=_count(self._descriptors, soft),
                    descriptors_limit=None if soft == resource.RLIM_INFINITY else soft,
                    lag_seconds=lag_seconds(),
                    connections=connections,
                ),
                now,
            )
        )

    @property
    def not_ready(self) -> str:
        """Return why no requests should come, or '' while they may."""
        return self._judge.not_ready

    def reports(self) -> list[ResourceReport]:
        """Return how each resource stands, as of the last tick."""
        return self._judge.reports()

    def described(self) -> list[dict[str, Any]]:
        """Return the reports as plain data for the supervisor."""
        return [asdict(report) for report in self.reports()]

    def metrics(self) -> tuple[tuple[Metric, Reading], ...]:
        """Return each metric with how to read it."""
        return report_metrics(self.reports)


def report_metrics(
    reports: Callable[[], Sequence[ResourceReport]],
) -> tuple[tuple[Metric, Reading], ...]:
    """Return the metrics of resources: the share in use where it is known, and the level."""
    return (
        (USED, lambda: {(r.resource,): r.ratio for r in reports() if r.ratio is not None}),
        (LEVEL, lambda: {(r.resource,): float(r.level.rank) for r in reports()}),
    )


@final
class _Disk:
    """How full a disk is, asked every ten seconds by a thread that may hang.

    Where no thread can be started it is told once, and tried again every ten seconds.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._due = 0.0
        self._asking: threading.Thread | None = None
        self._said = False
        self.used_bytes: int | None = None
        self.size_bytes: int | None = None

    def look(self, now: float) -> None:
        if now < self._due or (self._asking is not None and self._asking.is_alive()):
            return
        self._due = now + _DISK_SECONDS
        asking = threading.Thread(target=self._ask, name="shipworthy disk", daemon=True)
        try:
            asking.start()
        except RuntimeError as error:  # as many threads and processes as there may be
            if not self._said:
                _unread(self._path, f"no thread could be started to ask the disk: {error}")
            self._said = True
            return
        self._asking, self._said = asking, False

    def _ask(self) -> None:
        try:
            found = os.statvfs(self._path)
        except OSError as error:
            _unread(self._path, error.strerror or type(error).__name__)
            self._due = float("inf")  # a folder that is gone does not come back by itself
            return
        # As `df` counts: what is kept for root is neither used nor to be had.
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        self.used_bytes, self.size_bytes = used, used + found.f_bavail * found.f_frsize


def _said(decisions: Sequence[Decision]) -> list[Recycle | LeaveForRecycle]:
    """State what has changed, and return what somebody must do."""
    left: list[Recycle | LeaveForRecycle] = []
    for decision in decisions:
        match decision:
            case LevelChange(report=report):
                emit(
                    ResourceChanged,
                    resource=report.resource,
                    level=report.level.value,
                    value=report.used or 0.0,
                    limit=report.limit or 0.0,
                    because=report.because,
                )
            case OverBudget(resource=name, because=because):
                emit(ResourceOverBudget, resource=name, because=because)
            case Recycle() | LeaveForRecycle():
                left.append(decision)
    return left


def _unread(source: str, because: str) -> None:
    emit(ResourceUnread, source=source, because=because)


def _count(folder: Path, soft: int) -> int | None:
    try:
        return sum(1 for _ in folder.iterdir()) - 1  # one of them is the listing itself
    except OSError as error:
        # The listing needs one itself: that it gets none is an answer, and the one that matters.
        return soft if error.errno == errno.EMFILE else None
