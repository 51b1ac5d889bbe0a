"""The application of `evidence/servers.py`: once bare, once hardened. It writes a diary."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from shipworthy import harden
from shipworthy.lifecycle import Component

DIARY = Path("diary.txt")
RELEASED = Path("released")


def note(line: str) -> None:
    with DIARY.open("a") as diary:
        diary.write(line + "\n")


async def released() -> None:
    """Wait until the script says so."""
    # In the loop itself: a thread could not be cancelled, which is among what is to be seen.
    while not RELEASED.exists():  # noqa: ASYNC110, ASYNC240
        await asyncio.sleep(0.005)


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[dict[str, Any]]:
    note("app start")
    yield {"word": "from start-up"}
    note("app stop")


async def hello(request: Request) -> Response:
    return PlainTextResponse(request.state.word)


async def boom(_request: Request) -> Response:
    raise RuntimeError("s3cret")


async def numbers(_request: Request) -> Response:
    found = hardened.registry.snapshot()["http_server_request_duration_seconds"]["sets"]
    return JSONResponse([(labels, [sum(counts[:-1])]) for labels, counts in found])


async def held(_request: Request) -> Response:
    note("request began")
    await released()
    note("request ended")
    return PlainTextResponse("whole")


async def stream(_request: Request) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one\n"
        note("stream began")
        await released()
        note("stream ended")
        yield b"two\n"

    return StreamingResponse(parts())


async def background(_request: Request) -> Response:
    async def later() -> None:
        note("background began")
        await released()
        note("background ended")

    return PlainTextResponse("soon", background=BackgroundTask(later))


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    note("websocket began")
    async for text in websocket.iter_text():
        await websocket.send_text(text)
    note("websocket ended")


bare = Starlette(
    routes=[
        Route("/", hello),
        Route("/items/{item}", hello),
        Route("/boom", boom),
        Route("/numbers", numbers),
        Route("/held", held),
        Route("/stream", stream),
        Route("/background", background),
        WebSocketRoute("/echo", echo),
    ],
    lifespan=lifespan,
)


async def start() -> None:
    note("component start")


async def stop() -> None:
    note("component stop")


hardened = harden(bare)
hardened.lifecycle.add(Component("part", start, stop))
hardened.lifecycle.on_drain(lambda: note("drain"))
