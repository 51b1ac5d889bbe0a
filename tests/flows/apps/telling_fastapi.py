"""FastAPI that logs wherever code of a request runs, and keeps what it was sent from nobody."""

import asyncio
import logging
import threading
from contextvars import copy_context

from fastapi import BackgroundTasks, Depends, FastAPI, Request
from fastapi.responses import JSONResponse

log = logging.getLogger("shop")
app = FastAPI()


class Sunk(Exception):
    """A handler of the application's own knows it."""


@app.exception_handler(Sunk)
async def sunk(request: Request, error: Sunk) -> JSONResponse:
    log.warning("in exception handler")
    return JSONResponse({"sunk": True}, 409)


@app.middleware("http")
async def around(request: Request, call_next):
    log.info("in middleware, before")
    answer = await call_next(request)
    log.info("in middleware, after")
    return answer


def sync_dependency() -> None:
    log.info("in sync dependency")


def later_in_a_thread() -> None:
    log.info("in sync background task")


async def later() -> None:
    log.info("in background task")


@app.get("/all", dependencies=[Depends(sync_dependency)])
async def everywhere(background: BackgroundTasks) -> str:
    log.info("in async code")
    await asyncio.to_thread(log.info, "in to_thread")
    await asyncio.create_task(asyncio.sleep(0))
    async with asyncio.TaskGroup() as group:
        group.create_task(tell("in task"))
    carried = copy_context()
    thread = threading.Thread(target=lambda: carried.run(log.info, "in thread with context"))
    thread.start()
    await asyncio.to_thread(thread.join)
    background.add_task(later)
    background.add_task(later_in_a_thread)
    return "told"


@app.get("/sync")
def sync() -> str:
    log.info("in thread pool")
    return "told"


@app.get("/sunk")
async def sinks() -> None:
    raise Sunk


@app.get("/boom")
async def boom() -> None:
    try:
        raise LookupError("no such berth")
    except LookupError:
        log.exception("in except")
    raise RuntimeError("on the rocks")


async def tell(text: str) -> None:
    log.info(text)


@app.post("/secret")
async def secret(request: Request) -> JSONResponse:
    """Log a text in every way there is; the text is in the body."""
    text = (await request.body()).decode()
    log.info(text)
    log.info("got %s", text)
    log.info("got", extra={"note": text, "deep": {"list": [text]}, text: 1})
    try:
        raise LookupError(text)
    except LookupError:
        log.exception("failed")
    return JSONResponse({"logged": True})


@app.post("/raise")
async def raises(request: Request) -> None:
    raise RuntimeError((await request.body()).decode())
