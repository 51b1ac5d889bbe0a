"""The breaker as callers share it: the circuit with a clock, a lock, a name and a voice."""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated
from weakref import WeakValueDictionary

from typing_extensions import override

from shipworthy.clock import SYSTEM_CLOCK, Clock
from shipworthy.errors import Rejected
from shipworthy.events import Event, Label, Severity, emit, event
from shipworthy.resilience.circuit import (
    BreakerRule,
    BreakerState,
    Circuit,
    Ended,
    Objection,
    Ticket,
)


@event(severity=Severity.WARNING)
class BreakerChanged(Event):
    """A breaker changed its state."""

    breaker: Annotated[str, Label]
    before: Annotated[str, Label]
    after: Annotated[str, Label]
    because: str


@event(severity=Severity.WARNING)
class BreakerWouldOpen(Event):
    """A breaker that only measures would have opened."""

    breaker: Annotated[str, Label]
    because: str


class BreakerOpen(Rejected):
    """The breaker `name` let this call not through, so nothing was sent; `because` says why."""

    def __init__(self, name: str, *, because: str, retry_after_seconds: float) -> None:
        # The sentence is built when somebody reads it: a refusal must cost next to nothing.
        super().__init__(name, retry_after_seconds=retry_after_seconds)
        self.name = name
        self.because = because

    @property
    @override
    def public_detail(self) -> str:
        return "something that this request needs is not available at the moment"

    @override
    def __str__(self) -> str:
        return (
            f"breaker '{self.name}' is open: {self.because}; try again in "
            f"{self.retry_after_seconds:.1f} s"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerStatistics:
    """A breaker at one moment: the window, then what was counted since the start."""

    name: str
    state: BreakerState
    because: str
    for_seconds: float
    retry_after_seconds: float
    in_flight: int
    generation: int
    window_calls: int
    window_failures: int
    window_slow: int
    success_total: int
    failure_total: int
    neutral_total: int
    slow_total: int
    refused_total: int
    late_total: int
    opened_total: int
    openings_in_a_row: int
    keeps_out: bool


class Breaker:
    """Stop calling what keeps failing, and let a few trials find out when it is back.

    Take a ticket with `admit()` before a call, and hand it to `record()` after it, exactly once
    and however the call ended. One breaker per target and role, not per place that calls it. Safe
    to share between threads and tasks; no lock is held during a call, and none at all is taken by
    a success in time. State is per process: breakers that disagree for a moment do less harm than
    breakers that must ask Redis whether Redis is down. The newest of a name is in `breakers()`.
    """

    __slots__ = (
        "__weakref__",
        "_lock",
        "_now",
        "_opened",
        "circuit",
        "clock",
        "count_success",
        "name",
    )

    def __init__(
        self,
        name: str,
        rule: BreakerRule | None = None,
        *,
        clock: Clock = SYSTEM_CLOCK,
        draw: Callable[[], float] = random.random,
        listed: bool = True,
    ) -> None:
        self.name = name
        self.clock = clock
        self._now = clock.now
        # Reentrant: a finalizer that records may run in the middle of a record.
        self._lock = threading.RLock()
        self.circuit = Circuit(rule or BreakerRule(), clock.now(), draw=draw)
        self._opened = 0
        # For a caller who has read the clock: False means that `record_at` has to decide.
        self.count_success = self.circuit.count_success
        if listed:
            _breakers[name] = self

    @property
    def rule(self) -> BreakerRule:
        return self.circuit.rule

    @property
    def state(self) -> BreakerState:
        """The present state; an open breaker whose wait is over stays open until somebody calls."""
        return self.circuit.state

    def admit(self) -> Ticket:
        """Let one call through, or raise `BreakerOpen`."""
        circuit = self.circuit
        if circuit.steady:
            return circuit.admit_steady()
        with self._lock:
            answer = circuit.admit(self._now())
        if circuit.changes:
            self._tell()
        if not isinstance(answer, Objection):
            return answer
        raise BreakerOpen(
            self.name, because=answer.because, retry_after_seconds=answer.retry_after_seconds
        )

    def record(self, ticket: Ticket, ended: Ended, elapsed_seconds: float) -> None:
        """Tell how an admitted call ended and how long it took; too late a tale is dropped."""
        self.record_at(ticket, ended, elapsed_seconds, self._now())

    def record_at(self, ticket: Ticket, ended: Ended, elapsed_seconds: float, now: float) -> None:
        """Do as `record`, for a caller that has just read the clock of this breaker."""
        circuit = self.circuit
        if ended is Ended.SUCCESS and circuit.count_success(ticket, elapsed_seconds, now):
            return
        with self._lock:
            circuit.record(ticket, ended, elapsed_seconds, now)
        if circuit.changes:
            self._tell()

    def isolate(self, because: str) -> None:
        """Refuse every call until `close()`."""
        with self._lock:
            self.circuit.isolate(because, self._now())
        self._tell()

    def close(self) -> None:
        """Close at once, forget what was counted, and leave any state that was set by hand."""
        with self._lock:
            self.circuit.close(self._now())
        self._tell()

    def disable(self) -> None:
        """Let everything through and count nothing, until `close()`."""
        with self._lock:
            self.circuit.disable(self._now())
        self._tell()

    def metrics_only(self) -> None:
        """Let everything through, count, and state `BreakerWouldOpen`, until `close()`."""
        with self._lock:
            self.circuit.metrics_only(self._now())
        self._tell()

    def probe_ok(self) -> None:
        """Tell that a prober of the target was answered: an open breaker begins its trials."""
        with self._lock:
            self.circuit.probe_ok(self._now())
        self._tell()

    def probe_failed(self) -> None:
        """Tell that the prober was not answered: an open breaker stays so, without a trial."""
        with self._lock:
            self.circuit.probe_failed(self._now())
        self._tell()

    def statistics(self) -> BreakerStatistics:
        """Return how it stands; never waits for a call."""
        with self._lock:
            circuit, now = self.circuit, self._now()
            window = circuit.window(now)
            total = circuit.counted()
            return BreakerStatistics(
                name=self.name,
                state=circuit.state,
                because=circuit.because,
                for_seconds=now - circuit.since,
                retry_after_seconds=circuit.retry_after(now),
                in_flight=circuit.in_flight,
                generation=circuit.era,
                window_calls=window.calls,
                window_failures=window.failures,
                window_slow=window.slow,
                success_total=total.calls - total.failures,
                failure_total=total.failures,
                neutral_total=total.neutral,
                slow_total=total.slow,
                refused_total=circuit.refused_total,
                late_total=circuit.late_total,
                opened_total=self._opened,
                openings_in_a_row=circuit.openings_in_a_row(now),
                keeps_out=circuit.keeps_out(now),
            )

    def _tell(self) -> None:
        # Outside of the lock, so that a listener may ask this breaker anything.
        with self._lock:
            changes, self.circuit.changes = self.circuit.changes, []
            # One whose trial calls fail has not closed: an outage is one opening, however long.
            self._opened += sum(
                change.after is BreakerState.OPEN
                and change.before is not BreakerState.HALF_OPEN
                and not change.would
                for change in changes
            )
        for change in changes:
            if change.would:
                emit(BreakerWouldOpen, breaker=self.name, because=change.because)
            else:
                emit(
                    BreakerChanged,
                    breaker=self.name,
                    before=change.before.value,
                    after=change.after.value,
                    because=change.because,
                )


_breakers: WeakValueDictionary[str, Breaker] = WeakValueDictionary()


def breakers() -> dict[str, Breaker]:
    """Return the breakers of this process by name, the newest of each name."""
    # The list of references is taken in one step, so a breaker may be made meanwhile.
    found = [breaker for ref in _breakers.valuerefs() if (breaker := ref()) is not None]
    return {breaker.name: breaker for breaker in sorted(found, key=lambda one: one.name)}
