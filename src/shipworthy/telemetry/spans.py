"""A kept trace as spans of OpenTelemetry: its names, its types, nothing secret.

Made in the thread that sends them. The SDK's spans are plain data here: no provider, no processor,
nothing of it is global.

Not here: which traces are kept (`sampling`), and how spans leave the process (`span_export`).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, final

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event as SpanEvent, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from shipworthy import __version__
from shipworthy.context import STEPS_MAX, TraceStep, new_span_id
from shipworthy.events import OTHER, method_label
from shipworthy.redact import redact, without_values
from shipworthy.telemetry.logs import redacted
from shipworthy.telemetry.span_export import Trace

_SCOPE: Final = InstrumentationScope("shipworthy", __version__)
_TEXT_CHARACTERS: Final = 2048
# The span has these already, or needs none.
_OF_THE_SPAN: Final = frozenset({"event", "ts", "logger", "request_id", "trace_id"})
# Of tracestate, by W3C Trace Context.
_MEMBERS_MAX: Final = 32
_MEMBER = re.compile(
    r"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
# The first word of a statement, and the first table it names.
_OPERATION = re.compile(r"\s*([A-Za-z]+)")
_TABLE = re.compile(r'\b(?:FROM|INTO|UPDATE|JOIN)\s+([\w."`]{1,100})', re.IGNORECASE)


@final
class SpanCoder:
    """Writes traces as the body of one export, and reads the answer to it."""

    def __init__(self, resource: Mapping[str, str]) -> None:
        self._resource = Resource(dict(resource))

    def body(self, traces: Sequence[Trace]) -> bytes:
        """Return the bytes of an `ExportTraceServiceRequest` with all spans of `traces`."""
        spans = [span for trace in traces for span in spans_of(trace, self._resource)]
        body: bytes = encode_spans(spans).SerializeToString()
        return body

    @staticmethod
    def rejected(answer: bytes) -> int:
        """Return how many spans the collector says it did not take; 0 where it says nothing."""
        try:
            said = ExportTraceServiceResponse.FromString(answer)
        except Exception:  # noqa: BLE001 - whatever it answers beside 200, it has taken them
            return 0
        return int(said.partial_success.rejected_spans)


def spans_of(trace: Trace, resource: Resource) -> Iterator[ReadableSpan]:
    """Yield the span of the request, and below it one for each step that took time."""
    trace_id = int(trace.trace_id, 16)
    state = _state(trace.tracestate)
    failed = trace.status >= 500 or any(_is_error(step) for step in trace.steps)
    server = _context(trace_id, trace.span_id, state)
    yield ReadableSpan(
        _server_name(trace),
        context=server,
        parent=_context(trace_id, trace.parent_span_id, state, remote=True)
        if trace.parent_span_id
        else None,
        resource=resource,
        attributes=_server_facts(trace),
        events=[
            _event(step, trace.wall_offset_seconds) for step in trace.steps if step.kind == "event"
        ],
        kind=SpanKind.SERVER,
        status=Status(StatusCode.ERROR if failed else StatusCode.UNSET),
        start_time=_nanoseconds(trace.began, trace),
        end_time=_nanoseconds(trace.ended, trace),
        instrumentation_scope=_SCOPE,
    )
    for step in trace.steps:
        if step.kind == "event":
            continue
        name, facts = _NAMED[step.kind](step)
        if step.failed:
            facts["error.type"] = redact(step.failed)
        yield ReadableSpan(
            name,
            context=_context(trace_id, step.span_id or new_span_id(), state),
            parent=server,
            resource=resource,
            attributes=facts,
            kind=SpanKind.INTERNAL if step.kind == "wait" else SpanKind.CLIENT,
            status=Status(StatusCode.ERROR if step.failed else StatusCode.UNSET),
            start_time=_nanoseconds(step.began, trace),
            end_time=_nanoseconds(step.ended, trace),
            instrumentation_scope=_SCOPE,
        )


def _context(
    trace_id: int, span_id: str, state: TraceState, *, remote: bool = False
) -> SpanContext:
    return SpanContext(trace_id, int(span_id, 16), remote, TraceFlags(1), state)


def _state(text: str) -> TraceState:
    """Return the state of the caller, none where a part of it is not as W3C has it.

    Looked at here: OpenTelemetry writes a line to the log for each part that is not.
    """
    members = [member.strip() for member in text.split(",") if member.strip()]
    pairs = [member.partition("=")[::2] for member in members if _MEMBER.fullmatch(member)]
    right = len(members) == len(dict(pairs)) <= _MEMBERS_MAX
    return TraceState(pairs if right else None)


def _nanoseconds(at: float, trace: Trace) -> int:
    return int((at + trace.wall_offset_seconds) * 1e9)


def _server_name(trace: Trace) -> str:
    method = _method(trace)
    spoken = "HTTP" if method == OTHER else method
    return f"{spoken} {trace.route}" if trace.route else spoken


def _method(trace: Trace) -> str:
    # The handshake of a websocket is a GET (RFC 6455); over HTTP/2 servers say it is one too.
    return "GET" if trace.method == "WEBSOCKET" else method_label(trace.method)


def _server_facts(trace: Trace) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "http.request.method": _method(trace),
        "url.path": _text(trace.path),
        "url.scheme": _text(trace.scheme),
        "http.response.status_code": trace.status,
        "client.address": _text(trace.client),
        "shipworthy.request_id": trace.request_id,
        "shipworthy.kept_because": trace.because,
    }
    if trace.route:
        facts["http.route"] = trace.route
    if trace.status >= 500:
        facts["error.type"] = next(map(_error_type, filter(_is_error, trace.steps)), "") or str(
            trace.status
        )
    if len(trace.steps) >= STEPS_MAX:
        facts["shipworthy.steps_cut"] = True
    return facts


def _is_error(step: TraceStep) -> bool:
    return step.kind == "event" and step.facts["level"] == "error"


def _error_type(step: TraceStep) -> str:
    return redact(str(step.facts.get("error_type", "")))


def _event(step: TraceStep, wall_offset_seconds: float) -> SpanEvent:
    """Return one of our events as an event of the span: the fields of its line in the log."""
    fields = redacted(step.facts)
    name = str(fields["event"])
    facts = {
        key: value if isinstance(value, str | bool | int | float) else str(value)
        for key, value in fields.items()
        if key not in _OF_THE_SPAN
    }
    if "stack" in facts:
        # What every viewer of traces looks for.
        name = "exception"
        facts |= {
            "exception.type": facts.pop("error_type"),
            "exception.message": facts.pop("error"),
            "exception.stacktrace": facts.pop("stack"),
        }
    return SpanEvent(name, facts, int((step.began + wall_offset_seconds) * 1e9))


def _statement(step: TraceStep) -> tuple[str, dict[str, Any]]:
    facts = dict(step.facts)
    text = facts.pop("db.query.text", "")
    if text:
        text = redact(without_values(text))
        facts["db.query.text"] = text[:_TEXT_CHARACTERS]
        first = _OPERATION.match(text)
        facts["db.operation.name"] = first[1].upper() if first else OTHER
        table = _TABLE.search(text)
        if table:
            facts["db.collection.name"] = table[1]
    name = facts["db.operation.name"]
    return f"{name} {facts['db.collection.name']}" if "db.collection.name" in facts else name, facts


def _call(step: TraceStep) -> tuple[str, dict[str, Any]]:
    facts = {
        key: _text(value) if isinstance(value, str) else value for key, value in step.facts.items()
    }
    return facts["http.request.method"], facts


def _connect(step: TraceStep) -> tuple[str, dict[str, Any]]:
    return "connect", dict(step.facts)


def _wait(step: TraceStep) -> tuple[str, dict[str, Any]]:
    return "wait for a connection", dict(step.facts)


def _text(value: str) -> str:
    # A path may hold what no text may: half of a character.
    return redact(value[:_TEXT_CHARACTERS]).encode("utf-8", "backslashreplace").decode()


_NAMED: Final = {"statement": _statement, "call": _call, "connect": _connect, "wait": _wait}
