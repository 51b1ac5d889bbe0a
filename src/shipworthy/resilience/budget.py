"""How many retries there may be: a share of the traffic, so that retries cannot multiply load."""

from collections import deque
from dataclasses import dataclass

_BUCKETS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetStatistics:
    """What a budget has and what it did: `available` retries now, the rest since the start."""

    available: float
    deposits_total: int
    spent_total: int
    refused_total: int


class RetryBudget:
    """Retries as a share of first attempts, by default one in five, plus one a second.

    The share (finagle's and failsafe's 20 %) keeps retries from turning a small failure into a
    large load: with everything failing, load grows by a fifth and no more. The reserve, saved for
    `ttl_seconds`, lets a quiet process retry at all. What was deposited expires after
    `ttl_seconds`, so that a good morning does not pay for a bad afternoon.

    At any time: spent <= ratio * deposits + reserve_per_second * (1 + seconds since the start).
    Every method takes the time, monotonic and never going back by more than a bucket. `deposit` is
    safe between threads; `spend` needs no lock either, at worst two threads share the last retry.
    """

    __slots__ = (
        "_bucket_seconds",
        "_current",
        "_edge",
        "_past",
        "_refreshed",
        "_refused",
        "_reserve",
        "_spent",
        "_total",
        "ratio",
        "reserve_per_second",
        "ttl_seconds",
    )

    def __init__(
        self,
        ratio: float = 0.2,
        reserve_per_second: float = 1.0,
        ttl_seconds: float = 10.0,
    ) -> None:
        if not 0 <= ratio <= 1:
            raise ValueError(f"a retry budget's ratio lies between 0 and 1, got {ratio}")
        if not 0 <= reserve_per_second < float("inf") or not 0 < ttl_seconds < float("inf"):
            raise ValueError(
                f"a retry budget's reserve is 0 or more a second and its ttl above 0 s, got "
                f"{reserve_per_second} and {ttl_seconds} s"
            )
        self.ratio = ratio
        self.reserve_per_second = reserve_per_second
        self.ttl_seconds = ttl_seconds
        self._bucket_seconds = ttl_seconds / _BUCKETS
        self._edge = float("-inf")
        # First attempts and spent retries of the present bucket, and of the ones before.
        self._current = [0, 0]
        self._past: deque[list[int]] = deque(maxlen=_BUCKETS)
        self._reserve = reserve_per_second
        self._refreshed: float | None = None
        self._total = 0
        self._spent = 0
        self._refused = 0

    def deposit(self, now: float) -> None:
        """Note a first attempt."""
        if now >= self._edge:
            self._turn(now)
        self._current[0] += 1

    def spend(self, now: float) -> bool:
        """Take one retry; False when there is none, and then nothing is taken."""
        if now >= self._edge:
            self._turn(now)
        self._refresh(now)
        if self._share() >= 1.0:
            self._current[1] += 1
        elif self._reserve >= 1.0:
            self._reserve -= 1.0
        else:
            self._refused += 1
            return False
        self._spent += 1
        return True

    def statistics(self, now: float) -> BudgetStatistics:
        """Return what there is at `now`, and the totals."""
        if now >= self._edge:
            self._turn(now)
        self._refresh(now)
        return BudgetStatistics(
            available=max(0.0, self._share()) + self._reserve,
            deposits_total=self._total + self._current[0],
            spent_total=self._spent,
            refused_total=self._refused,
        )

    def _share(self) -> float:
        deposits, spent = self._current
        for bucket in self._past:
            deposits += bucket[0]
            spent += bucket[1]
        return self.ratio * deposits - spent

    def _refresh(self, now: float) -> None:
        # Not None: whoever comes here has turned the first bucket.
        since = self._refreshed or 0.0
        self._refreshed = max(now, since)
        most = max(self.reserve_per_second * self.ttl_seconds, self.reserve_per_second)
        self._reserve = min(most, self._reserve + max(0.0, now - since) * self.reserve_per_second)

    def _turn(self, now: float) -> None:
        if self._refreshed is None:
            self._refreshed = self._edge = now
        gone = (now - self._edge) // self._bucket_seconds
        self._total += self._current[0]
        self._past.append(self._current)
        for _ in range(int(min(gone, _BUCKETS))):
            self._past.append([0, 0])
        self._current = [0, 0]
        self._edge += (gone + 1) * self._bucket_seconds
