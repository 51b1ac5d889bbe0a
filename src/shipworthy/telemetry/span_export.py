"""Kept traces on their way to the collector: taken at once, sent by one thread, never waited for.

A collector that is away costs memory up to a bound, and a post now and then: what was taken waits
for it, what comes when there is no more room is dropped and counted.

Not here: what a span looks like (`spans`) and which traces are kept (`sampling`).
"""

import atexit
import math
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from random import random
from typing import Final, NamedTuple, Protocol, final

from shipworthy.context import TraceStep
from shipworthy.events import Event, Metric, OneOf, Seldom, Severity, emit, event
from shipworthy.redact import printable, redact
from shipworthy.resilience import Backoff
from shipworthy.telemetry.metrics import Registry
from shipworthy.telemetry.posting import PostAnswer, post
from shipworthy.telemetry.trace_settings import TraceSettings

# Of the traces that wait: some 2,000 that went well and 1,000 failures with their stacks.
HELD_BYTES: Final = 16 * 1024 * 1024
# Of those that are posted together, before encoding makes them smaller; the OpenTelemetry Collector
# takes 20 MiB.
BATCH_BYTES: Final = 2 * 1024 * 1024
# What a trace keeps beside its steps.
_TRACE_BYTES: Final = 1024
# How long spans gather before they are sent together.
GATHER_SECONDS: Final = 1.0
POST_SECONDS: Final = 5.0
# What a shutdown may wait for spans to be taken.
SPANS_CLOSE_SECONDS: Final = 2.0
# How often a collector that does not take spans is spoken of.
SAY_SECONDS: Final = 60.0
# Again and again, never more than once in half a minute: it will come back.
_BACKOFF: Final = Backoff(base_seconds=1.0, factor=2.0, cap_seconds=30.0)
# What of OTLP's answers asks to be sent again (specification of OTLP 1.x, "Retryable response
# codes"); any other refuses these spans for good.
_AGAIN: Final = frozenset({429, 502, 503, 504})
_ANSWER_BYTES: Final = 64 * 1024
_SAID_CHARACTERS: Final = 200
_REASONS: Final = ("sampled", "failed", "slow", "warned")

SPANS: Final = Metric(
    "shipworthy_spans_total",
    "counter",
    "Spans of kept traces: sent to the collector, refused by it, or dropped for want of room.",
    {"outcome": OneOf("sent", "refused", "dropped")},
)
KEPT: Final = Metric(
    "shipworthy_traces_kept_total",
    "counter",
    "Traces that were kept, by why: the head decided so, the request failed, was slow, or warned.",
    {"because": OneOf(*_REASONS)},
)
FAILURES: Final = Metric(
    "shipworthy_span_export_failures_total",
    "counter",
    "Posts of spans that the collector did not take; those that may be taken later are made again.",
)
FAILING: Final = Metric(
    "shipworthy_span_export_failing",
    "gauge",
    "Workers whose last post of spans was not taken.",
)


@event(severity=Severity.WARNING)
class SpansUnsent(Event):
    """The collector does not take spans; said once a minute, and requests do not wait for it."""

    because: str
    waiting_bytes: int
    dropped: int


@event(severity=Severity.INFO)
class SpansSentAgain(Event):
    """The collector takes spans again."""

    after_seconds: float


class Trace(NamedTuple):
    """What is kept of one request, whole and by itself: nothing in it changes any more.

    `wall_offset_seconds` is what makes Unix seconds of the monotonic ones. `because` is why it is
    kept. `method` is WEBSOCKET for one, and `route` '' where none served it.
    """

    trace_id: str
    span_id: str
    parent_span_id: str
    tracestate: str
    request_id: str
    method: str
    route: str
    path: str
    scheme: str
    client: str
    status: int
    began: float
    ended: float
    wall_offset_seconds: float
    steps: Sequence[TraceStep]
    because: str

    @property
    def spans(self) -> int:
        """How many spans it becomes; events are part of one."""
        return 1 + sum(step.kind != "event" for step in self.steps)


class Coder(Protocol):
    """Writes traces as the body of a post, and reads its answer."""

    def body(self, traces: Sequence[Trace]) -> bytes:
        """Return the body."""
        ...

    def rejected(self, answer: bytes) -> int:
        """Return how many spans of it were not taken."""
        ...


Post = Callable[..., PostAnswer]


@final
class SpanExport:
    """Takes traces and posts them to the collector from a thread of its own.

    `take` never waits and is safe from any thread, and after a fork. The thread begins with the
    first trace.
    """

    _deadline: float

    def __init__(
        self,
        settings: TraceSettings,
        coder: Coder,
        *,
        held_bytes: int = HELD_BYTES,
        post: Post = post,
        now: Callable[[], float] = time.monotonic,
        gather_seconds: float = GATHER_SECONDS,
    ) -> None:
        self._url = settings.url
        self._headers = {
            "Content-Type": "application/x-protobuf",
            **(settings.sent_headers or {}),
        }
        self._coder = coder
        self._limit_bytes = held_bytes
        self._post = post
        self._now = now
        self._gather_seconds = gather_seconds
        self.sent = self.refused = self.dropped = self.failures = 0
        self.kept = dict.fromkeys(_REASONS, 0)
        # Why spans are not taken, '' while they are; and since when, monotonic.
        self.trouble = ""
        self._trouble_since = 0.0
        self._seldom = Seldom(SAY_SECONDS)
        self._said = False
        self._begin()
        _living.add(self)

    def take(self, trace: Trace) -> None:
        """Take a trace; at once, and dropped when there is no room."""
        # Single statements without a call in them: no thread switch comes between load and store.
        self.kept[trace.because] += 1
        spans = trace.spans
        size_bytes = _TRACE_BYTES + sum(step.held_bytes for step in trace.steps)
        if self._closed or self._held_bytes + size_bytes > self._limit_bytes:
            self.dropped += spans
            return
        self._held_bytes += size_bytes
        self._traces.put((trace, size_bytes))
        if self._thread is None:
            self._start()

    def open(self) -> None:
        """Take traces, again where it was closed."""
        if self._closed:
            self._begin()

    def close(self, timeout_seconds: float = SPANS_CLOSE_SECONDS) -> bool:
        """Send what is held, for at most `timeout_seconds`; tell whether that was long enough.

        Traces that come later are dropped. May be called more than once.
        """
        self._closed = True
        atexit.unregister(self._at_exit)
        thread = self._thread
        if thread is None:
            return True
        self._deadline = min(self._deadline, self._now() + timeout_seconds)
        self._closing.set()
        self._traces.put(None)
        thread.join(timeout_seconds)
        return not thread.is_alive()

    def remarks(self) -> tuple[str, ...]:
        """Say, in a sentence, what is wrong with the way to the collector, if anything is."""
        if not self.trouble:
            return ()
        return (f"traces are not taken by {self._url}: {self.trouble}",)

    def metrics(self, registry: Registry) -> None:
        """Register what is counted here."""
        registry.running_total(SPANS, read=self._spans)
        registry.running_total(KEPT, read=self._kept)
        registry.running_total(FAILURES, read=lambda: self.failures)
        registry.gauge(FAILING, read=lambda: 1.0 if self.trouble else 0.0)

    def _spans(self) -> Mapping[tuple[str, ...], float]:
        return {("sent",): self.sent, ("refused",): self.refused, ("dropped",): self.dropped}

    def _kept(self) -> Mapping[tuple[str, ...], float]:
        return {(because,): count for because, count in self.kept.items()}

    def _begin(self) -> None:
        """Start empty: also in the child of a fork, where the parent's traces are not ours."""
        self._traces: queue.SimpleQueue[tuple[Trace, int] | None] = queue.SimpleQueue()
        self._held_bytes = 0
        self._closed = False
        self._thread: threading.Thread | None = None
        self._starting = threading.RLock()
        self._closing = threading.Event()
        self._deadline = math.inf

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="shipworthy-traces", daemon=True
                )
                self._thread.start()
                atexit.register(self._at_exit)

    def _at_exit(self) -> None:
        self.close()

    def _run(self) -> None:
        full = False
        # One that a silent collector has held up beyond a close ends when it is free.
        while self._thread is threading.current_thread():
            taken = self._traces.get()
            # Behind a full batch is the next one already.
            if taken is not None and not full:
                self._closing.wait(self._gather_seconds)
            batch: list[Trace] = []
            size_bytes = 0
            while taken is not None:
                batch.append(taken[0])
                size_bytes += taken[1]
                if size_bytes >= BATCH_BYTES:
                    break
                try:
                    taken = self._traces.get_nowait()
                except queue.Empty:
                    break
            full = size_bytes >= BATCH_BYTES
            if batch:
                self._send(batch, sum(trace.spans for trace in batch))
                self._held_bytes -= size_bytes
            if taken is None:
                return

    def _send(self, batch: list[Trace], spans: int) -> None:
        """Send until it is taken, refused for good, or nobody has time for it any more."""
        try:
            body = self._coder.body(batch)
        except Exception as error:  # noqa: BLE001 - the thread must live; what it lost is counted
            self._failed(f"spans could not be written: {_said(error)}")
            self.refused += spans
            return
        attempt, last = 0, False
        while True:
            closing = self._closing.is_set()
            if (closing and last) or self._now() >= self._deadline:
                self.dropped += spans
                return
            # Whoever closes has time for one attempt more: the collector may be back by then.
            attempt, last = attempt + 1, closing
            if self._posted(body, spans):
                return
            self._closing.wait(_BACKOFF.ceiling(attempt) * (0.5 + random() / 2))  # noqa: S311

    def _posted(self, body: bytes, spans: int) -> bool:
        """Post once; say whether that was the end of it, one way or the other."""
        try:
            answer = self._post(
                self._url,
                body,
                self._headers,
                timeout_seconds=max(0.05, min(POST_SECONDS, self._deadline - self._now())),
                answer_bytes=_ANSWER_BYTES,
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, the thread must live
            self._failed(_said(error))
            return False
        if 200 <= answer.status < 300:
            lost = min(spans, max(0, self._coder.rejected(answer.body)))
            self.sent += spans - lost
            self.refused += lost
            self._recovered()
            return True
        self._failed(f"it answered {answer.status}")
        if answer.status in _AGAIN:
            return False
        self.refused += spans
        return True

    def _failed(self, because: str) -> None:
        self.failures += 1
        now = self._now()
        if not self.trouble:
            self._trouble_since = now
        self.trouble = because
        if self._seldom.held_back("unsent", now) is not None:
            self._said = True
            emit(SpansUnsent, because=because, waiting_bytes=self._held_bytes, dropped=self.dropped)

    def _recovered(self) -> None:
        self.trouble = ""
        if self._said:
            self._said = False
            emit(SpansSentAgain, after_seconds=self._now() - self._trouble_since)


def export_of(settings: TraceSettings, resource: Mapping[str, str]) -> SpanExport:
    """Return the way to the collector of `settings`, for a process that `resource` describes.

    Needs the packages of the extra `otel`; `settings` refuse to hold where they are missing.
    """
    from shipworthy.telemetry.spans import SpanCoder

    return SpanExport(settings, SpanCoder(resource))


def _said(error: Exception) -> str:
    """Say in one line why a post failed; a collector may say secrets back to us."""
    text = str(error) or type(error).__name__
    return printable(redact(text))[:_SAID_CHARACTERS]


_living: "weakref.WeakSet[SpanExport]" = weakref.WeakSet()


def _begin_in_child() -> None:
    for export in _living:
        export._begin()  # noqa: SLF001 - the same module


os.register_at_fork(after_in_child=_begin_in_child)
