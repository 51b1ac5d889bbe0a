"""Starlette that logs wherever code of a request runs."""

import logging

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Mount, Route

log = logging.getLogger("shop")


class Sunk(Exception):
    """A handler of the application's own knows it."""


class Around(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        log.info("in middleware, before")
        answer = await call_next(request)
        log.info("in middleware, after")
        return answer


def later() -> None:
    log.info("in sync background task")


async def everywhere(request):
    log.info("in async code")

    async def parts():
        log.info("in stream")
        yield b"told"

    return StreamingResponse(parts(), background=BackgroundTask(later))


def sync(request):
    log.info("in thread pool")
    return JSONResponse("told")


async def sinks(request):
    raise Sunk


async def boom(request):
    raise RuntimeError("on the rocks")


def sunk(request, error):
    log.warning("in exception handler")
    return JSONResponse({"sunk": True}, 409)


app = Starlette(
    routes=[
        Mount("/in", routes=[Route("/all", everywhere)]),
        Route("/sync", sync),
        Route("/sunk", sinks),
        Route("/boom", boom),
    ],
    middleware=[Middleware(Around)],
    exception_handlers={Sunk: sunk},
)
