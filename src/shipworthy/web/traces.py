"""The trace of a request: kept or not, decided at its head and again when its answer is over.

What is done for a request is noted as it happens, by whoever does it, in a list of its own: plain
tuples. Spans are made of it for the traces that are kept, elsewhere and later, so that the others
cost next to nothing.

Not here: the rules (`telemetry.sampling`), the ids (`context`), spans and their way to a collector.
"""

import time
from collections.abc import Callable
from typing import final

from shipworthy.context import TraceStep, TraceSteps, steps_here
from shipworthy.events import Event, Severity, listen
from shipworthy.telemetry import (
    Allowance,
    HeadRule,
    SpanExport,
    Trace,
    TraceSettings,
    event_fields,
    kept_because,
)
from shipworthy.web.line import UNMATCHED, Call
from shipworthy.web.request_metrics import CLIENT_GONE


@final
class Traces:
    """Have the traces of calls kept that are worth it; the guard behind `Correlation`.

    Where the application makes spans of its own, `hands_on` is set: its headers then name our span
    as their parent. Probes are nobody's requests. For the tasks of one event loop.
    """

    hands_on = False

    def __init__(
        self,
        settings: TraceSettings,
        export: SpanExport,
        *,
        now: Callable[[], float],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._head = HeadRule(
            ratio=settings.sample_ratio,
            trusts=settings.trust_parent,
            asked_per_second=settings.asked_per_second,
        )
        self._warned = Allowance(settings.asked_per_second)
        self._slow_seconds = settings.slow_seconds
        self._export = export
        self._now = now
        self._wall = wall
        note_events()

    def enter(self, call: Call) -> None:
        """Decide at the head, and have noted what is done from here on."""
        record = call.record
        if record.parent_span_id:
            record.sampled = self._head.goes_on(
                record.span_id, sampled=record.sampled, now=call.started
            )
        else:
            record.sampled = self._head.keeps(record.trace_id)
        call.kept = "sampled" if record.sampled else ""
        record.steps = TraceSteps()
        if self.hands_on:
            self._hand_on(call)

    def ended(self, call: Call) -> None:
        """Decide again, now that the answer is over.

        Before the request is counted: the trace that is kept is the example of its bucket. What is
        done in its background from here on is sampled too.
        """
        call.over = over = self._now()
        # How long a stream lasts tells nothing: its first part does.
        seconds = (call.first_at or over) - call.started
        because = kept_because(call.status or _status(call), seconds, self._slow_seconds)
        if because and not call.probe and not (because == "slow" and _talks(call)):
            call.kept = because
            call.record.sampled = True

    def leave(self, call: Call) -> None:
        """Hand the trace over where it is kept; nothing more is noted then."""
        record = call.record
        steps, record.steps = record.steps, None
        if steps is None or call.probe:
            return
        if steps.failed:
            call.kept = "failed"
        elif steps.warned and not call.kept and self._warned.spend(call.over):
            call.kept = "warned"
        if call.kept:
            self._export.take(self._trace(call, steps))

    def _trace(self, call: Call, steps: TraceSteps) -> Trace:
        record, scope = call.record, call.scope
        route = record.route or call.route()
        return Trace(
            trace_id=record.trace_id,
            span_id=record.span_id,
            parent_span_id=record.parent_span_id,
            tracestate=record.tracestate,
            request_id=record.request_id,
            method=record.method,
            route="" if route == UNMATCHED else route,
            path=record.path,
            scheme=scope.get("scheme", ""),
            client=record.client,
            status=_status(call),
            began=call.started,
            ended=call.over,
            wall_offset_seconds=self._wall() - self._now(),
            steps=tuple(steps),
            because=call.kept,
        )

    @staticmethod
    def _hand_on(call: Call) -> None:
        scope = call.scope
        others = [header for header in scope["headers"] if header[0] != b"traceparent"]
        scope["headers"] = [*others, (b"traceparent", call.record.traceparent.encode())]


def _status(call: Call) -> int:
    return call.status or (CLIENT_GONE if call.gone else 500)


def _talks(call: Call) -> bool:
    """Whether it is a websocket, which lasts as long as there is something to say."""
    return bool(call.scope["type"] == "websocket")


_noting = False


def note_events() -> None:
    """Note what is stated while a request is served among its steps, from now on; twice is once."""
    global _noting  # noqa: PLW0603 - events are one for the process, and so is this
    if not _noting:
        _noting = True
        listen(_note)


def _note(fact: Event) -> None:
    steps = steps_here()
    if steps is None:
        return
    at = time.monotonic()
    fields, held_bytes = event_fields(fact)
    steps.append(TraceStep("event", at, at, fields, held_bytes=held_bytes))
    if fact.severity is Severity.ERROR:
        steps.failed = True
    elif fact.severity is Severity.WARNING:
        steps.warned = True
