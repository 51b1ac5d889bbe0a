"""How long a client may keep us waiting: by what it has moved, and never by its word. Pure.

A client begins with a grace, and each byte that it moves earns it time. So it costs as many bytes
to hold a connection for a minute as for two times half a minute, however they are spread.
"""

from dataclasses import dataclass
from typing import final

# What a fast client may save up for a pause: a tunnel, another cell. It was paid for in bytes.
BANKED_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PaceRule:
    """A grace at first, and a second more for each `bytes_per_second`."""

    grace_seconds: float
    bytes_per_second: float

    @property
    def most_seconds(self) -> float:
        """The longest pause that can have been earned."""
        return max(self.grace_seconds, BANKED_SECONDS)


@final
class ConnectionPace:
    """The time that one client has left, from look to look; `moved_bytes` only ever grows."""

    __slots__ = ("_at", "_moved_bytes", "_rule", "left_seconds")

    def __init__(self, rule: PaceRule, now: float, moved_bytes: int) -> None:
        self._rule = rule
        self._at = now
        self._moved_bytes = moved_bytes
        self.left_seconds = rule.grace_seconds

    def look(self, now: float, moved_bytes: int, *, waited_for: bool = True) -> bool:
        """Return whether the client is still within its time.

        Not `waited_for` is one that we keep waiting ourselves: that time is not its own.
        """
        rule = self._rule
        earned_seconds = (moved_bytes - self._moved_bytes) / rule.bytes_per_second
        left_seconds = min(self.left_seconds + earned_seconds, rule.most_seconds)
        if waited_for:
            left_seconds -= now - self._at
        self.left_seconds = left_seconds
        self._at, self._moved_bytes = now, moved_bytes
        return left_seconds >= 0.0

    @property
    def behind(self) -> bool:
        """Whether it has less time left than it began with."""
        return self.left_seconds < self._rule.grace_seconds
