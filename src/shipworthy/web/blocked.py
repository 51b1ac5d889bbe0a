"""What the guards turn away: one event, one count and one memory, whichever guard it was.

Not here: why something is turned away (each guard), and what its client is told (`problems`).
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, NamedTuple, final

from shipworthy.events import Declared, Event, Label, Metric, OneOf, Severity, emit, event
from shipworthy.redact import redact
from shipworthy.telemetry import Registry

GuardName = Literal["host", "https", "limits", "admission", "protocol", "body", "csrf", "csp"]
GuardMode = Literal["report", "enforce"]

BLOCKED: Final = Metric(
    "shipworthy_blocked_total",
    "counter",
    "Requests that a guard turned away, and in mode report those that it would have.",
    {
        "guard": OneOf("host", "https", "limits", "admission", "protocol", "body", "csrf", "csp"),
        "rule": Declared(),
        "mode": OneOf("report", "enforce"),
    },
)
# What is kept for whoever asks later; each is about a kilobyte at most.
REMEMBERED: Final = 100
# An attack is thousands of requests a second: of each rule one line a second says how many.
SAID_SECONDS: Final = 1.0
_TEXT_CHARACTERS: Final = 200


@event(severity=Severity.WARNING)
class RequestBlocked(Event):
    """A guard turned a request away, or would have in mode report.

    It is stated once a second for each rule; `others` is how many were not, since the one before.
    """

    guard: Annotated[str, Label]
    rule: Annotated[str, Label]
    mode: Annotated[str, Label]
    client: str
    route: str
    because: str
    others: int


class Blocking(NamedTuple):
    """One request that was turned away; `at` is in the seconds of the clock of `Blocked`."""

    at: float
    guard: str
    rule: str
    mode: str
    client: str
    route: str
    because: str


@final
class Blocked:
    """Count what guards turn away, state it without a flood, and remember the last of it.

    One for each hull. Safe in any thread. `rule` is a name that the service gives, in its code or
    settings, and never anything of a request.
    """

    def __init__(self, registry: Registry, *, now: Callable[[], float]) -> None:
        self._count = registry.counter(BLOCKED)
        self._now = now
        self._lock = threading.Lock()
        # By rule: when it was last stated and how many were not since; and how many there were.
        self._said: dict[tuple[str, str, str], tuple[float, int]] = {}
        self._hits: dict[tuple[str, str, str], int] = {}
        self._last: deque[Blocking] = deque(maxlen=REMEMBERED)

    def expect(self, guard: GuardName, rule: str, mode: GuardMode) -> None:
        """Show the count of a rule from now on: one that begins at its first hit hides that hit."""
        self._count.cell(guard, rule, mode)

    def tell(
        self,
        guard: GuardName,
        rule: str,
        mode: GuardMode,
        because: str,
        *,
        client: str,
        route: str,
    ) -> None:
        """Hear that a request was turned away; `because` is redacted where it is written."""
        self._count.cell(guard, rule, mode).add(1)
        now = self._now()
        because, client = because[:_TEXT_CHARACTERS], client[:_TEXT_CHARACTERS]
        key = (guard, rule, mode)
        with self._lock:
            self._last.append(Blocking(now, guard, rule, mode, client, route, because))
            at, others = self._said.get(key, (now - SAID_SECONDS, 0))
            self._hits[key] = self._hits.get(key, 0) + 1
            says = now - at >= SAID_SECONDS
            self._said[key] = (now, 0) if says else (at, others + 1)
        if says:
            emit(
                RequestBlocked,
                guard=guard,
                rule=rule,
                mode=mode,
                client=client,
                route=route,
                because=because,
                others=others,
            )

    def last(self) -> list[Blocking]:
        """Return what was turned away, the newest last, as far as it is remembered."""
        with self._lock:
            return list(self._last)

    def describe(self) -> dict[str, Any]:
        """Return how often each rule has hit, and the last requests; plain data, redacted."""
        now = self._now()
        with self._lock:
            hits = dict(self._hits)
        return {
            "rules": [
                {"guard": guard, "rule": rule, "mode": mode, "requests": requests}
                for (guard, rule, mode), requests in hits.items()
            ],
            "last": [
                {
                    "seconds_ago": round(now - one.at, 3),
                    **{
                        name: redact(str(value))
                        for name, value in one._asdict().items()
                        if name != "at"
                    },
                }
                for one in self.last()
            ],
        }
