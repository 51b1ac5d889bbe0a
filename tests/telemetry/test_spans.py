"""A kept trace as the spans that a collector gets: names, parents, times, nothing secret."""

import logging
from typing import Any

import pytest
from hypothesis import example, given, strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from otlp_receiver import Span, spans_in
from redact.planted import PLANTED
from shipworthy.context import STEPS_MAX, TraceStep
from shipworthy.telemetry import Trace
from shipworthy.telemetry.spans import SpanCoder

_EXAMPLES = {"a=1,b@c=2 3", "a=1,a=2"}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


def trace(*steps: TraceStep, **changes: Any) -> Trace:
    facts = {
        "trace_id": TRACE,
        "span_id": SPAN,
        "parent_span_id": "",
        "tracestate": "",
        "request_id": "r1",
        "method": "GET",
        "route": "/clients/{id}",
        "path": "/clients/7",
        "scheme": "http",
        "client": "203.0.113.9",
        "status": 200,
        "began": 10.0,
        "ended": 10.5,
        "wall_offset_seconds": 1_700_000_000.0,
        "steps": steps,
        "because": "sampled",
    }
    return Trace(**{**facts, **changes})


def sent(*traces: Trace) -> list[Span]:
    return spans_in(SpanCoder({"service.name": "shop"}).body(traces))


def statement(text: str, **changes: Any) -> TraceStep:
    facts = {"db.system.name": "postgresql", "db.query.text": text, "shipworthy.engine": "main"}
    return TraceStep(
        **{"kind": "statement", "began": 10.1, "ended": 10.2, "facts": facts, **changes}
    )


def happened(name: str, level: str, **facts: Any) -> TraceStep:
    said = {"ts": "now", "level": level, "logger": "shipworthy", "message": "It is so.", **facts}
    return TraceStep(
        "event", 10.3, 10.3, {"event": name, "request_id": "r1", "trace_id": TRACE, **said}
    )


def test_a_request_is_one_span_by_the_conventions() -> None:
    """Its ids are those of the log, its times those of the wall, its route in its name."""
    (span,) = sent(trace(parent_span_id="00f067aa0ba902b8"))

    assert (span.name, span.kind, span.failed) == ("GET /clients/{id}", 2, False)
    assert (span.trace_id, span.span_id, span.parent) == (TRACE, SPAN, "00f067aa0ba902b8")
    assert (span.began, span.ended) == (1_700_000_010_000_000_000, 1_700_000_010_500_000_000)
    assert span.resource["service.name"] == "shop"
    assert span.facts == {
        "http.request.method": "GET",
        "http.route": "/clients/{id}",
        "http.response.status_code": 200,
        "url.path": "/clients/7",
        "url.scheme": "http",
        "client.address": "203.0.113.9",
        "shipworthy.request_id": "r1",
        "shipworthy.kept_because": "sampled",
    }


def test_what_a_client_invents_is_in_no_name() -> None:
    """Names have few values: no route and no known method are one word each."""
    (unknown,) = sent(trace(method="BREW", route=""))
    (talk,) = sent(trace(method="WEBSOCKET", route="/echo", status=101))

    assert (unknown.name, unknown.facts["http.request.method"]) == ("HTTP", "_other")
    assert (talk.name, talk.facts["http.request.method"]) == ("GET /echo", "GET")


def test_each_step_that_took_time_is_a_span_below() -> None:
    """Statements, waits, connects and calls, each with its kind and outcome."""
    call = {"http.request.method": "GET", "server.address": "b", "http.response.status_code": 503}
    server, *below = sent(
        trace(
            TraceStep("wait", 10.0, 10.1, {"shipworthy.engine": "main"}),
            TraceStep("connect", 10.0, 10.1, {"db.system.name": "sqlite"}),
            statement("SELECT id FROM clients WHERE id = $1"),
            statement("COMMIT", failed="OperationalError"),
            TraceStep("call", 10.2, 10.4, call, "503", "00f067aa0ba902b9"),
        )
    )

    assert {span.parent for span in below} == {server.span_id}
    assert len({span.span_id for span in below}) == 5
    assert [(span.name, span.kind, span.failed) for span in below] == [
        ("wait for a connection", 1, False),
        ("connect", 3, False),
        ("SELECT clients", 3, False),
        ("COMMIT", 3, True),
        ("GET", 3, True),
    ]
    assert below[2].facts == {
        "db.system.name": "postgresql",
        "db.query.text": "SELECT id FROM clients WHERE id = $1",
        "db.operation.name": "SELECT",
        "db.collection.name": "clients",
        "shipworthy.engine": "main",
    }
    assert below[3].facts["error.type"] == "OperationalError"
    assert (below[4].span_id, below[4].facts["error.type"]) == ("00f067aa0ba902b9", "503")


def test_an_event_of_ours_is_an_event_of_the_span() -> None:
    """An exception is one as every viewer knows it, and makes the span a failed one."""
    (warned,) = sent(trace(happened("db.statement_slow", "warning", seconds=2.5, at=["a", "b"])))
    error = {"error_type": "Boom", "error": "no", "stack": "Traceback", "route": "/x"}
    (failed,) = sent(trace(happened("web.exception_unhandled", "error", **error), status=500))

    ((name, facts),) = warned.events
    assert (name, warned.failed) == ("db.statement_slow", False)
    assert facts == {"level": "warning", "message": "It is so.", "seconds": 2.5, "at": "['a', 'b']"}
    ((name, facts),) = failed.events
    assert (name, failed.failed, failed.facts["error.type"]) == ("exception", True, "Boom")
    assert facts["exception.type"] == "Boom"
    assert (facts["exception.message"], facts["exception.stacktrace"]) == ("no", "Traceback")


def test_a_failure_without_an_exception_names_its_status() -> None:
    """`error.type` has a value for each failed request."""
    (span,) = sent(trace(status=503))

    assert (span.failed, span.facts["error.type"]) == (True, "503")


def test_a_trace_that_was_cut_says_so() -> None:
    """Whoever looks at the last of its steps must know that there were more."""
    whole = trace(*[statement("SELECT 1")] * (STEPS_MAX - 1))
    cut = trace(*[statement("SELECT 1")] * STEPS_MAX)

    assert "shipworthy.steps_cut" not in sent(whole)[0].facts
    assert sent(cut)[0].facts["shipworthy.steps_cut"] is True


@pytest.mark.parametrize("secret", PLANTED, ids=lambda one: one[0])
def test_no_secret_gets_into_a_span(secret: tuple[str, str, str]) -> None:
    """In a path, a literal, a message, the name of a host, an error."""
    _, text, hidden = secret
    literal = text.replace("'", "''")
    body = SpanCoder({"service.name": "shop"}).body(
        [
            trace(
                happened(
                    "web.exception_unhandled", "error", error=text, error_type="E", stack=text
                ),
                happened("outbound.call_repeated", "info", target=text),
                statement(f"SELECT * FROM t WHERE note = '{literal}'"),
                TraceStep("call", 1.0, 2.0, {"http.request.method": "GET", "server.address": text}),
                path=f"/{text}",
                client=text,
            )
        ]
    )

    assert hidden.encode() not in body


@given(st.text("ab1=,@ \t\x7f", max_size=60) | st.text(max_size=60))
@example("a=1,b@c=2 3")
@example("a=1,a=2")
@example(",".join(f"k{number}=v" for number in range(33)))
def test_a_state_is_handed_on_whole_or_not_at_all_and_nobody_is_told(text: str) -> None:
    """A stranger must not be able to write to the log with each request."""
    lines: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = lines.append  # type: ignore[method-assign]
    logger = logging.getLogger("opentelemetry")
    logger.addHandler(handler)
    try:
        body = SpanCoder({}).body([trace(tracestate=text)])
    finally:
        logger.removeHandler(handler)
    request = ExportTraceServiceRequest.FromString(body)
    state = request.resource_spans[0].scope_spans[0].spans[0].trace_state

    assert lines == []
    members = [member.strip() for member in text.split(",") if member.strip()]
    assert sorted(filter(None, state.split(","))) in ([], sorted(members))
    assert (state != "") == (text == "a=1,b@c=2 3") or text not in _EXAMPLES


def test_text_that_is_none_does_not_lose_the_trace() -> None:
    """Half a character in a path, a state that is no state."""
    (span,) = sent(trace(path="/\udcff", tracestate="=,;;=,a=1"))

    assert span.facts["url.path"] == "/\\udcff"


def test_the_answer_of_a_collector_may_be_anything() -> None:
    """How many spans it did not take, or nothing that can be read."""
    said = ExportTraceServiceResponse()
    said.partial_success.rejected_spans = 3

    assert SpanCoder.rejected(said.SerializeToString()) == 3
    assert SpanCoder.rejected(b"") == 0
    assert SpanCoder.rejected(b"<html>") == 0
