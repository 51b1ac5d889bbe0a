"""How an application of these tests and the test talk: files in the directory it is started in."""

import asyncio
import time
from pathlib import Path

DIARY = Path("diary.txt")
PATIENCE_SECONDS = 20.0


class Boom(Exception):
    """What the applications raise."""


def note(line: str) -> None:
    """Write down what happened."""
    with DIARY.open("a") as diary:
        diary.write(line + "\n")


def until(name: str) -> None:
    """Block until the test has made the file `name`."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not Path(name).exists():
        if time.monotonic() > give_up:
            raise TimeoutError(name)
        time.sleep(0.005)


async def wait(name: str) -> None:
    """Wait until the test has made the file `name`."""
    await asyncio.to_thread(until, name)
