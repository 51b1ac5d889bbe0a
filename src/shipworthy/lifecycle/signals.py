"""Signals, the one place in the package that touches the `signal` module."""

import asyncio
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

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


def ignore_signals(*numbers: Signal) -> None:
    """Be deaf to `numbers` until something listens to them; main thread only.

    For workers: Ctrl-C reaches the whole process group, but it is the supervisor that decides.
    """
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
