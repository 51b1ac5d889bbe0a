"""How late the machine makes a process: what a bound on a wait allows beside the promise.

A wait that is measured on a machine with ten times its work is late because of the others. How much
of it that is, is measured while it lasts and never guessed, so a bound stays narrow on an idle one.
"""

import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Self, final

# What the product promises of a deadline beside the lateness of an idle timer (DESIGN.md, 2).
PROMISED_SECONDS = 0.05
_TICK_SECONDS = 0.01
# Reading what a thread waited takes 10 us; there may be dozens of threads.
_TICKS_BETWEEN_LOOKS = 5


@final
class Lateness:
    """Measures how late this process is while the block runs; to be read after it.

    `seconds` is how late a timer that does nothing else rang, at its worst. `starved_seconds` is
    how long the process' threads were ready to run and had no CPU, all together, as Linux tells
    (elsewhere 0): a wait of several steps and threads is late in each, which one timer cannot see.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.starved_seconds = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ring)
        self._before: dict[str, int] = {}
        self._latest: dict[str, int] = {}

    @property
    def allowed_seconds(self) -> float:
        """What a wait may last longer than its deadline: the promise, and what the machine took."""
        return PROMISED_SECONDS + self.seconds + self.starved_seconds

    def __enter__(self) -> Self:
        self._before = _starved_nanoseconds()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._look()
        self.starved_seconds = 1e-9 * sum(
            latest - self._before.get(thread, 0) for thread, latest in self._latest.items()
        )

    def _ring(self) -> None:
        ticks = 0
        while not self._over.is_set():
            began = time.monotonic()
            self._over.wait(_TICK_SECONDS)
            self.seconds = max(self.seconds, time.monotonic() - began - _TICK_SECONDS)
            ticks += 1
            if ticks % _TICKS_BETWEEN_LOOKS == 0:
                self._look()

    def _look(self) -> None:
        # What a thread that has ended had waited when it was last seen still counts.
        self._latest.update(_starved_nanoseconds())


def _starved_nanoseconds() -> dict[str, int]:
    """Return for each thread how long it has been ready and not run since it was made."""
    found = {}
    for thread in Path("/proc/self/task").glob("*"):
        with suppress(OSError):  # the thread ended meanwhile, or the kernel does not count it
            found[thread.name] = int((thread / "schedstat").read_text().split()[1])
    return found
