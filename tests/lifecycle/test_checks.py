"""What a row of answers means, and how a function of the app becomes a check."""

import asyncio
import sys
import threading
from types import ModuleType

import pytest
from hypothesis import given, strategies as st

from shipworthy.errors import SettingsInvalid
from shipworthy.lifecycle import Check, CheckStatus, check_of
from shipworthy.lifecycle.checks import CheckStanding

UNKNOWN, PASS, FAIL = CheckStatus


async def nothing() -> None:
    """Answer that all is well."""


def standing(*, fall: int = 2, rise: int = 1) -> CheckStanding:
    return CheckStanding(Check("db", nothing, fall=fall, rise=rise), 0.0)


def after(stood: CheckStanding, answers: str) -> list[CheckStatus]:
    """Give the answers, `.` for good and `x` for bad, and return the status after each."""
    seen = []
    for now, answer in enumerate(answers, start=1):
        stood.answered("" if answer == "." else f"no {now}", now=now, took_seconds=0.1)
        seen.append(stood.status)
    return seen


@pytest.mark.parametrize(("answer", "status"), [(".", PASS), ("x", FAIL)])
def test_the_first_answer_decides_at_once(answer: str, status: CheckStatus) -> None:
    """Nothing is known before it, so there is nothing to flap from."""
    stood = standing(fall=3, rise=3)

    assert (stood.status, stood.because, stood.since) == (UNKNOWN, "", 0.0)
    assert (stood.answered_at, stood.took_seconds) == (None, 0.0)
    assert after(stood, answer) == [status]


def test_it_falls_after_enough_failures_in_a_row() -> None:
    """A success between them begins the count anew."""
    assert after(standing(fall=3), ".xx.xxx") == [PASS, PASS, PASS, PASS, PASS, PASS, FAIL]


def test_it_rises_after_enough_successes_in_a_row() -> None:
    """A failure between them begins the count anew."""
    assert after(standing(rise=2), "x.x..") == [FAIL, FAIL, FAIL, FAIL, PASS]


def test_flapping_faster_than_the_patience_changes_nothing() -> None:
    """One bad answer in two is not two in a row."""
    assert set(after(standing(), "." + "x." * 50)) == {PASS}


def test_a_change_is_news_once_and_dated() -> None:
    """`answered` says True exactly when the status is another, and `since` is that moment."""
    stood = standing()
    answers = [(1.0, ""), (2.0, ""), (3.0, "away"), (4.0, "away"), (5.0, "away"), (6.0, "")]

    news = [stood.answered(because, now=now, took_seconds=now / 10) for now, because in answers]

    assert news == [False, False, False, True, False, True]
    assert stood.since == 6.0
    assert stood.answered_at == 6.0
    assert stood.took_seconds == 0.6


def test_the_age_of_a_status_is_not_that_of_its_last_answer() -> None:
    """`since` stays where the status changed while answers come in."""
    stood = standing()

    first_is_news = stood.answered("away", now=1.0, took_seconds=0.1)
    stood.answered("away", now=2.0, took_seconds=0.2)

    assert first_is_news
    assert (stood.since, stood.answered_at, stood.took_seconds) == (1.0, 2.0, 0.2)


def test_the_reason_of_a_failure_stays_until_it_is_over() -> None:
    """A success that does not count yet does not wipe out why the check fails."""
    stood = standing(rise=2)

    after(stood, "x.")
    while_failing = stood.because
    after(stood, ".")

    assert while_failing == "no 1"
    assert stood.because == ""


def test_a_single_failure_shows_its_reason_although_it_does_not_count_yet() -> None:
    """Who looks at the report sees the first crack, and then that it is gone."""
    stood = standing()

    after(stood, ".x")
    cracked = (stood.status, stood.because)
    after(stood, ".")

    assert cracked == (PASS, "no 2")
    assert (stood.status, stood.because) == (PASS, "")


@given(st.text("x.", min_size=1, max_size=60), st.integers(1, 5), st.integers(1, 5))
def test_the_status_is_that_of_the_last_run_long_enough(answers: str, fall: int, rise: int) -> None:
    """A model in one line: the last row of like answers that reached the patience decides."""
    stood = standing(fall=fall, rise=rise)
    seen = after(stood, answers)

    for end in range(1, len(answers) + 1):
        so_far, run, expected = answers[:end], 0, PASS if answers[0] == "." else FAIL
        for place, answer in enumerate(so_far):
            run = run + 1 if place and answer == so_far[place - 1] else 1
            if answer == "x" and run >= fall:
                expected = FAIL
            elif answer == "." and run >= rise:
                expected = PASS
        assert seen[end - 1] is expected


@pytest.fixture
def app_module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("an_app_of_somebody")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def made(target: str) -> Check:
    return check_of(target, interval_seconds=3.0, timeout_seconds=1.5)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param(None, None, id="nothing is well"),
        pytest.param(True, None, id="True is well"),
        pytest.param(False, "it answered False", id="False is not"),
        pytest.param("too far behind", "too far behind", id="a sentence is why not"),
        pytest.param({"ok": True}, "it answered {'ok': True}", id="what we do not know is not"),
    ],
)
@pytest.mark.parametrize("kind", ["sync", "async", "sync that returns a coroutine"])
async def test_a_function_of_the_app_answers_in_its_own_way(
    app_module: ModuleType, answer: object, said: str | None, kind: str
) -> None:
    """None and True are good; False, a sentence and anything else are not."""

    async def later() -> object:
        return answer

    app_module.ready = {
        "sync": lambda: answer,
        "async": later,
        "sync that returns a coroutine": lambda: later(),
    }[kind]
    check = made("an_app_of_somebody:ready")

    assert await check.ask() == said
    assert check.kinds == {"ready"}
    assert (check.name, check.interval_seconds, check.timeout_seconds) == (
        "an_app_of_somebody:ready",
        3.0,
        1.5,
    )


@pytest.mark.anyio
async def test_a_sync_function_runs_in_a_daemon_thread_of_its_own(app_module: ModuleType) -> None:
    """It blocks neither the loop nor a pool of threads, nor the exit of the process."""
    seen = []
    app_module.ready = lambda: seen.append(threading.current_thread())

    await made("an_app_of_somebody:ready").ask()

    assert seen[0] is not threading.current_thread()
    assert seen[0].daemon
    assert seen[0].name == "shipworthy check an_app_of_somebody:ready"


@pytest.mark.anyio
async def test_what_a_function_raises_reaches_whoever_asks(app_module: ModuleType) -> None:
    """The exception crosses from the thread unchanged."""

    def ready() -> None:
        raise OSError("no route to the database")

    app_module.ready = ready

    with pytest.raises(OSError, match="no route to the database"):
        await made("an_app_of_somebody:ready").ask()


@pytest.mark.anyio
@pytest.mark.parametrize("raises", [False, True])
async def test_an_answer_nobody_waits_for_disturbs_nobody(
    app_module: ModuleType, raises: bool
) -> None:
    """A thread that ends after its asker was cancelled puts its answer nowhere."""
    entered, leave = threading.Event(), threading.Event()

    def ready() -> None:
        entered.set()
        leave.wait(5)
        if raises:
            raise OSError("too late")

    app_module.ready = ready
    task = asyncio.create_task(made("an_app_of_somebody:ready").ask())
    await asyncio.to_thread(entered.wait, 5)

    task.cancel()
    await asyncio.wait({task})
    leave.set()
    (thread,) = [t for t in threading.enumerate() if t.name.startswith("shipworthy check")]
    await asyncio.to_thread(thread.join, 5)
    await asyncio.sleep(0)

    assert task.cancelled()
    assert not thread.is_alive()


def test_an_answer_after_the_loop_is_closed_disturbs_nobody(app_module: ModuleType) -> None:
    """The thread of a process that is leaving ends without a word."""
    entered, leave = threading.Event(), threading.Event()

    def ready() -> None:
        entered.set()
        leave.wait(5)

    app_module.ready = ready

    async def ask_and_go() -> None:
        asking = asyncio.create_task(made("an_app_of_somebody:ready").ask())
        await asyncio.to_thread(entered.wait, 5)
        asking.cancel()

    asyncio.run(ask_and_go())
    (thread,) = [t for t in threading.enumerate() if t.name.startswith("shipworthy check")]
    leave.set()
    thread.join(5)

    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("target", "because"),
    [
        ("an_app_of_somebody:missing", "module 'an_app_of_somebody' has no attribute 'missing'"),
        ("no_such_module_anywhere:ready", "No module named 'no_such_module_anywhere'"),
        ("an_app_of_somebody:number", "is a int, not a function"),
        ("an_app_of_somebody", "is a module, not a function"),
        (":ready", "invalid format"),
    ],
)
def test_a_name_without_a_function_is_refused_with_its_setting(
    app_module: ModuleType, target: str, because: str
) -> None:
    """The message names the setting, what was written, why not and how it is written."""
    app_module.number = 5

    with pytest.raises(SettingsInvalid) as refused:
        made(target)

    assert str(refused.value).startswith(f"lifecycle.ready_check '{target}' ")
    assert because in str(refused.value)
    assert str(refused.value).endswith("; write 'package.module:function'")
