"""Signals, the one place in the package that touches the `signal` module."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

Signal = signal.Signals


@contextmanager
def signals_of(
    loop: asyncio.AbstractEventLoop, callbacks: Mapping[Signal, Callable[[], object]]
) -> Iterator[None]:
    """Call each callback in `loop` when its signal comes; on leaving, all is as it was before.

    Callbacks run between two steps of the loop, never in the middle of one, so they may touch
    whatever the loop's tasks touch. A loop that is blocked hears no signal: a deadline must be
    held by another process. Main thread only; raises `ValueError` or `RuntimeError` elsewhere.
    """
    before = {number: signal.getsignal(number) for number in callbacks}
    heard: list[Signal] = []
    try:
        for number, callback in callbacks.items():
            loop.add_signal_handler(number, callback)
            heard.append(number)
        yield
    finally:
        for number in heard:
            loop.remove_signal_handler(number)
            # asyncio leaves the system's default behind, which would end the process. None is a
            # disposition that was not set from Python, and cannot be set back from there.
            signal.signal(number, before[number] or signal.SIG_DFL)


@contextmanager
def also_on(
    number: Signal, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]
) -> Iterator[None]:
    """Call `callback` in `loop` when the signal comes, before whoever handles it already.

    For an application under a server of others, which goes on handling its signals as before.
    Does nothing outside the main thread, where Python allows no handler, and where the signal is
    handled by code that is not Python, which could not be called on, or is ignored.
    """
    before = signal.getsignal(number)
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or before is None or before == signal.SIG_IGN:
        yield
        return

    def heard(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(callback)
        if callable(before):
            before(number, frame)
        elif before == signal.SIG_DFL:
            signal.signal(number, before)
            signal.raise_signal(number)

    signal.signal(number, heard)
    try:
        yield
    finally:
        # Who has put a handler of his own over ours meanwhile keeps it.
        if signal.getsignal(number) is heard:
            signal.signal(number, before)


def ignore_signals(*numbers: Signal) -> None:
    """Be deaf to `numbers` until something listens to them; main thread only.

    For workers: Ctrl-C reaches the whole process group, but it is the supervisor that decides.
    Programs they start are not deaf: a function is forgotten by exec, SIG_IGN would be inherited.
    """
    for number in numbers:
        signal.signal(number, _nothing)


def _nothing(number: int, frame: FrameType | None) -> None:
    """Do nothing, where the default would end the process."""


def heard_early(*numbers: Signal) -> list[int]:
    """Keep the signals that come before there is a loop to hear them; main thread only.

    Returns the list they are put into. The kernel drops a signal that PID 1 has no handler for, and
    a start takes long enough for an impatient platform. `signals_of` takes over from here.
    """
    heard: list[int] = []
    for number in numbers:
        signal.signal(number, lambda number, _: heard.append(number))
    return heard


def is_ignored(number: Signal) -> bool:
    """Say whether the process was started deaf to `number`, as `nohup` does with SIGHUP."""
    return signal.getsignal(number) == signal.SIG_IGN
