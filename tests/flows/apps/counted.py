"""A hardened application for servers that are not ours; it says which process answered."""

import os

from prometheus_client import Counter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from shipworthy import harden

SALES = Counter("shop_sales", "Sales, as the application counts them.")


async def pid(request: Request) -> PlainTextResponse:
    SALES.inc()
    return PlainTextResponse(str(os.getpid()))


app = harden(Starlette(routes=[Route("/pid", pid)]))
