"""A service over real sockets that does as a script says, and the clients that call it."""

import asyncio
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import httpx2
import requests


@dataclass
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Service:
    """Answers 200 "ok", unless its script says what to do with the next requests."""

    script: deque[Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=deque)
    seen: list[Seen] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def then(self, *steps: Callable[[BaseHTTPRequestHandler], None]) -> None:
        """Do these with the next requests, one each."""
        self.script.extend(steps)


def answer(
    status: int = 200, body: bytes = b"ok", **headers: str
) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answer so; `Retry_After="1"` is a header."""

    def act(call: BaseHTTPRequestHandler) -> None:
        call.send_response(status)
        for name, value in headers.items():
            call.send_header(name.replace("_", "-"), value)
        call.send_header("Content-Length", str(len(body)))
        call.end_headers()
        call.wfile.write(body if call.command != "HEAD" else b"")

    return act


def reset(call: BaseHTTPRequestHandler) -> None:
    """Read the request, then reset the connection."""
    call.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    call.close_connection = True
    # The files hold the socket open; the reset leaves with the last of them.
    call.rfile.close()
    call.wfile = socket.SocketIO(call.connection, "w")


def silence(call: BaseHTTPRequestHandler) -> None:
    """Say nothing until the test is over."""
    call.server.service.over.wait(20)
    call.close_connection = True


def drip(call: BaseHTTPRequestHandler) -> None:
    """Answer with a body that never ends, a byte every 20 ms."""
    call.send_response(200)
    call.send_header("Content-Length", "100000")
    call.end_headers()
    call.close_connection = True
    try:
        while not call.server.service.over.wait(0.02):
            call.wfile.write(b".")
            call.wfile.flush()
    except OSError:
        return


class _Scripted(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._do
        raise AttributeError(name)

    def _do(self) -> None:
        service = self.server.service
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        service.seen.append(Seen(self.command, self.path, headers, body))
        act = service.script.popleft() if service.script else answer()
        act(self)

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: Any) -> None:
        """Clients that leave are part of the play."""


@contextmanager
def served() -> Iterator[Service]:
    """Run a service on a port of its own."""
    with _Server(("127.0.0.1", 0), _Scripted) as server:
        server.service = service = Service(url=f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield service
        service.over.set()
        server.shutdown()
        thread.join(5)


@dataclass
class Got:
    """An answer as the app sees it."""

    status: int
    body: bytes
    headers: dict[str, str]
    sent: dict[str, str]


class ByHttpx:
    """An `httpx.Client` of the app's own."""

    library: Any = httpx
    connect_error: type[Exception] = httpx.ConnectError
    timeout: type[Exception] = httpx.TimeoutException
    lost: Any = (httpx.NetworkError, httpx.RemoteProtocolError)

    def request(self, method: str, url: str, *, body: Any = None, **options: Any) -> Got:
        follow = options.pop("follow", False)
        with self.library.Client(trust_env=False, follow_redirects=follow) as client:
            return self._got(client.request(method, url, content=body, **options))

    @staticmethod
    def _got(answer: Any) -> Got:
        return Got(
            answer.status_code, answer.content, dict(answer.headers), dict(answer.request.headers)
        )


class ByHttpx2(ByHttpx):
    """The same with httpx2."""

    library = httpx2
    connect_error = httpx2.ConnectError
    timeout = httpx2.TimeoutException
    lost = (httpx2.NetworkError, httpx2.RemoteProtocolError)


class ByAsyncHttpx(ByHttpx):
    """An `httpx.AsyncClient` of the app's own."""

    def request(self, method: str, url: str, *, body: Any = None, **options: Any) -> Got:
        follow = options.pop("follow", False)
        if hasattr(body, "__next__"):
            body = _asynchronously(body)

        async def ask() -> Got:
            async with httpx.AsyncClient(trust_env=False, follow_redirects=follow) as client:
                return self._got(await client.request(method, url, content=body, **options))

        return asyncio.run(ask())


class ByRequests:
    """A `requests.Session` of the app's own."""

    connect_error = requests.ConnectionError
    timeout = requests.Timeout
    lost = requests.ConnectionError

    def request(self, method: str, url: str, *, body: Any = None, **options: Any) -> Got:
        follow = options.pop("follow", False)
        with requests.Session() as session:
            session.trust_env = False
            got = session.request(method, url, data=body, allow_redirects=follow, **options)
            return Got(
                got.status_code,
                got.content,
                {name.lower(): value for name, value in got.headers.items()},
                {name.lower(): value for name, value in got.request.headers.items()},
            )


async def _asynchronously(parts: Iterator[bytes]) -> Any:
    for part in parts:
        yield part
