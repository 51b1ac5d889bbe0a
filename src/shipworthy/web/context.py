"""The ids of a request: read from its headers, made where they are missing, sent back.

An id comes from the operating system's randomness, a few hundred at a time, because one read of
/dev/urandom costs more than everything else this guard does. Taking one is a `list.pop`, which is
atomic, so no two threads get the same; a forked child throws the store of its parent away.
"""

import os
import re
from typing import final

from shipworthy.context import RequestFacts, RequestRecord, enter_request, leave_request
from shipworthy.web.client_settings import ClientSettings
from shipworthy.web.forwarded import Forwarded
from shipworthy.web.line import Call, Message

# A bound on what is stored, written to logs and sent on for others.
TRACESTATE_BYTES = 512

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{8,128}")
_TRACEPARENT = re.compile(
    rb"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})"
    rb"-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
)
_TRACESTATE = re.compile(rb"[\x20-\x7e]{1,%d}" % TRACESTATE_BYTES)

_ID_BYTES = 24  # a trace id of 16 and a span id of 8
_AT_ONCE = 256
_spare: list[str] = []
os.register_at_fork(after_in_child=_spare.clear)


def _refill() -> None:
    digits = os.urandom(_ID_BYTES * _AT_ONCE).hex()
    step = 2 * _ID_BYTES
    _spare.extend([digits[at : at + step] for at in range(0, len(digits), step)])


def new_ids() -> tuple[str, str]:
    """Return a trace id and a span id: unguessable, unique over threads and forks."""
    digits = _take()
    return digits[:32], digits[32:]


def _take() -> str:
    while True:
        try:
            return _spare.pop()
        except IndexError:
            _refill()


def parse_traceparent(value: bytes) -> tuple[str, str, bool, bool] | None:
    """Return trace id, parent span id, whether it is sampled and whether its id is random, or None.

    None is for what is to be ignored.

    As W3C Trace Context asks: versions to come are read as version 00 as far as it goes, `ff`,
    upper case and ids of zeros are refused.
    """
    match = _TRACEPARENT.fullmatch(value.strip(b" \t"))
    if match is None:
        return None
    version, trace, span, flags, more = match.groups()
    if version == b"ff" or (version == b"00" and more is not None):
        return None
    if trace == b"0" * 32 or span == b"0" * 16:
        return None
    bits = int(flags, 16)
    return trace.decode(), span.decode(), bool(bits & 1), bool(bits & 2)


@final
class Correlation:
    """Make the record of the request and let all work for it see it; send its id back.

    `X-Request-ID` is taken from the caller only when it is well-formed, so nothing can be injected
    through it, and is on every answer once: what the application set is replaced. The correlation
    id is the trace id where the caller sent a trace, else the request id.

    `facts` is what the record asks who makes the request, when somebody must know; `forwarded`
    finds its client, whoever connects where there is none.
    """

    def __init__(
        self, facts: RequestFacts | None = None, forwarded: Forwarded | None = None
    ) -> None:
        self._facts = facts
        self._address = (forwarded or Forwarded(ClientSettings())).address

    def enter(self, call: Call) -> None:
        """Read or make the ids; the record is in the context from here on."""
        scope = call.scope
        headers = call.headers
        digits = _take()
        trace_id = correlation_id = request_id = digits[:32]
        parent_span_id = tracestate = ""
        sampled, random = False, True
        sent = None
        if b"traceparent" in headers:
            parent = parse_traceparent(headers[b"traceparent"])
            if parent is not None and _once(call, b"traceparent"):
                trace_id, parent_span_id, sampled, random = parent
                correlation_id = request_id = trace_id
                tracestate = _tracestate(call)
        if b"x-request-id" in headers:
            given = headers[b"x-request-id"]
            if _REQUEST_ID.fullmatch(given) and _once(call, b"x-request-id"):
                sent = given
                request_id = given.decode()
                if not parent_span_id:
                    correlation_id = request_id
        call.stamp = (b"x-request-id", sent or request_id.encode())
        call.record = record = RequestRecord(
            request_id,
            correlation_id,
            trace_id,
            digits[32:],
            parent_span_id,
            sampled,
            tracestate,
            scope.get("method", "WEBSOCKET"),
            scope["path"],
            self._address(call),
            call.started,
        )
        record.facts = self._facts
        record.scope = scope
        if not random:
            record.random = False
        call.token = enter_request(record)

    def starting(self, call: Call, message: Message) -> None:
        """Put the request's id on the answer, in place of any other."""
        message["headers"] = [
            header
            for header in message.get("headers", ())
            # The length first: it is cheap and tells nearly all others apart.
            if len(header[0]) != 12 or header[0].lower() != b"x-request-id"
        ]
        message["headers"].append(call.stamp)

    def leave(self, call: Call) -> None:
        """Take the record out of the context: a server may serve the next call in this task."""
        # What works on for the request knows what is known by now. A scope may hold what holds us.
        call.record.facts = call.record.scope = None
        leave_request(call.token)


def _once(call: Call, name: bytes) -> bool:
    """Whether the header came once: of two, nobody can say which one is meant."""
    raw = call.scope["headers"]
    return len(raw) == len(call.headers) or sum(header[0] == name for header in raw) == 1


def _tracestate(call: Call) -> str:
    lists = [header[1] for header in call.scope["headers"] if header[0] == b"tracestate"]
    joined = b",".join(lists)
    return joined.decode() if _TRACESTATE.fullmatch(joined) else ""
