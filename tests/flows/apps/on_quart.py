"""Quart: before_serving and after_serving."""

from collections.abc import AsyncIterator

from marks import Boom, note, wait
from quart import Quart, Response

app = Quart(__name__)


@app.before_serving
async def start() -> None:
    note("start")


@app.after_serving
async def stop() -> None:
    note("stop")


@app.get("/items/<int:item>")
async def show(item: int) -> str:
    return f"item {item}"


@app.get("/boom")
async def boom() -> str:
    raise Boom("s3cret")


@app.get("/stream")
async def stream() -> Response:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one\n"
        await wait("go")
        yield b"two\n"

    return Response(parts(), mimetype="text/plain")


@app.get("/slow")
async def slow() -> str:
    note("slow began")
    await wait("released")
    return "slow"
