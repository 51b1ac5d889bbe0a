"""The attempts of calls to other services, noted for the trace of the request they are made for."""

from typing import Any, NamedTuple

from shipworthy.context import TraceStep, current_request, new_span_id, steps_here
from shipworthy.events import method_label


class Attempted(NamedTuple):
    """One attempt of a call; `port` is None for the usual one, `status` 0 without an answer."""

    method: str
    host: str
    port: int | None
    status: int
    number: int


def span_of_attempt() -> tuple[str, str]:
    """Return the id of the span of an attempt that begins, and the traceparent to send with it.

    So what the other service does is a child of the attempt that it was asked by. Both are empty
    where nobody notes anything; our own span is the parent then.
    """
    record = current_request()
    if record is None or steps_here() is None:
        return "", ""
    span_id = new_span_id()
    return span_id, record.traceparent_of(span_id)


def note_attempt(
    attempted: Attempted, *, began: float, ended: float, error: Exception | None, span_id: str
) -> None:
    """Note an attempt that is over with the request it was made for; monotonic seconds."""
    steps = steps_here()
    if steps is None:
        return
    facts: dict[str, Any] = {
        "http.request.method": method_label(attempted.method),
        "server.address": attempted.host,
    }
    if attempted.port is not None:
        facts["server.port"] = attempted.port
    if attempted.number > 1:
        facts["http.request.resend_count"] = attempted.number - 1
    failed = type(error).__name__ if error is not None else ""
    if attempted.status:
        facts["http.response.status_code"] = attempted.status
        # By the conventions of OpenTelemetry an answer from 400 on is a failure for the client.
        failed = str(attempted.status) if attempted.status >= 400 else ""
    steps.append(TraceStep("call", began, ended, facts, failed, span_id))
