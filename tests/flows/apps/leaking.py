"""A service that keeps a part of what each request brings, as a cache without a bound does."""

import asyncio
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

LEAKED_BYTES = 200_000

_kept: list[bytearray] = []


async def leak(request: Request) -> Response:
    # Written to, page by page: memory that is only promised is in nobody's way.
    _kept.append(bytearray(b"\1" * LEAKED_BYTES))
    await asyncio.sleep(0.005)
    return PlainTextResponse("hello")


app: Any = Starlette(routes=[Route("/", leak)])
