"""A hardened application for servers that are not ours; it says which process answered."""

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from shipworthy import harden


async def pid(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(os.getpid()))


app = harden(Starlette(routes=[Route("/pid", pid)]))
