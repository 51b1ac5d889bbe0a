"""The arms of our own environment: what of the hull is telemetry, and the whole hull, by routes."""

import atexit
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, final

from hull_arms import ENVIRON, hardened
from rounds import MANY, bare_of

from shipworthy.settings import load
from shipworthy.telemetry import LogSettings, Registry, open_log
from shipworthy.web import (
    Access,
    Call,
    Correlation,
    Line,
    Problems,
    RequestMetrics,
    meant,
    routes_of,
)


def arms() -> dict[str, Callable[..., Any]]:
    """Return the applications to compare."""
    found: dict[str, Callable[..., Any]] = {}
    for routes in (1, MANY):
        name = f"{routes} route{'s' if routes > 1 else ''}"
        app = bare_of(routes)
        found[f"bare FastAPI, {name}"] = bare_of(routes)
        found[f"a line without guards, {name}"] = Alive(app, lined(app, ()))
        found[f"counting, {name}"] = Alive(app, lined(app, telemetry(app, log=False)[1:]))
        found[f"counting, ids and access line, {name}"] = Alive(
            app, lined(app, telemetry(app, log=True))
        )
        found[f"harden(app), {name}"] = hardened(bare_of(routes))
        for kept, ratio in (("no trace kept", 0), ("each trace kept", 1)):
            found[f"harden(app), {kept}, {name}"] = hardened(
                bare_of(routes),
                SHIPWORTHY_TRACES__ENDPOINT=taking_all(),
                SHIPWORTHY_TRACES__SAMPLE_RATIO=str(ratio),
            )
    return found


@cache
def taking_all() -> str:
    """Return the address of a collector that takes all it is sent; a process of its own."""
    program = (
        "from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer\n"
        "class Taker(BaseHTTPRequestHandler):\n"
        "    def do_POST(self):\n"
        "        self.rfile.read(int(self.headers['Content-Length']))\n"
        "        self.send_response(200)\n"
        "        self.send_header('Content-Length', '0')\n"
        "        self.end_headers()\n"
        "    def log_message(self, *_): pass\n"
        "server = ThreadingHTTPServer(('127.0.0.1', 0), Taker)\n"
        "print(server.server_address[1], flush=True)\n"
        "server.serve_forever()\n"
    )
    taker = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    atexit.register(taker.kill)
    assert taker.stdout is not None
    return f"http://127.0.0.1:{taker.stdout.readline().strip()}"


@final
class Alive:
    """An application whose lifespan is its own, and whose requests take another way."""

    def __init__(self, app: Any, way: Any) -> None:
        self._app = app
        self._way = way

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve."""
        await (self._app if scope["type"] == "lifespan" else self._way)(scope, receive, send)


def telemetry(app: Any, *, log: bool) -> tuple[object, ...]:
    """Return the guards that tell of a request: ids, and counting with or without a line."""
    calls: set[Call] = set()
    settings = load(environ=ENVIRON, directory=Path(__file__).parent)
    sink = open_log(settings.of(LogSettings), environment="development") if log else None
    return (
        Correlation(),
        Access(
            RequestMetrics(Registry(), calls),
            sink,
            meant=lambda scope: meant(routes_of(app), scope),
            now=time.monotonic,
        ),
    )


def lined(app: Any, guards: tuple[object, ...]) -> Line:
    """Return the line around `app` with these guards alone."""
    return Line(
        app,
        guards,
        answers=Problems(mode="enforce", development=True, leaving=lambda: False),
        route_of=routes_of(app).template,
        now=time.monotonic,
    )
