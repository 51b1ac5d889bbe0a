"""The section `outbound`."""

from dataclasses import dataclass
from typing import Literal

from shipworthy.settings import duration, option, section


@section("outbound")
@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundSettings:
    """How calls to other services are guarded; attempts and budgets are those of `resilience`."""

    # An unmodified app stays unmodified: what is sent twice or refused is for a person to decide.
    mode: Literal["off", "report", "enforce"] = option(
        "report",
        "off: calls are left alone; report: they are counted and nothing else is done; enforce: "
        "deadline, breaker, retry and trace headers",
    )
    # The caller waits meanwhile, so an answer that says "in an hour" is the app's to deal with.
    patience_seconds: float = duration(
        "5s",
        "the longest Retry-After that is waited for; with a longer one the app gets the answer",
    )
    # Well above what answers that are computed on demand take: an opened breaker refuses them all.
    slow_seconds: float = duration(
        "30s",
        "from where on a call is slow; when most are, the breaker opens",
        minimum="10ms",
    )
    silence_seconds: float = duration(
        "2m",
        "how long `requests` waits for the next byte where the app set no timeout and does not "
        "stream; 0 for as long as it takes",
    )
    targets: int = option(
        256,
        "how many targets (scheme, host and port) are known at once; beyond, the one that was idle "
        "the longest is forgotten",
        minimum=1,
        maximum=10_000,
    )
    trace: bool = option(True, "send traceparent, tracestate and X-Request-ID on")  # noqa: FBT003
    trace_exclude: tuple[str, ...] = option(
        (), "hosts that get no trace headers: example.org, or .example.org for all below it too"
    )
    exclude: tuple[str, ...] = option((), "hosts whose calls are left alone, written likewise")
