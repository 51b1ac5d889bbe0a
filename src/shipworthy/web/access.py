"""The access line and the metrics of a request, made from what the line of guards knows anyway.

The line is put together as text, because a log record would cost more than all guards together.
"""

import time
from collections.abc import Callable
from typing import final

import orjson

from shipworthy.events import Metric
from shipworthy.redact import redact
from shipworthy.telemetry import AccessLog, Registry, line, timestamp
from shipworthy.web.line import Call

# Methods nobody knows: one value, so that no client can make more of them.
OTHER_METHOD = "_other"

REQUESTS = Metric(
    "shipworthy_web_requests_total",
    "counter",
    "Requests and websockets by method, route template and status of the answer.",
    ("method", "route", "status"),
)
SECONDS = Metric(
    "shipworthy_web_request_seconds",
    "histogram",
    "Seconds from the head of a request to the last byte of its answer; no websockets.",
    ("method", "route"),
    # 1 ms for what comes from memory, 30 s where most clients have given up.
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
IN_FLIGHT = Metric(
    "shipworthy_web_in_flight",
    "gauge",
    "Requests and websockets that are being served now, with their background tasks.",
)

_METHODS = frozenset(
    ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "WEBSOCKET")
)
# nginx's number for a client that left before it was answered; no other is as widely understood.
CLIENT_GONE = 499
_GONE = '"client_gone":true,'
# Of a path; what comes after this is of no use to a reader.
TEXT_CHARACTERS = 1024
# Texts that are kept in their escaped form; a client that asks for ever new paths empties it.
_KEPT_TEXTS = 4096
_KEPT_CHARACTERS = 256

# How to count a call, how to observe its seconds, and the part of its line that stays the same.
_Known = tuple[Callable[[], None], Callable[[float], None], str]


@final
class Access:
    """Write one line for each call and count it, once its answer is over.

    Probes that succeed are counted and write no line: they say the same thing all day. Safe to
    share between threads and tasks.
    """

    def __init__(
        self,
        registry: Registry,
        log: AccessLog | None,
        *,
        in_flight: Callable[[], int],
        now: Callable[[], float],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._log = log
        self._now = now
        self._wall = wall
        self._requests = registry.counter(REQUESTS)
        self._seconds = registry.histogram(SECONDS)
        registry.gauge(IN_FLIGHT, read=in_flight)
        self._known: dict[tuple[str, str, int], _Known] = {}
        self._texts: dict[str, str] = {}

    def ended(self, call: Call) -> None:
        """Count the call and write its line."""
        seconds = self._now() - call.started
        record = call.record
        status = call.status or (CLIENT_GONE if call.gone else 500)
        route = record.route or call.route()
        known = self._known.get((record.method, route, status)) or self._learn(call, status)
        count, observe, fixed = known
        count()
        observe(seconds)
        log = self._log
        if log is None or (call.probe and status < 400):
            return
        if log.human:
            log.write(self._for_people(call, status, seconds))
            return
        texts = self._texts
        log.write(
            f'{{"ts":"{timestamp(self._wall())}",{fixed}'
            f'"path":"{texts.get(record.path) or self._escape(record.path)}",'
            f'"client":"{texts.get(record.client) or self._escape(record.client)}",'
            f'"duration_ms":{seconds * 1000:.3f},"sent_bytes":{call.sent_bytes},'
            f"{_GONE if call.gone else ''}"
            f'"request_id":"{record.request_id}","trace_id":"{record.trace_id}"}}\n'.encode()
        )

    def _learn(self, call: Call, status: int) -> _Known:
        """Return the cells, and the part of the line, that calls of this kind share."""
        method = call.record.method
        route = call.route()
        label = method if method in _METHODS else OTHER_METHOD
        observe = _nothing if label == "WEBSOCKET" else self._seconds.cell(label, route).observe
        text = self._escape(route)
        fixed = (
            f'"level":"{_level(status)}","logger":"shipworthy.access",'
            f'"message":"{label} {text} {status}",'
            f'"method":"{label}","route":"{text}","status":{status},'
        )
        known = (self._requests.cell(label, route, str(status)).add, observe, fixed)
        if label == method and len(self._known) < _KEPT_TEXTS:
            self._known[method, route, status] = known
        return known

    def _for_people(self, call: Call, status: int, seconds: float) -> bytes:
        record = call.record
        fields = {
            "ts": timestamp(self._wall()),
            "level": _level(status),
            "logger": "shipworthy.access",
            "message": redact(f"{record.method} {record.path[:TEXT_CHARACTERS]} {status}"),
            "ms": f"{seconds * 1000:.1f}",
            "request_id": record.request_id,
        }
        return line(fields, human=True)

    def _escape(self, text: str) -> str:
        """Return `text` redacted, cut and as it stands between the quotes of a JSON string."""
        clean = redact(text[:TEXT_CHARACTERS]).encode("utf-8", "backslashreplace").decode()
        escaped = orjson.dumps(clean)[1:-1].decode()
        if len(text) <= _KEPT_CHARACTERS:
            if len(self._texts) >= _KEPT_TEXTS:
                self._texts.clear()
            self._texts[text] = escaped
        return escaped


def _level(status: int) -> str:
    return "info" if status < 500 else "error"


def _nothing(_seconds: float) -> None:
    """Observe nothing: how long a websocket lasted says nothing about how fast we are."""
