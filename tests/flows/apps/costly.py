"""Routes that cost CPU: in the loop's own thread, in a worker thread; and one that only waits."""

import asyncio
import hashlib
import os
import time

from fastapi import FastAPI

app = FastAPI()
COST_SECONDS = float(os.environ.get("COST_SECONDS", "0.025"))
_TEXT = b"x" * 512


def burn() -> None:
    """Compute until this thread has had its share of CPU, in Python as handlers do."""
    until = time.thread_time() + COST_SECONDS
    while time.thread_time() < until:
        for _ in range(20):
            hashlib.sha256(_TEXT).digest()


@app.get("/work")
async def work():
    burn()
    return {"done": True}


@app.get("/critical")
async def critical():
    burn()
    return {"done": True}


@app.get("/thread")
def thread():
    burn()
    return {"done": True}


@app.get("/critical-thread")
def critical_thread():
    burn()
    return {"done": True}


@app.get("/rest")
async def rest():
    await asyncio.sleep(1.0)
    return {"done": True}
