"""Litestar: hooks for start and stop, a streamed answer."""

from collections.abc import AsyncIterator

from litestar import Litestar, get
from litestar.response import Stream
from marks import Boom, note, wait


@get("/items/{item:int}", sync_to_thread=False)
def show(item: int) -> str:
    return f"item {item}"


@get("/boom")
async def boom() -> None:
    raise Boom("s3cret")


@get("/stream")
async def stream() -> Stream:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one\n"
        await wait("go")
        yield b"two\n"

    return Stream(parts(), media_type="text/plain")


@get("/slow")
async def slow() -> str:
    note("slow began")
    await wait("released")
    return "slow"


app = Litestar(
    [show, boom, stream, slow],
    on_startup=[lambda: note("start")],
    on_shutdown=[lambda: note("stop")],
)
