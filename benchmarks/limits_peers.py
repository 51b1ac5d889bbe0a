"""The peers' arms of rate_limits.py, each set up as its own manual shows."""

from typing import Any

from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import (
    FixedWindowRateLimiter,
    MovingWindowRateLimiter,
    SlidingWindowCounterRateLimiter,
)
from limits_keys import KEYS, Arm
from pyrate_limiter import BucketFactory, Duration, InMemoryBucket, Limiter, Rate, RateItem
from throttled import MemoryStore, Throttled, rate_limiter


def limits_deciding(strategy: type, rate: str) -> Arm:
    """Return what decides about every key so many times."""
    limiter, item = strategy(MemoryStorage()), parse(rate)
    hit = limiter.hit

    def decide(times: int) -> int:
        allowed = 0
        for _ in range(times):
            for key in KEYS:
                allowed += hit(item, key)
        return allowed

    return decide


def throttled_deciding(using: str, quota: Any) -> Arm:
    """The same; its store forgets the least recently used of 1,024 keys unless it is larger."""
    throttle = Throttled(using=using, quota=quota, store=MemoryStore(options={"MAX_SIZE": 20_000}))
    limit = throttle.limit

    def decide(times: int) -> int:
        allowed = 0
        for _ in range(times):
            for key in KEYS:
                allowed += not limit(key).limited
        return allowed

    return decide


class Factory(BucketFactory):
    """A bucket for each key; leaking, which has a thread of its own, is left out."""

    def __init__(self, rate):
        self.buckets = {key: InMemoryBucket([rate]) for key in KEYS}
        self.clock = next(iter(self.buckets.values()))

    def wrap_item(self, name, weight=1):
        return RateItem(name, self.clock.now(), weight=weight)

    def get(self, item):
        return self.buckets[item.name]


def pyrate_deciding(rate: Rate) -> Arm:
    """The same with a bucket for each key, as its manual shows for several."""
    acquire = Limiter(Factory(rate)).try_acquire

    def decide(times: int) -> int:
        allowed = 0
        for _ in range(times):
            for key in KEYS:
                allowed += acquire(key, blocking=False)
        return allowed

    return decide


def arms() -> dict[str, Arm]:
    """Return the decisions to compare."""
    many = "1000/minute"
    burst = rate_limiter.per_min(1000, burst=200)
    one = rate_limiter.per_day(1, burst=1)
    return {
        "limits, fixed window": limits_deciding(FixedWindowRateLimiter, many),
        "limits, sliding counter": limits_deciding(SlidingWindowCounterRateLimiter, many),
        "limits, moving window": limits_deciding(MovingWindowRateLimiter, many),
        "throttled-py, gcra": throttled_deciding("gcra", burst),
        "throttled-py, fixed window": throttled_deciding("fixed_window", burst),
        "pyrate-limiter": pyrate_deciding(Rate(1000, Duration.MINUTE)),
        "limits, fixed window, refused": limits_deciding(FixedWindowRateLimiter, "1/day"),
        "throttled-py, gcra, refused": throttled_deciding("gcra", one),
        "pyrate-limiter, refused": pyrate_deciding(Rate(1, Duration.DAY)),
    }
