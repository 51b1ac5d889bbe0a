"""Decide whether requests come faster than they are served, from how late things come. Pure.

What is late once, or for one request, is no overload: a handler that blocks for three seconds, a
process that was stopped, a burst. So lateness is added up as it is seen, each look for no more than
a tenth of a second, and one look that finds everything in time begins anew.
"""

from dataclasses import dataclass
from math import inf
from typing import Final, final

# What one look may add: whoever was stopped for a minute, or blocked once, has been late once.
LOOK_SECONDS: Final = 0.1
# Requests that must have come meanwhile: what is late without them, they do not cause.
REQUESTS: Final = 10
# The share of `begin_seconds` after which it may be one, and that keeps one alive.
_MAYBE_RATIO: Final = 0.2


@dataclass(frozen=True, slots=True)
class OverloadBegan:
    """More comes than is served."""


@dataclass(frozen=True, slots=True)
class OverloadEnded:
    """What comes is served in time again, after so long."""

    seconds: float


@final
class Pressure:
    """Add up how long what comes has been late without a break.

    Overloaded after `begin_seconds` of it, and no longer once there was nothing of the kind, and
    nobody was turned away, for `end_seconds`. It may become one after a fifth of that: time to let
    the important go first, and to turn nobody away.
    """

    __slots__ = ("_began_at", "_begin", "_end", "_late", "_pressed_at", "_seen_at", "entered")

    def __init__(self, *, begin_seconds: float, end_seconds: float) -> None:
        self._begin = begin_seconds
        self._end = end_seconds
        self._seen_at = -inf
        self._late = 0.0
        self._began_at: float | None = None
        self._pressed_at = -inf
        # Requests since the last look that found everything in time; whoever lets them in counts.
        self.entered = 0

    @property
    def overloaded(self) -> bool:
        """Whether it is overloaded now."""
        return self._began_at is not None

    @property
    def late(self) -> bool:
        """Whether the last look found something late."""
        return self._late > 0

    @property
    def maybe(self) -> bool:
        """Whether it is overloaded, or may be soon."""
        if self._began_at is not None:
            return True
        return self._late >= self._begin * _MAYBE_RATIO and self.entered >= REQUESTS

    def turned_away(self, now: float) -> None:
        """Hear that somebody was: as long as that goes on, it is not over."""
        self._pressed_at = now

    def seen(self, now: float, *, late: bool) -> OverloadBegan | OverloadEnded | None:
        """Take whether a look found something late; return what is new."""
        gap = min(now - self._seen_at, LOOK_SECONDS)
        self._seen_at = now
        if late:
            self._late += gap
        else:
            self._late = 0.0
            self.entered = 0
        if self._began_at is None:
            if self._late < self._begin or self.entered < REQUESTS:
                return None
            self._began_at = self._pressed_at = now
            return OverloadBegan()
        if self._late >= self._begin * _MAYBE_RATIO:
            self._pressed_at = now
        if now - self._pressed_at < self._end:
            return None
        began, self._began_at = self._began_at, None
        return OverloadEnded(now - began)
