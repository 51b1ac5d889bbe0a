"""A real browser, and services in this process that see every request and what it was told."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

# No service of the vendor's is asked, nothing is fetched in the background, nothing is kept.
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--disable-extensions", "--disable-default-apps",
    "--metrics-recording-only", "--no-pings", "--remote-debugging-port=0",
)  # fmt: skip


@dataclass
class Visit:
    """One request as it came to a service, and how it was answered."""

    method: str
    path: str
    headers: dict[str, str]
    status: int = 0


@dataclass
class Seen:
    """What came to a service, in order; written by its thread, read by the test."""

    visits: list[Visit] = field(default_factory=list)

    def to(self, path: str) -> list[Visit]:
        return [visit for visit in list(self.visits) if visit.path == path and visit.status]


def watched(app: Any, seen: Seen) -> Any:
    """The application, with every request noted before any guard has seen it."""

    async def watching(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
            return
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        visit = Visit(scope.get("method", "WEBSOCKET"), scope["path"], headers)
        seen.visits.append(visit)

        async def noting(message: Any) -> None:
            kind = message["type"]
            if kind.endswith("response.start"):
                visit.status = message["status"]
            elif kind == "websocket.accept":
                visit.status = 101
            elif kind == "websocket.close" and not visit.status:
                visit.status = 403
            await send(message)

        await app(scope, receive, noting)

    return watching


@contextlib.contextmanager
def serving(app: Any, port: socket.socket) -> Iterator[None]:
    """Serve `app` in a thread of its own on a socket that listens."""
    config = uvicorn.Config(app, log_config=None, access_log=False, ws="websockets-sansio")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([port])), name="serving")
    thread.start()
    until(lambda: server.started)
    try:
        yield
    finally:
        server.should_exit = server.force_exit = True
        thread.join(20)


def listening() -> socket.socket:
    sock = socket.create_server(("127.0.0.1", 0))
    sock.listen(128)
    return sock


def until(condition: Callable[[], Any], *, seconds: float = 45.0) -> None:
    """Wait until it is so; fails the test when it never is."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


@contextlib.contextmanager
def chromium(program: str, folder: Path, url: str, *flags: str) -> Iterator[None]:
    """Have Chromium open `url`, and end it with all its processes."""
    command = [program, *FLAGS, f"--user-data-dir={folder}", *flags, url]
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)
