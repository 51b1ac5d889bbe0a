"""The section `lifecycle`."""

from dataclasses import dataclass

from shipworthy.lifecycle.drain import DrainRule
from shipworthy.settings import duration, option, section


@section("lifecycle")
@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleSettings:
    """How long starting and leaving may take, and what is asked about health."""

    grace_seconds: float = duration(
        "30s",
        "from the signal to the end of the process, whatever happens; what stands above us "
        "(terminationGracePeriodSeconds, TimeoutStopSec) must wait longer",
        minimum="1s",
    )
    # Where a balancer asks for readiness, it needs a few rounds to see that we are leaving; on a
    # laptop nobody does, and Ctrl-C should not take five seconds.
    lame_duck_seconds: float = duration(
        "0s",
        "how long to go on accepting after readiness has failed",
        production="5s",
        staging="5s",
    )
    drain_seconds: float = duration("15s", "how long requests in flight get to finish")
    idle_grace_seconds: float = duration(
        "2s", "how long an idle connection gets to send one more request during the drain"
    )
    cancel_seconds: float = duration("2s", "how long cancelled requests get to unwind")
    stop_seconds: float = duration("5s", "how long the app and all components get to stop")
    start_seconds: float = duration(
        "60s", "how long the app and all components get to start", minimum="1s"
    )
    check_interval_seconds: float = duration(
        "5s",
        "how often the app's own health check is asked",
        minimum="100ms",
        # HealthCheckStale calls somebody after 15 minutes without an answer.
        maximum="10m",
    )
    check_timeout_seconds: float = duration(
        "2s", "how long the app's own health check may take", minimum="10ms"
    )
    ready_route: str = option(
        "", "a path of the app that joins readiness: any answer below 400 within the time is good"
    )
    ready_host: str = option(
        "localhost",
        "the Host for which the app is asked in-process: for ready_route, and at the start whether "
        "it has probes of its own",
    )
    ready_check: str = option(
        "", "a function 'package.module:function' that joins readiness; sync or async"
    )

    @property
    def rule(self) -> DrainRule:
        """Return the part that the drain decides by."""
        return DrainRule(
            lame_duck_seconds=self.lame_duck_seconds,
            drain_seconds=self.drain_seconds,
            idle_grace_seconds=self.idle_grace_seconds,
            cancel_seconds=self.cancel_seconds,
            stop_seconds=self.stop_seconds,
            grace_seconds=self.grace_seconds,
        )

    def refusals(self, environment: str) -> list[str]:
        """Name what cannot be kept; budgets that do not add up are refused everywhere."""
        del environment
        return self.rule.problems()
