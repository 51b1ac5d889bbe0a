"""What the operations port shows, and the one port through which it learns and commands."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Protocol

from shipworthy.errors import Misuse, Rejected
from shipworthy.lifecycle import Answer, Phase, ResourceReport
from shipworthy.telemetry import Snapshot

_NAMES_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFacts:
    """One worker process as the supervisor last heard of it.

    `generation` counts the workers of the service in the order of their starts, `restarts` those
    that were in this one's place before it. `requests` is what it has served. `blocked` says what
    is known of an event loop that stands, and is empty while it moves. `health` is the worker's own
    `HealthReport.to_dict()` with the numbers of its `databases` and the reports of its `resources`,
    empty before the first one.
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
    requests: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedFacts:
    """A worker process that is no more.

    `end` is one word, the label of the metric: lost, failed, replaced, recycled, wedged, forced,
    dropped, surplus, told or drained. `took_seconds` is from its being told to its end, `report`
    what held it up meanwhile.
    """

    pid: int
    generation: int
    end: str
    because: str
    ended_wall: float
    took_seconds: float
    report: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceFacts:
    """The whole service at one instant.

    `version` is Shipworthy's, `started_wall` is in Unix seconds. `wanted` is how many workers there
    are to be, `replacing` how many of them are still to be replaced by a successor. `ended` are the
    last ten that ended, the latest first. `listens` are the addresses of the app, one that was
    handed over (systemd) with its name. `limits` says in a line each what the service may use,
    `resources` how near to its limit each is. `spare` says whether a process waits to take the
    place of a worker that is lost: none, warming or warm.
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
    wanted: int = 1
    replacing: int = 0
    spare: str = "none"
    ended: tuple[EndedFacts, ...] = ()
    listens: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    resources: tuple[ResourceReport, ...] = ()

    @property
    def serving(self) -> int:
        """Return how many workers serve: they are ready, by their phase."""
        return sum(worker.phase == Phase.READY for worker in self.workers)


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerFacts:
    """One breaker of one worker; `worker` is its process id, a window the last seconds of calls."""

    worker: int
    name: str
    state: str
    because: str
    for_seconds: float
    retry_after_seconds: float
    in_flight: int
    window_calls: int
    window_failures: int
    window_slow: int
    refused_total: int
    opened_total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakersFacts:
    """Breakers by name and worker; `silent` are the workers that did not answer in time."""

    breakers: tuple[BreakerFacts, ...]
    silent: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HolderFacts:
    """Somebody who holds a connection: the line that took it, and where that code stands now."""

    taken_at: str
    stands_at: str
    held_seconds: float
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseFacts:
    """One database of one worker: its pool, its breaker, and who holds its connections longest.

    `capacity` is null for a pool without a limit; `because`, `for_seconds` and
    `retry_after_seconds` are the breaker's.
    """

    worker: int
    name: str
    capacity: int | None
    in_use: int
    waiting: int
    checkouts: int
    waits: int
    wait_seconds: float
    timeouts: int
    deadlocks: int
    leaks: int
    cuts: int
    slow: int
    breaker: str
    because: str
    for_seconds: float
    retry_after_seconds: float
    holders: tuple[HolderFacts, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabasesFacts:
    """Databases by name and worker; `silent` are the workers that did not answer in time."""

    databases: tuple[DatabaseFacts, ...]
    silent: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SightingFacts:
    """One thing that reports of browsers name.

    `source` was loaded by `directive` on pages of `route`. `clients` are the different ones that
    reported it, of which eight are told apart in each worker.
    """

    directive: str
    source: str
    route: str
    reports: int
    clients: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFacts:
    """The Content-Security-Policy in force, what was reported of it, and what would let that pass.

    `proposal` is `policy` with what `added` names; `advice` says what it would still forbid. As
    anybody may send a report, it is to be read and never applied. `forgotten` counts what had to
    make room in the memory of a worker. `silent` are the workers that did not answer in time.
    """

    mode: str
    policy: str
    proposal: str
    added: tuple[str, ...]
    advice: tuple[str, ...]
    seen: tuple[SightingFacts, ...]
    not_shown: int
    forgotten: int
    silent: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFacts:
    """How many requests one rule of a guard turned away; in mode report it let them pass."""

    guard: str
    rule: str
    mode: str
    requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockedFacts:
    """One request that was turned away, or would have been; `because` is redacted."""

    seconds_ago: float
    guard: str
    rule: str
    mode: str
    client: str
    route: str
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityFacts:
    """What the guards turned away, in all workers and since each of them began.

    `modes` are those of the guards, in their order; `rules` have the most frequent first, `last`
    the newest. `silent` are the workers that did not answer in time.
    """

    modes: dict[str, str]
    rules: tuple[RuleFacts, ...]
    last: tuple[BlockedFacts, ...]
    silent: tuple[int, ...]


class NameUnknown(Misuse):
    """There is nothing of that name here; the message says which names there are."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        names = sorted(set(known))
        near = get_close_matches(name, names, n=1)
        there = ", ".join(names[:_NAMES_SHOWN]) or "none"
        more = len(names) - _NAMES_SHOWN
        also = f"did you mean '{near[0]}'?" if near else f"there is {there}"
        also += f" and {more} more" if more > 0 and not near else ""
        super().__init__(f"there is no {what} '{name[:100]}'; {also}")


class WorkersSilent(Rejected):
    """No worker answered in time; asking again does no harm, a command says a state, not a step."""


class Operated(Protocol):
    """The service behind the operations port."""

    def facts(self) -> ServiceFacts:
        """Return what is known now, at once: never asks a worker, never waits."""
        ...

    async def metrics(self) -> Sequence[Snapshot]:
        """Return the metrics of all processes; bounded by the implementation."""
        ...

    async def requests(self) -> Sequence[Mapping[str, Any]]:
        """Return the requests in flight in all workers, oldest first; bounded like `metrics`."""
        ...

    async def breakers(self) -> BreakersFacts:
        """Return the breakers of all workers; bounded like `metrics`."""
        ...

    async def databases(self) -> DatabasesFacts:
        """Return the databases of all workers; bounded like `metrics`."""
        ...

    async def security(self) -> SecurityFacts:
        """Return what the guards of all workers turned away; bounded like `metrics`."""
        ...

    async def policy(self) -> PolicyFacts:
        """Return what browsers reported to all workers; bounded like `metrics`."""
        ...

    async def isolate_breaker(self, name: str, because: str) -> BreakersFacts:
        """Hold a breaker open in every worker, also in later ones, and return how it stands.

        Raises `NameUnknown`, and `WorkersSilent` when no worker answers in time.
        """
        ...

    async def close_breaker(self, name: str) -> BreakersFacts:
        """Close a breaker in every worker and return how it stands; raises as `isolate_breaker`."""
        ...

    async def command(self, name: str) -> str:
        """Do `name` (`drain`, `restart`) and return a sentence that says what happens now.

        Raises `ShipworthyError` with a sentence when it cannot be done.
        """
        ...
