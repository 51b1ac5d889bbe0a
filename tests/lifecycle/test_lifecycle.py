"""A process is started in order, knows how it is, and leaves in order, whatever its parts do."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from shipworthy.clock import ManualClock
from shipworthy.errors import ComponentFailed, Misuse, SettingsInvalid, StartFailed
from shipworthy.lifecycle import (
    Answer,
    Check,
    CheckStatus,
    Component,
    ComponentStarted,
    ComponentStopFailed,
    ComponentStopped,
    DrainFacts,
    DrainHookFailed,
    Lifecycle,
    LifecycleSettings,
    Phase,
    PhaseChanged,
)

HERE = str(Path(__file__).relative_to(Path.cwd()))
EMPTY = DrainFacts(in_flight=0, idle_connections=0, quiet_seconds=60.0)
BUSY = DrainFacts(in_flight=1, idle_connections=0, quiet_seconds=0.0)

pytestmark = pytest.mark.anyio


def lifecycle(*components: Component, **times: Any) -> Lifecycle:
    made = Lifecycle(LifecycleSettings(**times))
    for component in components:
        made.add(component)
    return made


class Diary:
    """Components that write down what is done to them, and in what order."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str, after: Callable[[], Awaitable[object]] | None = None) -> Any:
        async def hook() -> None:
            self.lines.append(line)
            if after is not None:
                await after()
                self.lines.append(f"{line}, done")

        return hook

    def component(self, name: str, *requires: str, **more: Any) -> Component:
        return Component(
            name,
            **{
                "start": self.note(f"start {name}"),
                "stop": self.note(f"stop {name}"),
                "requires": requires,
                **more,
            },
        )


async def hang() -> None:
    await asyncio.Event().wait()  # it hangs here


def line_of(text: str) -> int:
    """Return the number of the one line of this file that ends with the comment `text`."""
    lines = Path(__file__).read_text().splitlines()
    (number,) = [n for n, line in enumerate(lines, start=1) if line.endswith(f"# {text}")]
    return number


HANGS_AT = f"{HERE}:{line_of('it hangs here')} in hang"


DEAF_AT = f"{HERE}:{line_of('it is deaf here')} in __call__"


class Deaf:
    """A hook that swallows every cancellation until it is let go."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.ended = False

    async def __call__(self) -> None:
        while not self.let_go.is_set():
            try:
                await self.let_go.wait()  # it is deaf here
            except asyncio.CancelledError:
                continue
        self.ended = True

    async def release(self) -> None:
        self.let_go.set()
        while not self.ended:
            await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Wait until it holds; a test that waits in vain fails after five seconds."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


# Starting


async def test_components_start_in_the_order_of_their_requirements(heard: Any) -> None:
    """What is required is up before; each start is an event; READY is not ours to say."""
    diary, facts = Diary(), heard(ComponentStarted)
    life = lifecycle(
        diary.component("app", "db", "cache"),
        diary.component("db"),
        diary.component("cache", "db", start=None),
    )

    await life.start()

    assert diary.lines == ["start db", "start app"]
    assert [fact.component for fact in facts] == ["db", "cache", "app"]
    assert life.phase is Phase.STARTING
    await life.stop()


async def test_components_of_one_level_start_side_by_side() -> None:
    """Two that wait for each other's first step both get up."""
    meeting = asyncio.Barrier(2)

    async def meet() -> None:
        async with asyncio.timeout(5):
            await meeting.wait()

    life = lifecycle(Component("one", meet), Component("two", meet))

    await life.start()

    assert [component.up for component in life.health().components] == [True, True]
    await life.stop()


async def test_a_failed_start_stops_what_is_up_in_reverse() -> None:
    """The failed one is not stopped, later levels are not started, and the error says why."""
    diary = Diary()

    async def fail() -> None:
        raise OSError("no route to postgresql://app:hunter2@db/orders")

    life = lifecycle(
        diary.component("settings"),
        diary.component("cache", "settings"),
        diary.component("db", "cache", start=fail),
        diary.component("app", "db"),
    )

    with pytest.raises(ComponentFailed) as failed:
        await life.start()

    assert diary.lines == ["start settings", "start cache", "stop cache", "stop settings"]
    assert failed.value.name == "db"
    assert failed.value.because.startswith("OSError: no route to postgresql://app:")
    assert "hunter2" not in str(failed.value)
    assert isinstance(failed.value.__cause__, OSError)
    assert not any(component.up for component in life.health().components)


async def test_a_failure_calls_off_the_others_of_its_level() -> None:
    """A sibling that is still starting is cancelled; one that is up already is stopped."""
    diary = Diary()

    async def fail() -> None:
        await asyncio.sleep(0.01)
        raise OSError("away")

    life = lifecycle(
        diary.component("quick"),
        diary.component("failing", start=fail),
        diary.component("slow", start=diary.note("start slow", hang)),
    )

    with pytest.raises(ComponentFailed, match="failing"):
        await life.start()

    assert diary.lines == ["start quick", "start slow", "stop quick"]


async def test_a_start_that_hangs_fails_after_its_time_and_names_its_line() -> None:
    """The message has the seconds, and the line the component stands in."""
    diary = Diary()
    life = lifecycle(
        diary.component("db"), diary.component("app", "db", start=hang, start_seconds=0.04)
    )

    with pytest.raises(ComponentFailed) as failed:
        await life.start()

    assert str(failed.value) == (
        f"component 'app' did not start: it was not done after 0.0 s and stands at {HANGS_AT}"
    )
    assert failed.value.seconds == 0.04
    assert diary.lines == ["start db", "stop db"]


async def test_the_whole_start_has_a_time_too() -> None:
    """A component with more time than is left fails when that is over, and the setting is named."""
    life = lifecycle(Component("app", hang, start_seconds=30.0), start_seconds=0.04)

    with pytest.raises(ComponentFailed, match=r"; lifecycle\.start gives 0\.04s to all$"):
        await life.start()


async def test_a_start_that_swallows_its_cancellation_is_left_behind() -> None:
    """The process goes on to report the failure."""
    deaf = Deaf()
    life = lifecycle(Component("app", deaf, start_seconds=0.02))

    async with asyncio.timeout(5):
        with pytest.raises(ComponentFailed, match="in __call__"):
            await life.start()

    assert not deaf.ended
    await deaf.release()


async def test_a_signal_during_the_start_calls_it_off(heard: Any) -> None:
    """SIGTERM while something hangs: what is up is stopped in reverse, at once."""
    diary, phases = Diary(), heard(PhaseChanged)
    life = lifecycle(
        diary.component("db"),
        diary.component("app", "db", start=diary.note("start app", hang)),
        diary.component("late", "app"),
    )
    starting = asyncio.create_task(life.start())
    await until(lambda: "start app" in diary.lines)

    life.begin_drain()
    async with asyncio.timeout(5):
        with pytest.raises(StartFailed, match="told to leave before it had started"):
            await starting
    report = await life.stop()

    assert diary.lines == ["start db", "start app", "stop db"]
    assert [(fact.before, fact.after) for fact in phases] == [
        ("starting", "stopping"),
        ("stopping", "stopped"),
    ]
    assert report.clean
    assert report.hooks == ()


async def test_a_signal_before_the_start_starts_nothing() -> None:
    """Told to leave before the first component: none of them is touched."""
    diary = Diary()
    life = lifecycle(diary.component("db"))
    life.begin_drain()

    with pytest.raises(StartFailed, match="told to leave"):
        await life.start()

    assert diary.lines == []


async def test_a_start_that_is_cancelled_stops_what_was_up() -> None:
    """Also when the server around us gives up on the start."""
    diary = Diary()
    life = lifecycle(diary.component("db"), diary.component("app", "db", start=hang))
    starting = asyncio.create_task(life.start())
    await until(lambda: life.health().components[0].up)
    await asyncio.sleep(0)

    starting.cancel()
    await asyncio.wait({starting})

    assert starting.cancelled()
    assert diary.lines == ["start db", "stop db"]


async def test_stopping_during_the_start_keeps_the_order() -> None:
    """The roll-back and the stop do not run into each other, and each hook is called once."""
    diary = Diary()

    async def slow() -> None:
        await asyncio.sleep(0.02)

    life = lifecycle(
        diary.component("db"),
        diary.component("cache", "db", stop=diary.note("stop cache", slow)),
        diary.component("app", "cache", start=diary.note("start app", hang)),
    )
    starting = asyncio.create_task(life.start())
    await until(lambda: "start app" in diary.lines)

    await life.stop()
    await asyncio.wait({starting})

    assert isinstance(starting.exception(), StartFailed)
    assert diary.lines == [
        "start db",
        "start cache",
        "start app",
        "stop cache",
        "stop cache, done",
        "stop db",
    ]


async def test_impossible_requirements_start_nothing() -> None:
    """The mistake is found before the first hook is called."""
    diary = Diary()
    life = lifecycle(diary.component("db"), diary.component("app", "bd"))

    with pytest.raises(ComponentFailed, match="requires 'bd'"):
        await life.start()

    assert diary.lines == []


async def test_impossible_times_are_refused_before_anything_is_made() -> None:
    """Grace against drain times is checked at the start, with the numbers."""
    with pytest.raises(SettingsInvalid, match=r"grace is 5s.*make 23s; raise grace to 23s"):
        lifecycle(grace_seconds=5.0)


async def test_a_name_is_given_once_and_in_time() -> None:
    """Two of one name, a component after the start and a second start are mistakes of ours."""
    life = lifecycle(Component("db"))
    life.add_check(Check("db", hang))

    with pytest.raises(Misuse, match="component 'db' is added twice"):
        life.add(Component("db"))
    with pytest.raises(Misuse, match="health check 'db' is added twice"):
        life.add_check(Check("db", hang))
    await life.start()
    with pytest.raises(Misuse, match="added after the start"):
        life.add(Component("cache"))
    with pytest.raises(Misuse, match="started twice"):
        await life.start()
    await life.stop()


# Stopping


async def test_stopping_is_the_reverse_of_starting(heard: Any) -> None:
    """Side by side where the start was, one level after the other, each with its event."""
    diary, facts = Diary(), heard(ComponentStopped)
    life = lifecycle(
        diary.component("db"),
        diary.component("app", "db", "cache"),
        diary.component("cache"),
        diary.component("quiet", "app", stop=None),
    )
    await life.start()
    diary.lines.clear()

    report = await life.stop()

    assert diary.lines == ["stop app", "stop db", "stop cache"]
    assert [hook.name for hook in report.hooks] == ["quiet", "app", "db", "cache"]
    assert [fact.component for fact in facts] == ["app", "db", "cache"]
    assert report.clean
    assert life.phase is Phase.STOPPED


@pytest.mark.parametrize("kind", ["hangs", "swallows its cancellation", "raises"])
async def test_a_stop_that_does_not_work_is_named_and_the_others_still_stop(
    kind: str, heard: Any
) -> None:
    """Never waits beyond the time, never raises, and says which line held it up."""
    diary, facts, deaf = Diary(), heard(ComponentStopFailed), Deaf()

    async def fail() -> None:
        raise OSError("cannot flush")

    stop, because = {
        "hangs": (hang, f"it was not done after 0.0 s and stands at {HANGS_AT}"),
        "swallows its cancellation": (
            deaf,
            f"it was not done after 0.0 s and stands at {DEAF_AT}",
        ),
        "raises": (fail, "OSError: cannot flush"),
    }[kind]
    life = lifecycle(
        diary.component("db"),
        diary.component("app", "db", stop=stop, stop_seconds=0.04),
        diary.component("consumer", "app"),
    )
    await life.start()
    life.started()

    async with asyncio.timeout(5):
        report = await life.stop()

    assert diary.lines[-2:] == ["stop consumer", "stop db"]
    assert [(hook.name, hook.because) for hook in report.left_behind] == [("app", because)]
    assert not report.clean
    assert [(fact.component, fact.because) for fact in facts] == [("app", because)]
    assert life.phase is Phase.STOPPED
    assert report.to_dict()["clean"] is False
    assert report.to_dict()["hooks"][1]["because"] == because
    if kind == "swallows its cancellation":
        await deaf.release()


async def test_one_that_hangs_cannot_eat_the_time_of_those_after_it() -> None:
    """With 0.3 s for three that each want 5, the first gets a third and the others theirs."""
    diary = Diary()
    life = lifecycle(
        diary.component("db"),
        diary.component("cache", "db", stop=diary.note("stop cache", hang)),
        diary.component("app", "cache", stop=hang),
        stop_seconds=0.3,
    )
    await life.start()
    life.started()

    report = await life.stop()

    assert [bool(hook.because) for hook in report.hooks] == [True, True, False]
    assert diary.lines[-2:] == ["stop cache", "stop db"]
    assert report.hooks[0].because.startswith("it was not done after 0.1 s")


async def test_a_level_later_wants_as_much_as_its_slowest_component() -> None:
    """What is reserved for a level is not the time of whoever is first or quickest in it."""
    life = lifecycle(
        Component("quick", stop=asyncio.Event().wait, stop_seconds=0.001),
        Component("slow", stop=Diary().note("stop slow"), stop_seconds=5.0),
        Component("app", stop=hang, requires=("quick", "slow")),
        stop_seconds=0.2,
    )
    await life.start()
    life.started()

    report = await life.stop()

    assert report.hooks[0].because.startswith("it was not done after 0.1 s")


async def test_a_second_stop_gets_the_same_report() -> None:
    """Two callers, one stop."""
    diary = Diary()
    life = lifecycle(diary.component("db"))
    await life.start()

    first, second = await asyncio.gather(life.stop(), life.stop())
    third = await life.stop()

    assert first is second is third
    assert diary.lines == ["start db", "stop db"]


async def test_a_caller_that_gives_up_does_not_undo_the_stop() -> None:
    """Stopping goes on when whoever waited for it was cancelled."""
    diary = Diary()
    life = lifecycle(diary.component("db", stop=diary.note("stop db", lambda: asyncio.sleep(0.02))))
    await life.start()
    waiting = asyncio.create_task(life.stop())
    await until(lambda: "stop db" in diary.lines)

    waiting.cancel()
    await asyncio.wait({waiting})
    report = await life.stop()

    assert waiting.cancelled()
    assert diary.lines[-1] == "stop db, done"
    assert report.clean


async def test_stopping_what_never_started_is_clean() -> None:
    """Nothing to stop, and the phase says so."""
    life = lifecycle(Component("db"))

    report = await life.stop()

    assert report.hooks == ()
    assert life.phase is Phase.STOPPED


async def test_a_component_that_only_waits_is_named_by_its_task() -> None:
    """The report shows the line of the work, not that of the hook that waits for it."""
    work = asyncio.create_task(hang())

    async def wait_elsewhere() -> None:
        await asyncio.Event().wait()

    life = lifecycle(Component("app", stop=wait_elsewhere, stop_seconds=0.03, task=lambda: work))
    await life.start()

    report = await life.stop()
    work.cancel()

    assert HANGS_AT in report.left_behind[0].because


# Draining


async def test_the_drain_calls_every_hook_at_once_and_once(heard: Any) -> None:
    """Component hooks side by side, callbacks at once, one that fails stops none; never again."""
    diary, failures, phases = Diary(), heard(DrainHookFailed), heard(PhaseChanged)
    meeting = asyncio.Barrier(2)

    async def meet() -> None:
        async with asyncio.timeout(5):
            await meeting.wait()

    async def fail() -> None:
        raise OSError("broker is away")

    def broken() -> None:
        raise ValueError("no such queue")

    life = lifecycle(
        diary.component("db"),
        diary.component("one", drain=diary.note("drain one", meet)),
        diary.component("two", drain=diary.note("drain two", meet)),
        diary.component("three", drain=fail),
    )
    life.on_drain(lambda: diary.lines.append("callback"))
    life.on_drain(broken)
    life.on_drain(lambda: diary.lines.append("callback after a broken one"))
    await life.start()
    life.started()
    diary.lines.clear()

    life.begin_drain()
    at_once = list(diary.lines)
    life.begin_drain()
    await until(lambda: len(diary.lines) == 6)
    life.escalate()
    await life.stop()

    assert at_once == ["callback", "callback after a broken one"]
    assert diary.lines[2:4] == ["drain one", "drain two"]
    assert set(diary.lines[4:6]) == {"drain one, done", "drain two, done"}
    assert diary.lines[6:] == ["stop db", "stop one", "stop two", "stop three"]
    assert [fact.because for fact in failures] == [
        "ValueError: no such queue",
        "OSError: broker is away",
    ]
    assert failures[0].hook.endswith("broken")
    assert failures[1].hook == "three"
    assert [fact.after for fact in phases][:3] == ["ready", "draining", "cancelling"]


async def test_two_signals_at_once_still_call_every_drain_hook() -> None:
    """The cancellation comes after the first step of the hook, not instead of it."""
    diary = Diary()
    life = lifecycle(diary.component("consumer", drain=diary.note("drain consumer", hang)))
    await life.start()
    life.started()

    life.escalate()
    life.escalate()
    await life.stop()

    assert diary.lines == ["start consumer", "drain consumer", "stop consumer"]


async def test_a_callback_that_comes_late_is_called_at_once() -> None:
    """Who registers while the process is leaving hears of it too."""
    called: list[str] = []
    life = lifecycle()
    life.begin_drain()

    life.on_drain(lambda: called.append("late"))

    assert called == ["late"]


async def test_readiness_fails_at_the_first_word() -> None:
    """`draining` and the answer are changed before the first hook runs."""
    seen: list[object] = []
    life = lifecycle()
    life.started()
    life.on_drain(lambda: seen.append((life.draining, life.ready())))
    before = (life.draining, life.ready())

    life.begin_drain()

    assert before == (False, Answer(ok=True))
    assert seen == [(True, Answer(ok=False, because="draining"))]


async def test_the_drain_waits_for_components_that_are_not_done() -> None:
    """A consumer that finishes its message counts as in flight."""
    finish = asyncio.Event()

    async def finish_message() -> None:
        await finish.wait()

    life = lifecycle(Component("consumer", drain=finish_message))
    await life.start()
    life.started()

    life.begin_drain()
    still = life.advance(EMPTY)
    finish.set()
    await asyncio.sleep(0.01)
    then = life.advance(EMPTY)

    assert (still, then) == (Phase.DRAINING, Phase.STOPPING)
    assert (await life.stop()).clean


async def test_the_end_of_the_lame_duck_cancels_nobody() -> None:
    """A drain hook goes on from one phase into the next until the time to drain is over."""
    clock, finish, diary = ManualClock(), asyncio.Event(), Diary()
    life = Lifecycle(LifecycleSettings(lame_duck_seconds=5.0), clock=clock)
    life.add(Component("consumer", drain=diary.note("drain", finish.wait)))
    await life.start()
    life.started()
    life.begin_drain()
    await asyncio.sleep(0)

    clock.advance(5.0)
    phase = life.advance(EMPTY)
    await asyncio.sleep(0.01)
    finish.set()
    await until(lambda: diary.lines == ["drain", "drain, done"])

    assert phase is Phase.DRAINING
    await life.stop()


async def test_cancelling_cancels_drain_hooks_too() -> None:
    """After the time to drain, whoever is not done is told once, and the stop is clean."""
    life = lifecycle(Component("consumer", drain=hang))
    await life.start()
    life.started()
    life.begin_drain()
    await asyncio.sleep(0)

    life.escalate()
    await asyncio.sleep(0.01)

    assert life.advance(EMPTY) is Phase.STOPPING
    assert (await life.stop()).clean


async def test_a_drain_hook_that_will_not_end_is_named_in_the_report(heard: Any) -> None:
    """It was cancelled, it did not care; the stop does not wait for it again."""
    deaf, failures = Deaf(), heard(DrainHookFailed)
    life = lifecycle(Component("consumer", drain=deaf))
    await life.start()
    life.started()
    life.begin_drain()
    await asyncio.sleep(0)
    life.escalate()

    report = await life.stop()

    because = f"its drain was not done and stands at {DEAF_AT}"
    assert [(hook.name, hook.because) for hook in report.left_behind] == [("consumer", because)]
    assert [(fact.hook, fact.because) for fact in failures] == [("consumer", because)]
    assert report.took_seconds < 1
    await deaf.release()


async def test_stopping_without_a_drain_still_gives_drain_hooks_their_time() -> None:
    """Under another server the shutdown is all we hear: the hooks run before the stops."""
    diary = Diary()
    life = lifecycle(
        diary.component("db", drain=diary.note("drain db", lambda: asyncio.sleep(0.02)))
    )
    await life.start()
    life.started()

    report = await life.stop()

    assert diary.lines == ["start db", "drain db", "drain db, done", "stop db"]
    assert report.clean


async def test_a_drain_hook_that_hangs_gets_half_of_the_stop_without_a_drain() -> None:
    """It is cancelled and may unwind before the stop of its component is called."""
    diary = Diary()

    async def drain() -> None:
        try:
            await hang()
        finally:
            diary.lines.append("drain unwound")

    life = lifecycle(diary.component("db", drain=drain), stop_seconds=0.1)
    await life.start()
    life.started()

    report = await life.stop()

    assert diary.lines == ["start db", "drain unwound", "stop db"]
    assert [(hook.name, hook.because) for hook in report.hooks] == [
        ("db", f"its drain was not done and stands at {HANGS_AT}"),
        ("db", ""),
    ]


async def test_every_phase_is_told_when_it_is_entered(heard: Any) -> None:
    """Not with the next one: whoever listens knows at once."""
    facts = heard(PhaseChanged)
    life = lifecycle()
    told = []

    for step in (life.started, life.begin_drain, lambda: life.advance(EMPTY)):
        step()
        told.append([fact.after for fact in facts])
    await life.stop()

    assert told == [
        ["ready"],
        ["ready", "draining"],
        ["ready", "draining", "stopping"],
    ]
    assert facts[-1].after == "stopped"


async def test_the_phases_follow_the_clock(heard: Any) -> None:
    """`advance` takes the time from the clock, and each phase says how long the one before was."""
    clock, facts = ManualClock(), heard(PhaseChanged)
    life = Lifecycle(LifecycleSettings(lame_duck_seconds=5.0), clock=clock)
    clock.advance(1.5)
    life.started()

    life.begin_drain()
    for _ in range(60):
        clock.advance(0.5)
        life.advance(BUSY)

    assert [(fact.after, fact.before_seconds) for fact in facts] == [
        ("ready", 1.5),
        ("lame_duck", 0.0),
        ("draining", 5.0),
        ("cancelling", 15.0),
        ("stopping", 2.0),
        ("forced", 8.0),
    ]
    assert life.draining


async def test_the_third_signal_forces() -> None:
    """Begin, cancel, force; nothing after that changes anything, not even the stop."""
    life = lifecycle()
    life.started()

    life.begin_drain()
    life.escalate()
    life.escalate()
    await life.stop()

    assert life.phase is Phase.FORCED


# Health


def check(name: str, said: list[str | None], **more: Any) -> Check:
    """A check whose present answer is the one item of `said`."""

    async def ask() -> str | None:
        return said[0]

    return Check(name, ask, **{"interval_seconds": 0.005, "fall": 1, **more})


async def test_a_process_is_ready_when_it_is_up_and_its_checks_pass() -> None:
    """Starting, not asked yet, well, failing, well again, leaving: each with its reason."""
    said: list[str | None] = [None]
    life = lifecycle()
    life.add_check(check("db", said))
    answers = [life.ready()]

    life.started()
    answers.append(life.ready())
    await life.start()
    await until(lambda: life.ready().ok)
    said[0] = "no free connection"
    await until(lambda: not life.ready().ok)
    answers.append(life.ready())
    said[0] = None
    await until(lambda: life.ready().ok)
    life.begin_drain()
    answers.append(life.ready())
    await life.stop()

    assert answers == [
        Answer(ok=False, because="starting"),
        Answer(ok=False, because="check 'db' has not answered yet"),
        Answer(ok=False, because="check 'db' fails: no free connection"),
        Answer(ok=False, because="draining"),
    ]


async def test_liveness_asks_no_dependency_and_survives_the_drain() -> None:
    """A failing readiness check, a start and a drain are no reasons to be killed."""
    life = lifecycle()
    life.add_check(check("db", ["away"]))
    alive = [life.live()]

    await life.start()
    life.started()
    await until(lambda: life.health().checks[0].status is CheckStatus.FAIL)
    alive.append(life.live())
    life.begin_drain()
    alive.append(life.live())
    await life.stop()
    alive.append(life.live())

    assert alive == [Answer(ok=True)] * 4


async def test_a_failing_liveness_check_asks_to_be_replaced() -> None:
    """Only a check of that kind; unknown is no reason."""
    life = lifecycle()
    life.add_check(check("lock", ["held for 60 s"], kinds=frozenset({"live"})))
    before = life.live()

    await life.start()
    await until(lambda: not life.live().ok)

    assert before.ok
    assert life.live() == Answer(ok=False, because="check 'lock' fails: held for 60 s")
    await life.stop()


async def test_the_start_is_over_once_and_for_all() -> None:
    """`started` checks hold back the first readiness; afterwards they do not matter."""
    said: list[str | None] = ["cache is cold"]
    life = lifecycle()
    life.add_check(check("warm", said, kinds=frozenset({"started"})))
    answers = [life.startup()]

    await life.start()
    life.started()
    answers.append(life.startup())
    await until(lambda: "cold" in life.startup().because)
    answers.append(life.ready())
    said[0] = None
    await until(lambda: life.startup().ok)
    said[0] = "cold again"
    await until(lambda: life.health().checks[0].status is CheckStatus.FAIL)
    answers += [life.startup(), life.ready()]
    await life.stop()

    assert answers == [
        Answer(ok=False, because="starting"),
        Answer(ok=False, because="check 'warm' has not answered yet"),
        Answer(ok=False, because="check 'warm' fails: cache is cold"),
        Answer(ok=True),
        Answer(ok=True),
    ]


async def test_a_process_told_to_leave_before_it_was_up_never_started() -> None:
    """The start-up probe does not turn good on the way out."""
    life = lifecycle()

    life.begin_drain()
    life.started()

    assert life.startup() == Answer(ok=False, because="draining")


async def test_answers_are_cached_and_wait_for_nothing() -> None:
    """A check that hangs delays no probe: they are plain calls without a loop to wait in."""
    life = lifecycle()
    life.add_check(Check("db", hang, timeout_seconds=0.02, interval_seconds=0.005))
    await life.start()
    life.started()
    await until(lambda: life.health().checks[0].status is CheckStatus.FAIL)

    answer = life.ready()

    assert answer.because.startswith("check 'db' fails: no answer after ")
    assert answer.because.endswith(f"; it stands at {HANGS_AT}")
    await life.stop()


async def test_a_check_may_come_after_the_start_and_is_not_asked_after_the_stop() -> None:
    """It is asked from then on; a check is no part of what is being taken down."""
    calls: list[bool] = []

    async def ask() -> None:
        calls.append(True)

    life = lifecycle()
    await life.start()

    life.add_check(Check("late", ask, interval_seconds=0.002))
    await until(lambda: len(calls) > 2)
    await life.stop()
    asked = len(calls)
    life.add_check(Check("later still", ask, interval_seconds=0.002))
    await asyncio.sleep(0.02)

    assert len(calls) == asked


async def test_a_function_of_the_app_joins_readiness_by_a_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`lifecycle.ready_check` names it; nothing else is to be done."""
    module = ModuleType("an_app_of_somebody")
    module.ready = lambda: "migrations are missing"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    life = lifecycle(ready_check="an_app_of_somebody:ready")

    await life.start()
    life.started()
    await until(lambda: "has not answered" not in life.ready().because)

    assert life.ready() == Answer(
        ok=False, because="check 'an_app_of_somebody:ready' fails: migrations are missing"
    )
    await life.stop()


async def test_a_function_that_does_not_exist_stops_the_start() -> None:
    """A protection that is misspelt is not silently off."""
    life = lifecycle(ready_check="an_app_of_nobody:ready")

    with pytest.raises(SettingsInvalid, match="an_app_of_nobody"):
        await life.start()


async def test_the_report_tells_ages_and_walls_by_the_clock() -> None:
    """Ages are lengths, `since` and the transitions are Unix seconds."""
    clock = ManualClock(now=50.0, wall=1_700_000_000.0)
    life = Lifecycle(LifecycleSettings(), clock=clock)

    async def start() -> None:
        clock.advance(0.25)

    life.add(Component("db", start))
    life.add_check(check("db", [None], interval_seconds=60.0))
    clock.advance(1.75)
    before = life.health()
    await life.start()
    life.started()
    await until(lambda: life.ready().ok)
    clock.advance(7.0)

    report = life.health()
    await life.stop()

    assert before.checks[0].age_seconds is None
    assert before.components[0].start_took_seconds is None
    assert report.phase is Phase.READY
    assert report.since == 1_700_000_002.0
    assert report.transitions == (
        (Phase.STARTING, 1_700_000_000.0),
        (Phase.READY, 1_700_000_002.0),
    )
    assert (report.live.ok, report.ready.ok, report.startup.ok) == (True, True, True)
    assert report.checks[0].status is CheckStatus.PASS
    assert (report.checks[0].age_seconds, report.checks[0].status_seconds) == (7.0, 7.0)
    assert (report.components[0].up, report.components[0].start_took_seconds) == (True, 0.25)


async def test_a_renewed_life_starts_again_with_the_same_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Components, checks and hooks are called again; phase, standings and old tasks are not kept.

    The check that the settings name is added by each start, and so not carried over twice.
    """
    module = ModuleType("an_app_of_somebody")
    module.ready = lambda: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    diary = Diary()
    first = lifecycle(diary.component("db"), ready_check="an_app_of_somebody:ready")
    first.add_check(check("lag", [None]))
    first.on_drain(lambda: diary.lines.append("drain hook"))
    await first.start()
    first.started()
    await first.stop()
    once = list(diary.lines)
    diary.lines.clear()

    second = first.renewed(LifecycleSettings(ready_check="an_app_of_somebody:ready"))
    before = (second.phase, second.draining, [c.up for c in second.health().components])
    await second.start()
    second.started()
    await until(lambda: second.ready().ok)
    names = [reported.name for reported in second.health().checks]
    await second.stop()

    assert once == ["start db", "drain hook", "stop db"]
    assert before == (Phase.STARTING, False, [False])
    assert names == ["lag", "an_app_of_somebody:ready"]
    assert diary.lines == once
    assert first.phase is Phase.STOPPED


# A life within another


async def test_a_life_within_begins_to_leave_with_the_one_around_it(
    heard: Callable[..., list[Any]],
) -> None:
    """Its drain hooks are called; its phases are not stated, as they would be a second time."""
    diary = Diary()
    inner = lifecycle(diary.component("pool", drain=diary.note("drain pool")))
    outer = lifecycle(diary.component("broker"))
    stated = heard(PhaseChanged)
    await outer.start()
    outer.take_in(inner)
    await inner.start()
    inner.started()
    outer.started()

    outer.begin_drain()
    await asyncio.sleep(0)
    await inner.stop()
    await outer.stop()

    assert inner.phase is Phase.STOPPED
    assert diary.lines == ["start broker", "start pool", "drain pool", "stop pool", "stop broker"]
    phases = [fact.after for fact in stated]
    assert phases == ["ready", "draining", "stopping", "stopped"]


async def test_the_drain_waits_for_the_drain_hooks_of_a_life_within() -> None:
    """They count as in flight, as those of the one around it do."""
    go = asyncio.Event()
    inner = lifecycle(Component("pool", drain=go.wait))
    outer = lifecycle()
    outer.take_in(inner)
    await inner.start()
    outer.started()
    outer.begin_drain()

    phases = [outer.advance(EMPTY)]
    go.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    phases.append(outer.advance(EMPTY))

    assert phases == [Phase.DRAINING, Phase.STOPPING]
    await inner.stop()


async def test_a_life_that_is_taken_in_late_leaves_at_once() -> None:
    """The one around it has been told to leave already."""
    inner, outer = lifecycle(), lifecycle()
    outer.started()
    outer.begin_drain()

    outer.take_in(inner)

    assert inner.draining


async def test_the_checks_of_a_life_within_count() -> None:
    """For readiness and in the report, as if they were those of the one around it."""
    inner, outer = lifecycle(), lifecycle()
    outer.take_in(inner)
    inner.add_check(check("cache", ["cold"]))
    outer.started()
    await inner.start()

    while outer.ready().because.endswith("yet"):
        await asyncio.sleep(0)

    assert outer.ready() == Answer(ok=False, because="check 'cache' fails: cold")
    assert [found.name for found in outer.health().checks] == ["cache"]
    await inner.stop()


async def test_a_check_that_is_asking_is_heard_out_before_its_component_is_stopped() -> None:
    """A thread that it waits for cannot be called off, and uses what the component closes."""
    order: list[str] = []
    asked, release = asyncio.Event(), asyncio.Event()

    async def ask() -> None:
        asked.set()
        await release.wait()
        order.append("check answered")

    async def stop() -> None:
        order.append("pool stopped")

    life = Lifecycle(LifecycleSettings())
    life.add(Component("pool", None, stop))
    life.add_check(Check("db", ask))
    await life.start()
    life.started()
    await asked.wait()
    stopping = asyncio.create_task(life.stop())
    for _ in range(5):
        await asyncio.sleep(0)
    release.set()
    report = await stopping

    assert order == ["check answered", "pool stopped"]
    assert report.clean
