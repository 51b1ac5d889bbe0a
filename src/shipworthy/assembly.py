"""`harden()`: the only place where the rooms are put together."""

import asyncio
import logging
import math
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final, final

from typing_extensions import override

from shipworthy.admission import LimitsFile, LimitsSettings
from shipworthy.audit import (
    AUDIT_SHOWN,
    AuditSettings,
    LedgerSettings,
    TrailWatch,
    bind_engines,
    binding_metrics,
    coverage_metrics,
    ledger_metrics,
    sealing_component,
)
from shipworthy.clock import SYSTEM_CLOCK
from shipworthy.context import log_fields
from shipworthy.db import DB_SHOWN, DbSettings, Prober, db_metrics
from shipworthy.errors import SettingsInvalid
from shipworthy.events import CATALOGUE, Catalogue, Event, emit, listen
from shipworthy.lifecycle import (
    LIFECYCLE_SHOWN,
    Check,
    Component,
    DrainFacts,
    Lifecycle,
    LifecycleSettings,
    Phase,
    Signal,
    also_on,
    lifecycle_metrics,
)
from shipworthy.outbound import CALL_SECONDS, OUTBOUND_SHOWN, observe_calls
from shipworthy.records import RECORDS_SHOWN, TrashSettings, flag_tables, records_metrics
from shipworthy.redact import redact
from shipworthy.resilience import RESILIENCE_SHOWN, ResilienceSettings, resilience_metrics
from shipworthy.settings import Loaded, load
from shipworthy.telemetry import (
    COUNTING_SHOWN,
    LINES_LEFT_OUT,
    LOG_SHOWN,
    PROCESS,
    SPANS_CLOSE_SECONDS,
    TRACES_SHOWN,
    AccessLog,
    ForeignMetrics,
    LogSettings,
    MetricsSettings,
    Registry,
    Sampler,
    SharedCounts,
    SpanExport,
    TraceSettings,
    export_of,
    installed_log,
    log_metrics,
    logging_installed,
    open_log,
    process_metrics,
)
from shipworthy.web import (
    WEB_SHOWN,
    Access,
    ActorFinder,
    ActorSettings,
    AdmissionGuard,
    AdmissionSettings,
    App,
    AppLifespan,
    Blocked,
    BodyGuard,
    BodySettings,
    Call,
    ClientSettings,
    Correlation,
    CountedTwice,
    CspGuard,
    CspSettings,
    CsrfGuard,
    CsrfSettings,
    DoorGuard,
    DrainGate,
    EventStreams,
    Forwarded,
    GuardUndecided,
    HeadersSettings,
    HostGuard,
    HostSettings,
    HttpsGuard,
    HttpsSettings,
    Idempotency,
    IdempotencySettings,
    InFlight,
    LimitsGuard,
    Line,
    Probes,
    Problems,
    Receive,
    Replay,
    RequestMetrics,
    RouteTable,
    Scope,
    Scrape,
    SecurityHeaders,
    Send,
    SloSettings,
    TracedTwice,
    Traces,
    WebSettings,
    WsgiApp,
    asgi_of,
    ask,
    counted_twice,
    framework_of,
    guards,
    makes_spans,
    meant,
    observe,
    owner_finder,
    routes_of,
    speak_lifespan,
    traced_twice,
    undecided,
    unsealed,
)

# A remark under every server but ours, and under ours where it is switched off.
NO_PROTOCOL_GUARD: Final = (
    "no guard of ours stands before the requests: who sends or reads slowly is bounded by the "
    "server or a proxy in front, if they do it; see the page of the protocol guard"
)
# Set in a scope by the outermost `Hardened`: it is the one that guards. A lifespan gets its hull.
_GUARDED: Final = "shipworthy.hull"


def harden(app: Any, *, settings: Loaded | None = None) -> "Hardened":
    """Put the guards around an ASGI or WSGI application; the result is an ASGI application.

    Without `settings` they are read from the working directory and the environment. What is
    hardened already is returned as it is, under `settings` from now on unless it has started.
    Raises `TargetInvalid` for what is no application, `SettingsInvalid` for settings that cannot
    be used.
    """
    if not isinstance(app, Hardened):
        return Hardened(app, settings or load())
    if settings is not None:
        app.settle(settings)
    return app


def rooms_catalogue(settings: Loaded | None = None) -> Catalogue:
    """Return what our rooms show, the objectives of the settings, and all that was declared.

    Not here: the workers of a service that is `run` (`serve`). Raises `SettingsInvalid` for
    objectives that cannot be, `ValueError` where the service declares another thing by one of our
    names.
    """
    objectives = (settings or load()).of(SloSettings)
    refused = objectives.refusals("")
    if refused:
        raise SettingsInvalid(refused)
    found = Catalogue()
    found.add(*WEB_SHOWN, *objectives.objectives(), *DB_SHOWN, *RESILIENCE_SHOWN)
    found.add(*LIFECYCLE_SHOWN, *AUDIT_SHOWN, *RECORDS_SHOWN, *LOG_SHOWN)
    found.add(*OUTBOUND_SHOWN, *COUNTING_SHOWN, *TRACES_SHOWN)
    found.add(*CATALOGUE.everything())
    return found


@final
class Hardened:
    """An application with the guards around it: an ASGI application that stands in for it.

    `app` is the application as it was given, `lifecycle` takes components and checks before the
    start, `in_flight` knows the calls that are being served, `registry` their metrics. Any other
    attribute is the application's own, so `app.state`, `app.dependency_overrides`, a route added
    later and `app.test_client()` work as before (what goes to the application directly, as Flask's
    test client does, does not pass the guards).

    Within an application that is hardened too, as behind a middleware that `run` has hardened, it
    steps aside: a request is guarded once, and what was added to its life lives in the other's.
    """

    __slots__ = ("__weakref__", "_hull", "app")

    app: Any
    _hull: "_Hull"

    def __init__(self, app: Any, settings: Loaded) -> None:
        object.__setattr__(self, "app", app)
        object.__setattr__(self, "_hull", _Hull(app, settings))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request or a websocket through the guards, or live through a lifespan."""
        if scope["type"] == "lifespan":
            await self._hull.live(scope, receive, send)
        elif _GUARDED in scope:
            await self._hull.served(scope, receive, send)
        else:
            scope[_GUARDED] = True
            await self._hull.line(scope, receive, send)

    @property
    def lifecycle(self) -> Lifecycle:
        """The life of this process."""
        return self._hull.lifecycle

    @property
    def in_flight(self) -> InFlight:
        """The calls that are being served."""
        return self._hull.in_flight

    @property
    def registry(self) -> Registry:
        """The metrics of this process."""
        return self._hull.registry

    @property
    def blocked(self) -> Blocked:
        """What its guards, and the server's where it is ours, turn away."""
        return self._hull.blocked

    def close_log(self, seconds: float) -> None:
        """Write the access lines that are held, for at most `seconds`, and take no more."""
        self._hull.close_log(seconds)

    def close_traces(self, seconds: float) -> None:
        """Send the traces that are held, for at most `seconds`, and take no more; blocks."""
        self._hull.close_traces(seconds)

    def lead(self) -> None:
        """See the drain through for it, as a server of ours does: call `follow` on every look.

        And `close_traces` and `close_log` in the end.
        """
        self._hull.led = True

    def follow(self, phase: Phase) -> list[Call]:
        """Do to the calls in flight what `phase` asks; on every look at the drain.

        Returns those that it broke off.
        """
        return self._hull.follow(phase)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Say what is worth a note and no check, a sentence each.

        Who else counts or traces the requests is known once it has started.
        """
        return self._hull.remarks()

    @property
    def turned_away(self) -> Mapping[str, Any]:
        """What its guards turned away, by rule, and the last of it, with their modes."""
        return {**self._hull.blocked.describe(), "modes": self._hull.modes}

    @property
    def learned_policy(self) -> Mapping[str, Any]:
        """What the reports of browsers have named, with mode and policy; plain data."""
        return self._hull.learned_policy()

    async def break_off(self) -> None:
        """Answer the calls that were cancelled and go on all the same; takes 0.2 s at most."""
        await self._hull.break_off()

    def settle(self, settings: Loaded) -> None:
        """Go by `settings` from now on; without effect once it has started."""
        if not self._hull.begun:
            object.__setattr__(self, "_hull", _Hull(self.app, settings, before=self._hull))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.app, name)

    @override
    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.app, name, value)

    @override
    def __delattr__(self, name: str) -> None:
        delattr(self.app, name)

    @override
    def __repr__(self) -> str:
        return f"<Hardened {self.app!r}>"


class _Hull:
    """What stands around one application: its line of guards, its life, its numbers.

    `before` is the hull in whose place this one comes, because the settings are others: what was
    added to its life is taken over.
    """

    # What production asks to be decided, a sentence each.
    _undecided: tuple[str, ...] = ()
    # Who else counts the requests, a sentence each; not known before it has started.
    counted_twice: tuple[str, ...] = ()
    _traced_twice: tuple[str, ...] = ()
    # What the rate limits advise, by the routes of an application that has started.
    _advice: tuple[str, ...] = ()

    def __init__(self, app: Any, settings: Loaded, *, before: "_Hull | None" = None) -> None:
        _usable(settings)
        web = settings.of(WebSettings)
        self._settings = settings.of(LifecycleSettings)
        databases = settings.of(DbSettings)
        self._required = databases.required
        self._url = databases.url.reveal()
        self._audit = settings.of(AuditSettings)
        self._sealer = sealing_component(settings.of(LedgerSettings), databases)
        now = SYSTEM_CLOCK.now
        observe(app)
        self.app = app
        self.served = _served(app, web)
        self.begun = False
        # Whether a server of ours sees the drain through, and tells us of each look at it.
        self.led = False
        self._told_to_stop = False
        self._leaving: asyncio.Task[None] | None = None
        self.registry = self._new_registry()
        # Held by us alone: calls are counted for as long as there is somebody to show them.
        self._count_call = _call_counter(self.registry)
        self._log = log = _access_log(self.registry, settings)
        _tell_logging()
        self.in_flight = InFlight(now=now)
        self._gate = DrainGate(
            self.in_flight, draining=lambda: self.lifecycle.phase.reached(Phase.DRAINING)
        )
        if before is None:
            self._lifespan = AppLifespan(self._marked)
            self.lifecycle = Lifecycle(self._settings)
        else:
            self._lifespan = before._lifespan  # noqa: SLF001 - the same class
            self.lifecycle = before.lifecycle.renewed(self._settings)
        self.lifecycle.on_drain(self._gate.leave_now)
        self._probes = Probes(
            self._marked,
            {
                web.live_path: Lifecycle.live,
                web.ready_path: Lifecycle.address_ready,
                web.startup_path: Lifecycle.startup,
            },
            # Asked for each time: every lifespan has a life of its own.
            life=lambda: self.lifecycle,
            owns=owner_finder(app),
            host=self._settings.ready_host,
        )
        self._keys = self._idempotency(settings)
        self._scrape = self._shown_here(settings)
        routes = routes_of(app)
        facts, ids = _who(settings, routes.template)
        self._export = _span_export(self.registry, settings)
        self._traces = (
            None
            if self._export is None
            else Traces(settings.of(TraceSettings), self._export, now=now)
        )
        metrics = RequestMetrics(self.registry, self.in_flight.calls)
        _bind_process(settings)
        self.blocked, self.modes = Blocked(self.registry, now=now), dict(guards(settings))
        self._problems = Problems(
            mode=web.problems,
            development=settings.environment == "development",
            leaving=lambda: self._gate.leaving,
            failed=metrics.failed,
            echo=web.validation_input,
        )
        self._streams = EventStreams(self.in_flight.calls)
        self._limits = self._limits_of(settings, routes.match, asks_always=facts.asks_always)
        self._csp = self._policy(settings, app, routes)
        self._undecided, self._said = (*undecided(settings), *unsealed(settings)), False
        self._admission = self._admitting(settings, door := self._door(app, web, databases))
        self.line = Line(
            self.served,
            # In the order of `web.guards`: who comes later has the ids, and is counted.
            (
                ids,
                Access(
                    metrics,
                    log if web.access_log else None,
                    meant=partial(meant, routes),
                    now=now,
                    asks_always=facts.asks_always,
                    sampler=_sampler(self.registry, web),
                    slow_seconds=web.access_slow_seconds,
                ),
                # Behind the one that counts, so that it hears of the end before.
                *((self._traces,) if self._traces else ()),
                *_headers(settings),
                *self._csp,
                self._probes,
                *self._scrape,
                *self._where(settings),
                self._gate,
                *self._admission,
                self._streams,
                *self._limits,
                *_csrf(settings, self.blocked, routes),
                *self._bodies(settings, routes),
                *door,
                *self._keys,
                *self._replay(settings),
            ),
            answers=self._problems,
            route_of=routes.template,
            now=now,
        )

    def _new_registry(self) -> Registry:
        """Return the metrics of the rooms, of the application, and of its `prometheus_client`."""
        registry = Registry()
        process_metrics(registry)
        for metric, read in (
            # It is made later, and anew for each lifespan.
            *lifecycle_metrics(lambda: self.lifecycle.health()),  # noqa: PLW0108
            *resilience_metrics(),
            *db_metrics(),
            *binding_metrics(),
            *coverage_metrics(),
            *ledger_metrics(),
            *records_metrics(),
        ):
            keep = registry.gauge if metric.kind == "gauge" else registry.running_total
            keep(metric, read=read)
        registry.join(PROCESS)
        registry.join(ForeignMetrics(registry.names, now=SYSTEM_CLOCK.now))
        return registry

    def _shown_here(self, settings: Loaded) -> tuple[Scrape, ...]:
        """Return what shows the metrics on the application's port, none where nobody asked."""
        chosen = settings.of(MetricsSettings)
        if not chosen.path:
            return ()
        counts = SharedCounts(Path(chosen.shared_directory), self.registry)
        return (
            Scrape(
                counts, path=chosen.path, token=chosen.token.reveal(), elsewhere=lambda: self.led
            ),
        )

    def _where(self, settings: Loaded) -> tuple[object, ...]:
        """Return what judges the host and the scheme of a request, as far as it is asked for."""
        hosts, https = settings.of(HostSettings), settings.of(HttpsSettings)
        mode = https.mode_in(settings.environment)
        if settings.environment == "production" and hosts.mode != "off" and not hosts.allowed:
            self._undecided = (*self._undecided, _NO_HOSTS)
        return (
            *((HostGuard(hosts, self.blocked),) if hosts.mode != "off" else ()),
            *((HttpsGuard(mode, hosts, self.blocked),) if mode != "off" else ()),
        )

    def _limits_of(
        self, settings: Loaded, template_of: Callable[[str], str], *, asks_always: bool
    ) -> tuple[LimitsGuard, ...]:
        """Return the rate limits, none where they are off."""
        limits = settings.of(LimitsSettings)
        if limits.mode == "off":
            return ()
        _countable(limits, self._url)
        guard = LimitsGuard(
            self.registry,
            self.blocked,
            limits,
            template_of=template_of,
            now=SYSTEM_CLOCK.now,
            asks_always=asks_always,
            database_url=self._url,
        )
        self._limits_file = LimitsFile(settings.file, settings.environment, limits, guard.change)
        return (guard,)

    def _door(self, app: Any, web: WebSettings, databases: DbSettings) -> tuple[DoorGuard, ...]:
        """Return the door, none where it is off or no request could need it.

        A WSGI application does all its work for a request in one thread, and waits for no other.
        """
        if web.door == "off" or databases.mode == "off" or framework_of(app).kind == "wsgi":
            return ()
        wait_seconds = databases.checkout_seconds
        return (
            DoorGuard(
                self.registry, mode=web.door, wait_seconds=wait_seconds, now=SYSTEM_CLOCK.now
            ),
        )

    def _policy(self, settings: Loaded, app: Any, routes: RouteTable) -> tuple[CspGuard, ...]:
        """Return the guard of the Content-Security-Policy, none where it is off."""
        csp = settings.of(CspSettings)
        if csp.mode == "off":
            return ()
        return (
            CspGuard(
                csp,
                self.blocked,
                self.registry,
                mode=csp.mode,
                owns=owner_finder(app),
                route_of=routes.match,
                now=SYSTEM_CLOCK.now,
            ),
        )

    def _bodies(self, settings: Loaded, routes: RouteTable) -> tuple[BodyGuard, ...]:
        """Return the guard of bodies, none where it is off."""
        bodies = settings.of(BodySettings)
        if bodies.mode == "off":
            return ()
        template_of = partial(meant, routes)
        return (BodyGuard(bodies, self.blocked, now=SYSTEM_CLOCK.now, template_of=template_of),)

    def _admitting(
        self, settings: Loaded, door: tuple[DoorGuard, ...]
    ) -> tuple[AdmissionGuard, ...]:
        """Return the guard against overload, none where it is off."""
        admission = settings.of(AdmissionSettings)
        if admission.mode == "off":
            return ()
        return (
            AdmissionGuard(
                self.registry,
                admission,
                blocked=self.blocked,
                now=SYSTEM_CLOCK.now,
                door=door[0] if door else None,
            ),
        )

    def _idempotency(self, settings: Loaded) -> tuple[Idempotency, ...]:
        """Return the guard of the keys, none where it is off; it keeps them in `db.url`."""
        keys = settings.of(IdempotencySettings)
        if keys.mode == "off":
            return ()
        url = settings.of(DbSettings).url.reveal()
        if not url:
            missing = (
                f"idempotency.mode = {keys.mode} needs a database to keep the answers in: set "
                f"db.url, and run `shipworthy db migrate` there once"
            )
            raise SettingsInvalid([missing])
        from shipworthy.db import KeyStore

        return (Idempotency(keys, KeyStore(url, seconds=keys.patience_seconds)),)

    def _replay(self, settings: Loaded) -> tuple[Replay, ...]:
        web = settings.of(WebSettings)
        if web.replay == "off" or settings.of(DbSettings).mode == "off":
            return ()
        return (
            Replay(
                self.registry,
                mode=web.replay,
                methods=web.replay_methods,
                within_seconds=web.replay_within_seconds,
                now=SYSTEM_CLOCK.now,
                budget=settings.of(ResilienceSettings).new_budget(),
            ),
        )

    async def live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Live through one lifespan; test clients begin one after the other."""
        outer: _Hull | None = scope.get(_GUARDED)
        if self.begun:
            self.lifecycle = self.lifecycle.renewed(self._settings)
            self._gate.leaving = self._told_to_stop = False
            self._leaving = None
            self._streams.renew()
            self.in_flight.forget()
        else:
            self._furnish(inner=outer is not None)
        self.begun = True
        if self._export is not None:
            self._export.open()
        # The server's own mapping, where it has one: its requests get what start-up leaves in it.
        self._lifespan.state = scope.get("state")
        if outer is not None:
            outer.lifecycle.take_in(self.lifecycle)
            await speak_lifespan(
                self.lifecycle, receive, send, before_ready=_at_once, before_stop=_at_once
            )
            return
        # Under a server of ours only the supervisor decides what Ctrl-C means.
        signals = (Signal.SIGTERM,) if self.led else (Signal.SIGTERM, Signal.SIGINT)
        with ExitStack() as heard:
            for number in signals:
                heard.enter_context(
                    also_on(number, asyncio.get_running_loop(), self._begin_to_leave)
                )
            await speak_lifespan(
                self.lifecycle,
                receive,
                send,
                before_ready=partial(self._started, scope.get("state")),
                before_stop=self._drained,
            )

    def _furnish(self, *, inner: bool) -> None:
        """Give the life its components; what is of the whole process only where nobody else does.

        What comes before the application is stopped after it.
        """
        life = self.lifecycle
        for keys in self._keys:
            life.add(Component("idempotency", keys.start, keys.stop))
        if not (inner or self.led):
            for scrape in self._scrape:
                life.add(Component("metrics", scrape.start, scrape.stop))
        self._furnish_limits(life)
        life.add(self._application())
        if inner:
            return
        life.add(self._databases())
        life.add(self._trail())
        if self._sealer is not None:
            life.add(self._sealer)
        if self._settings.ready_route:
            life.add_check(self._ready_route())
        for admission in self._admission:
            for check in admission.checks():
                life.add_check(check)

    def _furnish_limits(self, life: Lifecycle) -> None:
        for guard in self._limits:
            life.add(Component("limits", self._limits_file.start, self._limits_file.stop))
            life.add(Component("limits store", _at_once, guard.stop))
            if (check := guard.check()) is not None:
                life.add_check(check)

    async def _started(self, state: dict[str, Any] | None) -> None:
        """Look at the application once it has started, which is when it is what it will be."""
        if not self.counted_twice:
            self.counted_twice = counted_twice(self.app)
            for what in self.counted_twice:
                emit(CountedTwice, what=what)
        if self._traces is not None and makes_spans():
            self._traces.hands_on = True
            self._traced_twice = traced_twice(self.app)
            for what in self._traced_twice:
                emit(TracedTwice, what=what)
        self._advice = tuple(told for guard in self._limits for told in guard.advice())
        if not self._said:
            self._said = True
            for what in self._undecided:
                emit(GuardUndecided, what=what)
        await self._probes.find_owned(state)

    def remarks(self) -> tuple[str, ...]:
        """Say what is worth a note, a sentence each."""
        unsent = self._export.remarks() if self._export is not None else ()
        unguarded = () if self.led else (NO_PROTOCOL_GUARD,)
        own = (*self._advice, *self._undecided, *unguarded)
        return (*self.counted_twice, *self._traced_twice, *unsent, *own)

    def learned_policy(self) -> Mapping[str, Any]:
        """Say what the reports of browsers have named, nothing where none are asked for."""
        return self._csp[0].describe() if self._csp else {}

    async def _marked(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application as from within our line."""
        scope[_GUARDED] = self
        await self.served(scope, receive, send)

    def _begin_to_leave(self) -> None:
        """Begin the drain, and see it through where no server of ours does."""
        self.lifecycle.begin_drain()
        if not self.led and self._leaving is None:
            self._leaving = asyncio.create_task(self._see_through(), name="drain")

    async def _drained(self) -> None:
        """See the drain through where the server did not; `run` has, before it says shutdown.

        Some servers say it while background tasks, or even requests, are still at work.
        """
        self._told_to_stop = True
        self._begin_to_leave()
        # Under a server of ours, nothing is left to be seen through.
        await (self._leaving or self._see_through())
        if not self.led:
            await asyncio.to_thread(self.close_traces, SPANS_CLOSE_SECONDS)

    async def _see_through(self) -> None:
        """Drive the phases by what we see, until what is left is to be stopped.

        Before the server has said shutdown it goes on serving, so only time drives them.
        """
        life = self.lifecycle
        while not life.phase.reached(Phase.STOPPING):
            in_flight = len(self.in_flight) or (0 if self._told_to_stop else 1)
            phase = life.advance(
                DrainFacts(in_flight=in_flight, idle_connections=0, quiet_seconds=math.inf)
            )
            self.follow(phase)
            if not phase.reached(Phase.STOPPING):
                await asyncio.sleep(_LOOK_SECONDS)
        await self.break_off()

    def follow(self, phase: Phase) -> list[Call]:
        """Do to the calls in flight what `phase` asks; return those that it broke off."""
        if phase is Phase.DRAINING:
            self._streams.end_all(drain_seconds=self._settings.drain_seconds)
        elif phase is Phase.CANCELLING:
            # A stream whose turn had not come yet, or that was never drained, gets its end.
            self._streams.end_all(drain_seconds=0.0)
            return self.in_flight.cancel()
        return []

    async def break_off(self) -> None:
        """Answer the calls that were cancelled and go on all the same; their time is over."""
        if not self.lifecycle.was_in(Phase.CANCELLING):
            return
        last = [
            asyncio.create_task(self._problems.break_off(call)) for call in self.in_flight.calls
        ]
        if last:
            await asyncio.wait(last, timeout=_LAST_WORD_SECONDS)

    def close_traces(self, seconds: float) -> None:
        """Send the traces that are held, for at most `seconds`, and take no more."""
        if self._export is not None:
            self._export.close(seconds)

    def close_log(self, seconds: float) -> None:
        """Write the access lines that are held, for at most `seconds`, and take no more."""
        if self._log is not None:
            self._log.close(seconds)

    def _application(self) -> Component:
        """Return the application as a component: it has all others from its start to its end."""
        return Component(
            "application",
            self._lifespan.start,
            self._lifespan.stop,
            requires=self.lifecycle.components,
            start_seconds=self._settings.start_seconds,
            stop_seconds=self._settings.stop_seconds,
            task=self._lifespan.task,
        )

    def _add_check(self, check: Check) -> None:
        self.lifecycle.add_check(check)  # the life of now, which may be a renewed one

    def _databases(self) -> Component:
        """Return the prober of databases: it stops before what they belong to."""
        prober = Prober(self._required, self._add_check)
        return Component("databases", prober.start, prober.stop, requires=("application",))

    def _trail(self) -> Component:
        """Return the watch over the trail; it too stops before the application."""
        watch = TrailWatch(self._audit, self._url, self._add_check)
        return Component("audit", watch.start, watch.stop, requires=("application",))

    def _ready_route(self) -> Check:
        path, host = self._settings.ready_route, self._settings.ready_host
        seconds = self._settings.check_timeout_seconds

        async def answered() -> str | None:
            heard = await ask(
                self._marked, path, host=host, state=self._lifespan.state, seconds=seconds
            )
            if heard.status < 400:
                return None
            asked = f" for the host {host}, see lifecycle.ready_host" if heard.status == 400 else ""
            return f"it answered {heard.status}{asked}"

        return Check(
            f"GET {path}",
            answered,
            interval_seconds=self._settings.check_interval_seconds,
            timeout_seconds=seconds,
        )


def _bind_process(settings: Loaded) -> None:
    """Do what is of the whole process, and once: engines are not of one application."""
    bind_engines(settings.of(AuditSettings), service=settings.of(ActorSettings).service)
    flag_tables(settings.of(TrashSettings))


def _who(settings: Loaded, route_of: Callable[[Scope], str]) -> tuple[ActorFinder, Correlation]:
    """Return what finds the actor of a request, and what its ids and its client."""
    forwarded = Forwarded(settings.of(ClientSettings))
    facts = ActorFinder(settings.of(ActorSettings), route_of, forwarded=forwarded)
    return facts, Correlation(facts, forwarded)


def _served(app: Any, web: WebSettings) -> App:
    """Return the application as ASGI, whatever it is."""
    if framework_of(app).kind == "wsgi":
        return WsgiApp(app, threads=web.wsgi_threads)
    return asgi_of(app)


def _headers(settings: Loaded) -> tuple[SecurityHeaders, ...]:
    """Return the guard of the headers, none where it is off."""
    headers = settings.of(HeadersSettings)
    return () if headers.mode == "off" else (SecurityHeaders(headers, mode=headers.mode),)


def _csrf(settings: Loaded, blocked: Blocked, routes: RouteTable) -> tuple[CsrfGuard, ...]:
    """Return the guard against requests of foreign pages, none where it is off."""
    csrf = settings.of(CsrfSettings)
    if csrf.mode == "off":
        return ()
    return (CsrfGuard(csrf, blocked, mode=csrf.mode, route_of=routes.match),)


def _usable(settings: Loaded) -> None:
    refused = settings.refusals()
    if refused:
        raise SettingsInvalid(refused)


def _countable(limits: LimitsSettings, database_url: str) -> None:
    """Raise `SettingsInvalid` where it is not known where the limits are to be counted."""
    if limits.store == "database" and not (limits.store_url or database_url):
        missing = (
            "limits.store = database needs one: set db.url or limits.store_url, and run "
            "`shipworthy db migrate` there once"
        )
        raise SettingsInvalid([missing])
    if limits.store == "file" and not limits.folder:
        missing = (
            "limits.folder: not set, so nobody knows where the file of limits.store = file is; "
            "name a folder that all processes of this service can write to"
        )
        raise SettingsInvalid([missing])


def _access_log(registry: Registry, settings: Loaded) -> AccessLog | None:
    """Return where access lines go, None where there are none; what it drops is counted."""
    # The one of standard logging where that is ours: a file has one writer in each process.
    log = installed_log()
    if log is None and settings.of(WebSettings).access_log:
        log = open_log(settings.of(LogSettings), environment=settings.environment)
    if log is not None:
        log_metrics(registry, log)
    return log


def _span_export(registry: Registry, settings: Loaded) -> SpanExport | None:
    """Return the way of kept traces to their collector, None where there is none."""
    traces = settings.of(TraceSettings)
    if not traces.endpoint:
        return None
    service = settings.of(LogSettings).service or settings.of(ActorSettings).service
    export = export_of(
        traces,
        {
            "service.name": service or "unknown_service",
            "deployment.environment.name": settings.environment,
            "host.name": socket.gethostname(),
            "process.pid": str(os.getpid()),
        },
    )
    export.metrics(registry)
    return export


def _sampler(registry: Registry, web: WebSettings) -> Sampler | None:
    """Return what thins out the lines of a flood of requests, None where each is to be written."""
    left_out = registry.counter(LINES_LEFT_OUT).cell()
    if not web.access_full:
        return None
    return Sampler(full_per_second=web.access_full, one_in=web.access_one_in, left_out=left_out)


def _call_counter(registry: Registry) -> Callable[[str, str, str, float], None]:
    """Return what counts calls to other services, for as long as somebody holds it."""
    seconds_of = registry.histogram(CALL_SECONDS).cell

    def count(address: str, method: str, status: str, seconds: float) -> None:
        seconds_of(address, method, status).observe(seconds)

    observe_calls(count)
    return count


async def _at_once() -> None:
    """Wait for nothing: the hull around ours has asked and waits for all."""


_NO_HOSTS: Final = (
    "hosts.allowed is empty, so this service answers for any host that a client makes up, and "
    "links that are made from it lead there; name its hosts, or '*' where any is right"
)
# How often the drain looks at what is still in flight; far below any of its bounds.
_LOOK_SECONDS = 0.02
# What a client that does not read may hold up the answer it gets in place of the application's.
_LAST_WORD_SECONDS = 0.2


def _tell_logging() -> None:
    """Give events to `logging`, where the application and its server look, unless we write them."""
    global _telling  # noqa: PLW0603 - events are one for the process, and so is this
    if not _telling:
        _telling = True
        listen(_tell)


_telling = False


def _tell(fact: Event) -> None:
    if logging_installed():
        return  # `run` has installed our own lines, which get each event already
    details = {field.name: getattr(fact, field.name) for field in fact.schema} | log_fields()
    logging.getLogger(f"shipworthy.{fact.room}").log(
        logging.getLevelNamesMapping()[fact.severity.upper()],
        "%s %s",
        fact.sentence,
        " ".join(f"{name}={redact(str(value))}" for name, value in details.items()),
    )
