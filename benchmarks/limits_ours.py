"""Our arms of rate_limits.py: decisions in the memory of a process."""

from limits_keys import KEYS, Arm

from shipworthy.store import Algorithm, MemoryBuckets, Quota

MINUTE = 60 * 10**9


def deciding(quota: Quota) -> Arm:
    """Return what decides about every key so many times."""
    take = MemoryBuckets().take_one

    def decide(times: int) -> int:
        allowed = 0
        for _ in range(times):
            for key in KEYS:
                allowed += take(key, quota).allowed
        return allowed

    return decide


def arms() -> dict[str, Arm]:
    """Return the decisions to compare."""
    many = Quota(algorithm=Algorithm.GCRA, count=1000, period_ns=MINUTE, burst=200)
    exact = Quota(algorithm=Algorithm.EXACT, count=100, period_ns=MINUTE, burst=100)
    sliding = Quota(algorithm=Algorithm.SLIDING, count=1000, period_ns=MINUTE, burst=1000)
    one = Quota(algorithm=Algorithm.GCRA, count=1, period_ns=1440 * MINUTE, burst=1)
    return {
        "ours, gcra": deciding(many),
        "ours, exact": deciding(exact),
        "ours, sliding": deciding(sliding),
        "ours, gcra, refused": deciding(one),
    }
