"""What is counted of requests and websockets, under the names OpenTelemetry gave these quantities.

A request costs one look-up, by its method, route and status; what it has no use for is not
observed: no size without a body, no first byte of an answer that came in one piece. What is in
flight is counted when somebody asks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

from shipworthy.events import (
    HTTP_METHODS,
    HTTP_SECONDS,
    HTTP_STATUSES,
    Declared,
    Metric,
    OneOf,
    Routes,
    method_label,
    status_label,
)
from shipworthy.telemetry import Registry
from shipworthy.web.line import Call

# nginx's number for a client that left before it was answered, see `HTTP_STATUSES`.
CLIENT_GONE: Final = 499
_ROUTES = Routes()

# A page, a list, a picture, a file: from 1 KiB to 64 MiB.
_BYTES = (1024.0, 8192.0, 65536.0, 524288.0, 4194304.0, 16777216.0, 67108864.0)

DURATION = Metric(
    "http_server_request_duration_seconds",
    "histogram",
    "Seconds from the head of a request to the last byte of its answer; no probes, no websockets.",
    {
        "http_request_method": HTTP_METHODS,
        "http_route": _ROUTES,
        "http_response_status_code": HTTP_STATUSES,
    },
    HTTP_SECONDS,
)
ACTIVE = Metric(
    "http_server_active_requests",
    "gauge",
    "Requests whose answer is not over yet.",
    {"http_request_method": HTTP_METHODS},
)
BACKGROUND = Metric(
    "shipworthy_http_background_requests",
    "gauge",
    "Requests whose answer is over, and whose background tasks are still at work.",
)
RECEIVED = Metric(
    "http_server_request_body_size_bytes",
    "histogram",
    "Bytes of the bodies of requests, counted as the application read them; only where there were.",
    {"http_route": _ROUTES},
    _BYTES,
)
SENT = Metric(
    "http_server_response_body_size_bytes",
    "histogram",
    "Bytes of the bodies of answers, counted as they were sent; only where there were any.",
    {"http_route": _ROUTES},
    _BYTES,
)
FIRST_BYTE = Metric(
    "shipworthy_http_time_to_first_byte_seconds",
    "histogram",
    "Seconds to the first byte of answers that came in parts; of others the duration tells it.",
    {"http_route": _ROUTES},
    HTTP_SECONDS,
)
EXCEPTIONS = Metric(
    "shipworthy_http_exceptions_total",
    "counter",
    "Exceptions that the application did not handle, by their class.",
    {"http_route": _ROUTES, "error_type": Declared(100)},
)
DISCONNECTS = Metric(
    "shipworthy_http_client_disconnects_total",
    "counter",
    "Clients that left before their answer was over, as far as the application or uvicorn heard.",
    {"http_route": _ROUTES},
)
HANDSHAKES = Metric(
    "shipworthy_websocket_handshakes_total",
    "counter",
    "Requests for a websocket by what they were answered with; 101 is one that was accepted.",
    {"http_route": _ROUTES, "http_response_status_code": HTTP_STATUSES},
)
CONNECTIONS = Metric(
    "shipworthy_websocket_connections",
    "gauge",
    "Websockets that are open.",
    {"http_route": _ROUTES},
)
MESSAGES = Metric(
    "shipworthy_websocket_messages_total",
    "counter",
    "Messages of websockets, those received and those sent.",
    {"http_route": _ROUTES, "direction": OneOf("received", "sent")},
)


@final
@dataclass(frozen=True, slots=True)
class RequestCells:
    """Where requests of one method, route and status are counted."""

    seconds: Callable[[float], None]
    # Of a request whose trace is recorded: the trace becomes the example of its bucket.
    seconds_traced: Callable[[float, str], None]
    sent: Callable[[float], None]
    received: Callable[[float], None]
    first_byte: Callable[[float], None]
    left: Callable[[], None]

    def count(self, call: Call, seconds: float) -> None:
        """Count a request whose answer is over and took `seconds`."""
        record = call.record
        if record.sampled:
            self.seconds_traced(seconds, record.trace_id)
        else:
            self.seconds(seconds)
        if call.sent_bytes:
            self.sent(call.sent_bytes)
        if call.received_bytes:
            self.received(call.received_bytes)
        if call.first_at:
            self.first_byte(call.first_at - call.started)
        if call.gone:
            self.left()


@final
class RequestMetrics:
    """The cells of all requests and websockets; `calls` are those in flight."""

    def __init__(self, registry: Registry, calls: set[Call]) -> None:
        self._calls = calls
        self._duration = registry.histogram(DURATION)
        self._received = registry.histogram(RECEIVED)
        self._sent = registry.histogram(SENT)
        self._first_byte = registry.histogram(FIRST_BYTE)
        self._exceptions = registry.counter(EXCEPTIONS)
        self._disconnects = registry.counter(DISCONNECTS)
        self._handshakes = registry.counter(HANDSHAKES)
        self._messages = registry.counter(MESSAGES)
        # Those that were ever served, so that a gauge falls to 0 and does not go away.
        self._methods: set[str] = set()
        self._talking: set[str] = set()
        registry.gauge(ACTIVE, read=self._active)
        registry.gauge(BACKGROUND, read=self._background)
        registry.gauge(CONNECTIONS, read=self._connections)

    def of(self, method: str, route: str, status: int) -> Callable[[Call, float], None]:
        """Return what counts a call of this kind once its answer is over; worth being kept."""
        code = status_label(status)
        if method == "WEBSOCKET":
            # An accepted one was counted when it began; how long it lasted tells nothing.
            return uncounted if status == 101 else _once(self._handshakes.cell(route, code).add)
        method = method_label(method)
        self._methods.add(method)
        duration = self._duration.cell(method, route, code)
        return RequestCells(
            seconds=duration.observe,
            seconds_traced=duration.observe_traced,
            # What is sent for HEAD goes no further than the server.
            sent=_ignored if method == "HEAD" else self._sent.cell(route).observe,
            # Found when there is something to count: most routes need none of these.
            received=lambda size: self._received.cell(route).observe(size),
            first_byte=lambda seconds: self._first_byte.cell(route).observe(seconds),
            left=lambda: self._disconnects.cell(route).add(),
        ).count

    def accepted(self, call: Call) -> None:
        """Count a websocket that was accepted, and its messages from here on."""
        route = call.route()
        self._talking.add(route)
        self._handshakes.cell(route, "101").add()
        call.messages = (
            self._messages.cell(route, "received").add,
            self._messages.cell(route, "sent").add,
        )

    def failed(self, route: str, error_type: str) -> None:
        """Count an exception that nobody handled."""
        self._exceptions.cell(route, error_type).add()

    def _active(self) -> dict[tuple[str, ...], float]:
        counts: dict[tuple[str, ...], float]
        counts = dict.fromkeys(((method,) for method in self._methods.copy()), 0.0)
        for call in self._calls.copy():
            if call.scope["type"] == "http" and not call.ended:
                key = (method_label(call.record.method),)
                counts[key] = counts.get(key, 0.0) + 1.0
        return counts

    def _background(self) -> float:
        over = [call for call in self._calls.copy() if call.ended and call.scope["type"] == "http"]
        return float(len(over))

    def _connections(self) -> dict[tuple[str, ...], float]:
        counts: dict[tuple[str, ...], float]
        counts = dict.fromkeys(((route,) for route in self._talking.copy()), 0.0)
        for call in self._calls.copy():
            if call.scope["type"] == "websocket" and call.status == 101 and not call.ended:
                key = (call.route(),)
                counts[key] = counts.get(key, 0.0) + 1.0
        return counts


def _once(count: Callable[[], None]) -> Callable[[Call, float], None]:
    return lambda _call, _seconds: count()


def uncounted(_call: Call, _seconds: float) -> None:
    """Count nothing: for calls that are nobody's, such as probes."""


def _ignored(_size: float) -> None:
    """Observe nothing."""
