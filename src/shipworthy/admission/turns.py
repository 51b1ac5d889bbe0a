"""Whose turn it is while more come than are served, and who waits in vain. Pure.

Nobody waits for longer than a bound, so no more need to wait than are served within it: the others
are turned away at once, the one that has waited longest first, for it would be the first to wait
in vain. Once that has happened, who came last is served first.
"""

from dataclasses import dataclass
from math import inf
from typing import Any, Final, final

from shipworthy.admission.priority import RANKS, Rank

# What each rank may fill of the limit: what is left is for those before it.
SHARES: Final[dict[Rank, float]] = {"critical": 1.0, "default": 0.9, "sheddable": 0.7}
# However slowly they are served, so many may wait: one of them is always there when it is time.
LEAST: Final = 4
# However fast they are served; each is a coroutine and holds nothing else.
MOST: Final = 1000
# How long after somebody had to make room the last is served first.
_CROWDED_SECONDS: Final = 1.0
# A round is measured by so many turns, or so much time.
_ROUND_TURNS: Final = 5
_ROUND_SECONDS: Final = 1.0
_SMOOTHING: Final = 0.5

# What the requests that are let in between two looks at the sockets may take together.
STRIDE_SECONDS: Final = 0.01
_STRIDE_MOST: Final = 256


@dataclass(slots=True, eq=False)
class Turn:
    """Whoever waits for one, and since when; `ticket` is what whoever asked knows it by."""

    rank: Rank
    since: float
    deadline: float
    ticket: Any


@final
class Turns:
    """Say who is next, in the order of the ranks, and who goes without."""

    __slots__ = ("_crowded_at", "_interval", "_let_in", "_lines", "_measured_at", "_wait_seconds")

    def __init__(self, *, wait_seconds: float) -> None:
        self._wait_seconds = wait_seconds
        self._lines: dict[Rank, dict[Turn, None]] = {rank: {} for rank in RANKS}
        self._crowded_at = -inf
        # Seconds from one turn to the next while somebody waits; 0 until that is known.
        self._interval = 0.0
        self._measured_at = -inf
        self._let_in = 0

    def __len__(self) -> int:
        critical, default, sheddable = self._lines.values()
        return len(critical) + len(default) + len(sheddable)

    @property
    def room(self) -> int:
        """How many may wait: as many as are served in the time they may wait."""
        if not self._interval:
            return MOST
        return max(LEAST, min(MOST, int(self._wait_seconds / self._interval)))

    def oldest(self) -> float:
        """Return since when the first of any rank waits; infinite where nobody does."""
        return min((next(iter(line)).since for line in self._lines.values() if line), default=inf)

    def wait(
        self, rank: Rank, *, since: float, now: float, ticket: Any, deadline: float = inf
    ) -> Turn:
        """Let one more wait."""
        waiting = Turn(rank, since, deadline, ticket)
        if not self:
            self._measured_at = now
            self._let_in = 0
        self._lines[rank][waiting] = None
        return waiting

    def leave(self, waiting: Turn) -> None:
        """Forget one that does not wait any more; without effect for one that had its turn."""
        self._lines[waiting.rank].pop(waiting, None)

    def next(self, now: float, *, inside: int, limit: float) -> Turn | None:
        """Return whose turn it is, None where nobody may go in."""
        for rank, line in self._lines.items():
            if not line:
                continue
            if inside and inside >= limit * SHARES[rank]:
                return None
            if now - self._crowded_at < _CROWDED_SECONDS:
                waiting, _ = line.popitem()
            else:
                waiting = next(iter(line))
                del line[waiting]
            self._let_in += 1
            return waiting
        return None

    def too_many(self, now: float) -> list[Turn]:
        """Return who has to go because more wait than can be served; they wait no more.

        Those of the last rank go first, and of them whoever has waited longest.
        """
        over = len(self) - self.room
        if over > 0:
            self._crowded_at = now
        go: list[Turn] = []
        for line in reversed(self._lines.values()):
            while line and len(go) < over:
                waiting = next(iter(line))
                del line[waiting]
                go.append(waiting)
        return go

    def in_vain(self, now: float, *, overloaded: bool) -> list[Turn]:
        """Return who has waited as long as it may; they wait no more.

        That is until the deadline, and in an overload no longer than `wait_seconds`.
        """
        since = now - self._wait_seconds if overloaded else -inf
        late = [
            one
            for line in self._lines.values()
            for one in line
            if one.since <= since or one.deadline <= now
        ]
        for waiting in late:
            del self._lines[waiting.rank][waiting]
        return late

    def look(self, now: float) -> None:
        """Measure how fast those who wait are served; to be called now and then."""
        seconds = now - self._measured_at
        if not self or (self._let_in < _ROUND_TURNS and seconds < _ROUND_SECONDS):
            return
        interval = seconds / max(self._let_in, 1)
        if self._interval:
            interval = self._interval + (interval - self._interval) * _SMOOTHING
        self._interval = interval
        self._measured_at = now
        self._let_in = 0


@final
class Stride:
    """Say how many are let in between two looks at the sockets, by what the last ones took.

    `turns` is 1 for handlers that compute, so that who comes meanwhile is heard after each, and
    many for those that only wait.
    """

    __slots__ = ("turns",)

    def __init__(self) -> None:
        self.turns = 1

    def took(self, count: int, seconds: float) -> None:
        """Hear how long so many took until they waited for something, or were done."""
        if seconds > STRIDE_SECONDS:
            self.turns = max(1, self.turns // 2)
        elif count >= self.turns and seconds < STRIDE_SECONDS / 2:
            self.turns = min(_STRIDE_MOST, self.turns * 2)
