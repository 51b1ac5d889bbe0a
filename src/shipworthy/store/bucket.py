"""Decide whether a bucket has room for one more request: three ways to count, in whole nanoseconds.

Pure: what a store knows of a key, what is allowed, an instant of the store's own clock, and out
come the state to write and the answer. A refusal returns the state as it was, so that it is written
nowhere: who is refused waits no longer for having asked. A clock that goes back never opens a
bucket: what was taken counts until the clock has passed it again.

    GCRA       one instant, up to which the key has spent: a small burst, then an even rate. Of
               rates that nanoseconds cannot divide, the interval is the next longer one.
    EXACT      the instants of what was taken: never more than `count` in any window. At most 100.
    SLIDING    what was taken in this window and in the one before, which counts for less with
               time: cheap for a long quota of any size, and not exact (`worst_in`).

A window holds its first nanosecond and not the one after its last.

Not here: where states are kept (`bucket_memory` and its neighbours), and who is allowed what.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple, Protocol, TypeAlias, final

from typing_extensions import override

from shipworthy.errors import ShipworthyError

# The exact log keeps an instant for each request, in every store: a bound for what a key may cost.
EXACT_MOST: Final = 100
# A key is made by a keyed hash, so whoever is behind it cannot make it longer.
KEY_CHARACTERS: Final = 64
PERIOD_MOST_NS: Final = 366 * 86_400 * 1_000_000_000
# Below a microsecond for each request, whole nanoseconds would be a thousandth off and more.
INTERVAL_LEAST_NS: Final = 1_000


class Algorithm(StrEnum):
    """How a bucket counts."""

    GCRA = "gcra"
    EXACT = "exact"
    SLIDING = "sliding"


class BucketsUnavailable(ShipworthyError):
    """The store of buckets did not answer within its bound; nothing was taken that it knows of."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What one key is allowed: `count` in each `period_ns`, `burst` of them at once.

    With EXACT and SLIDING the burst is the count. What cannot be kept raises `ValueError`.
    """

    algorithm: Algorithm
    count: int
    period_ns: int
    burst: int
    # GCRA: what one request costs in time, and a whole burst.
    interval_ns: int = field(init=False, repr=False)
    burst_ns: int = field(init=False, repr=False)
    is_gcra: bool = field(init=False, repr=False)
    # Stores look things up by it for each request, and five fields take a microsecond.
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < self.period_ns <= PERIOD_MOST_NS:
            raise ValueError(
                f"a quota is for a period of up to 366 days, not for {self.period_ns} ns"
            )
        if not 0 < self.count <= self.period_ns // INTERVAL_LEAST_NS:
            raise ValueError(
                f"a quota allows between one in its period and one in each microsecond, not "
                f"{self.count} in {self.period_ns} ns"
            )
        if self.algorithm is not Algorithm.GCRA and self.burst != self.count:
            raise ValueError(
                f"with {self.algorithm} the burst is the count, {self.count}, not {self.burst}"
            )
        if not 0 < self.burst <= self.count:
            raise ValueError(f"a burst is between 1 and the count, {self.count}, not {self.burst}")
        if self.algorithm is Algorithm.EXACT and self.count > EXACT_MOST:
            raise ValueError(
                f"an exact quota allows at most {EXACT_MOST}, because each is remembered, not "
                f"{self.count}; take another algorithm for more"
            )
        object.__setattr__(self, "interval_ns", -(-self.period_ns // self.count))
        object.__setattr__(self, "burst_ns", self.burst * self.interval_ns)
        object.__setattr__(self, "is_gcra", self.algorithm is Algorithm.GCRA)
        kept = hash((self.algorithm, self.count, self.period_ns, self.burst))
        object.__setattr__(self, "_hash", kept)

    @override
    def __hash__(self) -> int:
        return self._hash

    def worst_in(self, window_ns: int) -> int:
        """Return the most that any window of that length can admit, however it is asked for."""
        periods = -(-window_ns // self.period_ns)
        match self.algorithm:
            case Algorithm.GCRA:
                return self.burst + -(-window_ns // self.interval_ns) - 1
            case Algorithm.EXACT:
                return self.count * periods
            case _:
                # All at the end of one window; whoever spent in the one before cannot spend the
                # last of this one, and nothing else holds it back at its end.
                if self.count == 1:
                    return periods // 2 + 1
                return self.count + periods * (self.count - 1)


class Ask(NamedTuple):
    """`cost` is wanted of the bucket of `key`, which has at most 64 characters of ASCII."""

    key: str
    quota: Quota
    cost: int = 1


class Taken(NamedTuple):
    """What a bucket answered: the times count from now, `retry_after_ns` is 0 when allowed.

    At `retry_after_ns` the same request is admitted, and a nanosecond before it is not, if nobody
    else takes from the bucket meanwhile. At `reset_ns` it is as if nothing had been taken.
    """

    allowed: bool
    remaining: int
    retry_after_ns: int
    reset_ns: int


# Names for what would say nothing in front of three numbers; those stand by position, because most
# of what a decision takes is to make its answer.
ALLOWED: Final = True
REFUSED: Final = False


class Spent(NamedTuple):
    """The state of a SLIDING bucket: which window, what was taken in the one before and in it."""

    window: int
    before: int
    current: int


# Of GCRA the instant up to which was spent; of EXACT the instants of what was taken, in order.
State: TypeAlias = int | tuple[int, ...] | Spent

UNSPENT: Final = Spent(0, 0, 0)


class Buckets(Protocol):
    """Take from all buckets of a request or from none of them.

    Whoever cannot answer within its bound raises `BucketsUnavailable`.
    """

    async def take(self, asks: Sequence[Ask]) -> tuple[Taken, ...]:
        """Take from each bucket if every one of them allows it; answer for each, in order."""
        ...

    async def give_back(self, asks: Sequence[Ask]) -> None:
        """Put back what was taken; more than that is put back by nobody."""
        ...

    async def close(self) -> None:
        """Let go of what was opened; the buckets are not used any more."""
        ...


def judge(state: State | None, quota: Quota, cost: int, now_ns: int) -> tuple[State, Taken]:
    """Decide about one bucket; None is the state of a key that is not known."""
    match quota.algorithm:
        case Algorithm.GCRA:
            return judge_gcra(_spent_until(state), quota, cost, now_ns)
        case Algorithm.EXACT:
            return judge_exact(_instants(state), quota, cost, now_ns)
        case _:
            return judge_sliding(_counts(state), quota, cost, now_ns)


def put_back(state: State | None, quota: Quota, cost: int) -> State:
    """Return the state as if `cost` had not been taken; of a key that is not known, that of one."""
    match quota.algorithm:
        case Algorithm.GCRA:
            return max(0, _spent_until(state) - cost * quota.interval_ns)
        case Algorithm.EXACT:
            return _instants(state)[:-cost]
        case _:
            window, before, current = _counts(state)
            # The rest of it was taken in the window before.
            left = max(0, cost - current)
            return Spent(window, max(0, before - left), max(0, current - cost))


def unspent_at_ns(state: State, quota: Quota) -> int:
    """Return the instant from which the state is that of a key that is not known."""
    match quota.algorithm:
        case Algorithm.GCRA:
            return _spent_until(state)
        case Algorithm.EXACT:
            instants = _instants(state)
            return instants[-1] + quota.period_ns if instants else 0
        case _:
            window, before, current = _counts(state)
            return (window + (2 if current else 1 if before else 0)) * quota.period_ns


def judge_gcra(spent_until: int, quota: Quota, cost: int, now_ns: int) -> tuple[int, Taken]:
    """Decide by the instant up to which the key has spent: at most a burst ahead of now."""
    if not 0 < cost <= quota.burst:
        raise _never(quota, cost)
    interval = quota.interval_ns
    start = spent_until if spent_until > now_ns else now_ns  # noqa: FURB136 - max() takes longer
    after = start + cost * interval
    late = after - now_ns - quota.burst_ns
    if late > 0:
        left = max(0, quota.burst - -(-(start - now_ns) // interval))
        return spent_until, Taken(REFUSED, left, late, start - now_ns)
    return after, Taken(ALLOWED, -late // interval, 0, after - now_ns)


def judge_exact(
    instants: tuple[int, ...], quota: Quota, cost: int, now_ns: int
) -> tuple[tuple[int, ...], Taken]:
    """Decide by the instants of what was taken, those of the last period."""
    if not 0 < cost <= quota.burst:
        raise _never(quota, cost)
    before = now_ns - quota.period_ns
    live = tuple(at for at in instants if at > before)
    left = quota.count - len(live)
    if cost > left:
        retry = live[cost - left - 1] + quota.period_ns - now_ns
        return instants, Taken(REFUSED, max(0, left), retry, live[-1] + quota.period_ns - now_ns)
    # In order also where the clock went back.
    at = max(now_ns, live[-1]) if live else now_ns
    return (*live, *(at,) * cost), Taken(ALLOWED, left - cost, 0, at + quota.period_ns - now_ns)


def judge_sliding(counts: Spent, quota: Quota, cost: int, now_ns: int) -> tuple[Spent, Taken]:
    """Decide by what was taken in this window and, the less the later it is, in the one before."""
    if not 0 < cost <= quota.burst:
        raise _never(quota, cost)
    period = quota.period_ns
    window, before, current = counts
    here = now_ns // period
    if here == window + 1:
        window, before, current = here, current, 0
    elif here > window:
        window, before, current = here, 0, 0
    # 0 also where the clock went back to a window before.
    passed = max(0, now_ns - window * period)
    left = quota.count - current - -(-before * (period - passed) // period)
    if cost > left:
        at = _when_sliding(window, before, current, quota, cost)
        reset = unspent_at_ns(Spent(window, before, current), quota)
        return counts, Taken(REFUSED, max(0, left), at - now_ns, reset - now_ns)
    taken = Spent(window, before, current + cost)
    return taken, Taken(ALLOWED, left - cost, 0, unspent_at_ns(taken, quota) - now_ns)


def _when_sliding(window: int, before: int, current: int, quota: Quota, cost: int) -> int:
    """Return the first instant at which nothing stands in the way of `cost`, if nobody else asks.

    The windows follow without a step: what counts for nothing at the end of one is gone in the
    next, where what was taken in the one counts for all of itself.
    """
    period = quota.period_ns
    room = quota.count - current - cost
    for place, older, space in ((window, before, room), (window + 1, current, quota.count - cost)):
        if space >= older:
            return place * period
        if space > 0:
            return place * period + period - space * period // older
    return (window + 2) * period


def _never(quota: Quota, cost: int) -> ValueError:
    return ValueError(
        f"a request costs between 1 and the burst of its quota, {quota.burst}, not {cost}: it "
        "would never be admitted"
    )


def _spent_until(state: State | None) -> int:
    return state if isinstance(state, int) else 0


def _instants(state: State | None) -> tuple[int, ...]:
    # A bucket whose policy counts in another way by now begins anew.
    return state if isinstance(state, tuple) and not isinstance(state, Spent) else ()


def _counts(state: State | None) -> Spent:
    return state if isinstance(state, Spent) else UNSPENT
