"""Measure the applications of one environment, a round at a time, when told to.

`python rounds.py hull_arms` imports that module, starts every application its `arms()` returns,
and then answers each line `N` on standard input with one line of JSON: the CPU seconds per request
of each arm over N requests. What the applications themselves print goes to the null device. Runs
in any environment that has FastAPI, with Shipworthy or without.
"""

import asyncio
import contextlib
import gc
import importlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import FastAPI

PATH = "/items/7"
# What a request through a proxy looks like; guards read headers, so there are some.
HEADERS = [
    (b"host", b"shop.example.org"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    (b"accept", b"application/json"),
    (b"accept-language", b"en-GB,en;q=0.7"),
    (b"accept-encoding", b"gzip, deflate, br"),
    (b"cookie", b"theme=dark; session=0123456789abcdef"),
    (b"x-forwarded-for", b"203.0.113.9"),
    (b"x-forwarded-proto", b"https"),
]


def bare() -> FastAPI:
    """The application under all of it: one route that does nothing."""
    app = FastAPI()

    @app.get("/items/{item_id}")
    async def item(item_id: int) -> dict[str, int]:
        return {"id": item_id}

    return app


# An application of a size at which whoever looks for the route again pays for it.
MANY = 100


def bare_of(routes: int, **options: Any) -> FastAPI:
    """The same with so many routes, of which the last is asked for."""
    app = FastAPI(**options)

    async def item(item_id: int) -> dict[str, int]:
        return {"id": item_id}

    for number in range(routes - 1):
        app.add_api_route(f"/others{number}/{{item_id}}", item)
    app.add_api_route("/items/{item_id}", item)
    return app


def bare_in_threads() -> FastAPI:
    """The same, written the way most people write it: FastAPI runs a `def` route in a thread."""
    app = FastAPI()

    @app.get("/items/{item_id}")
    def item(item_id: int) -> dict[str, int]:
        return {"id": item_id}

    return app


def take_stdout() -> Any:
    """Return standard output for ourselves; what others print from now on goes nowhere."""
    ours = os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
    return ours


async def ask(app: Callable[..., Any]) -> int:
    """Send one GET in process, as a server would, and return the status."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": PATH,
        "raw_path": PATH.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": list(HEADERS),
        "client": ("203.0.113.9", 4711),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }
    status = 0

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    await app(scope, receive, send)
    return status


@contextlib.asynccontextmanager
async def living(app: Callable[..., Any]) -> AsyncIterator[None]:
    """Start the application as a server does, and stop it after the block."""
    said: asyncio.Queue[str] = asyncio.Queue()
    told: asyncio.Queue[dict[str, str]] = asyncio.Queue()

    async def send(message: Any) -> None:
        await said.put(message["type"])

    life = asyncio.create_task(app({"type": "lifespan", "state": {}}, told.get, send))
    for stage in ("startup", "shutdown"):
        await told.put({"type": f"lifespan.{stage}"})
        answer = await said.get()
        if answer != f"lifespan.{stage}.complete":
            raise SystemExit(f"the application answered {answer!r} to lifespan.{stage}")
        if stage == "startup":
            yield
    await life


async def measure(app: Callable[..., Any], requests: int) -> float:
    """Return the CPU seconds of one request, all threads of the process together."""
    gc.collect()
    began = time.process_time()
    for _ in range(requests):
        await ask(app)
    # What threads still have to do for these requests counts too: the sleep costs no CPU.
    await asyncio.sleep(0.1)
    return (time.process_time() - began) / requests


async def serve_rounds(arms: dict[str, Callable[..., Any]], out: Any) -> None:
    """Measure each arm once for every line read, the order turned round each time."""
    async with contextlib.AsyncExitStack() as lives:
        for name, app in arms.items():
            await lives.enter_async_context(living(app))
            status = await ask(app)
            if status != 200:
                raise SystemExit(f"{name} answered {status}, so it cannot be measured")
            await measure(app, 200)
        turn = list(arms)
        print(json.dumps(turn), file=out, flush=True)
        for line in sys.stdin:
            seconds = {name: await measure(arms[name], int(line)) for name in turn}
            turn.reverse()
            print(json.dumps(seconds), file=out, flush=True)


if __name__ == "__main__":
    stdout = take_stdout()
    asyncio.run(serve_rounds(importlib.import_module(sys.argv[1]).arms(), stdout))
