"""What the use of a resource means: levels with hysteresis, a forecast, and what to do. Pure.

Facts and the time go in (monotonic seconds), decisions come out; `resources.py` reads the facts.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal, final

# A level is left only when the use is this much below its mark, and stays there for a while:
# else one that swings around a mark would tell of it for ever.
SLACK_RATIO: Final = 0.05
CALM_SECONDS: Final = 10.0
# The forecast goes by the last ten minutes, a sample each five seconds, and needs half a minute.
TREND_SECONDS: Final = 600.0
_SAMPLE_SECONDS: Final = 5.0
_TREND_AT_LEAST_SECONDS: Final = 30.0
# A forecast beyond a day is none: nothing grows evenly for so long.
_FORECAST_SECONDS: Final = 86_400.0
_THROTTLE_SECONDS: Final = 10.0
# Below this a share says more about chance than about the quota: 1 s of periods of 100 ms.
_PERIODS_AT_LEAST: Final = 10
# A worker that is about as large as it was when it started would be as large after a replacement.
_GROWN_RATIO: Final = 1.2
# What a shell gives by default; fewer are met by a burst before anybody can do anything about it.
_DESCRIPTORS_AT_LEAST: Final = 1024
_MIB: Final = 2**20
# All that is judged below, of the service and of each process; a label of metrics.
RESOURCES: Final = (
    *("memory", "worker_memory", "processes", "cpu_throttled", "disk"),
    *("descriptors", "loop_lag", "connections"),
)


class Level(StrEnum):
    """How near to its limit a resource is; `rank` orders them from 0."""

    OK = "ok"
    WARN = "warn"  # told, and nothing else
    ACT = "act"
    EMERGENCY = "emergency"

    @property
    def rank(self) -> int:
        """Return 0 to 3."""
        return list(Level).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """From which share of the limit on each level holds; one that is not given never does."""

    warn: float
    act: float = math.inf
    emergency: float = math.inf

    def level(self, ratio: float) -> Level:
        """Return the highest level whose mark is reached."""
        if ratio >= self.emergency:
            return Level.EMERGENCY
        if ratio >= self.act:
            return Level.ACT
        return Level.WARN if ratio >= self.warn else Level.OK


@final
class Watermark:
    """Decide on which level a resource is, slowly enough not to flap.

    Up after `patience_seconds` without a break on a higher level, down after `calm_seconds` clearly
    below the present one. A use that is not known changes nothing.
    """

    __slots__ = ("_above", "_below", "calm_seconds", "level", "marks", "patience_seconds")

    def __init__(
        self, marks: Marks, *, patience_seconds: float = 0.0, calm_seconds: float = CALM_SECONDS
    ) -> None:
        self.marks = marks
        self.patience_seconds = patience_seconds
        self.calm_seconds = calm_seconds
        self.level = Level.OK
        self._above: float | None = None
        self._below: float | None = None

    def judge(self, ratio: float | None, now: float) -> bool:
        """Take the present share of the limit; say whether the level is another one now."""
        if ratio is None:
            return False
        reached = self.marks.level(ratio)
        if reached.rank > self.level.rank:
            self._below = None
            self._above = now if self._above is None else self._above
            return now - self._above >= self.patience_seconds and self._enter(reached)
        self._above = None
        left = self.marks.level(ratio / (1 - SLACK_RATIO))
        if left.rank >= self.level.rank:
            self._below = None
            return False
        self._below = now if self._below is None else self._below
        return now - self._below >= self.calm_seconds and self._enter(left)

    def _enter(self, level: Level) -> bool:
        self.level = level
        self._above = self._below = None
        return True


@final
class Trend:
    """Say how fast something grows, by the straight line that fits the last ten minutes best."""

    __slots__ = ("_samples",)

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque()

    def add(self, value: float, now: float) -> None:
        """Take a value; of those that come within five seconds the first is kept."""
        samples = self._samples
        if samples and now - samples[-1][0] < _SAMPLE_SECONDS:
            return
        samples.append((now, value))
        while now - samples[0][0] > TREND_SECONDS:
            samples.popleft()

    def per_second(self) -> float | None:
        """Return the growth a second, negative when it shrinks; None while too little is known."""
        samples = self._samples
        if len(samples) < 3 or samples[-1][0] - samples[0][0] < _TREND_AT_LEAST_SECONDS:
            return None
        count = len(samples)
        middle = sum(at for at, _ in samples) / count
        mean = sum(value for _, value in samples) / count
        spread = sum((at - middle) ** 2 for at, _ in samples)
        return sum((at - middle) * (value - mean) for at, value in samples) / spread

    def forecast(self, value: float, limit: float) -> str:
        """Say in words when `limit` will be reached; '' when it will not, or nobody can tell."""
        growth = self.per_second()
        if growth is None or growth <= 0 or (left := (limit - value) / growth) > _FORECAST_SECONDS:
            return ""
        seen_seconds = self._samples[-1][0] - self._samples[0][0]
        return (
            f"; it has grown by {growth * 60 / _MIB:.1f} MiB a minute over the last "
            f"{_length(seen_seconds)}, and at this rate is full in {_length(max(0.0, left))}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceReport:
    """How one resource stands; `used`, `limit` and `ratio` are None while they are not known.

    `because` says it in a sentence, and what is done about it; it is empty on level ok.
    """

    resource: str
    level: Level = Level.OK
    used: float | None = None
    limit: float | None = None
    ratio: float | None = None
    unit: str = ""
    because: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelChange:
    """A resource is on another level than before."""

    report: ResourceReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Recycle:
    """Replace this worker by a new one; said again as long as the reason lasts.

    In an `emergency` whatever was replaced just now. With `retire_first` the new one is started
    when this one is gone, since there is no room for both.
    """

    pid: int
    because: str
    emergency: bool = False
    retire_first: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveForRecycle:
    """Drain and end with code 75: there is no room for a new worker beside the only one."""

    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OverBudget:
    """What was asked for does not fit into what there is; told once, after the start."""

    resource: str
    because: str


Decision = LevelChange | Recycle | LeaveForRecycle | OverBudget


@final
class _Judged:
    """One resource: its watermark and its latest report."""

    __slots__ = ("report", "watermark")

    def __init__(self, resource: str, unit: str, watermark: Watermark) -> None:
        self.watermark = watermark
        self.report = ResourceReport(resource=resource, unit=unit)

    def judge(
        self, used: float | None, limit: float | None, now: float, because: str
    ) -> list[Decision]:
        ratio = used / limit if used is not None and limit else None
        changed = self.watermark.judge(ratio, now)
        level = self.watermark.level
        if used is None:
            because = because or self.report.because  # the level holds, and so does its reason
        self.report = ResourceReport(
            resource=self.report.resource,
            level=level,
            used=used,
            limit=limit,
            ratio=ratio,
            unit=self.report.unit,
            because=because if level is not Level.OK else "",
        )
        return [LevelChange(report=self.report)] if changed else []


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerUse:
    """What one worker holds; `serving` is whether it has been ready and is not leaving.

    `replacing` is whether it is to be replaced already, for whatever reason, or leaves for that.
    """

    pid: int
    rss_bytes: int
    serving: bool
    replacing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceUse:
    """What the whole service uses; None is not known, or without a limit.

    `memory_of` says whose memory it is. `workers_wanted` is how many should serve, `cpus` how many
    CPUs may work for them at once.
    """

    memory_bytes: int | None
    memory_limit_bytes: int | None
    memory_of: Literal["control group", "machine"]
    processes: int | None = None
    processes_limit: int | None = None
    cpu_periods: int | None = None
    cpu_throttled_periods: int | None = None
    disk_bytes: int | None = None
    disk_size_bytes: int | None = None
    workers: Sequence[WorkerUse] = ()
    workers_wanted: int
    cpus: float


@dataclass(slots=True)
class _Worker:
    """A worker over time: as large as it was when it was first seen to serve, and as it is."""

    pid: int
    fresh_bytes: int
    rss_bytes: int
    serving: bool = True
    replacing: bool = False

    @property
    def grown(self) -> bool:
        return self.rss_bytes > self.fresh_bytes * _GROWN_RATIO


@dataclass(slots=True, kw_only=True)
class ServiceJudge:
    """Decide what the use of memory, CPU, processes and disk by the whole service asks for.

    A worker is named for replacement as long as the reason lasts: whoever replaces it may fail, and
    begins again with the next word. Nobody is named while one starts: that is replacement enough.
    For the memory of all, nobody is named beside one that leaves to be replaced, nor, but in an
    emergency, beside one that will be. Not thread-safe.
    """

    memory: Marks
    worker_memory_bytes: int
    processes_warn_ratio: float
    throttled_warn_ratio: float
    disk_warn_ratio: float
    _judged: dict[str, _Judged] = field(init=False)
    _trend: Trend = field(default_factory=Trend)
    _workers: dict[int, _Worker] = field(default_factory=dict)
    # Whether somebody is there who has not served yet; what there is room for is judged without.
    _starting: bool = False
    _throttle: deque[tuple[float, int, int]] = field(default_factory=deque)
    _budgeted: bool = False
    _leaving: bool = False

    def __post_init__(self) -> None:
        # Throttling comes and goes with the load, so it is told when it lasts.
        throttle = Watermark(
            Marks(warn=self.throttled_warn_ratio), patience_seconds=5.0, calm_seconds=30.0
        )
        rows = (
            ("memory", "bytes", Watermark(self.memory)),
            ("worker_memory", "bytes", Watermark(Marks(warn=0.9, act=1.0))),
            ("processes", "processes", Watermark(Marks(warn=self.processes_warn_ratio))),
            ("cpu_throttled", "periods", throttle),
            ("disk", "bytes", Watermark(Marks(warn=self.disk_warn_ratio))),
        )
        self._judged = {name: _Judged(name, unit, mark) for name, unit, mark in rows}

    def reports(self) -> list[ResourceReport]:
        """Return how each resource stands, as of the last tick."""
        return [judged.report for judged in self._judged.values()]

    def tick(self, use: ServiceUse, now: float) -> list[Decision]:
        """Take what is used now and return what has changed and what to do about it."""
        self._follow(use.workers)
        return [
            *self._memory(use, now),
            *self._worker_memory(use, now),
            *self._simple("processes", use.processes, use.processes_limit, now, "processes"),
            *self._throttled(use, now),
            *self._simple("disk", use.disk_bytes, use.disk_size_bytes, now, "MiB of disk"),
            *self._budget(use),
        ]

    def _follow(self, workers: Sequence[WorkerUse]) -> None:
        seen = {worker.pid: worker for worker in workers}
        for pid in self._workers.keys() - seen.keys():
            del self._workers[pid]
        for pid, worker in seen.items():
            known = self._workers.get(pid)
            if known is not None:
                known.rss_bytes, known.serving = worker.rss_bytes, worker.serving
                known.replacing = worker.replacing
            elif worker.serving and worker.rss_bytes:
                self._workers[pid] = _Worker(
                    pid, worker.rss_bytes, worker.rss_bytes, replacing=worker.replacing
                )
        self._starting = len(self._workers) < len(seen)

    # Memory.

    def _memory(self, use: ServiceUse, now: float) -> Iterator[Decision]:
        used, limit = use.memory_bytes, use.memory_limit_bytes
        if used is None or limit is None:
            yield from self._judged["memory"].judge(used, limit, now, "")
            return
        self._trend.add(used, now)
        stand = (
            f"{_mib(used)} of the {_mib(limit)} of the {use.memory_of} are in use "
            f"({used / limit:.0%}){self._trend.forecast(used, limit)}"
        )
        level = self.memory.level(used / limit)
        largest = None
        if level.rank >= Level.ACT.rank:
            largest = max(
                (worker for worker in self._workers.values() if worker.serving),
                key=lambda worker: worker.rss_bytes,
                default=None,
            )
            useless = self._useless(largest, use, used, limit)
            if largest is not None and not useless:
                stand += (
                    f"; worker {largest.pid} has {_mib(largest.rss_bytes)} of it, and had "
                    f"{_mib(largest.fresh_bytes)} when it began to serve"
                )
            else:
                largest = None
            stand += useless
        yield from self._judged["memory"].judge(used, limit, now, stand)
        emergency = level is Level.EMERGENCY
        if largest is not None and not self._waits(largest, emergency=emergency):
            yield from self._replace(largest, use, stand, emergency=emergency)

    def _waits(self, worker: _Worker, *, emergency: bool) -> bool:
        """Say whether another one is replaced: what it leaves behind may be enough."""
        others = [o for o in self._workers.values() if o is not worker and o.replacing]
        if any(not other.serving for other in others):
            return True
        return bool(others) and not emergency and not worker.replacing

    def _useless(self, largest: "_Worker | None", use: ServiceUse, used: int, limit: int) -> str:
        """Say why the end of the largest worker would not help; '' when it would."""
        held = sum(worker.rss_bytes for worker in self._workers.values())
        if largest is None or held * 2 < used:
            return f"; the workers hold {_mib(held)} of it, so replacing one would free little"
        if not largest.grown:
            return (
                f"; no worker is much larger than the {_mib(largest.fresh_bytes)} with which it "
                f"began to serve, so a new one would not help: give more than {_mib(limit)}, or "
                f"start fewer workers than {use.workers_wanted}"
            )
        return ""

    def _replace(
        self, worker: _Worker, use: ServiceUse, because: str, *, emergency: bool = False
    ) -> Iterator[Decision]:
        """Have a worker replaced, so that old and new are never more than there is room for."""
        if self._starting:
            return
        used, limit = use.memory_bytes, use.memory_limit_bytes
        room = used is None or limit is None or limit - used > worker.fresh_bytes
        if room or use.workers_wanted > 1:
            yield Recycle(
                pid=worker.pid, because=because, emergency=emergency, retire_first=not room
            )
        elif not self._leaving:
            self._leaving = True
            yield LeaveForRecycle(because=f"{because}; there is no room for a new worker beside it")

    def _worker_memory(self, use: ServiceUse, now: float) -> Iterator[Decision]:
        limit = self.worker_memory_bytes
        if not limit or not self._workers:
            yield from self._judged["worker_memory"].judge(None, limit or None, now, "")
            return
        largest = max(self._workers.values(), key=lambda worker: worker.rss_bytes)
        because = (
            f"worker {largest.pid} holds {_mib(largest.rss_bytes)} of the {_mib(limit)} that "
            "resources.worker_memory gives it"
        )
        if largest.fresh_bytes >= limit:
            because += f"; a new one needs {_mib(largest.fresh_bytes)}, so it is not replaced"
        yield from self._judged["worker_memory"].judge(largest.rss_bytes, limit, now, because)
        for worker in self._workers.values():
            if worker.serving and worker.rss_bytes >= limit > worker.fresh_bytes:
                yield from self._replace(
                    worker,
                    use,
                    f"it holds {_mib(worker.rss_bytes)}, and resources.worker_memory is "
                    f"{_mib(limit)}",
                )

    # The rest is told and nothing else.

    def _simple(
        self, name: str, used: int | None, limit: int | None, now: float, what: str
    ) -> list[Decision]:
        because = ""
        if used is not None and limit:
            by = _MIB if name == "disk" else 1
            because = f"{used / by:,.0f} of {limit / by:,.0f} {what} in use ({used / limit:.0%})"
        return self._judged[name].judge(used, limit, now, because)

    def _throttled(self, use: ServiceUse, now: float) -> list[Decision]:
        if use.cpu_periods is None or use.cpu_throttled_periods is None:
            return []
        samples = self._throttle
        samples.append((now, use.cpu_periods, use.cpu_throttled_periods))
        while len(samples) > 2 and now - samples[1][0] >= _THROTTLE_SECONDS:
            samples.popleft()
        periods = use.cpu_periods - samples[0][1]
        throttled = use.cpu_throttled_periods - samples[0][2]
        if periods < _PERIODS_AT_LEAST or throttled < 0:
            return self._judged["cpu_throttled"].judge(0, 1, now, "")
        enough = max(1, math.ceil(use.cpus))
        advice = (
            f"start {enough}" if use.workers_wanted > enough else "give more CPU, or more replicas"
        )
        return self._judged["cpu_throttled"].judge(
            throttled,
            periods,
            now,
            f"the quota of {use.cpus:g} CPUs was used up in {throttled / periods:.0%} of the last "
            f"{periods} periods, with {_workers(use.workers_wanted)}: {advice}",
        )

    def _budget(self, use: ServiceUse) -> Iterator[Decision]:
        """Say once, when as many serve as should, what will not fit."""
        if self._budgeted or len(self._workers) < use.workers_wanted:
            return
        self._budgeted = True
        if use.workers_wanted > math.ceil(use.cpus):
            yield OverBudget(
                resource="cpu",
                because=f"{use.workers_wanted} workers share {use.cpus:g} CPUs: they wait for one "
                f"another; {math.ceil(use.cpus)} would serve as much",
            )
        used, limit = use.memory_bytes, use.memory_limit_bytes
        if used is None or limit is None:
            return
        fresh = max(worker.fresh_bytes for worker in self._workers.values())
        need = fresh * use.workers_wanted
        if need > limit * self.memory.warn:
            yield OverBudget(
                resource="memory",
                because=f"{use.workers_wanted} x {_mib(fresh)} is {need / limit:.0%} of the "
                f"{_mib(limit)} of the {use.memory_of}, and that without a request: give more "
                "memory, or start fewer workers",
            )
        elif used + fresh > limit:
            yield OverBudget(
                resource="memory",
                because=f"{_mib(limit - used)} of the {_mib(limit)} of the {use.memory_of} are "
                f"free, and a new worker needs {_mib(fresh)}: none fits beside those that are to "
                "be replaced",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessUse:
    """What one worker process uses; None is not known, or without a limit."""

    descriptors: int | None = None
    descriptors_limit: int | None = None
    lag_seconds: float | None = None
    connections: int | None = None


@dataclass(slots=True, kw_only=True)
class ProcessJudge:
    """Decide what the use of descriptors, loop and connections of one process means."""

    descriptors: Marks
    lag_seconds: float
    connections: int
    _judged: dict[str, _Judged] = field(init=False)
    _budgeted: bool = False

    def __post_init__(self) -> None:
        # Not ready is an outage of this worker, so it ends as soon as it may.
        descriptors = Watermark(self.descriptors, calm_seconds=3.0)
        rows = (
            ("descriptors", "descriptors", descriptors),
            # One pause is no news, and a block is told by itself; here it is what lasts.
            ("loop_lag", "seconds", Watermark(Marks(warn=1.0), patience_seconds=3.0)),
            ("connections", "connections", Watermark(Marks(warn=1.0))),
        )
        self._judged = {name: _Judged(name, unit, mark) for name, unit, mark in rows}

    def reports(self) -> list[ResourceReport]:
        """Return how each resource stands, as of the last tick."""
        return [judged.report for judged in self._judged.values()]

    def tick(self, use: ProcessUse, now: float) -> list[Decision]:
        """Take what is used now and return what has changed."""
        judged = self._judged
        found: list[Decision] = []
        if not self._budgeted and 0 < (use.descriptors_limit or 0) < _DESCRIPTORS_AT_LEAST:
            found.append(
                OverBudget(
                    resource="descriptors",
                    because=f"a worker may open {use.descriptors_limit} file descriptors, and "
                    "clients that come when none is left are closed by uvloop without an answer "
                    f"(asyncio lets them wait): give {_DESCRIPTORS_AT_LEAST} or more (ulimit -Hn)",
                )
            )
        self._budgeted = True
        because = ""
        if use.descriptors is not None and use.descriptors_limit:
            because = (
                f"{use.descriptors:,} of {use.descriptors_limit:,} file descriptors are open "
                f"({use.descriptors / use.descriptors_limit:.0%}); raise the limit (ulimit -n), or "
                "look for what is not closed"
            )
        found += judged["descriptors"].judge(use.descriptors, use.descriptors_limit, now, because)
        lag = use.lag_seconds
        found += judged["loop_lag"].judge(
            lag,
            self.lag_seconds,
            now,
            f"the event loop was up to {(lag or 0) * 1000:.0f} ms late; what works for longer than "
            "that in one go belongs into a thread",
        )
        count = use.connections
        found += judged["connections"].judge(
            count,
            self.connections or None,
            now,
            f"{count} connections are open, and resources.worker_connections is {self.connections}",
        )
        return found

    @property
    def not_ready(self) -> str:
        """Return why no requests should come, or '' while they may."""
        report = self._judged["descriptors"].report
        return report.because if report.level.rank >= Level.ACT.rank else ""


def _mib(size: float) -> str:
    return f"{size / _MIB:,.0f} MiB"


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"


def _length(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
