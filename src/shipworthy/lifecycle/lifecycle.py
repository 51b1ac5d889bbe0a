"""The shell around the decisions: it calls the hooks, asks the checks and keeps the times."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Annotated, Any

from shipworthy.clock import SYSTEM_CLOCK, Clock
from shipworthy.errors import ComponentFailed, Misuse, SettingsInvalid, StartFailed
from shipworthy.events import Event, Label, Measure, Severity, emit, event
from shipworthy.lifecycle.checks import Check, CheckStatus, Kind, check_of
from shipworthy.lifecycle.components import (
    Component,
    ComponentStarted,
    ComponentStopFailed,
    ComponentStopped,
    Hook,
    levels,
    share,
)
from shipworthy.lifecycle.drain import Drain, DrainFacts, Phase
from shipworthy.lifecycle.health import Answer, CheckReport, ComponentReport, HealthReport
from shipworthy.lifecycle.hooks import UNWIND_SECONDS, attempt, explain, leave_behind, where
from shipworthy.lifecycle.process import (
    DrainHookFailed,
    begin_life,
    call_drain_hook,
    end_life,
    leave_life,
)
from shipworthy.lifecycle.report import HookReport
from shipworthy.lifecycle.settings import LifecycleSettings
from shipworthy.lifecycle.watch import Watch
from shipworthy.lifecycle.work import Work, Works

# How often is looked whether background work is over; far below any bound of it.
_LOOK_SECONDS = 0.01


@event(severity=Severity.INFO)
class PhaseChanged(Event):
    """The process has entered another phase of its life."""

    before: Annotated[str, Label]
    after: Annotated[str, Label]
    before_seconds: Annotated[float, Measure]


@dataclass(frozen=True, slots=True, kw_only=True)
class StopReport:
    """How the stop went: every hook in the order in which they were called."""

    hooks: tuple[HookReport, ...]
    took_seconds: float

    @property
    def left_behind(self) -> tuple[HookReport, ...]:
        """Return the hooks that failed or did not finish; each says the line it stands in."""
        return tuple(hook for hook in self.hooks if hook.because)

    @property
    def clean(self) -> bool:
        """Say whether everything stopped as it should."""
        return not self.left_behind

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON can carry it."""
        return {**asdict(self), "clean": self.clean}


class Lifecycle:
    """The life of one process: start what it is made of, know how it is, leave in order.

    `draining` is a plain attribute, read on every request. `draining`, `phase`, `live()`,
    `ready()`, `startup()` and `health()` may be read from any thread and wait for nothing; all
    else belongs to the thread of the event loop. Raises `SettingsInvalid` for times that cannot
    be kept.
    """

    def __init__(self, settings: LifecycleSettings, *, clock: Clock = SYSTEM_CLOCK) -> None:
        problems = settings.rule.problems()
        if problems:
            raise SettingsInvalid(problems)
        self.settings = settings
        self.drain = Drain(settings.rule, clock.now())
        self.draining = False
        self.works = Works(now=clock.now)
        self._clock = clock
        self._components: dict[str, Component] = {}
        self._order: list[tuple[Component, ...]] | None = None
        self._up: dict[str, Component] = {}
        self._start_took_seconds: dict[str, float] = {}
        self._starting: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Lock()
        self._watches: dict[str, Watch] = {}
        self._watching: list[asyncio.Task[None]] = []
        self._watch_new = False
        self._drain_hooks: list[Callable[[], object]] = []
        # Those that came after the start, each until it is called.
        self._late_drain_hooks: list[Callable[[], object]] = []
        self._drains: dict[str, asyncio.Task[None]] = {}
        self._announced = 1
        self._started_once = False
        self._others_go_on = False
        self._stop: asyncio.Task[StopReport] | None = None
        # Background work that did not end though it was cancelled; it is named once.
        self._left: set[Work] = set()
        self._within: list[Lifecycle] = []
        self._is_within = False

    @property
    def phase(self) -> Phase:
        """Return the present phase."""
        return self.drain.phase

    def was_in(self, phase: Phase) -> bool:
        """Say whether it is, or was, in this very phase."""
        return any(entered is phase for entered, _ in self.drain.transitions)

    @property
    def components(self) -> tuple[str, ...]:
        """Return the names of the components, in the order they were added."""
        return tuple(self._components)

    def add(self, component: Component) -> None:
        """Add a component, before the start; raises `Misuse` for a name that is taken."""
        if component.name in self._components:
            raise Misuse(f"component '{component.name}' is added twice; names are unique")
        if self._order is not None:
            raise Misuse(f"component '{component.name}' is added after the start; add it before")
        self._components[component.name] = component

    def add_check(self, check: Check) -> None:
        """Add a health check, at any time; raises `Misuse` for a name that is taken."""
        if check.name in self._watches:
            raise Misuse(f"health check '{check.name}' is added twice; names are unique")
        self._watches[check.name] = Watch(check, self._clock)
        if self._watch_new:
            self._begin_to_watch(self._watches[check.name])

    def renewed(self, settings: LifecycleSettings) -> "Lifecycle":
        """Return a life that has yet to start, with the components, checks and drain hooks of this.

        Of the drain hooks those that were there before the start: the start-up adds its own anew.
        For who lives more than once in one process: test clients start and stop an application
        for each test. Until then what this life has cancelled is refused each COMMIT: a thread of
        it may go on when all is stopped.
        """
        self.works.forget()
        fresh = Lifecycle(settings, clock=self._clock)
        for component in self._components.values():
            fresh.add(component)
        for name, watch in self._watches.items():
            if name != self.settings.ready_check:  # start() adds it
                fresh.add_check(watch.check)
        fresh._drain_hooks = [*self._drain_hooks]
        return fresh

    def take_in(self, other: "Lifecycle") -> None:
        """Count the checks of `other` as ours from now on, and let it begin to leave when we do.

        For an application that has a life of its own within ours. It is started and stopped by
        whoever made it, states no phases, and does not add `ready_check`, which we have too. To be
        called before it starts.
        """
        other._is_within = True  # noqa: SLF001 - the same class
        self._within.append(other)
        if self.draining:
            other.begin_drain()

    def on_drain(self, callback: Callable[[], object]) -> None:
        """Call `callback` once when the drain begins, or now if it has begun.

        It runs in the event loop and must not block; one that is async is background work from then
        on. What it raises is stated as an event. From any thread.
        """
        if self._order is None and not self.draining:
            self._drain_hooks.append(callback)
            return
        self._late_drain_hooks.append(callback)
        # Looked at last, for the drain may begin meanwhile: whoever takes it out calls it.
        if self.draining:
            with contextlib.suppress(ValueError):
                self._late_drain_hooks.remove(callback)
                call_drain_hook(callback)

    async def start(self) -> None:
        """Start the components level by level, those of one level side by side.

        If one fails or is late, or the process is told to leave meanwhile, what is up is stopped
        in reverse and `ComponentFailed` or `StartFailed` raised. Afterwards the checks are asked
        in the background. The phase stays STARTING until `started()`.
        """
        if self._order is not None:
            raise Misuse("a lifecycle is started twice; make a new one for each run of the service")
        if self.settings.ready_check and not self._is_within:
            self.add_check(
                check_of(
                    self.settings.ready_check,
                    interval_seconds=self.settings.check_interval_seconds,
                    timeout_seconds=self.settings.check_timeout_seconds,
                )
            )
        self._order = levels(self._components.values())
        by = self._clock.now() + self.settings.start_seconds
        if not self._is_within:
            begin_life(self)
        try:
            for level in self._order:
                await self._start_level(level, by=by)
        except BaseException:
            # Also when this task is cancelled: what was started is stopped, within its time.
            by = self._clock.now() + self.settings.stop_seconds
            await self._end_works(seconds=0.0)
            await self._stop_components(by=by)
            end_life(self)
            raise
        self._watch_new = True
        for watch in self._watches.values():
            self._begin_to_watch(watch)

    def started(self) -> None:
        """Note that the service is up: STARTING becomes READY, unless it was told to leave."""
        self.drain.started(self._clock.now())
        self._announce()

    def begin_drain(self, *, lame_duck: bool = True) -> None:
        """Begin to leave: not ready from now on, and every drain hook is called; once.

        Without `lame_duck` the process goes on to DRAINING at once, see `Drain.begin`. A second
        call changes only what `address_ready` says: the others may leave as well.
        """
        self._others_go_on = not lame_duck
        self.drain.begin(self._clock.now(), lame_duck=lame_duck)
        self._announce()

    def escalate(self) -> None:
        """Leave in more of a hurry, by one stage: what each further SIGTERM means."""
        self.drain.escalate(self._clock.now())
        self._announce()

    def advance(self, facts: DrainFacts) -> Phase:
        """Enter the next phase if it is time, and return the phase; call it every 50 ms or so.

        Components that are not done with their drain hook count as in flight, and so does
        background work, which is cancelled when its time is over.
        """
        if self.phase is Phase.CANCELLING:
            self.works.cancel(spared=self._component_tasks())
        else:
            self.works.cancel_late(spared=self._component_tasks())
        under_way = self._drains_under_way() + len(self.works)
        self.drain.advance(replace(facts, in_flight=facts.in_flight + under_way), self._clock.now())
        self._announce()
        return self.phase

    def drains_under_way(self) -> list[tuple[str, str]]:
        """Return the components that are not done with their drain, each with its line."""
        found = [(name, where(task)) for name, task in self._drains.items() if not task.done()]
        for other in self._within:
            found += other.drains_under_way()
        return found

    async def stop(self) -> StopReport:
        """Stop every component, in the reverse of the start, each within its time and the rest.

        Never raises because of a hook and never waits for one beyond its time: it is left behind
        and named in the report with the line it stands in. A second call gets the same report.
        Stopping without a drain before it (another server ended the traffic) begins one first.
        """
        if self._stop is None:
            self._stop = asyncio.create_task(self._stop_all())
        return await asyncio.shield(self._stop)

    def live(self) -> Answer:
        """Say whether this process is worth keeping; leaving is no reason to be killed early."""
        return self._judged("live", while_unknown=True)

    def ready(self) -> Answer:
        """Say whether this process wants requests."""
        if self.draining:
            return Answer(ok=False, because="draining")
        return self._wants_requests()

    def address_ready(self) -> Answer:
        """Say whether the address that this process answers at wants requests.

        Where others go on there (`begin_drain` without lame duck) that one leaves is no reason to
        send none: a probe that met it while it left would take the whole service out.
        """
        return self._wants_requests() if self._others_go_on else self.ready()

    def _wants_requests(self) -> Answer:
        startup = self.startup()
        return self._judged("ready", while_unknown=False) if startup.ok else startup

    def startup(self) -> Answer:
        """Say whether this process has come up; once it has, that stays so."""
        if self._started_once:
            return Answer(ok=True)
        if not self.was_in(Phase.READY):
            return Answer(ok=False, because="draining" if self.draining else "starting")
        answer = self._judged("started", while_unknown=False)
        self._started_once = answer.ok
        return answer

    def health(self) -> HealthReport:
        """Return all that is known, from what was answered last."""
        now = self._clock.now()
        began_wall = self._clock.wall() - now
        return HealthReport(
            phase=self.phase,
            since=began_wall + self.drain.since,
            transitions=tuple((phase, began_wall + at) for phase, at in self.drain.transitions),
            live=self.live(),
            ready=self.ready(),
            startup=self.startup(),
            checks=tuple(_report(watch, now) for watch in self._all_watches()),
            components=tuple(
                ComponentReport(
                    name=component.name,
                    requires=component.requires,
                    up=component.name in self._up,
                    start_took_seconds=self._start_took_seconds.get(component.name),
                )
                for component in self._components.values()
            ),
        )

    def _drains_under_way(self) -> int:
        count = sum(not task.done() for task in self._drains.values())
        return count + sum(other._drains_under_way() for other in self._within)  # noqa: SLF001

    def _all_watches(self) -> list[Watch]:
        found = list(self._watches.values())
        for other in tuple(self._within):
            found += other._all_watches()  # noqa: SLF001 - the same class
        return found

    async def _start_level(self, level: tuple[Component, ...], *, by: float) -> None:
        if not self.draining:
            self._starting = [
                asyncio.create_task(self._start_one(component, by=by)) for component in level
            ]
            try:
                await asyncio.wait(self._starting, return_when=asyncio.FIRST_EXCEPTION)
            finally:
                await leave_behind(*self._starting)
        if self.draining:
            raise StartFailed("the process was told to leave before it had started")
        for task in self._starting:
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error

    async def _start_one(self, component: Component, *, by: float) -> None:
        left_seconds = by - self._clock.now()
        seconds = min(component.start_seconds, left_seconds)
        outcome = await attempt(
            partial(self._bring_up, component),
            seconds=seconds,
            clock=self._clock,
            looked_at=component.task,
        )
        if outcome.because:
            because = outcome.because
            if outcome.late and left_seconds <= component.start_seconds:
                because += f"; lifecycle.start gives {self.settings.start_seconds:g}s to all"
            raise ComponentFailed(component.name, because, seconds=seconds) from outcome.error

    async def _bring_up(self, component: Component) -> None:
        began = self._clock.now()
        if component.start is not None:
            await component.start()
        # Noted in the task of the hook itself: whatever became of those who wait for it, what is
        # up is known and will be stopped.
        self._up[component.name] = component
        took_seconds = self._clock.now() - began
        self._start_took_seconds[component.name] = took_seconds
        emit(ComponentStarted, component=component.name, took_seconds=took_seconds)

    async def _stop_all(self) -> StopReport:
        began = self._clock.now()
        drained = self.draining
        self.drain.stopping(began)
        self._announce()
        by = self.drain.stop_by
        # A check that asks a pool which is being closed would only tell lies.
        self._watch_new = False
        await self._hear_out(seconds=(by - began) / 2)
        await leave_behind(*self._watching)
        # With a drain before it, the drain hooks have had their time in it.
        hooks = await self._end_drains(seconds=0.0 if drained else (by - self._clock.now()) / 2)
        # And so has background work, which may use what the components are.
        hooks += await self._end_works(seconds=0.0 if drained else (by - self._clock.now()) / 2)
        hooks += await self._stop_components(by=by)
        # Begun by a hook of the stop, or by work as it unwound.
        hooks += await self._end_works(seconds=by - self._clock.now())
        end_life(self)
        ended = self._clock.now()
        self.drain.stopped(ended)
        self._announce()
        return StopReport(hooks=tuple(hooks), took_seconds=ended - began)

    async def _hear_out(self, *, seconds: float) -> None:
        """Wait for the checks that are asking, each within its time.

        What one of them runs in a thread cannot be called off, and would go on using a connection
        that is closed meanwhile: with sqlite3 that ends the process (seen once, at Ctrl-C).
        """
        asking = [asked for watch in self._watches.values() if (asked := watch.asking())]
        if asking:
            longest = max(left_seconds for _, left_seconds in asking)
            await asyncio.wait([call for call, _ in asking], timeout=min(seconds, longest))

    async def _end_drains(self, *, seconds: float) -> list[HookReport]:
        pending = {name: task for name, task in self._drains.items() if not task.done()}
        if not pending:
            return []
        began = self._clock.now()
        await asyncio.wait(pending.values(), timeout=seconds)
        late = {name: where(task) for name, task in pending.items() if not task.done()}
        await leave_behind(*pending.values())
        took_seconds = self._clock.now() - began
        reports = []
        for name, stands in late.items():
            because = f"its drain was not done and stands at {stands}"
            emit(DrainHookFailed, hook=name, because=because)
            reports.append(HookReport(name=name, took_seconds=took_seconds, because=because))
        return reports

    async def _end_works(self, *, seconds: float) -> list[HookReport]:
        """Wait for background work, cancel it after `seconds`, and name what does not end then."""
        works, known = self.works, self._left
        if works.ended(but=known):
            return []
        began = self._clock.now()
        await _until(lambda: works.ended(but=known), max(0.0, seconds))
        works.cancel(spared=self._component_tasks())
        await _until(lambda: works.ended(but=known), UNWIND_SECONDS)
        took_seconds = self._clock.now() - began
        left = works.under_way(but=known)
        known.update(left)
        return [
            HookReport(
                name=f"background {work.name}",
                took_seconds=took_seconds,
                because=f"it was not done and stands at {work.stands()}",
            )
            for work in left
        ]

    def _component_tasks(self) -> set[asyncio.Task[Any] | None]:
        """Return the tasks that components live in: they are ended by the stop."""
        return {component.task() for component in self._components.values() if component.task}

    async def _stop_components(self, *, by: float) -> list[HookReport]:
        reports: list[HookReport] = []
        # A start that is called off stops what it had started, while stop() may be called too:
        # one after the other, or the order would be lost.
        async with self._stopping:
            ahead = [
                [component for component in level if component.name in self._up]
                for level in reversed(self._order or ())
            ]
            while ahead:
                level = ahead.pop(0)
                later_seconds = [_stop_seconds(later) for later in ahead]
                left_seconds = by - self._clock.now()
                reports += await asyncio.gather(
                    *(
                        self._stop_one(
                            component,
                            seconds=share(
                                component.stop_seconds,
                                left_seconds=left_seconds,
                                later_seconds=later_seconds,
                            ),
                        )
                        for component in level
                    )
                )
                # What a stop has begun, the last mail of an application's shutdown, may use what
                # the levels after it are.
                left_seconds = by - self._clock.now()
                reports += await self._end_works(
                    seconds=share(
                        left_seconds, left_seconds=left_seconds, later_seconds=later_seconds
                    )
                )
        return reports

    async def _stop_one(self, component: Component, *, seconds: float) -> HookReport:
        del self._up[component.name]
        if component.stop is None:
            return HookReport(name=component.name, took_seconds=0.0, because="")
        outcome = await attempt(
            component.stop, seconds=seconds, clock=self._clock, looked_at=component.task
        )
        if outcome.because:
            emit(
                ComponentStopFailed,
                component=component.name,
                took_seconds=outcome.took_seconds,
                because=outcome.because,
            )
        else:
            emit(ComponentStopped, component=component.name, took_seconds=outcome.took_seconds)
        return HookReport(
            name=component.name, took_seconds=outcome.took_seconds, because=outcome.because
        )

    def _announce(self) -> None:
        """Say and do what comes with the phases entered since the last call."""
        fresh = self.drain.transitions[self._announced - 1 :]
        self._announced = len(self.drain.transitions)
        begun = self.phase.leaving and not self.draining
        self.draining = self.phase.leaving
        for (before, since), (after, at) in pairwise(fresh):
            if not self._is_within:
                emit(
                    PhaseChanged, before=before.value, after=after.value, before_seconds=at - since
                )
            if after is Phase.CANCELLING:
                # Not at once: a hook called a moment ago gets its first step before it.
                for task in self._drains.values():
                    task.get_loop().call_soon(task.cancel)
        if begun:
            self.works.leave()
            self._begin_to_leave()
            leave_life(self)

    def _begin_to_leave(self) -> None:
        for task in self._starting:
            task.cancel()
        for component in self._up.values():
            if component.drain is not None:
                self._drains[component.name] = asyncio.create_task(
                    _drain(component.name, component.drain)
                )
        for callback in self._drain_hooks:
            call_drain_hook(callback)
        with contextlib.suppress(IndexError):  # until there are none
            while True:
                call_drain_hook(self._late_drain_hooks.pop(0))
        for other in self._within:
            other.begin_drain()

    def _begin_to_watch(self, watch: Watch) -> None:
        self._watching.append(asyncio.create_task(watch.run()))

    def _judged(self, kind: Kind, *, while_unknown: bool) -> Answer:
        for watch in self._all_watches():
            if kind not in watch.check.kinds:
                continue
            if watch.standing.status is CheckStatus.FAIL:
                return Answer(
                    ok=False, because=f"check '{watch.check.name}' fails: {watch.standing.because}"
                )
            if watch.standing.status is CheckStatus.UNKNOWN and not while_unknown:
                return Answer(ok=False, because=f"check '{watch.check.name}' has not answered yet")
        return Answer(ok=True)


async def _drain(name: str, hook: Hook) -> None:
    try:
        await hook()
    except Exception as error:  # noqa: BLE001 - stated as an event; the drain must go on
        emit(DrainHookFailed, hook=name, because=explain(error))


async def _until(condition: Callable[[], bool], seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - threads have work too
                await asyncio.sleep(_LOOK_SECONDS)


def _stop_seconds(level: list[Component]) -> float:
    return max((c.stop_seconds for c in level if c.stop is not None), default=0.0)


def _report(watch: Watch, now: float) -> CheckReport:
    check, standing = watch.check, watch.standing
    answered_at = standing.answered_at
    return CheckReport(
        name=check.name,
        kinds=tuple(sorted(check.kinds)),
        status=standing.status,
        status_seconds=now - standing.since,
        age_seconds=None if answered_at is None else now - answered_at,
        took_seconds=standing.took_seconds,
        output=standing.because,
    )
