"""Signals reach the loop, and afterwards all is as it was."""

import asyncio
import os
import signal
import subprocess
import sys
import threading

import pytest

from shipworthy.lifecycle import (
    Signal,
    also_on,
    heard_early,
    ignore_signals,
    is_ignored,
    signals_of,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def as_before() -> object:
    before = signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGUSR2)
    yield
    signal.signal(signal.SIGUSR1, before[0])
    signal.signal(signal.SIGUSR2, before[1])


async def test_a_signal_calls_its_callback_in_the_loop() -> None:
    """Each signal has its own, called in the thread of the loop."""
    loop = asyncio.get_running_loop()
    one, two = asyncio.Event(), asyncio.Event()
    threads = []

    def first() -> None:
        threads.append(threading.current_thread())
        one.set()

    with signals_of(loop, {Signal.SIGUSR1: first, Signal.SIGUSR2: two.set}):
        os.kill(os.getpid(), signal.SIGUSR1)
        async with asyncio.timeout(5):
            await one.wait()
        only_the_first = not two.is_set()
        os.kill(os.getpid(), signal.SIGUSR2)
        async with asyncio.timeout(5):
            await two.wait()

    assert only_the_first
    assert threads == [threading.main_thread()]


async def test_leaving_brings_back_what_was_there() -> None:
    """A function, the default and deafness come back, also after an exception inside."""

    def theirs(number: int, frame: object) -> None:
        """Handle it as the surrounding program does."""

    signal.signal(signal.SIGUSR1, theirs)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)

    with (
        pytest.raises(OSError, match="inside"),
        signals_of(asyncio.get_running_loop(), {Signal.SIGUSR1: list, Signal.SIGUSR2: list}),
    ):
        raise OSError("inside")

    assert signal.getsignal(signal.SIGUSR1) is theirs
    assert signal.getsignal(signal.SIGUSR2) is signal.SIG_IGN


async def test_a_signal_that_cannot_be_heard_leaves_the_others_as_they_were() -> None:
    """SIGKILL is refused, and what was set before it is taken back."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    with (
        pytest.raises((RuntimeError, OSError, ValueError)),
        signals_of(asyncio.get_running_loop(), {Signal.SIGUSR1: list, Signal.SIGKILL: list}),
    ):
        raise AssertionError("never reached")

    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN


async def test_another_thread_is_refused() -> None:
    """Python delivers signals to the main thread only, and says so at once."""

    async def listen() -> None:
        with signals_of(asyncio.get_running_loop(), {Signal.SIGUSR1: list}):
            raise AssertionError("never reached")

    def elsewhere() -> None:
        with pytest.raises((RuntimeError, ValueError)):
            asyncio.run(listen())

    await asyncio.to_thread(elsewhere)


async def test_an_ignored_signal_does_nothing_until_somebody_listens() -> None:
    """Deaf first, then heard through the loop, then deaf again; programs it starts are not."""
    called = asyncio.Event()
    ignore_signals(Signal.SIGUSR1, Signal.SIGUSR2)

    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR2)
    with signals_of(asyncio.get_running_loop(), {Signal.SIGUSR1: called.set}):
        os.kill(os.getpid(), signal.SIGUSR1)
        async with asyncio.timeout(5):
            await called.wait()
    os.kill(os.getpid(), signal.SIGUSR1)

    inherited = subprocess.run(
        [sys.executable, "-c", "import signal; print(repr(signal.getsignal(signal.SIGUSR1)))"],
        capture_output=True,
        check=True,
    )
    assert b"SIG_DFL" in inherited.stdout


@pytest.mark.slow
async def test_it_is_the_same_under_uvloop() -> None:
    """The loop that servers use hears SIGTERM, and all is as before afterwards."""
    program = """
import asyncio, os, signal, uvloop
from shipworthy.lifecycle import Signal, signals_of

async def main():
    loop, heard = asyncio.get_running_loop(), asyncio.Event()
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with signals_of(loop, {Signal.SIGTERM: heard.set, Signal.SIGINT: heard.set}):
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(5):
            await heard.wait()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    print(type(loop).__module__)

with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
"""

    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )

    assert ended.stderr == ""
    assert ended.stdout == "uvloop\n"


async def test_whoever_handles_the_signal_already_goes_on_handling_it() -> None:
    """Ours is called in the loop, theirs as before, and afterwards all is as it was."""
    loop = asyncio.get_running_loop()
    ours, theirs = asyncio.Event(), []

    def handler(number: int, frame: object) -> None:
        theirs.append(number)

    signal.signal(signal.SIGUSR1, handler)
    with also_on(Signal.SIGUSR1, loop, ours.set):
        os.kill(os.getpid(), signal.SIGUSR1)
        async with asyncio.timeout(5):
            await ours.wait()

    assert theirs == [signal.SIGUSR1]
    assert signal.getsignal(signal.SIGUSR1) is handler


async def test_a_handler_in_the_loop_is_called_too() -> None:
    """asyncio hears through a descriptor of its own, whatever function is installed."""
    loop = asyncio.get_running_loop()
    ours, theirs = asyncio.Event(), asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, theirs.set)
    with also_on(Signal.SIGUSR1, loop, ours.set):
        os.kill(os.getpid(), signal.SIGUSR1)
        async with asyncio.timeout(5):
            await ours.wait()
            await theirs.wait()
    loop.remove_signal_handler(signal.SIGUSR1)


async def test_who_handles_the_signal_anew_inside_keeps_his_handler() -> None:
    """It is no longer ours to take away."""

    def later(number: int, frame: object) -> None:
        """Handle it as somebody decided after us."""

    with also_on(Signal.SIGUSR1, asyncio.get_running_loop(), list):
        signal.signal(signal.SIGUSR1, later)

    assert signal.getsignal(signal.SIGUSR1) is later


async def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """Whoever started us deaf to it (nohup, a shell script) does not want a drain for it."""
    heard = []
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    with also_on(Signal.SIGUSR1, asyncio.get_running_loop(), lambda: heard.append(1)):
        os.kill(os.getpid(), signal.SIGUSR1)
        await asyncio.sleep(0)

    assert is_ignored(Signal.SIGUSR1)
    assert heard == []


def test_what_comes_before_the_loop_is_kept() -> None:
    """Nothing ends, and whoever has a loop later sees what came."""
    heard = heard_early(Signal.SIGUSR1, Signal.SIGUSR2)
    os.kill(os.getpid(), signal.SIGUSR2)

    assert heard == [signal.SIGUSR2]
    assert not is_ignored(Signal.SIGUSR2)


def test_outside_the_main_thread_nothing_is_installed() -> None:
    """Python allows no handler there; test clients run applications in threads."""
    before = signal.getsignal(signal.SIGUSR1)
    seen = []

    async def inside() -> None:
        with also_on(Signal.SIGUSR1, asyncio.get_running_loop(), list):
            seen.append(signal.getsignal(signal.SIGUSR1))

    thread = threading.Thread(target=lambda: asyncio.run(inside()))
    thread.start()
    thread.join(5)

    assert seen == [before]


@pytest.mark.slow
def test_a_signal_that_nobody_handled_still_ends_the_process() -> None:
    """By that signal, as without us."""
    code = """
import asyncio, os, signal
from shipworthy.lifecycle import Signal, also_on

async def main():
    with also_on(Signal.SIGTERM, asyncio.get_running_loop(), list):
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(30)

asyncio.run(main())
"""

    done = subprocess.run([sys.executable, "-c", code], timeout=20, check=False)

    assert done.returncode == -signal.SIGTERM
