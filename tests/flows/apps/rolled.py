"""What is replaced under load: short answers, slow ones, streams that end and that do not, echoes.

Each process that serves notes its id in the folder `served-by` of the current directory.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    place = Path("served-by")
    place.mkdir(exist_ok=True)
    (place / str(os.getpid())).touch()
    yield


async def word(request: Request) -> Response:
    return PlainTextResponse(request.path_params["word"])


async def slow(request: Request) -> Response:
    await asyncio.sleep(0.3)
    return PlainTextResponse(request.path_params["word"])


async def stream(request: Request) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        for number in range(10):
            yield f"part {number}\n".encode()
            await asyncio.sleep(0.1)

    return StreamingResponse(parts(), media_type="text/plain")


async def events(request: Request) -> Response:
    async def without_end() -> AsyncIterator[bytes]:
        number = 0
        while True:
            yield f"data: {number}\n\n".encode()
            number += 1
            await asyncio.sleep(0.1)

    return StreamingResponse(without_end(), media_type="text/event-stream")


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


app = Starlette(
    routes=[
        Route("/word/{word}", word),
        Route("/slow/{word}", slow),
        Route("/stream", stream),
        Route("/events", events),
        WebSocketRoute("/echo", echo),
    ],
    lifespan=lifespan,
)
