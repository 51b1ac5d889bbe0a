"""What stands beside the service of the drill: another instance, and another Alertmanager.

Only as much of them as Prometheus asks for: that they answer, or do not.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from typing_extensions import override

INSTANCE = "/metrics"
ALERTMANAGER = "/api/v2/alerts"


@dataclass
class Neighbours:
    """Both at one address, each known by the path it is asked at; and which are down."""

    address: str
    down: set[str] = field(default_factory=set)


@contextmanager
def with_neighbours() -> Iterator[Neighbours]:
    """Serve both on a port of this machine."""
    neighbours = Neighbours("")

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503 if self.path in neighbours.down else 200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        @override
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        neighbours.address = f"127.0.0.1:{server.server_port}"
        serving = Thread(target=server.serve_forever)
        serving.start()
        try:
            yield neighbours
        finally:
            server.shutdown()
            serving.join()
