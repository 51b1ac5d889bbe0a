"""FastAPI with another FastAPI mounted in it, whose lifespan FastAPI itself does not run."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from marks import Boom, note, wait


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    note("start")
    yield
    note("stop")


@asynccontextmanager
async def inner_lifespan(app: FastAPI) -> AsyncIterator[None]:
    note("inner start")
    yield
    note("inner stop")


app = FastAPI(lifespan=lifespan)
below = FastAPI(lifespan=inner_lifespan)
app.mount("/v1", below)


@below.get("/items/{item}")
def show(item: int) -> str:
    return f"item {item}"


@below.get("/boom")
async def boom() -> None:
    raise Boom("s3cret")


@below.get("/stream")
async def stream() -> StreamingResponse:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one\n"
        await wait("go")
        yield b"two\n"

    return StreamingResponse(parts(), media_type="text/plain")


@below.get("/slow")
async def slow() -> str:
    note("slow began")
    await wait("released")
    return "slow"
