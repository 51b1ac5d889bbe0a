"""The worker process: imports the app, serves it, leaves in order when told.

Started by the supervisor as `python -P -m shipworthy.serve ORDER`; `-P` keeps a stray module in
the working directory from standing in for one of ours or of the standard library.
"""

import asyncio
import contextlib
import ctypes
import faulthandler
import gc
import logging
import math
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn

from shipworthy import db, outbound
from shipworthy.assembly import NO_PROTOCOL_GUARD, Hardened, harden
from shipworthy.audit import AuditSettings, bind_engines
from shipworthy.clock import SYSTEM_CLOCK
from shipworthy.context import request_in
from shipworthy.db import (
    DbSettings,
    KindSettings,
    describe_databases,
    pool_numbers,
    use_kinds,
)
from shipworthy.errors import ShipworthyError, StartFailed
from shipworthy.events import CATALOGUE, Event, Measure, Severity, emit, event
from shipworthy.lifecycle import (
    BLOCKED,
    LAG,
    Check,
    DrainFacts,
    Exit,
    Holder,
    HookReport,
    LifecycleSettings,
    Phase,
    ProcessResources,
    ResourceSettings,
    Shutdown,
    ShutdownReport,
    Signal,
    StandstillWatch,
    StopReport,
    commits_under_way,
    ignore_signals,
    leave_behind,
    raise_descriptors,
    signals_of,
    threads_at_work,
)
from shipworthy.outbound import OutboundSettings
from shipworthy.redact import printable, redact
from shipworthy.resilience import ResilienceSettings, breakers
from shipworthy.serve.by_hand import ByHand
from shipworthy.serve.channel import Channel, encoded
from shipworthy.serve.counts import segment_name
from shipworthy.serve.engine import ServerEngine, UvicornEngine
from shipworthy.serve.order import Order
from shipworthy.serve.preload import await_call, libraries_loaded
from shipworthy.serve.protocol import Census, ConnectionRules, telling
from shipworthy.serve.protocol_settings import ProtocolSettings
from shipworthy.serve.settings import ServeSettings
from shipworthy.serve.sockets import is_local
from shipworthy.serve.supervision import Word
from shipworthy.serve.survey import survey
from shipworthy.serve.target import AppRaised, load_target, parse_target
from shipworthy.settings import Loaded, load
from shipworthy.telemetry import (
    SPANS_CLOSE_SECONDS,
    Segment,
    Snapshot,
    plain_declarations,
    resident_bytes,
    settle_logging,
    start_logging,
)
from shipworthy.web import ActorSettings, AppLifespan, ClientRule, ClientSettings

_log = logging.getLogger("shipworthy.serve")

HEARTBEAT_SECONDS = 0.25
# How often the drain looks at its facts; far below any of its bounds.
DRAIN_TICK_SECONDS = 0.02
# How often it looks for the lines in which they stand, which takes a ms or two.
LOOK_SECONDS = 0.25
FLUSH_SECONDS = 0.5
# How often what is only read (gauges, what the kernel counts) is written beside the cells. A worker
# that is killed takes no more of it along than that.
TELL_SECONDS = 1.0
# What the `finally` of generators that nobody ended may take.
WIND_UP_SECONDS = 0.5
# The stop hooks have their own bounds; this is what the shells around them may add.
STOP_SLACK_SECONDS = 0.5
SHOWN_REQUESTS = 20
SHOWN_WORKS = 20
NAMED_CANCELLED = 1000
# Pipes, logs, files, and connections to databases that are not there yet when this is counted.
DESCRIPTORS_OF_ITS_OWN = 64
CONNECTIONS_LEAST = 16


@event(severity=Severity.WARNING)
class RequestsCancelled(Event):
    """The drain time was over: these requests were cancelled.

    `spared` are ids of requests that were not at that moment, because a COMMIT of theirs was under
    way or had just been answered. Those that were cancelled later come with a second such event,
    when the time for it ends.
    """

    requests: list[dict[str, Any]]
    spared: list[str]


@event(severity=Severity.INFO)
class Drained(Event):
    """The worker leaves, and left nothing behind."""

    took_seconds: Annotated[float, Measure]
    requests_cancelled: int
    held_by: list[str]


@event(severity=Severity.WARNING)
class DrainedInPart(Event):
    """The worker leaves, and something of it did not end."""

    took_seconds: Annotated[float, Measure]
    requests_cancelled: int
    forced: bool
    held_by: list[str]


@event(severity=Severity.WARNING)
class AppForked(Event):
    """The app forks its process while other threads run: a lock that one of them holds stays held.

    The child may hang for ever at that lock. Start programs with `subprocess` and processes with
    the start method `spawn` or `forkserver`.
    """

    threads: list[str]


class _Forks:
    """Says once that the app forked while threads of its own were running.

    Ours are made anew in the child, with their locks, by what each has registered.
    """

    def __init__(self) -> None:
        self._said = False

    def before(self) -> None:
        if self._said:
            return
        here = threading.current_thread()
        others = [
            thread.name
            for thread in threading.enumerate()
            if thread is not here and not thread.name.startswith("shipworthy")
        ]
        if others:
            self._said = True
            emit(AppForked, threads=others)


class _Looks:
    """When to look again at what holds the drain: it costs, and the loop has requests to serve.

    A phase has held what was there at its last look, so the last few are looked at whenever one of
    them has ended. Has no clock of its own.
    """

    def __init__(self) -> None:
        self._phase = Phase.READY
        self._at = -math.inf
        self._holding = 0

    def due(self, phase: Phase, *, holding: int, now: float) -> bool:
        """Say whether to look now, at `holding` requests and pieces of work in `phase`."""
        few_left = holding < self._holding and holding <= SHOWN_REQUESTS
        if phase is self._phase and not few_left and now - self._at < LOOK_SECONDS:
            return False
        self._phase, self._at, self._holding = phase, now, holding
        return True


def main(text: str) -> int:
    """Run one worker to its end, as `text` orders, and return its exit code."""
    began = SYSTEM_CLOCK.now()
    faulthandler.enable(all_threads=True)
    _end_with_parent()
    # Ctrl-C reaches the whole foreground group; only the supervisor decides what it means.
    ignore_signals(Signal.SIGINT)
    order = Order.from_text(text)
    for fd in order.fds:
        # A program that the app starts must not keep our port or our pipe open.
        os.set_inheritable(fd, False)
    os.register_at_fork(before=_Forks().before)
    wire = socket.socket(fileno=order.channel_fd)
    if order.spare:
        try:
            called = await_call(wire, order)
        except OSError as error:
            _once(wire, "failed", because=f"a spare could not become a worker: {error}")
            return Exit.START_FAILED
        if called is None:
            return Exit.CLEAN
        order, began = called, SYSTEM_CLOCK.now()
    sys.path.insert(0, order.directory)
    try:
        settings = load(
            file=Path(order.config) if order.config else None,
            directory=Path(order.directory),
            overrides=order.overrides,
        )
        stop_logging = start_logging(settings, app_first=True)
        if settings.of(ResourceSettings).raise_descriptors:
            raise_descriptors()
        # Before the app: so that engines and clients it makes when it is imported are reached too.
        use_kinds(settings.of(KindSettings))
        db.install(
            settings.of(DbSettings),
            settings.of(ResilienceSettings),
            workers=order.workers,
        )
        bind_engines(
            settings.of(AuditSettings),
            service=settings.of(ActorSettings).service or order.target.partition(":")[0],
        )
        outbound.install(settings.of(OutboundSettings), settings.of(ResilienceSettings))
        configured = SYSTEM_CLOCK.now()
        app = load_target(parse_target(order.target))
        imported = SYSTEM_CLOCK.now()
        settle_logging(started=False)
        if order.survey:
            return _once(wire, "survey", report=survey(app, settings))
        hardened = harden(app, settings=settings)
    except AppRaised as error:
        for row in redact(error.trace).splitlines():
            sys.stderr.write(f"{printable(row)}\n")
        sys.stderr.flush()
        _once(wire, "failed", because=str(error))
        return Exit.START_FAILED
    except ShipworthyError as error:
        _once(wire, "failed", because=str(error))
        return Exit.START_FAILED
    sockets = [socket.socket(fileno=fd) for fd in order.listen_fds]
    watched = socket.socket(fileno=order.watch_fd) if order.watch_fd >= 0 else None
    worker = Worker(
        hardened,
        sockets,
        settings,
        watched,
        stop_logging=stop_logging,
        keep_listening=order.keep_listening,
        segment=_begin_segment(order),
        began=(began, configured, imported),
    )
    loop = _new_loop(settings.of(ServeSettings).loop)
    asyncio.set_event_loop(loop)
    code = loop.run_until_complete(worker.run(wire))
    loop.run_until_complete(_wind_up())
    _last_words(hardened, stop_logging, seconds=worker.exit_seconds())
    # The last collection of the interpreter would walk through all that was imported, in vain: it
    # takes longer than the drain of an idle worker.
    gc.freeze()
    # What is left now are threads that nobody can end: they get what is left of their time.
    _bound_exit(worker.exit_seconds())
    return code


def _last_words(hardened: Hardened, stop_logging: Callable[[], None], *, seconds: float) -> None:
    """Send the spans and lines that are held; whoever takes them may have stopped to.

    Last, and bounded: that is no fault of the app.
    """
    hardened.close_traces(min(SPANS_CLOSE_SECONDS, seconds))
    hardened.close_log(FLUSH_SECONDS)
    stop_logging()


class Worker:
    """One app, one engine, one pipe; everything on one event loop."""

    def __init__(
        self,
        hardened: Hardened,
        sockets: list[socket.socket],
        settings: Loaded,
        watched: socket.socket | None = None,
        *,
        stop_logging: Callable[[], None],
        keep_listening: bool = False,
        segment: Segment | None = None,
        began: Sequence[float] = (),
    ) -> None:
        serve = settings.of(ServeSettings)
        self._hardened = hardened
        self._began = began
        self._stop_logging = stop_logging
        hardened.lead()
        self._shutdown = Shutdown()
        self._lifecycle = hardened.lifecycle
        self._times = settings.of(LifecycleSettings)
        self._guards_databases = settings.of(DbSettings).mode != "off"
        self._sockets = sockets
        self._keep_listening = keep_listening
        self._lifespan = AppLifespan(hardened)
        self._state: dict[str, Any] = {}
        self._lifespan.state = self._state
        self._engine: ServerEngine = UvicornEngine(
            hardened,
            root_path=serve.root_path,
            keep_alive_seconds=serve.keep_alive_seconds,
            backlog=serve.backlog,
            tls=(serve.tls_cert, serve.tls_key) if serve.tls_cert else None,
            connections_max=_connections_max(settings),
            rules=ConnectionRules.of(settings.of(ProtocolSettings), head_bytes=serve.head_bytes),
            told=telling(hardened.blocked),
            cancel=hardened.in_flight.give_up,
            shared=_shared(settings),
        )
        self._unguarded = settings.of(ProtocolSettings).mode == "off"
        self._channel: Channel
        self._told = asyncio.Event()
        self._by_hand = ByHand()
        # Whether the whole service leaves. A SIGTERM to this process alone does not say so, and
        # then the socket must go on listening for the next worker.
        self._whole = False
        # Whether others accept on the same socket. The first to end the listening ends it for all,
        # so none may do it before its time though nobody asks it anything.
        self._together = False
        self._gone_at: float | None = None
        self._said_cancelled = False
        self._cancelled_late: list[dict[str, Any]] = []
        # What was last reported, and whether all of it could be: what fails is logged once.
        self._reportable = True
        self._last_report: dict[str, Any] = {
            "phase": Phase.STARTING,
            "ready": False,
            "because": "starting",
            "in_flight": 0,
            "connections": 0,
            "rss_bytes": 0,
            "requests": 0,
            "health": {},
        }
        resources = settings.of(ResourceSettings)
        self._resources = ProcessResources(resources)
        registry = hardened.registry
        self._segment = segment
        self._told_at = -math.inf
        self._tellable = True
        if segment is not None:
            registry.keep_in(segment)
        self._watch = StandstillWatch(
            blocked_seconds=resources.blocked_seconds,
            request_of=self._request_of,
            say=_sayer(watched),
            observe=registry.histogram(LAG).cell().observe,
        )
        registry.running_total(BLOCKED, read=lambda: self._watch.blocked_seconds_total)
        for metric, read in self._resources.metrics():
            registry.gauge(metric, read=read)
        # A second is how often they are read; one that is short of descriptors says so at once.
        check = Check("resources", self._short_of, interval_seconds=1.0, fall=1)
        self._lifecycle.add_check(check)

    async def run(self, wire: socket.socket) -> int:
        """Start, serve until told to leave, drain, stop; returns the exit code."""
        self._channel = await Channel.over(wire)
        loop = asyncio.get_running_loop()
        with signals_of(loop, {Signal.SIGTERM: self._begin_drain}):
            listening = asyncio.create_task(self._listen(), name="supervisor")
            self._channel.send(
                "hello",
                pid=os.getpid(),
                start_seconds=self._times.start_seconds,
                grace_seconds=self._times.grace_seconds,
            )
            beating = asyncio.create_task(self._beat(), name="heartbeat")
            try:
                code = await self._life()
            finally:
                self._watch.stop()
                beating.cancel()
                listening.cancel()
            await self._channel.flush(FLUSH_SECONDS)
            self._channel.close()
        return code

    def exit_seconds(self) -> float:
        """Return how long the process may still take to end once its loop is done."""
        if self._gone_at is None:
            return self._times.stop_seconds
        left = self._gone_at + self._times.grace_seconds - SYSTEM_CLOCK.now()
        return max(0.1, min(self._times.stop_seconds, left - 1.0))

    async def _life(self) -> int:
        starting = asyncio.create_task(self._start(), name="start")
        told = asyncio.create_task(self._told.wait(), name="told")
        await asyncio.wait({starting, told}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            clean = await self._abandoned(self._times.stop_seconds)
            self._channel.send("bye", clean=clean, report=self._reported().to_dict(), metrics={})
            return Exit.START_FAILED
        try:
            starting.result()
        except StartFailed as error:
            told.cancel()
            self._channel.send("failed", because=str(error))
            return Exit.START_FAILED
        self._watch.start()
        self._report()
        self._channel.send(
            "ready",
            began=[*self._began, SYSTEM_CLOCK.now()],
            libraries=libraries_loaded(),
        )
        await told
        await self._drain()
        report = self._reported((await self._stop()).hooks)
        self._state_it(report)
        self._channel.send(
            "bye",
            clean=report.clean,
            report=report.to_dict(),
            metrics=self._counts(),
        )
        return Exit.CLEAN if report.clean else Exit.FORCED

    async def _start(self) -> None:
        await self._lifespan.start()
        settle_logging(started=True)
        # Now, because an application imports what it works with until it has started.
        if self._guards_databases:
            db.tell_not_reached()
        outbound.tell_not_reached()
        await self._engine.start(self._sockets, self._state)

    async def _abandoned(self, seconds: float) -> bool:
        """Wait for a lifespan that was cancelled; say whether it ended in its time."""
        await asyncio.sleep(0)  # the cancellation is on its way to it
        task = self._lifespan.task()
        if task is not None and not task.done():
            await asyncio.wait({task}, timeout=seconds)
        return task is None or task.done()

    async def _drain(self) -> None:
        """Advance the drain by its facts and do what each phase asks, until nothing is left."""
        engine, lifecycle = self._engine, self._lifecycle
        engine.begin_leaving()
        seen = Phase.READY
        draining_at = 0.0
        looks = _Looks()
        while True:
            census = engine.census(fresh_seconds=self._times.idle_grace_seconds)
            if looks.due(seen, holding=self._holding(), now=SYSTEM_CLOCK.now()):
                self._look(seen, census)
            phase = lifecycle.advance(
                DrainFacts(
                    # A request is in flight from the first byte of its head to the end of its
                    # last background task: the engine sees the one, the line of guards the other.
                    # A connection that was answered just now counts too: its next request may be
                    # on its way, since the answer's head could not say that it is the last.
                    in_flight=max(len(self._hardened.in_flight), census.busy + census.upgraded)
                    + census.asking
                    + census.fresh,
                    idle_connections=census.idle,
                    quiet_seconds=0.0 if self._together else engine.quiet_seconds(),
                )
            )
            now = SYSTEM_CLOCK.now()
            if phase is not seen:
                if phase.reached(Phase.DRAINING) and not seen.reached(Phase.DRAINING):
                    draining_at = now
                self._enter(phase, before=seen)
                seen = phase
            if phase.reached(Phase.STOPPING):
                return
            self._follow(phase)
            if phase is Phase.DRAINING:
                engine.close_websockets(drain_seconds=self._times.drain_seconds)
                engine.cut_half_heads(left_seconds=now - draining_at)
                if now - draining_at >= self._times.idle_grace_seconds:
                    engine.cut_idle(fresh_seconds=self._times.idle_grace_seconds)
            await asyncio.sleep(DRAIN_TICK_SECONDS)

    def _enter(self, phase: Phase, *, before: Phase) -> None:
        """Do what is done once, when a phase of the drain is entered."""
        if phase is Phase.FORCED:
            self._force()
        if phase.reached(Phase.DRAINING) and not before.reached(Phase.DRAINING):
            # One that was handed over is not ours to end: its queue is for who comes next.
            self._engine.stop_accepting(whole=self._whole and not self._keep_listening)
        if phase is Phase.CANCELLING:
            self._engine.close_websockets(drain_seconds=0.0)
        if before is Phase.CANCELLING:
            self._say_cancelled_late()
            self._shutdown.commits_left(commits_under_way())
        self._report()

    def _follow(self, phase: Phase) -> None:
        """Do to what is in flight what `phase` asks, and keep whom it broke off."""
        calls = self._hardened.in_flight
        broken_off = self._hardened.follow(phase)
        if phase is Phase.CANCELLING:
            # What belongs to a call is cancelled by `follow`, when no COMMIT of it is under way.
            self._engine.cancel(spared=calls.tasks())
        if not broken_off:
            return
        self._shutdown.cancelling(one.record.request_id for one in broken_off)
        requests = calls.describe(of=broken_off)
        if self._said_cancelled:
            self._cancelled_late = [*self._cancelled_late, *requests][:NAMED_CANCELLED]
        else:
            self._said_cancelled = True
            emit(RequestsCancelled, requests=requests, spared=calls.spared())

    def _say_cancelled_late(self) -> None:
        """State those that were cancelled after the first, all in one event."""
        late, self._cancelled_late = self._cancelled_late, []
        if late:
            emit(RequestsCancelled, requests=late, spared=self._hardened.in_flight.spared())

    def _holding(self) -> int:
        return len(self._hardened.in_flight) + len(self._lifecycle.works)

    def _look(self, phase: Phase, census: Census) -> None:
        """Note for the report what is waited for."""
        calls, works = self._hardened.in_flight, self._lifecycle.works
        answering = census.busy + census.upgraded
        holders = [
            *_requests(calls.describe(SHOWN_REQUESTS)),
            *(
                Holder(
                    name=f"background work '{work.name}'",
                    for_seconds=work.for_seconds,
                    stands=work.stands,
                )
                for work in works.describe(SHOWN_WORKS)
            ),
            *(
                Holder(name=f"the drain of component '{name}'", stands=stands)
                for name, stands in self._lifecycle.drains_under_way()
            ),
        ]
        if len(calls):
            # A handler that is not async stands in one of these, and its request only waits.
            holders += [
                Holder(name=f"thread '{name}'", stands=stands)
                for name, stands in threads_at_work(of_pools=True)
            ]
        for count, what in (
            (census.upgraded, "websockets"),
            (census.asking, "connections in the middle of a request head or a handshake"),
            (max(0, answering - len(calls)), "connections whose client reads its answer slowly"),
            (census.fresh + census.idle, "connections that may bring one more request"),
        ):
            if count:
                holders.append(Holder(name=f"{count} {what}"))
        more = max(0, len(calls) - SHOWN_REQUESTS) + max(0, len(works) - SHOWN_WORKS)
        self._shutdown.looked(phase, holders, more=more)

    def _reported(self, hooks: Sequence[HookReport] = ()) -> ShutdownReport:
        # Somebody who swallowed his cancellation is left behind as a hook is that did not end.
        return self._shutdown.report(
            self._lifecycle.drain.transitions,
            now=SYSTEM_CLOCK.now(),
            left_behind=_requests(self._hardened.in_flight.describe(SHOWN_REQUESTS)),
            hooks=hooks,
            threads=threads_at_work(),
        )

    def _state_it(self, report: ShutdownReport) -> None:
        facts: dict[str, Any] = {
            "took_seconds": report.took_seconds,
            "requests_cancelled": report.requests_cancelled,
            "held_by": list(report.held_by),
        }
        if report.clean:
            emit(Drained, **facts)
        else:
            emit(DrainedInPart, forced=report.forced, **facts)

    async def _stop(self) -> StopReport:
        """Run the app's shutdown and ours, bounded; what does not end is named and left behind."""
        await self._hardened.break_off()
        await self._engine.close()
        stopping = asyncio.create_task(self._lifespan.stop(), name="stop")
        left_seconds = self._lifecycle.drain.stop_by - SYSTEM_CLOCK.now()
        await asyncio.wait({stopping}, timeout=left_seconds + STOP_SLACK_SECONDS)
        if stopping.done():
            stopping.exception()  # what failed is in the report, with its reason
        else:
            stopping.cancel()
            await self._abandoned(STOP_SLACK_SECONDS)
        return await self._lifecycle.stop()

    def _force(self) -> NoReturn:
        """End now, with the names and the stacks of all that is left behind."""
        self._say_cancelled_late()
        self._shutdown.commits_left(commits_under_way())
        report = self._reported()
        self._channel.send("bye", clean=False, report=report.to_dict(), metrics={})
        self._state_it(report)
        # Its lines are not worth more time than this: a reader that has stopped may be the reason.
        closing = threading.Thread(target=self._close_logs, name="close logs", daemon=True)
        closing.start()
        closing.join(FLUSH_SECONDS)
        count = len(self._hardened.in_flight)
        sys.stderr.write(f"forced to leave with {count} requests in flight\n")
        for sentence in report.held_by:
            sys.stderr.write(f"{printable(redact(sentence))}\n")
        faulthandler.dump_traceback(all_threads=True)
        os._exit(Exit.FORCED)

    def _close_logs(self) -> None:
        self._stop_logging()
        self._hardened.close_log(FLUSH_SECONDS)

    def _begin_drain(self, *, lame_duck: bool = True) -> None:
        """Begin to leave; twice is the same as once: signal and word may both come.

        But for the probes: after a retired one, the others may be told to leave as well.
        """
        self._lifecycle.begin_drain(lame_duck=lame_duck)
        if self._told.is_set():
            return
        self._gone_at = SYSTEM_CLOCK.now()
        self._told.set()

    async def _listen(self) -> None:
        """Do what the supervisor says; when it is gone, leave as if told to."""
        async for message in self._channel.messages():
            match message["kind"]:
                case Word.DRAIN | Word.RETIRE as word:
                    self._whole = word == Word.DRAIN
                    self._together = message["together"]
                    # The others accept on the same socket, and a probe that met us would be told
                    # that the service is not ready.
                    self._begin_drain(lame_duck=self._whole)
                case Word.ESCALATE:
                    self._lifecycle.escalate()
                    if self._lifecycle.phase is Phase.FORCED:
                        self._force()
                case "isolated":
                    self._by_hand.expect(message["orders"])
                case "ask":
                    self._answer(message)
        self._whole = True
        self._begin_drain()

    def _answer(self, asked: Mapping[str, Any]) -> None:
        question: str = asked["question"]
        try:
            if question in {"isolate", "close"}:
                self._set_breaker(question, asked)
            facts = self._facts(question)
            self._channel.send("answer", number=asked["number"], facts=facts)
        except Exception:  # noqa: BLE001
            # Whatever it is, it must not make us deaf to the word that ends this process.
            _log.exception("the supervisor's question about %s could not be answered", question)

    def _set_breaker(self, what: str, asked: Mapping[str, Any]) -> None:
        if what == "isolate":
            self._by_hand.isolate(asked["name"], asked["because"])
        else:
            self._by_hand.close(asked["name"])
        self._report()  # first, so that who has the answer finds it in /health

    def _facts(self, question: str) -> Any:
        facts: Mapping[str, Callable[[], Any]] = {
            "metrics": self._counts,
            "requests": self._hardened.in_flight.describe,
            "databases": describe_databases,
            "blocked": lambda: self._hardened.turned_away,
            "policy": lambda: self._hardened.learned_policy,
            "declared": lambda: plain_declarations(CATALOGUE),
            "breakers": _breakers,
            "isolate": _breakers,
            "close": _breakers,
        }
        return facts[question]() if question in facts else None

    async def _short_of(self) -> str | None:
        return self._resources.not_ready or None

    def _request_of(self, task: "asyncio.Task[Any]") -> tuple[str, str]:
        """Return id and route of the request a task works for; called by the watching thread."""
        for call in list(self._hardened.in_flight.calls):
            if call.task is task:
                return call.record.request_id, call.route()
        # One that the app started for it; Python 3.11 shows no context of another task.
        context = getattr(task, "get_context", None)
        record = request_in(context()) if context is not None else None
        return (record.request_id, record.route) if record is not None else ("", "")

    async def _beat(self) -> None:
        while True:
            try:
                self._by_hand.carry_out()
            except Exception:  # noqa: BLE001 - as in `_report`
                _log.exception("what an operator said of a breaker could not be done")
            self._report()
            if self._segment is not None and SYSTEM_CLOCK.now() - self._told_at >= TELL_SECONDS:
                self._tell(self._segment, asked=False)
            await asyncio.sleep(HEARTBEAT_SECONDS)

    def _counts(self) -> Snapshot:
        """Return what is not in the segment, after what is only read has been written beside it."""
        if self._segment is None:
            return self._hardened.registry.snapshot()
        self._tell(self._segment, asked=True)
        return {}

    def _tell(self, segment: Segment, *, asked: bool) -> None:
        """Write what is only read; where that cannot be, what was said last stands."""
        self._told_at = SYSTEM_CLOCK.now()
        try:
            segment.say(self._hardened.registry.rest(asked=asked))
            self._tellable = True
        except Exception:  # noqa: BLE001 - a worker that cannot say its gauges serves on
            if self._tellable:
                _log.exception("gauges could not be written; what was written last stands")
            self._tellable = False

    def _report(self) -> None:
        """Say how this worker is; what cannot be told stands as it was, for silence costs its life.

        Silence means that the loop stands, and a worker of which that is said is ended.
        """
        state = self._last_report
        try:
            ready = self._lifecycle.ready()
            state |= {"phase": self._lifecycle.phase, "ready": ready.ok, "because": ready.because}
            state |= self._counted()
            self._reportable = True
        except Exception:  # noqa: BLE001 - a worker that only cannot describe itself serves on
            if self._reportable:
                _log.exception("how this worker is could not be said; what it said last stands")
            self._reportable = False
        self._channel.send("state", **state)

    def _counted(self) -> dict[str, Any]:
        census = self._engine.census()
        self._resources.tick(
            connections=census.total, lag_seconds=self._watch.take_lag, now=SYSTEM_CLOCK.now()
        )
        return {
            "in_flight": len(self._hardened.in_flight),
            "connections": census.total,
            "rss_bytes": resident_bytes(),
            "requests": self._engine.served(),
            "health": self._lifecycle.health().to_dict()
            | {
                "databases": pool_numbers(),
                "resources": self._resources.described(),
                "remarks": (
                    *self._hardened.remarks,
                    *((NO_PROTOCOL_GUARD,) if self._unguarded else ()),
                ),
            },
        }


def _shared(settings: Loaded) -> Callable[[str], bool]:
    """Return what tells of an address whether it speaks for many clients, as proxies do."""
    is_proxy = ClientRule(settings.of(ClientSettings)).is_proxy
    return lambda address: is_local(address) or is_proxy(address)


def _connections_max(settings: Loaded) -> int:
    """Return how many connections a worker keeps: as many as leave it ready, and room to work."""
    if settings.of(ProtocolSettings).mode == "off":
        return 0
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 0
    share = settings.of(ResourceSettings).descriptors_act_ratio
    return max(CONNECTIONS_LEAST, int(soft * share) - DESCRIPTORS_OF_ITS_OWN)


def _begin_segment(order: Order) -> Segment | None:
    """Begin to count where the supervisor reads; in memory, said in the log, where that fails."""
    if not order.segments:
        return None
    try:
        return Segment.begin(Path(order.segments), segment_name(order.generation))
    except OSError as error:
        _log.warning(
            "this worker counts in its memory, and what is new there is lost when it is killed: "
            "nothing can be written to %s: %s",
            order.segments,
            error,
        )
        return None


def _sayer(watched: socket.socket | None) -> Callable[[dict[str, Any]], None]:
    """Return what sends a finding to the supervisor; what it does not read is dropped."""

    def say(finding: dict[str, Any]) -> None:
        if watched is not None:
            with contextlib.suppress(OSError):
                watched.send(encoded(finding))

    if watched is not None:
        watched.settimeout(0)
    return say


def _requests(described: Sequence[Mapping[str, Any]]) -> list[Holder]:
    return [
        Holder(
            name=f"{request['method']} {request['route'] or request['path']}",
            for_seconds=request["age_seconds"],
            stands=request["task"],
            request_id=request["request_id"],
        )
        for request in described
    ]


async def _wind_up() -> None:
    """Let tasks and generators that are left run their `finally`, as `asyncio.run` does; bounded.

    A stream that nobody reads any more may hang in a cycle with the error that ended it, and no
    collection will come.
    """
    loop = asyncio.get_running_loop()
    if not commits_under_way():
        await leave_behind(*(asyncio.all_tasks() - {asyncio.current_task()}))
    await asyncio.wait({loop.create_task(loop.shutdown_asyncgens())}, timeout=WIND_UP_SECONDS)


def _breakers() -> list[dict[str, Any]]:
    return [asdict(breaker.statistics()) for breaker in breakers().values()]


def _new_loop(kind: str) -> asyncio.AbstractEventLoop:
    if kind == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


def _once(wire: socket.socket, kind: str, **facts: Any) -> int:
    """Say one thing before there is a loop, and be done."""

    async def say() -> None:
        channel = await Channel.over(wire)
        channel.send(kind, **facts)
        await channel.flush(FLUSH_SECONDS)
        channel.close()

    asyncio.run(say())
    return Exit.CLEAN


def _end_with_parent() -> None:
    """Ask the kernel for SIGTERM when the supervisor dies (Linux; elsewhere the pipe tells)."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, int(Signal.SIGTERM))


def _bound_exit(seconds: float) -> None:
    """End the process after `seconds` though a thread does not; the stacks tell which."""

    def end() -> None:
        time.sleep(seconds)
        late = f"{seconds:.1f} s after the shutdown"
        for name, stands in threads_at_work():
            sys.stderr.write(f"thread '{name}' was still running {late}, at {stands}\n")
        faulthandler.dump_traceback(all_threads=True)
        os._exit(Exit.FORCED)

    threading.Thread(target=end, name="exit-bound", daemon=True).start()
