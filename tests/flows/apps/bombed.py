"""A service that reads bodies the way people write it, and says how late its own loop was."""

import asyncio
import gzip
import io
import json
import time
import zlib
from contextlib import asynccontextmanager, suppress
from urllib.parse import parse_qsl

import brotli
from backports import zstd
from multipart import MultipartParser
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

TICK_SECONDS = 0.005
late = {"seconds": 0.0}
UNPACK = {
    "gzip": gzip.decompress,
    "deflate": lambda data: zlib.decompress(data, 15 if data[0] & 15 == 8 else -15),
    "br": brotli.decompress,
    "zstd": zstd.decompress,
}


async def tick():
    while True:
        began = time.monotonic()
        await asyncio.sleep(TICK_SECONDS)
        late["seconds"] = max(late["seconds"], time.monotonic() - began - TICK_SECONDS)


@asynccontextmanager
async def life(app):
    ticking = asyncio.create_task(tick())
    yield
    ticking.cancel()
    with suppress(asyncio.CancelledError):
        await ticking


async def body_of(request):
    body = await request.body()
    for coding in reversed(request.headers.get("content-encoding", "").split(",")):
        body = UNPACK.get(coding.strip(), bytes)(body)
    return body


async def take_json(request):
    return JSONResponse(len(json.loads(await body_of(request))))


async def take_form(request):
    return JSONResponse(len(parse_qsl((await body_of(request)).decode())))


async def take_upload(request):
    boundary = request.headers["content-type"].partition("boundary=")[2]
    parts = list(
        MultipartParser(
            io.BytesIO(await body_of(request)), boundary, part_limit=10**7, header_limit=10**7
        )
    )
    return JSONResponse(len(parts))


async def take(request):
    return JSONResponse(len(await body_of(request)))


async def lateness(request):
    """How late the loop was at most since the last time that somebody asked."""
    seconds, late["seconds"] = late["seconds"], 0.0
    return JSONResponse(seconds)


app = Starlette(
    routes=[
        Route("/json", take_json, methods=["POST"]),
        Route("/form", take_form, methods=["POST"]),
        Route("/upload", take_upload, methods=["POST"]),
        Route("/take", take, methods=["POST"]),
        Route("/late", lateness),
    ],
    lifespan=life,
)
