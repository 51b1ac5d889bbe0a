"""The targets this process calls, each with one breaker, one retry budget and its pipelines."""

import threading
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any, cast, final

from shipworthy.clock import SYSTEM_CLOCK, Clock
from shipworthy.context import current_deadline, current_request
from shipworthy.events import Event, Label, Severity, emit, event
from shipworthy.outbound.policy import (
    Repeat,
    fails,
    host_in,
    judge_answer,
    judge_error,
    leaves_traces,
    retry_after,
    trace_headers,
)
from shipworthy.outbound.settings import OutboundSettings
from shipworthy.resilience import (
    BreakerOpen,
    Ended,
    Failure,
    Pipeline,
    ResilienceSettings,
)

_PORTS = {"http": 80, "https": 443}


@event(severity=Severity.INFO)
class CallRepeated(Event):
    """A call to another service failed and is sent again."""

    target: Annotated[str, Label]
    method: str
    attempt: int


@event(severity=Severity.WARNING)
class TargetForgotten(Event):
    """More targets are called than may be known at once; what was known of this one is gone."""

    target: str
    targets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetStatistics:
    """What a target has seen since it became known; its breaker and pipeline have the rest."""

    target: str
    state: str
    failed_total: int
    repeated_total: int


@final
class AttemptFailed(Exception):
    """A judged failure on its way through the pipeline, never seen outside of this room.

    It carries what the app gets in the end: the `answer`, or the `error` of its library.
    """

    def __init__(
        self, judged: Failure, *, answer: Any = None, error: Exception | None = None
    ) -> None:
        self.judged = judged
        self.answer = answer
        self.error = error
        super().__init__(judged.because)

    def result(self) -> Any:
        """Return the answer, or raise the library's error as the library raised it."""
        if self.error is None:
            return self.answer
        try:
            raise self.error
        finally:
            # The error holds the frames that hold us: whoever drops it must be able to free it.
            self.error = self.__context__ = self.__traceback__ = None


class _Refusal:
    """An open breaker as an error of the library the app calls with."""

    def __init__(self, refused: BreakerOpen, request: Any) -> None:
        vars(self).update(vars(refused))
        self.args: tuple[Any, ...] = refused.args
        self.request = request


def refusal_as(kind: type[Exception]) -> type[Any]:
    """Return the `BreakerOpen` that is also of `kind`, which is what the app catches."""
    return type("TargetRefused", (_Refusal, BreakerOpen, kind), {"response": None})


@final
class Callee:
    """One scheme, host and port. Safe to share between threads and tasks."""

    __slots__ = (
        "_clock",
        "_patience",
        "breaker",
        "name",
        "pipeline",
        "traced",
        "used",
    )

    def __init__(
        self,
        name: str,
        settings: OutboundSettings,
        resilience: ResilienceSettings,
        *,
        traced: bool,
        clock: Clock,
    ) -> None:
        self.name = name
        self.traced = traced
        self.used = clock.now()
        self._clock = clock
        self._patience = settings.patience_seconds
        self.breaker = replace(resilience, slow_seconds=settings.slow_seconds).new_breaker(
            name, clock=clock
        )
        if settings.mode == "report" and resilience.breaker == "enforce":
            self.breaker.metrics_only()
        self.pipeline = Pipeline(
            name,
            judge=_judged,
            breaker=self.breaker,
            retry=resilience.retry_rule,
            budget=resilience.new_budget(),
            clock=clock,
        )

    def check(self, answer: Any, status: int, waits: str | None, repeat: Repeat) -> None:
        """Raise `AttemptFailed` for an answer that counts as a failure."""
        if not fails(status):
            return
        seconds = retry_after(waits, wall=self._clock.wall())
        judged = judge_answer(
            status, repeat, retry_after_seconds=seconds, patience_seconds=self._patience
        )
        raise AttemptFailed(judged, answer=answer)

    def judge(self, error: Exception, repeat: Repeat, began: float) -> AttemptFailed:
        """Return what to raise for an error of the app's library in an attempt begun at `began`."""
        judged = judge_error(error, repeat)
        deadline, now = current_deadline(), self._clock.now()
        if deadline is not None and now >= deadline - HASTE_SECONDS:
            # Time is over. Who got a fair part of it and did not answer has failed; who got the
            # last few milliseconds has not, and is certainly not known to be dead.
            fair = now - began >= _FAIR_SECONDS
            judged = replace(judged, transient=False, refused=False, counts=judged.counts and fair)
        return AttemptFailed(judged, error=error)

    def repeats(self, method: str, attempt: int) -> None:
        """Say that a call is sent again."""
        emit(CallRepeated, target=self.name, method=method, attempt=attempt)

    @contextmanager
    def observed(self) -> Iterator[None]:
        """Count how the call of the block ends, and do nothing else about it."""
        began = self._clock.now()
        ticket = self.breaker.admit()
        ended = Ended.NEUTRAL
        try:
            yield
            ended = Ended.SUCCESS
        except AttemptFailed as failed:
            if failed.judged.counts:
                ended = Ended.REFUSED if failed.judged.refused else Ended.FAILURE
            raise
        finally:
            self.breaker.record(ticket, ended, self._clock.now() - began)

    def statistics(self) -> TargetStatistics:
        """Return what happened so far."""
        return TargetStatistics(
            target=self.name,
            state=self.breaker.state.value,
            failed_total=self.breaker.statistics().failure_total,
            repeated_total=self.pipeline.statistics().retry_total,
        )


# How long before a deadline the waits of a library end, so that it is the library that says so and
# cleans up, before the pipeline cuts the task.
HASTE_SECONDS = 0.005
_FAIR_SECONDS = 1.0


def _judged(error: BaseException) -> Failure | None:
    return error.judged if isinstance(error, AttemptFailed) else None


@final
class Outbound:
    """The targets under one set of settings: at most `settings.targets` of them."""

    def __init__(
        self,
        settings: OutboundSettings | None = None,
        resilience: ResilienceSettings | None = None,
        *,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.settings = settings or OutboundSettings(mode="enforce")
        self.resilience = resilience or ResilienceSettings()
        self.enforces = self.settings.mode == "enforce"
        self.now = clock.now
        self._clock = clock
        self._targets: dict[tuple[str, str, int | None], Callee] = {}
        self._lock = threading.Lock()

    def target(self, scheme: str, host: str, port: int | None) -> Callee | None:
        """Return what is known of a target; None when its calls are left alone."""
        found = self._targets.get((scheme, host, port))
        if found is None:
            return self._meet(scheme, host, port)
        found.used = self.now()
        return found

    def goes_by(self, settings: OutboundSettings, resilience: ResilienceSettings | None) -> bool:
        """Tell whether these are its settings."""
        return (self.settings, self.resilience) == (settings, resilience or ResilienceSettings())

    def headers(self, target: Callee, present: Container[str]) -> list[tuple[str, str]]:
        """Return the headers to add for the request being served, if any."""
        record = current_request()
        if record is None or not target.traced:
            return []
        # An app that nobody wants to change sends what it sends, unless its traces are asked for.
        if not self.enforces and record.steps is None:
            return []
        return trace_headers(record, present)

    def left_seconds(self) -> float | None:
        """Return how long a wait may take at most; None without a deadline."""
        deadline = current_deadline()
        if deadline is None:
            return None
        # Not 0, which means "do not wait at all" to a socket; the pipeline has seen there is time.
        return max(deadline - HASTE_SECONDS - self.now(), 0.001)

    def statistics(self) -> tuple[TargetStatistics, ...]:
        """Return what each known target has seen."""
        return tuple(target.statistics() for target in self._targets.copy().values())

    def _meet(self, scheme: str, host: str, port: int | None) -> Callee | None:
        settings = self.settings
        if settings.mode == "off" or host_in(host, settings.exclude):
            return None
        shown = f"[{host}]" if ":" in host else host
        name = f"{scheme}://{shown}:{port or _PORTS.get(scheme, 0)}"
        with self._lock:
            known = self._targets.get((scheme, host, port))
            if known is not None:
                return known
            if len(self._targets) >= settings.targets:
                self._forget()
            made = self._targets[scheme, host, port] = Callee(
                name,
                settings,
                self.resilience,
                traced=settings.trace and not host_in(host, settings.trace_exclude),
                clock=self._clock,
            )
            return made

    def _forget(self) -> None:
        """Make room: the one that was idle the longest has the least to lose."""
        key = min(self._targets, key=lambda key: self._targets[key].used)
        gone = self._targets.pop(key)
        emit(TargetForgotten, target=gone.name, targets=self.settings.targets)


_standing: Outbound | None = None


def note_call(method: str) -> None:
    """Note a call with the request it is made for: one that leaves traces is not made twice."""
    record = current_request()
    if record is not None and leaves_traces(method):
        record.calls_out += 1


def standing() -> Outbound:
    """Return the one this process shares: as installed, else under the default settings."""
    if _standing is None:
        stand(Outbound())
    return cast("Outbound", _standing)


def stand(outbound: Outbound | None) -> None:
    """Let the process share `outbound` from now on."""
    global _standing  # noqa: PLW0603 - one breaker per target and process is the point
    _standing = outbound
