"""The supervisor process: owns the sockets and the operations port, starts workers, ends them.

It imports no app. Everything runs on one asyncio loop that no user code can block, which is why the
operations port answers whatever a worker does.
"""

import asyncio
import contextlib
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from shipworthy import __version__
from shipworthy.clock import SYSTEM_CLOCK
from shipworthy.errors import ShipworthyError
from shipworthy.events import Event, Severity, emit, event
from shipworthy.lifecycle import Exit, Phase, Signal, is_ignored, signals_of
from shipworthy.operations import (
    BreakerFacts,
    BreakersFacts,
    DatabaseFacts,
    DatabasesFacts,
    HolderFacts,
    NameUnknown,
    OperationsSettings,
    ServiceFacts,
    WorkerFacts,
    WorkersSilent,
    offered,
    operations_app,
)
from shipworthy.serve import judge
from shipworthy.serve.channel import Channel
from shipworthy.serve.engine import UvicornEngine
from shipworthy.serve.judge import WorkerSeen
from shipworthy.serve.order import Order
from shipworthy.serve.supervision import (
    Action,
    Blow,
    Leave,
    Spawn,
    Stage,
    Strike,
    Supervision,
    SupervisionRule,
    Tell,
)
from shipworthy.settings import Loaded
from shipworthy.telemetry import Registry, Snapshot, exposition, process_metrics, retired

TICK_SECONDS = 0.1
# Every exchange with a worker is over within 1 s, including what the supervisor adds to it.
ASK_SECONDS = 0.8
# A worker that has not been heard for this long is not asked: the answer would come too late.
DEAF_SECONDS = 1.0
_STDERR = 2

Facts = TypeVar("Facts")


@event(severity=Severity.INFO)
class WorkerStarted(Event):
    """A worker process was started."""

    pid: int
    generation: int


@event(severity=Severity.ERROR)
class WorkerLost(Event):
    """A worker process ended without being told to."""

    pid: int
    generation: int
    because: str


@event(severity=Severity.WARNING)
class WorkerForced(Event):
    """A worker process did not end in time and was sent a signal."""

    pid: int
    generation: int
    signal: str


@event(severity=Severity.WARNING)
class ReadyUnsaid(Event):
    """The service is ready and could not say so, on standard error or to its caller."""

    because: str


@event(severity=Severity.ERROR)
class DutyFailed(Event):
    """Something the supervisor does beside its work has failed; watching the code, for one."""

    because: str


@event(severity=Severity.ERROR)
class ReplacementFailed(Event):
    """New code could not start; the old worker serves on."""

    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyFacts:
    """Where the service answers, once it does."""

    url: str
    operations_url: str
    token: str
    pid: int


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
    ) -> None:
        self._target = target
        self._directory = directory
        self._config = config
        self._overrides = overrides
        self._settings = settings
        self._sockets = list(sockets)
        self._operations_sockets = operations_sockets
        self._token = token
        self._on_ready = on_ready
        self._supervision = Supervision(rule)
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._channels: dict[int, Channel] = {}
        self._seen: dict[int, WorkerSeen] = {}
        self._clean: set[int] = set()
        self._questions: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count(1)
        # Breakers that an operator holds open, with the reason: a worker to come must know.
        self._isolated: dict[str, str] = {}
        self._snapshots: dict[int, Snapshot] = {}
        self._departed: Snapshot = {}
        self._started_wall = SYSTEM_CLOCK.wall()
        self._tasks: set[asyncio.Task[None]] = set()
        self._left: asyncio.Future[Leave]
        self._registry = Registry()
        process_metrics(self._registry)

    async def run(
        self, changes: AsyncIterator[object] | None = None, *, early: Sequence[int] = ()
    ) -> Leave:
        """Serve until told to leave; `changes` yields when the code has changed (`--reload`).

        `early` are the signals that came before there was a loop.
        """
        loop = asyncio.get_running_loop()
        self._left = loop.create_future()
        operations = UvicornEngine(
            operations_app(
                self,
                token=self._token,
                settings=self._settings.of(OperationsSettings),
                values=self._settings.values,
                actions=offered(),
            )
        )
        await operations.start(self._operations_sockets, {})
        heard = {Signal.SIGTERM: self._signalled, Signal.SIGINT: self._signalled}
        if not is_ignored(Signal.SIGHUP):
            heard[Signal.SIGHUP] = self._hung_up
        with signals_of(loop, heard):
            ticking = asyncio.create_task(self._tick())
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
                await operations.close()

    # What the operations port asks.

    def facts(self) -> ServiceFacts:
        """Return what is known now, from what the workers last said."""
        now = SYSTEM_CLOCK.now()
        seen = list(self._seen.values())
        leaving = self._supervision.leaving
        newest = seen[-1] if seen else None
        return ServiceFacts(
            target=self._target,
            version=__version__,
            environment=self._settings.environment,
            started_wall=self._started_wall,
            phase=newest.phase if newest else Phase.STOPPED if leaving else Phase.STARTING,
            live=judge.live(seen, now),
            ready=judge.ready(seen, now, leaving=leaving),
            startup=judge.startup(ever_ready=self._supervision.ever_ready),
            workers=tuple(
                WorkerFacts(
                    pid=worker.pid,
                    generation=worker.generation,
                    phase=worker.phase,
                    heartbeat_age_seconds=round(now - worker.heard_at, 3),
                    in_flight=worker.in_flight,
                    connections=worker.connections,
                    rss_bytes=worker.rss_bytes,
                    restarts=worker.generation - 1,
                    health=worker.health,
                    blocked=judge.blocked(worker, now),
                )
                for worker in seen
            ),
        )

    async def metrics(self) -> bytes:
        """Return the Prometheus text of all processes, a silent worker's as it last was."""
        for generation, snapshot in (await self._ask_all("metrics")).items():
            self._snapshots[generation] = snapshot
        return exposition([self._registry.snapshot(), self._departed, *self._snapshots.values()])

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
        """Do `drain`: what the first SIGTERM does, which may still come and changes nothing."""
        if name != "drain":
            raise ShipworthyError(f"there is no command '{name}'; there is 'drain'")
        if self._supervision.leaving:
            return "already draining"
        self._do(self._supervision.drain(SYSTEM_CLOCK.now()))
        return "draining: readiness fails from now on, requests in flight are finished"

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
        """Leave when the terminal was closed; without one, SIGHUP asks for a new worker."""
        if sys.stdin is not None and sys.stdin.isatty():
            self._signalled()
        else:
            self._do(self._supervision.changed(SYSTEM_CLOCK.now()))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self._do(self._supervision.tick(SYSTEM_CLOCK.now()))
            if os.getpid() == 1:
                _reap_strangers({process.pid for process in self._processes.values()})

    async def _follow(self, changes: AsyncIterator[object]) -> None:
        async for _ in changes:
            self._do(self._supervision.changed(SYSTEM_CLOCK.now()))

    def _do(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Spawn(generation):
                    self._keep(self._attend(generation))
                case Tell(generation, word):
                    channel = self._channels.get(generation)
                    if channel is not None:
                        channel.send(word)
                case Strike(generation, blow):
                    self._strike(generation, blow)
                case Leave():
                    if not self._left.done():
                        self._left.set_result(action)

    def _strike(self, generation: int, blow: Blow) -> None:
        process = self._processes.get(generation)
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(_SIGNALS[blow])
        if blow is not Blow.TERM:
            emit(WorkerForced, pid=process.pid, generation=generation, signal=blow.value)

    def _keep(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            emit(DutyFailed, because=f"{type(error).__name__}: {error}")

    async def _attend(self, generation: int) -> None:
        """Start one worker, listen to it until it ends, and say how it ended."""
        ours, theirs = socket.socketpair()
        order = Order(
            target=self._target,
            directory=str(self._directory),
            config=str(self._config) if self._config else None,
            overrides=self._overrides,
            channel_fd=theirs.fileno(),
            listen_fds=tuple(sock.fileno() for sock in self._sockets),
            generation=generation,
        )
        try:
            process = await start_worker(order)
        except OSError as error:
            ours.close()
            because = f"no worker process could be started: {error}"
            self._do(self._supervision.failed(generation, because))
            self._do(self._supervision.exited(generation, because, SYSTEM_CLOCK.now(), clean=False))
            return
        finally:
            theirs.close()
        now = SYSTEM_CLOCK.now()
        self._processes[generation] = process
        self._seen[generation] = WorkerSeen(generation, pid=process.pid, heard_at=now)
        emit(WorkerStarted, pid=process.pid, generation=generation)
        channel = await Channel.over(ours)
        self._channels[generation] = channel
        listening = asyncio.create_task(self._listen(generation, channel))
        code = await process.wait()
        # Its last words may still be in the pipe.
        await asyncio.wait({listening}, timeout=1.0)
        listening.cancel()
        channel.close()
        self._bury(generation, process.pid, code)

    def _bury(self, generation: int, pid: int, code: int) -> None:
        supervision = self._supervision
        worker = supervision.workers.get(generation)
        status = f"it was ended by signal {-code}" if code < 0 else f"it exited with code {code}"
        because = (worker.because if worker else "") or status
        stage = worker.stage if worker else Stage.LEAVING
        # It may have said goodbye and then been held up by a thread (code 70).
        clean = generation in self._clean and code == Exit.CLEAN
        del self._processes[generation], self._channels[generation], self._seen[generation]
        # Counters must not go backwards when a process ends: its last totals stay.
        self._departed = retired([self._departed, self._snapshots.pop(generation, {})])
        actions = supervision.exited(generation, status, SYSTEM_CLOCK.now(), clean=clean)
        if stage is Stage.STARTING and self._seen and not supervision.leaving:
            emit(ReplacementFailed, because=because)
        elif stage is Stage.READY and not clean:
            emit(WorkerLost, pid=pid, generation=generation, because=because)
        self._do(actions)

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
                self._do(self._supervision.heard(generation, seen.heard_at))
            case "state":
                seen.hear(message)
                self._follow_phase(generation, seen)
            case "ready":
                seen.serving = True
                self._do(self._supervision.ready(generation, seen.heard_at))
                self._say_ready(seen.pid)
            case "failed":
                self._do(self._supervision.failed(generation, message["because"]))
            case "answer":
                waiting = self._questions.pop(message["number"], None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(message["facts"])
            case "bye":
                self._snapshots[generation] = message["metrics"]
                if message["clean"]:
                    self._clean.add(generation)

    def _say_ready(self, pid: int) -> None:
        try:
            self._on_ready(pid)
        except Exception as error:  # noqa: BLE001 - whoever is told must not make us deaf
            emit(ReadyUnsaid, because=f"{type(error).__name__}: {error}")

    def _follow_phase(self, generation: int, seen: WorkerSeen) -> None:
        """See that a leaving worker is followed, and let go of the sockets with the last one."""
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
        now = SYSTEM_CLOCK.now()
        asked: dict[int, asyncio.Future[Any]] = {}
        loop = asyncio.get_running_loop()
        for generation, channel in self._channels.items():
            if now - self._seen[generation].heard_at > DEAF_SECONDS:
                continue
            number = next(self._numbers)
            if channel.send("ask", number=number, question=question, **details):
                asked[generation] = self._questions[number] = loop.create_future()
        if asked:
            await asyncio.wait(asked.values(), timeout=ASK_SECONDS)
        for number in [n for n, waiting in self._questions.items() if waiting in asked.values()]:
            self._questions.pop(number).cancel()
        return {g: w.result() for g, w in asked.items() if w.done() and not w.cancelled()}


def _facts(kind: type[Facts], found: Mapping[str, Any], **more: Any) -> Facts:
    """Take what `kind` has from what a worker said; one of a newer version may say more."""
    names = {field.name for field in fields(kind)} - more.keys()  # type: ignore[arg-type]
    return kind(**{name: found[name] for name in names}, **more)


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
        pass_fds=(order.channel_fd, *order.listen_fds),
        cwd=order.directory,
        # What a surveyed app prints is not part of the survey.
        stdout=_STDERR if order.survey else None,
    )


def _reap_strangers(ours: set[int]) -> None:
    """Bury the orphans that PID 1 inherits (L22); those of ours are waited for elsewhere."""
    with contextlib.suppress(ChildProcessError):
        while dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if dead.si_pid in ours:
                return
            os.waitpid(dead.si_pid, 0)
