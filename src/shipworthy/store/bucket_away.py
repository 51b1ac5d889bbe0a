"""A store of buckets that is away costs one request its bound, and the others next to nothing."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, final

from shipworthy.clock import SYSTEM_CLOCK, Clock
from shipworthy.resilience import Breaker, BreakerOpen, BreakerRule, Ended, Ticket
from shipworthy.store.bucket import BucketsUnavailable, Taken
from shipworthy.store.bucket_rows import Answer

BOUND_SECONDS: Final = 0.05
# One failure opens it: each further try would cost a request the whole bound. It is soon tried
# again, by one request alone, because a policy that is closed refuses everybody meanwhile; a store
# that stays away is tried less and less. No ramp: what is refused by a ramp is not limited.
RULE: Final = BreakerRule(
    refused_calls=1,
    slow_seconds=60.0,
    open_seconds=0.2,
    open_cap_seconds=5.0,
    trials=1,
    ramp_seconds=0.0,
)


@final
class StoreBreaker:
    """Lets requests through to a store, and tells from how they end whether it is there.

    It is the breaker `store:NAME`, so that its changes are stated once each, and it is shown and
    set by hand where all breakers are. So many `failures` in two seconds open it.
    """

    def __init__(self, name: str, *, failures: int = 1, clock: Clock = SYSTEM_CLOCK) -> None:
        rule = replace(RULE, refused_calls=failures)
        self._breaker = Breaker(f"store:{name}", rule, clock=clock)
        self._now = clock.now

    async def through(self, asked: Callable[[], Awaitable[Answer]]) -> tuple[Taken, ...]:
        """Ask the store as far as it may be asked, and tell from how that ends.

        Raises `BucketsUnavailable`, and the `ValueError` that answers what cannot be had.
        """
        ticket, began = self.admit(), self._now()
        try:
            answer = await asked()
        except BucketsUnavailable:
            self.failed(ticket, began)
            raise
        except BaseException:
            self.left(ticket, began)
            raise
        self.answered(ticket, began)
        if isinstance(answer, ValueError):
            raise answer
        return answer

    def admit(self) -> Ticket:
        """Let one request through, or raise `BucketsUnavailable` at once."""
        try:
            return self._breaker.admit()
        except BreakerOpen as error:
            raise BucketsUnavailable(str(error)) from None

    def answered(self, ticket: Ticket, began: float) -> None:
        """Note that the store answered; `began` is of the monotonic clock."""
        self._breaker.record(ticket, Ended.SUCCESS, self._now() - began)

    def failed(self, ticket: Ticket, began: float) -> None:
        """Note that it did not, or could not do what it was asked for."""
        self._breaker.record(ticket, Ended.REFUSED, self._now() - began)

    def left(self, ticket: Ticket, began: float) -> None:
        """Note that whoever asked has gone before the answer came."""
        self._breaker.record(ticket, Ended.NEUTRAL, self._now() - began)
