"""Time, as something that can be handed in: decisions take a clock, only shells wait."""

import time
from typing import Protocol, final


class Clock(Protocol):
    """Two readings of time; neither ever blocks. Safe to share between threads and tasks."""

    def now(self) -> float:
        """Return monotonic seconds: for lengths and deadlines, meaningless across machines."""
        ...

    def wall(self) -> float:
        """Return Unix seconds: for people and records, may jump."""
        ...


@final
class SystemClock:
    """The machine's clocks."""

    __slots__ = ()

    now = staticmethod(time.monotonic)
    wall = staticmethod(time.time)


@final
class ManualClock:
    """A clock that moves only when told, for tests of anything that decides by time."""

    __slots__ = ("_now", "_wall")

    def __init__(self, now: float = 1000.0, wall: float = 1_700_000_000.0) -> None:
        self._now = now
        self._wall = wall

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._wall

    def advance(self, seconds: float) -> None:
        """Move both readings forward by `seconds`; raises `ValueError` for a negative length."""
        if seconds < 0:
            raise ValueError(f"a clock does not go back: asked to advance by {seconds} s")
        self._now += seconds
        self._wall += seconds


SYSTEM_CLOCK = SystemClock()
