"""Flask, by itself as `app` and mounted in a Starlette as `mounted`."""

import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from flask import Flask, Response
from marks import Boom, note, until
from starlette.applications import Starlette
from starlette.routing import Mount

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what many applications still mount with
    from starlette.middleware.wsgi import WSGIMiddleware

app = Flask(__name__)


@app.get("/items/<int:item>")
def show(item: int) -> str:
    return f"item {item}"


@app.get("/boom")
def boom() -> str:
    raise Boom("s3cret")


@app.get("/stream")
def stream() -> Response:
    def parts() -> Iterator[bytes]:
        yield b"one\n"
        until("go")
        yield b"two\n"

    return Response(parts(), mimetype="text/plain")


@app.get("/slow")
def slow() -> str:
    note("slow began")
    until("released")
    return "slow"


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    note("start")
    yield
    note("stop")


mounted = Starlette(routes=[Mount("/old", WSGIMiddleware(app))], lifespan=lifespan)
