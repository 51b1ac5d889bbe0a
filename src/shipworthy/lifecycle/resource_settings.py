"""The section `resources`."""

from dataclasses import dataclass

from shipworthy.lifecycle.watermarks import Marks
from shipworthy.settings import duration, option, section, size


@section("resources")
@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceSettings:
    """At which share of a limit somebody is told, and at which something is done about it."""

    memory_warn_ratio: float = option(
        0.75,
        "share of the memory limit at which it is told, with the time that is left",
        minimum=0.05,
        maximum=1.0,
    )
    memory_act_ratio: float = option(
        0.9,
        "share of the memory limit at which the largest worker is replaced by a new one",
        minimum=0.05,
        maximum=1.0,
    )
    memory_emergency_ratio: float = option(
        0.95,
        "share of the memory limit at which that does not wait for serve.recycle_interval after "
        "the one before",
        minimum=0.05,
        maximum=1.0,
    )
    worker_memory_bytes: int = size(
        "0", "memory of one worker at which it is replaced by a new one; 0 for no limit"
    )
    descriptors_warn_ratio: float = option(
        0.7,
        "share of the file descriptors a worker may open at which it is told",
        minimum=0.05,
        maximum=1.0,
    )
    descriptors_act_ratio: float = option(
        0.85,
        "share of the file descriptors at which the worker is not ready, until some are free again",
        minimum=0.05,
        maximum=1.0,
    )
    raise_descriptors: bool = option(
        True,  # noqa: FBT003
        "whether the soft limit of file descriptors is raised to the hard one, at most to "
        "65536; programs that the app starts inherit it",
    )
    processes_warn_ratio: float = option(
        0.8,
        "share of the processes and threads the control group may have at which it is told",
        minimum=0.05,
        maximum=1.0,
    )
    worker_connections: int = option(
        0, "connections of one worker at which it is told; 0 for no limit", minimum=0
    )
    loop_lag_seconds: float = duration(
        "100ms", "how late the event loop may be before it is told", minimum="10ms"
    )
    # The loop says every 50 ms that it moves, so 150 ms without a word is 100 ms of work in one go.
    blocked_seconds: float = duration(
        "150ms",
        "how long the event loop may stand still before the line it stands at is told; 0 for never",
    )
    throttled_warn_ratio: float = option(
        0.05,
        "share of the scheduling periods in which the CPU quota was used up at which it is told",
        minimum=0.01,
        maximum=1.0,
    )
    disk_warn_ratio: float = option(
        0.9, "share of the disk in use at which it is told", minimum=0.05, maximum=1.0
    )
    disk_path: str = option(
        "", "a folder on the disk that is watched; empty for the one the service runs in"
    )

    @property
    def memory(self) -> Marks:
        """Return the marks of the memory of the whole service."""
        return Marks(
            warn=self.memory_warn_ratio,
            act=self.memory_act_ratio,
            emergency=self.memory_emergency_ratio,
        )

    @property
    def descriptors(self) -> Marks:
        """Return the marks of the file descriptors of a worker."""
        return Marks(warn=self.descriptors_warn_ratio, act=self.descriptors_act_ratio)

    def refusals(self, environment: str) -> list[str]:
        """Name marks in the wrong order, and a block shorter than what the loop can tell."""
        del environment
        problems = [
            f"resources.{low} = {getattr(self, low):g} must be below "
            f"resources.{high} = {getattr(self, high):g}"
            for low, high in (
                ("memory_warn_ratio", "memory_act_ratio"),
                ("memory_act_ratio", "memory_emergency_ratio"),
                ("descriptors_warn_ratio", "descriptors_act_ratio"),
            )
            if getattr(self, low) >= getattr(self, high)
        ]
        if 0 < self.blocked_seconds < 0.1:
            problems.append(
                f"resources.blocked = {self.blocked_seconds * 1000:g}ms is too short: a loop that "
                "moves is heard every 50 ms; give 100ms or more, or 0 for never"
            )
        return problems
