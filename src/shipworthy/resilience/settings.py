"""The section `resilience`."""

from dataclasses import dataclass
from typing import Literal

from shipworthy.clock import SYSTEM_CLOCK, Clock
from shipworthy.resilience.backoff import Backoff
from shipworthy.resilience.breaker import Breaker
from shipworthy.resilience.budget import RetryBudget
from shipworthy.resilience.circuit import BreakerRule
from shipworthy.resilience.retry import RetryRule
from shipworthy.settings import duration, option, section


@section("resilience")
@dataclass(frozen=True, slots=True, kw_only=True)
class ResilienceSettings:
    """How calls to databases and to other services are retried, and when they are not made."""

    breaker: Literal["enforce", "report", "off"] = option(
        "enforce", "whether breakers refuse calls, only say when they would, or do nothing"
    )
    minimum_calls: int = option(
        20, "how many calls a window must hold before its ratios mean anything", minimum=1
    )
    window_seconds: float = duration(
        "10s", "how far back a breaker looks", minimum="1s", maximum="1h"
    )
    failure_ratio: float = option(
        0.5, "the share of failed calls that opens a breaker", minimum=0.01, maximum=1
    )
    slow_ratio: float = option(
        0.8, "the share of slow calls that opens a breaker", minimum=0.01, maximum=1
    )
    slow_seconds: float = duration("5s", "from when on a call is slow", minimum="1ms", maximum="1h")
    open_seconds: float = duration(
        "1s", "how long a breaker stays open the first time", minimum="10ms", maximum="1h"
    )
    open_cap_seconds: float = duration(
        "30s", "how long it stays open at most", minimum="10ms", maximum="1h"
    )
    trials: int = option(
        3, "how many trial calls are made at once, and must go well, to close it", minimum=1
    )
    ramp_seconds: float = duration(
        "10s", "how long admission is ramped up after closing; 0 lets all in at once", maximum="1h"
    )
    attempts: int = option(3, "how often a call is attempted at most", minimum=1, maximum=10)
    backoff_seconds: float = duration(
        "50ms", "the longest wait before the second attempt", minimum="1ms", maximum="1m"
    )
    backoff_cap_seconds: float = duration(
        "2s", "the longest wait before any attempt", minimum="1ms", maximum="10m"
    )
    retry_ratio: float = option(
        0.2, "how many retries there may be for each first attempt", minimum=0, maximum=1
    )
    retry_reserve: float = option(
        1.0, "how many retries a second there may be whatever the traffic", minimum=0, maximum=1000
    )

    @property
    def breaker_rule(self) -> BreakerRule:
        """Return the part that a breaker decides by."""
        return BreakerRule(
            minimum_calls=self.minimum_calls,
            window_seconds=self.window_seconds,
            failure_ratio=self.failure_ratio,
            slow_ratio=self.slow_ratio,
            slow_seconds=self.slow_seconds,
            open_seconds=self.open_seconds,
            open_cap_seconds=self.open_cap_seconds,
            trials=self.trials,
            ramp_seconds=self.ramp_seconds,
        )

    @property
    def retry_rule(self) -> RetryRule:
        """Return the part that follows a failed attempt."""
        return RetryRule(
            attempts=self.attempts,
            backoff=Backoff(
                base_seconds=self.backoff_seconds, cap_seconds=self.backoff_cap_seconds
            ),
        )

    def new_budget(self) -> RetryBudget:
        """Return a new budget; all callers of one target share one."""
        return RetryBudget(self.retry_ratio, self.retry_reserve)

    def new_breaker(
        self, name: str, *, clock: Clock = SYSTEM_CLOCK, listed: bool = True
    ) -> Breaker:
        """Return a new breaker that enforces, reports or does nothing, as is set.

        One that is not `listed` is shown to nobody, and nobody sets it by hand.
        """
        breaker = Breaker(name, self.breaker_rule, clock=clock, listed=listed)
        if self.breaker == "report":
            breaker.metrics_only()
        elif self.breaker == "off":
            breaker.disable()
        return breaker

    def refusals(self, environment: str) -> list[str]:
        """Name what cannot work together; refused everywhere."""
        del environment
        found = []
        if self.open_cap_seconds < self.open_seconds:
            found.append(
                f"resilience.open_cap ({self.open_cap_seconds:g} s) is shorter than "
                f"resilience.open ({self.open_seconds:g} s)"
            )
        if self.backoff_cap_seconds < self.backoff_seconds:
            found.append(
                f"resilience.backoff_cap ({self.backoff_cap_seconds:g} s) is shorter than "
                f"resilience.backoff ({self.backoff_seconds:g} s)"
            )
        return found
