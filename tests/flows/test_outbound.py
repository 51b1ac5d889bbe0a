"""A request that calls another service, under `shipworthy run`, with no line of the app changed."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from serve.launch import started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

SHOP = """
import os
import httpx
from fastapi import FastAPI, Response
app = FastAPI()
client = httpx.Client()

@app.get("/price")
def price(response: Response):
    answer = client.get(os.environ["PRICES"])
    response.status_code = answer.status_code
    return {"price": answer.text}
"""


class Prices(ThreadingHTTPServer):
    """Another service: unavailable for the first call, well for the second."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.seen: list[dict[str, str]] = []


class Answer(BaseHTTPRequestHandler):
    server: Prices

    def do_GET(self) -> None:
        self.server.seen.append({name.lower(): value for name, value in self.headers.items()})
        first = len(self.server.seen) == 1
        self.send_response(503 if first else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"no" if first else b"42")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def prices() -> Iterator[Prices]:
    server = Prices()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("mode", ["report", "enforce"])
def test_calls_out_are_counted_and_guarded_only_where_that_is_asked_for(
    tmp_path: Path, prices: Prices, mode: str
) -> None:
    """By default the app's calls are its own; enforced, they are repeated and carry the trace."""
    (tmp_path / "shop.py").write_text(SHOP)
    settings = f'[outbound]\nmode = "{mode}"\n' if mode == "enforce" else ""
    url = "http://{}:{}/".format(*prices.server_address)
    with started(
        "shop:app", directory=tmp_path, settings=settings, environ={"PRICES": url}
    ) as service:
        service.until_ready()
        answer = service.get("/price")
        metrics = httpx.get(f"{service.operations}/metrics").text
        service.signal()
        code = service.ended()

    request_id = answer.headers["x-request-id"]
    assert code == 0
    assert "shipworthy_pipeline_attempts_total{" in metrics
    if mode == "report":
        assert (answer.status_code, len(prices.seen)) == (503, 1)
        assert "traceparent" not in prices.seen[0]
    else:
        assert (answer.status_code, answer.json()) == (200, {"price": "42"})
        assert [seen["x-request-id"] for seen in prices.seen] == [request_id, request_id]
        assert "traceparent" in prices.seen[0]
