"""The section `admission`: when more comes than can be served, and who is served then."""

from dataclasses import dataclass
from typing import Literal

from shipworthy.admission import pattern_of
from shipworthy.errors import Misuse
from shipworthy.settings import duration, option, section


@section("admission")
@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionSettings:
    """What becomes of requests while more of them come than can be served."""

    # Of 200 clients that wait for one another's answers, nearly half were turned away on a machine
    # that was busy, and would have been answered within seconds: whose clients wait decides.
    mode: Literal["off", "report", "enforce"] = option(
        "report",
        "enforce: what could not be served in time is turned away with 503; report: it is served, "
        "and told of",
    )
    critical: tuple[str, ...] = option(
        (),
        "requests that are served before all others, as POST /payments or /admin/*; written as "
        "what a rate limit matches",
    )
    sheddable: tuple[str, ...] = option(
        (), "requests that are turned away before all others, written in the same way"
    )
    # Four times as long as a thread may keep the interpreter: less is no news of a loop.
    late_seconds: float = duration(
        "20ms",
        "how late the event loop comes before that counts as late",
        minimum="1ms",
        maximum="10s",
    )
    after_seconds: float = duration(
        "1s",
        "how long it comes late without a break before anything is done about it",
        minimum="100ms",
        maximum="1m",
    )
    until_seconds: float = duration(
        "3s",
        "how long nothing is late and nobody is turned away before that ends",
        minimum="100ms",
        maximum="10m",
    )
    wait_seconds: float = duration(
        "500ms",
        "how long a request waits for its turn; where all of them wait that long for a database "
        "connection, it is an overload too",
        minimum="10ms",
        maximum="1m",
    )
    concurrency_floor: int = option(
        4,
        "how many requests a worker serves at once in any case, whatever was measured",
        minimum=1,
        maximum=10_000,
    )
    streams: int = option(
        0,
        "websockets and event streams that a worker has open at once, at most; 0 for no bound",
        minimum=0,
    )
    unready_after_seconds: float = duration(
        "0s",
        "how long an overload lasts before the worker is not ready; 0 for never, since who takes "
        "instances away in an overload leaves more to the others",
    )

    def refusals(self, environment: str) -> list[str]:
        """Return what names no request, in any environment."""
        del environment
        return [
            f"admission.{name}: {problem}"
            for name in ("critical", "sheddable")
            for pattern in getattr(self, name)
            if (problem := _problem(pattern))
        ]


def _problem(pattern: str) -> str:
    try:
        pattern_of(pattern)
    except Misuse as error:
        return str(error)
    return ""
