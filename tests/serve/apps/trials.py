"""An app with one route for each thing that goes wrong in practice; `DIARY` is what it saw."""

import asyncio
import gc
import os
import re
import threading
import time
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

from shipworthy import lifecycle

DIARY = Path(os.environ.get("DIARY", "diary.txt"))


def note(line: str) -> None:
    with DIARY.open("a") as diary:
        diary.write(line + "\n")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    note("start")
    await asyncio.sleep(float(os.environ.get("START_SECONDS", "0")))
    yield
    note("stop")
    await asyncio.sleep(float(os.environ.get("STOP_SECONDS", "0")))


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


async def slow(request: Request) -> Response:
    note("slow began")
    try:
        await asyncio.sleep(float(request.query_params["seconds"]))
    except asyncio.CancelledError:
        note("slow cancelled")
        raise
    note("slow ended")
    return PlainTextResponse("slow")


async def held(request: Request) -> Response:
    note("held began")
    while not Path("release").exists():
        await asyncio.sleep(0.02)
    return PlainTextResponse("held")


async def swallow(request: Request) -> Response:
    note("swallow began")
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            note("swallow swallowed")


async def block(request: Request) -> Response:
    note("block began")
    time.sleep(float(request.query_params["seconds"]))  # the classic mistake
    return PlainTextResponse("blocked")


async def hold_gil(request: Request) -> Response:
    note("gil began")
    re.match(r"(a+)+$", "a" * 40 + "b")  # one call into C, exponential, never lets go
    return PlainTextResponse("let go")


async def spin(request: Request) -> Response:
    note("spin began")
    while True:  # lets go of the GIL now and then, and never of the loop
        pass


async def executor(request: Request) -> Response:
    # Unlike a thread of the framework, one that the end of the interpreter waits for.
    return await asyncio.get_running_loop().run_in_executor(None, thread, request)


def thread(request: Request) -> Response:
    note("thread began")
    threading.Event().wait(float(request.query_params["seconds"]))
    return PlainTextResponse("thread")


async def stream(request: Request) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        note("stream began")
        for number in range(int(request.query_params["parts"])):
            yield f"{number}\n".encode()
            await asyncio.sleep(0.1)

    return StreamingResponse(parts(), media_type="text/plain")


async def events(request: Request) -> Response:
    async def endless() -> AsyncIterator[bytes]:
        note("events began")
        try:
            number = 0
            while True:
                # Half an event, and a while later the other half.
                yield f"id: {number}\n".encode()
                await asyncio.sleep(0.02)
                yield b"data: x\n\n"
                await asyncio.sleep(0.1)
                number += 1
        finally:
            note("events ended")

    return StreamingResponse(endless(), media_type="text/event-stream")


async def kept(request: Request) -> Response:
    """Leave a generator behind that only a collection would find: it is in a cycle."""

    async def open_for_ever() -> AsyncIterator[object]:
        try:
            yield
        finally:
            note("generator ended")

    gc.disable()  # so that it is not found before the end
    generator = open_for_ever()
    await anext(generator)
    cycle: list[object] = [generator]
    cycle.append(cycle)
    return PlainTextResponse("kept")


async def commit(request: Request) -> Response:
    try:
        with lifecycle.commit_fence():
            note("commit began")
            await asyncio.sleep(float(request.query_params["seconds"]))
            note("commit ended")
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        note("commit cancelled")
        raise
    return PlainTextResponse("never")


async def job(request: Request) -> Response:
    async def work(name: str, seconds: float) -> None:
        note(f"{name} began")
        await lifecycle.until_draining()
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            note(f"{name} cancelled")
            raise
        note(f"{name} ended")

    lifecycle.start_background("job", work("job", 0.3))
    if request.query_params.get("late"):
        lifecycle.start_background("late job", work("late job", 3600), seconds=0.5)
    return PlainTextResponse("soon")


async def background(request: Request) -> Response:
    async def later() -> None:
        note("background began")
        await asyncio.sleep(0.6)
        note("background ended")

    return PlainTextResponse("soon", background=BackgroundTask(later))


async def big(request: Request) -> Response:
    return Response(b"x" * 20_000_000)


async def raises(request: Request) -> Response:
    raise RuntimeError("postgresql://shop:s3cret@db/shop is down")


async def raises_late(request: Request) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        yield b"first"
        raise RuntimeError("too late for a status")

    return StreamingResponse(parts())


async def exits(request: Request) -> Response:
    os._exit(9)


async def forks(request: Request) -> Response:
    over = threading.Event()
    if "beside" in request.query_params:
        threading.Thread(target=over.wait, name="beside", daemon=True).start()
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    over.set()
    return PlainTextResponse("forked")


async def body(request: Request) -> Response:
    size = 0
    async for part in request.stream():
        size += len(part)
    return JSONResponse({"bytes": size})


async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)
    note("socket ended")


app: Any = Starlette(
    routes=[
        Route("/", hello),
        Route("/slow", slow),
        Route("/held", held),
        Route("/swallow", swallow),
        Route("/block", block),
        Route("/gil", hold_gil),
        Route("/spin", spin),
        Route("/executor", executor),
        Route("/thread", thread),
        Route("/stream", stream),
        Route("/background", background),
        Route("/events", events),
        Route("/commit", commit),
        Route("/job", job),
        Route("/big", big),
        Route("/raises", raises),
        Route("/raises-late", raises_late),
        Route("/exits", exits),
        Route("/forks", forks),
        Route("/kept", kept),
        Route("/body", body, methods=["POST"]),
        WebSocketRoute("/socket", socket),
    ],
    lifespan=lifespan,
)
