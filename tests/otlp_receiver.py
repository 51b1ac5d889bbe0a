"""A collector on a socket: takes OTLP over HTTP, keeps the spans, and may be told to misbehave."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass
class Span:
    """One span as it arrived; ids in hexadecimal digits, `parent` '' for none."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent: str
    began: int
    ended: int
    failed: bool
    facts: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    resource: dict[str, Any]


@dataclass
class Collector:
    """What arrived: spans, raw bodies, the headers of each post. `status` is what it answers."""

    spans: list[Span] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    status: int = 200
    rejects: int = 0
    # Called before it answers: to be silent, or slow.
    before: Callable[[], object] = lambda: None
    url: str = ""
    port: int = 0

    def until(self, enough: Callable[[list[Span]], object], seconds: float = 10.0) -> list[Span]:
        """Wait until what arrived is enough; return it."""
        end = time.monotonic() + seconds
        while not enough(self.spans):
            assert time.monotonic() < end, [span.name for span in self.spans]
            time.sleep(0.02)
        return list(self.spans)

    def servers(self) -> list[Span]:
        """The spans of requests."""
        return [span for span in self.spans if span.kind == 2]

    def below(self, parent: Span) -> list[Span]:
        """The spans whose parent this one is."""
        return [span for span in self.spans if span.parent == parent.span_id]


@contextmanager
def collector(port: int = 0) -> Iterator[Collector]:
    """Listen on `port`, any free one by default, until the block is left."""
    found = Collector()

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.headers.append({name.lower(): value for name, value in self.headers.items()})
            found.before()
            answer = b""
            if found.status == 200:
                found.bodies.append(body)
                found.spans += spans_in(body)
                said = ExportTraceServiceResponse()
                said.partial_success.rejected_spans = found.rejects
                answer = said.SerializeToString()
            try:
                self.send_response(found.status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
            except OSError:
                pass  # whoever asked was tired of waiting

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Answer)
    server.daemon_threads = True
    found.port = server.server_address[1]
    found.url = f"http://127.0.0.1:{found.port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def spans_in(body: bytes) -> list[Span]:
    """Read the spans of one post."""
    found = []
    for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        resource = _facts(of_resource.resource.attributes)
        found += [
            Span(
                name=span.name,
                kind=span.kind,
                trace_id=span.trace_id.hex(),
                span_id=span.span_id.hex(),
                parent=span.parent_span_id.hex(),
                began=span.start_time_unix_nano,
                ended=span.end_time_unix_nano,
                failed=span.status.code == 2,
                facts=_facts(span.attributes),
                events=[(one.name, _facts(one.attributes)) for one in span.events],
                resource=resource,
            )
            for scope in of_resource.scope_spans
            for span in scope.spans
        ]
    return found


def _facts(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
