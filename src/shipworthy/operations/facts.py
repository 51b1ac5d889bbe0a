"""What the operations port shows, and the one port through which it learns and commands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from shipworthy.lifecycle import Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFacts:
    """One worker process as the supervisor last heard of it.

    `generation` is which process in the worker's place it is, counted from 1. `blocked` says what
    is known of an event loop that stands, and is empty while it moves. `health` is the worker's own
    `HealthReport.to_dict()`, empty before the first one.
    """

    pid: int
    generation: int
    phase: str
    heartbeat_age_seconds: float
    in_flight: int
    connections: int
    rss_bytes: int
    restarts: int
    health: Mapping[str, Any]
    blocked: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceFacts:
    """The whole service at one instant.

    `version` is Shipworthy's, `started_wall` is in Unix seconds.
    """

    target: str
    version: str
    environment: str
    started_wall: float
    phase: str
    live: Answer
    ready: Answer
    startup: Answer
    workers: tuple[WorkerFacts, ...]


class Operated(Protocol):
    """The service behind the operations port."""

    def facts(self) -> ServiceFacts:
        """Return what is known now, at once: never asks a worker, never waits."""
        ...

    async def metrics(self) -> bytes:
        """Return the Prometheus text of all processes; bounded by the implementation."""
        ...

    async def requests(self) -> Sequence[Mapping[str, Any]]:
        """Return the requests in flight in all workers, oldest first; bounded like `metrics`."""
        ...

    async def command(self, name: str) -> str:
        """Do `name` (`drain`) and return a sentence that says what happens now.

        Raises `ShipworthyError` with a sentence when it cannot be done.
        """
        ...
