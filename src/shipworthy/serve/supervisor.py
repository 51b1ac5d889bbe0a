"""The supervisor process: owns the sockets and the operations port, starts workers, ends them.

It imports no app. Everything runs on one asyncio loop that no user code can block, which is why the
operations port answers whatever a worker does.
"""

import asyncio
import contextlib
import itertools
import os
import random
import resource
import socket
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypeVar

import orjson

from shipworthy import __version__
from shipworthy.access import LOOK_SECONDS, AccessSettings, LiveTokens
from shipworthy.admission import LimitsSettings, store_of
from shipworthy.clock import SYSTEM_CLOCK
from shipworthy.errors import ShipworthyError
from shipworthy.events import Event, Measure, Seldom, Severity, emit, event
from shipworthy.lifecycle import (
    Exit,
    LeaveForRecycle,
    Phase,
    Recycle,
    ResourceSettings,
    ServiceResources,
    Signal,
    WorkerUse,
    is_ignored,
    signals_of,
)
from shipworthy.operations import (
    BreakerFacts,
    BreakersFacts,
    DatabaseFacts,
    DatabasesFacts,
    EndedFacts,
    HolderFacts,
    NameUnknown,
    OperationsSettings,
    PolicyFacts,
    RecordedApi,
    SecurityFacts,
    ServiceFacts,
    WorkerFacts,
    WorkersSilent,
    offered,
    operations_app,
    policy_facts,
    recorded_metrics,
    security_facts,
    trail_endpoints,
    trash_endpoints,
    watch_endpoints,
)
from shipworthy.serve import judge
from shipworthy.serve.channel import Channel
from shipworthy.serve.counts import Counts
from shipworthy.serve.engine import UvicornEngine
from shipworthy.serve.judge import WorkerSeen
from shipworthy.serve.metrics import ENDS, WORKERS, workers_by_state
from shipworthy.serve.order import Order
from shipworthy.serve.protocol import telling
from shipworthy.serve.remembering import Remembering
from shipworthy.serve.settings import ServeSettings
from shipworthy.serve.shown import service_catalogue
from shipworthy.serve.sockets import address_of
from shipworthy.serve.spare import Begun, Spares
from shipworthy.serve.standby import SpareStage, StandbyRule, has_room
from shipworthy.serve.supervision import (
    Action,
    Blow,
    EndReason,
    Leave,
    Spawn,
    Strike,
    Supervision,
    SupervisionRule,
    Tell,
    Word,
)
from shipworthy.serve.systemd import Notifier, NotifyFacts
from shipworthy.settings import Loaded
from shipworthy.telemetry import Memory, MetricsSettings, Registry, Snapshot, process_metrics
from shipworthy.web import Blocked

TICK_SECONDS = 0.1
# Every exchange with a worker is over within 1 s, including what the supervisor adds to it.
ASK_SECONDS = 0.8
# A worker that has not been heard for this long is not asked: the answer would come too late.
DEAF_SECONDS = 1.0
_STDERR = 2
# What fails ten times a second is no news ten times a second.
_SAID_AGAIN_SECONDS = 60.0
# Those that ended and are still told of.
_ENDED_KEPT = 10
# A watcher says something once a second; what comes faster waits for the next turn of the loop.
_WATCHED_AT_ONCE = 16
_WATCHED_BYTES_MAX = 4096
_REPORT_CHARACTERS = 500
# Far above what probes, scrapers and a few people need at once.
_OPERATIONS_CONNECTIONS_MAX = 256

_LEARN_AGAIN_SECONDS = 1.0
# What explains why nobody serves.
_LOSSES = frozenset({EndReason.LOST, EndReason.FAILED, EndReason.WEDGED, EndReason.FORCED})

Facts = TypeVar("Facts")


@event(severity=Severity.INFO)
class WorkerStarted(Event):
    """A worker process was started."""

    worker_pid: int
    generation: int


@event(severity=Severity.INFO)
class WorkerReady(Event):
    """A worker process serves; says what its start took, and what of it each step.

    The steps: until our own code runs, or the spare process has heard that it is needed; reading
    the settings and guarding libraries; importing the application; its own start and the listening.
    """

    worker_pid: int
    generation: int
    spare: bool
    took_seconds: Annotated[float, Measure]
    process_seconds: Annotated[float, Measure]
    configure_seconds: Annotated[float, Measure]
    import_seconds: Annotated[float, Measure]
    start_seconds: Annotated[float, Measure]


@event(severity=Severity.ERROR)
class WorkerLost(Event):
    """A worker process ended without being told to."""

    worker_pid: int
    generation: int
    because: str


@event(severity=Severity.WARNING)
class WorkerForced(Event):
    """A worker process did not end in time and was sent a signal."""

    worker_pid: int
    generation: int
    signal: str


@event(severity=Severity.INFO)
class WorkerRecycled(Event):
    """A worker process had served its time, and leaves in order.

    Its successor serves, or is started when it is gone, where there was no room for both.
    """

    worker_pid: int
    generation: int
    because: str


@event(severity=Severity.ERROR)
class WorkerWedged(Event):
    """The event loop of a worker process stood for too long; it is ended, another is started."""

    worker_pid: int
    generation: int
    because: str


@event(severity=Severity.INFO)
class WorkerLeft(Event):
    """A worker process that was told to leave has ended; says what held it up."""

    worker_pid: int
    generation: int
    end: str
    because: str
    took_seconds: float
    report: str


@event(severity=Severity.INFO)
class WorkersWanted(Event):
    """Somebody wants more or fewer worker processes."""

    before: int
    wanted: int


@event(severity=Severity.WARNING)
class ReadyUnsaid(Event):
    """The service is ready and could not say so, on standard error or to its caller."""

    because: str


@event(severity=Severity.ERROR)
class DutyFailed(Event):
    """Something the supervisor does beside its work has failed; watching the code, for one.

    `held_back` is how often it failed since this was last said.
    """

    because: str
    held_back: Annotated[int, Measure]


@event(severity=Severity.ERROR)
class ReplacementFailed(Event):
    """The successor of a worker could not start; the old one serves on, and so do the others."""

    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyFacts:
    """Where the service answers, once it does."""

    url: str
    operations_url: str
    token: str
    pid: int
    # Every address of the app; one that was handed over with its name.
    listens: tuple[str, ...] = ()
    # Where traces are sent to, '' for nowhere.
    traces_url: str = ""


class Duties:
    """Does what is due again and again: one that fails is stated, and neither ends nor hinders.

    The same duty is stated at most once a minute.
    """

    def __init__(self) -> None:
        self._seldom = Seldom(_SAID_AGAIN_SECONDS)

    def do(self, duty: str, work: Callable[[float], None], now: float) -> None:
        """Do `work(now)`; whatever it raises becomes `serve.duty_failed`, and no error."""
        try:
            work(now)
        except Exception as error:  # noqa: BLE001 - without the next round nobody supervises
            held_back = self._seldom.held_back(duty, now)
            if held_back is not None:
                because = f"{duty}: {type(error).__name__}: {error}"
                emit(DutyFailed, because=because, held_back=held_back)


class Supervisor:
    """Does what `Supervision` decides; answers the operations port from what it has heard."""

    def __init__(
        self,
        *,
        target: str,
        directory: Path,
        config: Path | None,
        overrides: Mapping[str, str],
        settings: Loaded,
        rule: SupervisionRule,
        sockets: Sequence[socket.socket],
        operations_sockets: Sequence[socket.socket],
        token: str,
        on_ready: Callable[[int], None],
        keep_listening: bool = False,
        listens: Sequence[str] = (),
        notifier: Notifier | None = None,
    ) -> None:
        self._target = target
        self._directory = directory
        self._config = config
        self._overrides = overrides
        self._settings = settings
        self._serve = settings.of(ServeSettings)
        self._sockets = list(sockets)
        self._operations_sockets = operations_sockets
        self._token = token
        self._on_ready = on_ready
        self._keep_listening = keep_listening
        self._listens = tuple(listens)
        self._notifier = notifier
        self._rounds = 0
        self._supervision = Supervision(rule)
        self._duties = Duties()
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._channels: dict[int, Channel] = {}
        self._seen: dict[int, WorkerSeen] = {}
        self._clean: set[int] = set()
        # When the start of each that is starting began, and whether it was the spare.
        self._starts: dict[int, tuple[float, bool]] = {}
        # What is due to each whose process is still being made.
        self._due: dict[int, list[Blow]] = {}
        self._spares = Spares(
            StandbyRule(
                kept=self._serve.spare and not rule.waits_for_change,
                start_seconds=rule.start_seconds,
            ),
            lambda: self._start(0, spare=True),
        )
        # What the last worker that began to serve had imported from libraries.
        self._libraries: list[str] = []
        self._reports: dict[int, str] = {}
        self._ended_workers: deque[EndedFacts] = deque(maxlen=_ENDED_KEPT)
        # What the last worker that nobody had told to end has ended of.
        self._last_loss = ""
        self._questions: dict[int, tuple[str, asyncio.Future[Any]]] = {}
        self._numbers = itertools.count(1)
        # Breakers that an operator holds open, with the reason: a worker to come must know.
        self._isolated: dict[str, str] = {}
        self._counts = Counts()
        self._started_wall = SYSTEM_CLOCK.wall()
        self._tasks: set[asyncio.Task[None]] = set()
        self._left: asyncio.Future[Leave]
        self._registry = Registry()
        process_metrics(self._registry)
        self._registry.gauge(WORKERS, read=self._count_workers)
        self._resources = ServiceResources(settings.of(ResourceSettings))
        # What is put back through the operations port is counted here, and by no worker.
        for metric, read in (*self._resources.metrics(), *recorded_metrics()):
            keep = self._registry.gauge if metric.kind == "gauge" else self._registry.running_total
            keep(metric, read=read)
        # Each is there from the start: an alert on their increase needs the 0.
        self._ends = {end: self._registry.counter(ENDS).cell(end) for end in EndReason}
        at = address_of(operations_sockets[0]) if operations_sockets else ""
        shown = service_catalogue(settings)
        self._memory = Memory(settings, self._registry, directory, shown, url=at)
        self._remembering = Remembering(self._memory, self.metrics)
        self._tokens = LiveTokens(settings.of(AccessSettings).tokens_file)

    async def run(
        self, changes: AsyncIterator[object] | None = None, *, early: Sequence[int] = ()
    ) -> Leave:
        """Serve until told to leave; `changes` yields when the code has changed (`--reload`).

        `early` are the signals that came before there was a loop.
        """
        loop = asyncio.get_running_loop()
        self._left = loop.create_future()
        self._counts.begin(self._settings.of(MetricsSettings).run_directory)
        recorded = RecordedApi(self._settings)
        self._tokens.look()  # before the port answers: who may come in is known from the start
        operations = UvicornEngine(
            operations_app(
                self,
                token=self._token,
                settings=self._settings.of(OperationsSettings),
                values=self._settings.values,
                actions=offered(),
                tokens=self._tokens,
                endpoints=(
                    *trash_endpoints(recorded, self._settings),
                    *trail_endpoints(recorded, self._settings),
                    *watch_endpoints(self._memory),
                ),
            ),
            connections_max=operations_connections_max(),
            told=telling(Blocked(self._registry, now=SYSTEM_CLOCK.now)),
        )
        await operations.start(self._operations_sockets, {})
        heard = {Signal.SIGTERM: self._signalled, Signal.SIGINT: self._signalled}
        if not is_ignored(Signal.SIGHUP):
            heard[Signal.SIGHUP] = self._hung_up
        if not _has_terminal():  # there the kernel sends them, to whoever is in the background
            heard[Signal.SIGTTIN] = lambda: self._want(self._supervision.more)
            heard[Signal.SIGTTOU] = lambda: self._want(self._supervision.fewer)
        with signals_of(loop, heard):
            ticking = asyncio.create_task(self._tick())
            self._keep(self._remembering.begin())
            if self._tokens.follows:
                self._keep(self._follow_tokens())
            if changes is not None:
                self._keep(self._follow(changes))
            if early:
                self._left.set_result(Leave(Exit.START_FAILED, "told to stop before it was ready"))
            else:
                self._do(self._supervision.begin(SYSTEM_CLOCK.now()))
            try:
                return await self._left
            finally:
                ticking.cancel()
                for task in self._tasks:
                    task.cancel()
                await self._spares.close()
                await operations.close()
                await self._remembering.end()
                self._tokens.save()
                self._counts.close()
                if self._notifier is not None:
                    self._notifier.close()

    # What the operations port asks.

    def facts(self) -> ServiceFacts:
        """Return what is known now, from what the workers last said."""
        now = SYSTEM_CLOCK.now()
        seen = list(self._seen.values())
        supervision = self._supervision
        leaving = supervision.leaving
        return ServiceFacts(
            target=self._target,
            version=__version__,
            environment=self._settings.environment,
            started_wall=self._started_wall,
            phase=judge.phase(seen, leaving=leaving),
            live=judge.live(seen, now),
            ready=judge.ready(seen, now, leaving=leaving, last_end=self._last_loss),
            startup=judge.startup(ever_ready=supervision.ever_ready),
            wanted=supervision.wanted,
            replacing=supervision.replacing,
            spare=self._spares.stage.value,
            ended=tuple(self._ended_workers),
            listens=self._listens,
            limits=tuple(self._resources.limits.lines()),
            resources=tuple(self._resources.reports()),
            workers=tuple(
                WorkerFacts(
                    pid=worker.pid,
                    generation=worker.generation,
                    phase=worker.phase,
                    heartbeat_age_seconds=round(now - worker.heard_at, 3),
                    in_flight=worker.in_flight,
                    connections=worker.connections,
                    rss_bytes=worker.rss_bytes,
                    requests=worker.requests,
                    restarts=supervision.workers[worker.generation].restarts,
                    health=worker.health,
                    blocked=judge.blocked(worker, now),
                )
                for worker in seen
            ),
        )

    async def metrics(self) -> list[Snapshot]:
        """Return the metrics of all processes; what a silent worker only reads, as it last was."""
        # What comes is kept as it comes, see `_hear`; who has a segment writes it there.
        await self._ask_all("metrics")
        return [self._registry.snapshot(), *self._counts.told()]

    async def requests(self) -> Sequence[Mapping[str, Any]]:
        """Return the requests in flight in the workers that answer, oldest first."""
        described = await self._ask_all("requests")
        requests = [request for found in described.values() for request in found]
        return sorted(requests, key=lambda request: -request["age_seconds"])

    async def breakers(self) -> BreakersFacts:
        """Return the breakers of the workers that answer, and who does not."""
        return self._breakers(await self._ask_all("breakers"))

    async def databases(self) -> DatabasesFacts:
        """Return the databases of the workers that answer, and who does not."""
        answers = await self._ask_all("databases")
        return DatabasesFacts(
            databases=tuple(
                replace(
                    _facts(DatabaseFacts, found, worker=self._pid(generation)),
                    holders=tuple(_facts(HolderFacts, holder) for holder in found["holders"]),
                )
                for generation, databases in answers.items()
                for found in databases
            ),
            silent=self._silent(answers),
        )

    def _limits_shared(self) -> dict[str, str]:
        """Return where the workers count for the rate limits together, where nobody says."""
        limits = self._settings.of(LimitsSettings)
        place = store_of(limits.store, workers=self._supervision.wanted)
        # Where no folder of ours can be made, each worker counts alone, as it does its metrics.
        if limits.mode == "off" or place != "file" or limits.folder or not self._counts.path:
            return {}
        return {"limits.store": place, "limits.folder": self._counts.path}

    async def security(self) -> SecurityFacts:
        """Return what the guards of the workers turned away, and who does not answer."""
        answers = await self._ask_all("blocked")
        return security_facts(answers.values(), self._silent(answers))

    async def policy(self) -> PolicyFacts:
        """Return what browsers reported to the workers that answer, and who does not."""
        answers = await self._ask_all("policy")
        return policy_facts(answers.values(), self._silent(answers))

    async def isolate_breaker(self, name: str, because: str) -> BreakersFacts:
        """Hold a breaker open in every worker; one that is started later is told, too."""
        stands = await self._set_breaker("isolate", name, because=because)
        self._isolated[name] = because
        for channel in self._channels.values():
            channel.send("isolated", orders=self._isolated)
        return stands

    async def close_breaker(self, name: str) -> BreakersFacts:
        """Close a breaker in every worker."""
        # Where no worker has one of that name yet, what ends is the order to hold it open.
        ordered = self._isolated.pop(name, None) is not None
        return await self._set_breaker("close", name, ordered=ordered)

    async def command(self, name: str) -> str:
        """Do `drain` or `restart`, and say what happens now.

        The first is what the first SIGTERM does, which may still come and changes nothing; the
        second is what SIGHUP does, and an error once the service leaves.
        """
        supervision, now = self._supervision, SYSTEM_CLOCK.now()
        match name:
            case "drain" if supervision.leaving:
                return "already draining"
            case "drain":
                self._do(supervision.drain(now))
                return "draining: readiness fails from now on, requests in flight are finished"
            case "restart" if supervision.leaving:
                raise ShipworthyError("the service is draining, so no worker is started any more")
            case "restart":
                self._replace_all()
                return (
                    f"{supervision.replacing} of {supervision.wanted} workers are replaced, one "
                    "after the other; each serves until its successor does"
                )
        raise ShipworthyError(f"there is no command '{name}'; there is 'drain' and 'restart'")

    async def _set_breaker(
        self, order: str, name: str, *, ordered: bool = False, **facts: str
    ) -> BreakersFacts:
        answers = await self._ask_all(order, name=name, **facts)
        if not answers:
            raise WorkersSilent(
                f"no worker answered within {ASK_SECONDS:g} s, so nobody knows whether breaker "
                f"'{name[:100]}' was set; say it again",
                retry_after_seconds=1.0,
            )
        stands = self._breakers(answers)
        ours = tuple(breaker for breaker in stands.breakers if breaker.name == name)
        if not ours and not ordered:
            raise NameUnknown("breaker", name, (breaker.name for breaker in stands.breakers))
        return replace(stands, breakers=ours)

    def _breakers(self, answers: Mapping[int, Any]) -> BreakersFacts:
        return BreakersFacts(
            breakers=tuple(
                _facts(BreakerFacts, found, worker=self._pid(generation))
                for generation, breakers in answers.items()
                for found in breakers
            ),
            silent=self._silent(answers),
        )

    def _pid(self, generation: int) -> int:
        # It may have ended since it answered.
        seen = self._seen.get(generation)
        return seen.pid if seen else 0

    def _silent(self, answers: Mapping[int, Any]) -> tuple[int, ...]:
        return tuple(seen.pid for seen in self._seen.values() if seen.generation not in answers)

    # Deciding and doing.

    def _signalled(self) -> None:
        self._do(self._supervision.signalled(SYSTEM_CLOCK.now()))

    def _hung_up(self) -> None:
        """Leave when the terminal was closed; without one, SIGHUP asks for new workers."""
        if _has_terminal():
            self._signalled()
        else:
            self._replace_all()

    def _replace_all(self) -> None:
        """Begin a round of replacement, of which systemd is told as a reload."""
        self._rounds += 1
        self._spares.outdated()
        self._do(self._supervision.changed(SYSTEM_CLOCK.now()))

    def _want(self, change: Callable[[float], list[Action]]) -> None:
        before = self._supervision.wanted
        self._do(change(SYSTEM_CLOCK.now()))
        if self._supervision.wanted != before:
            emit(WorkersWanted, before=before, wanted=self._supervision.wanted)

    def _count_workers(self) -> dict[tuple[str, ...], float]:
        return workers_by_state(self._supervision, spare=self._spares.stage is not SpareStage.NONE)

    async def _tick(self) -> None:
        looked = SYSTEM_CLOCK.now()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = SYSTEM_CLOCK.now()
            paused_seconds, looked = judge.pause(looked, now), now
            if paused_seconds:
                self._supervision.pardon(paused_seconds)
                for seen in self._seen.values():
                    seen.pardon(paused_seconds, now)
            self._duties.do("supervising the workers", self._supervise, now)
            self._duties.do("minding the resources", self._mind_resources, now)
            self._duties.do("keeping a spare", self._mind_spare, now)
            if os.getpid() == 1:
                self._duties.do("burying orphans", self._reap, now)

    def _supervise(self, now: float) -> None:
        self._do(self._supervision.tick(now, judge.standing(list(self._seen.values()), now)))

    def _reap(self, _: float) -> None:
        ours = {process.pid for process in self._processes.values()}
        _reap_strangers(ours | self._spares.pids)

    def _mind_spare(self, now: float) -> None:
        """Keep a spare where there is room for one more process of the size of the largest."""
        memory = next((r for r in self._resources.reports() if r.resource == "memory"), None)
        largest = max((worker.rss_bytes for worker in self._seen.values()), default=0)
        self._spares.tick(
            now,
            at_rest=self._supervision.at_rest,
            room=has_room(
                used=memory.used if memory else None,
                limit=memory.limit if memory else None,
                most=self._settings.of(ResourceSettings).memory_warn_ratio,
                more=largest if self._spares.stage is SpareStage.NONE else 0,
            ),
            libraries=self._libraries,
        )

    def _mind_resources(self, now: float) -> None:
        """Have those replaced that hold too much, or leave where no successor fits beside one."""
        seen = {worker.pid: worker for worker in self._seen.values() if worker.pid}
        uses = [
            WorkerUse(
                pid=pid,
                rss_bytes=worker.rss_bytes,
                serving=worker.serving and not Phase(worker.phase).leaving,
                replacing=self._supervision.is_replacing(worker.generation),
            )
            for pid, worker in seen.items()
        ]
        for wish in self._resources.tick(uses, wanted=self._supervision.wanted, now=now):
            match wish:
                case Recycle():
                    self._do(
                        self._supervision.recycle(
                            seen[wish.pid].generation,
                            wish.because,
                            now,
                            emergency=wish.emergency,
                            retire_first=wish.retire_first,
                        )
                    )
                case LeaveForRecycle(because=because):
                    self._do(self._supervision.leave_after(Exit.RECYCLE, because, now))

    async def _follow(self, changes: AsyncIterator[object]) -> None:
        async for _ in changes:
            self._replace_all()

    async def _follow_tokens(self) -> None:
        """Look at the file of tokens once a second, on a thread: its disk may be slow, or gone."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await asyncio.to_thread(self._tokens.look)

    def _do(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Spawn(generation):
                    self._due[generation] = []
                    self._keep(self._attend(generation))
                case Tell(generation, word):
                    self._tell(generation, word)
                case Strike(generation, blow):
                    self._strike(generation, blow)
                case Leave():
                    if not self._left.done():
                        self._left.set_result(action)
        if self._supervision.leaving:
            self._spares.outdated()
        if self._notifier is not None:
            now = SYSTEM_CLOCK.now()
            self._notifier.tell(self._notify_facts(now), now)

    def _notify_facts(self, now: float) -> NotifyFacts:
        """Say what systemd is told of; called with each decision, and so with each tick."""
        supervision, seen = self._supervision, list(self._seen.values())
        serving = [worker for worker in seen if worker.serving]
        return NotifyFacts(
            wanted=supervision.wanted,
            ready=sum(worker.ready and not judge.blocked(worker, now) for worker in serving),
            leaving=supervision.leaving,
            fresh=not serving or not all(judge.blocked(worker, now) for worker in serving),
            in_flight=sum(worker.in_flight for worker in seen),
            connections=sum(worker.connections for worker in seen),
            phase=seen[-1].phase if seen else Phase.STOPPED,
            round=self._rounds,
            replacing=bool(supervision.renewing),
        )

    def _tell(self, generation: int, word: Word) -> None:
        channel = self._channels.get(generation)
        if channel is None:
            return
        channel.send(word, together=word is Word.DRAIN and len(self._seen) > 1)
        worker = self._supervision.workers[generation]
        if word is Word.RETIRE and worker.end is EndReason.RECYCLED:
            pid = self._pid(generation)
            emit(WorkerRecycled, worker_pid=pid, generation=generation, because=worker.because)

    def _strike(self, generation: int, blow: Blow) -> None:
        process = self._processes.get(generation)
        if process is None:
            if generation in self._due:
                self._due[generation].append(blow)
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(_SIGNALS[blow])
        worker = self._supervision.workers[generation]
        if blow is Blow.ABORT and worker.end is EndReason.WEDGED:
            emit(
                WorkerWedged, worker_pid=process.pid, generation=generation, because=worker.because
            )
        elif blow is not Blow.TERM:
            emit(WorkerForced, worker_pid=process.pid, generation=generation, signal=blow.value)

    def _keep(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            emit(DutyFailed, because=f"{type(error).__name__}: {error}", held_back=0)

    async def _attend(self, generation: int) -> None:
        """Start one worker, listen to it until it ends, and say how it ended."""
        began = SYSTEM_CLOCK.now()
        try:
            begun, from_spare = await self._begin(generation)
        except Exception as error:  # noqa: BLE001 - whatever it is, the place must not stay empty
            because = f"no worker process could be started: {error}"
            del self._due[generation]
            self._bury(generation, 0, because, clean=False)
            return
        process, channel, watching = begun.process, begun.channel, begun.watching
        self._starts[generation] = began, from_spare
        self._processes[generation] = process
        self._seen[generation] = seen = WorkerSeen(
            generation,
            pid=process.pid,
            heard_at=SYSTEM_CLOCK.now(),
            requests_max=judge.requests_max(
                self._serve.max_requests,
                jitter_ratio=self._serve.max_requests_jitter_ratio,
                draw=random.random(),  # noqa: S311 - spreads, and keeps no secret
            ),
        )
        emit(WorkerStarted, worker_pid=process.pid, generation=generation)
        self._channels[generation] = channel
        for blow in self._due.pop(generation):
            self._strike(generation, blow)
        listening = asyncio.create_task(self._listen(generation, channel))
        loop = asyncio.get_running_loop()
        loop.add_reader(watching, hear_watcher, watching, seen)
        try:
            code = await process.wait()
        finally:
            loop.remove_reader(watching)
            watching.close()
        # Its last words may still be in the pipe, and a child of the app may still hold that.
        channel.hear_out()
        await asyncio.wait({listening}, timeout=1.0)
        listening.cancel()
        channel.close()
        del self._processes[generation], self._channels[generation], self._seen[generation]
        status = f"it was ended by signal {-code}" if code < 0 else f"it exited with code {code}"
        # It may have said goodbye and then been held up by a thread (code 70).
        clean = generation in self._clean and code == Exit.CLEAN
        self._clean.discard(generation)
        if self._starts.pop(generation, (0.0, False))[1] and not seen.serving:
            self._spares.failed()
        # Counters must not go backwards when a process ends: its last totals stay.
        self._counts.ended(generation)
        self._bury(generation, process.pid, status, clean=clean)

    async def _begin(self, generation: int) -> tuple[Begun, bool]:
        """Make the spare a worker where a place is empty, else start a process; say which.

        Who follows one that still serves starts from nothing: there is time, and it is to have
        the code and the libraries of now. So does who is one more than before.
        """
        follows = self._supervision.workers[generation].restarts > 0
        if follows and not self._supervision.succeeds(generation):
            spare = await self._spares.take()
            if spare is not None:
                wanted = self._supervision.wanted
                spare.channel.send("serve", generation=generation, workers=wanted)
                return spare, True
        return await self._start(generation), False

    async def _start(self, generation: int, *, spare: bool = False) -> Begun:
        """Start a worker process, or one that may become one.

        Raises what the system says, `OSError` where there is no descriptor or process left; then
        nothing is left open.
        """
        with contextlib.ExitStack() as kept, contextlib.ExitStack() as lent:
            ours, theirs = socket.socketpair()
            kept.enter_context(ours)
            lent.enter_context(theirs)
            watching, watched = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            kept.enter_context(watching)
            lent.enter_context(watched)
            watching.settimeout(0)
            order = Order(
                target=self._target,
                directory=str(self._directory),
                config=str(self._config) if self._config else None,
                overrides={**self._overrides, **self._limits_shared()},
                channel_fd=theirs.fileno(),
                listen_fds=tuple(sock.fileno() for sock in self._sockets),
                generation=generation,
                workers=self._supervision.wanted,
                watch_fd=watched.fileno(),
                keep_listening=self._keep_listening,
                segments=self._counts.path,
                spare=spare,
            )
            process = await start_worker(order)
            kept.pop_all()
        return Begun(process, await Channel.over(ours), watching)

    def _bury(self, generation: int, pid: int, status: str, *, clean: bool) -> None:
        """Say how a worker ended, keep it among the ended, and do what follows."""
        supervision, now = self._supervision, SYSTEM_CLOCK.now()
        worker = supervision.workers.get(generation)
        if worker is not None:
            end = supervision.end_of(generation, clean=clean)
            because = worker.because or status
            took_seconds = max(0.0, now - worker.leaving_at)
            report = self._reports.pop(generation, "")
            self._ends[end].add()
            if end in _LOSSES:
                self._last_loss = because
            self._ended_workers.appendleft(
                EndedFacts(
                    pid=pid,
                    generation=generation,
                    end=end,
                    because=because,
                    ended_wall=SYSTEM_CLOCK.wall(),
                    took_seconds=round(took_seconds, 3),
                    report=report,
                )
            )
            if supervision.succeeds(generation):
                emit(ReplacementFailed, because=because)
            elif end in (EndReason.LOST, EndReason.FAILED):
                if supervision.ever_ready:
                    emit(WorkerLost, worker_pid=pid, generation=generation, because=because)
            else:
                emit(
                    WorkerLeft,
                    worker_pid=pid,
                    generation=generation,
                    end=end,
                    because=because,
                    took_seconds=round(took_seconds, 3),
                    report=report,
                )
        self._do(supervision.exited(generation, status, now, clean=clean))

    async def _listen(self, generation: int, channel: Channel) -> None:
        seen = self._seen[generation]
        async for message in channel.messages():
            seen.heard_at = SYSTEM_CLOCK.now()
            self._hear(generation, seen, message)

    def _hear(self, generation: int, seen: WorkerSeen, message: dict[str, Any]) -> None:
        match message["kind"]:
            case "hello":
                if self._isolated:
                    self._channels[generation].send("isolated", orders=self._isolated)
                self._do(
                    self._supervision.heard(
                        generation,
                        seen.heard_at,
                        start_seconds=message["start_seconds"],
                        grace_seconds=message["grace_seconds"],
                    )
                )
            case "state":
                seen.hear(message)
                self._follow_phase(generation, seen)
            case "ready":
                seen.serving = True
                self._libraries = message["libraries"]
                self._say_started(generation, seen, message["began"])
                self._do(self._supervision.ready(generation, seen.heard_at))
                self._say_ready(seen.pid)
                self._keep(self._learn(generation))
            case "failed":
                self._do(self._supervision.failed(generation, message["because"]))
            case "answer":
                self._take_answer(generation, message["number"], message["facts"])
            case "bye":
                self._take_leave(generation, message)

    def _take_answer(self, generation: int, number: int, facts: Any) -> None:
        if number not in self._questions:  # it comes too late
            return
        question, waiting = self._questions.pop(number)
        if question == "metrics":
            # Now, and not when the last one has answered: until then it may be gone.
            self._counts.heard(generation, facts)
        waiting.set_result(facts)

    def _take_leave(self, generation: int, bye: Mapping[str, Any]) -> None:
        self._counts.heard(generation, bye["metrics"])
        self._reports[generation] = _in_short(bye["report"])
        if bye["clean"]:
            self._clean.add(generation)

    def _say_started(self, generation: int, seen: WorkerSeen, steps: Sequence[float]) -> None:
        """State what the start took; `steps` are the times at which its first four ended."""
        began, spare = self._starts[generation]
        names = ("process", "configure", "import", "start")
        took = [max(0.0, round(after - before, 3)) for before, after in pairwise([began, *steps])]
        emit(
            WorkerReady,
            worker_pid=seen.pid,
            generation=generation,
            spare=spare,
            took_seconds=round(seen.heard_at - began, 3),
            **{f"{name}_seconds": seconds for name, seconds in zip(names, took, strict=True)},
        )

    async def _learn(self, generation: int) -> None:
        """Take what the application of a worker declares to be shown and watched.

        One that is too busy to say it is asked again: nobody else would, and its alerts slept.
        """
        while generation in self._channels:
            answers = await self._ask([generation], "declared", {})
            if generation in answers:
                self._memory.declared(answers[generation])
                return
            await asyncio.sleep(_LEARN_AGAIN_SECONDS)

    def _say_ready(self, pid: int) -> None:
        try:
            self._on_ready(pid)
        except Exception as error:  # noqa: BLE001 - whoever is told must not make us deaf
            emit(ReadyUnsaid, because=f"{type(error).__name__}: {error}")

    def _follow_phase(self, generation: int, seen: WorkerSeen) -> None:
        """See that a worn or leaving worker is followed; let go of the sockets with the last."""
        if because := judge.worn(seen):
            self._do(self._supervision.recycle(generation, because, seen.heard_at))
        if Phase(seen.phase).leaving:
            self._do(self._supervision.going(generation, seen.heard_at))
        if self._supervision.leaving and all(
            Phase(seen.phase).reached(Phase.DRAINING) for seen in self._seen.values()
        ):
            for sock in self._sockets:
                sock.close()
            self._sockets = []

    async def _ask_all(self, question: str, **details: str) -> dict[int, Any]:
        """Ask every worker that moves at once; who does not answer in time is left out."""
        return await self._ask(list(self._channels), question, details)

    async def _ask(
        self, generations: Sequence[int], question: str, details: Mapping[str, str]
    ) -> dict[int, Any]:
        """Ask these workers as `_ask_all` does."""
        now = SYSTEM_CLOCK.now()
        asked: dict[int, asyncio.Future[Any]] = {}
        numbers: list[int] = []
        loop = asyncio.get_running_loop()
        for generation in generations:
            if now - self._seen[generation].heard_at > DEAF_SECONDS:
                continue
            number = next(self._numbers)
            channel = self._channels[generation]
            if channel.send("ask", number=number, question=question, **details):
                asked[generation] = loop.create_future()
                self._questions[number] = question, asked[generation]
                numbers.append(number)
        try:
            if asked:
                await asyncio.wait(asked.values(), timeout=ASK_SECONDS)
        finally:
            for number in numbers:
                self._questions.pop(number, None)
        return {g: waiting.result() for g, waiting in asked.items() if waiting.done()}


def _facts(kind: type[Facts], found: Mapping[str, Any], **more: Any) -> Facts:
    """Take what `kind` has from what a worker said; one of a newer version may say more."""
    names = {field.name for field in fields(kind)} - more.keys()  # type: ignore[arg-type]
    return kind(**{name: found[name] for name in names}, **more)


def _in_short(report: Mapping[str, Any]) -> str:
    """Say in a line what held up a worker on its way out, from the report it left."""
    held_by = report.get("held_by") or [
        f"{hook['name']}: {hook['because']}" for hook in report.get("hooks", ()) if hook["because"]
    ]
    return "; ".join(map(str, held_by))[:_REPORT_CHARACTERS]


def operations_connections_max() -> int:
    """Return how many connections the operations port keeps open, by this process's descriptors.

    A quarter of them, from 16 to 256: what is left is for workers, each of which takes five for a
    moment and two for good.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _OPERATIONS_CONNECTIONS_MAX
    return most if soft == resource.RLIM_INFINITY else max(16, min(most, soft // 4))


def _has_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


_SIGNALS = {
    Blow.TERM: Signal.SIGTERM,
    Blow.ABORT: Signal.SIGABRT,
    Blow.KILL: Signal.SIGKILL,
}


async def start_worker(order: Order) -> asyncio.subprocess.Process:
    """Start a worker in a fresh interpreter: spawned, never forked, so that no lock is copied."""
    # -O, -X dev, -W and their kin are meant for the app, which runs there and not here.
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *flags,
        "-P",
        "-m",
        "shipworthy.serve",
        order.to_text(),
        pass_fds=order.fds,
        cwd=order.directory,
        # What a surveyed app prints is not part of the survey.
        stdout=_STDERR if order.survey else None,
    )


def hear_watcher(watching: socket.socket, seen: WorkerSeen) -> None:
    """Take in what the watcher of a worker has said of its loop, without waiting for more.

    `watching` is our end of a datagram pair. Nonsense is passed over, and what is more than a few
    datagrams is left for the next time.
    """
    for _ in range(_WATCHED_AT_ONCE):
        try:
            said = watching.recv(_WATCHED_BYTES_MAX)
        except OSError:
            return
        with contextlib.suppress(ValueError, TypeError, KeyError):
            seen.watch(orjson.loads(said), SYSTEM_CLOCK.now())


def _reap_strangers(ours: set[int]) -> None:
    """Bury the orphans that PID 1 inherits (L22); those of ours are waited for elsewhere."""
    with contextlib.suppress(ChildProcessError):
        while dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if dead.si_pid in ours:
                return
            os.waitpid(dead.si_pid, 0)
