"""Count the bytecode instructions our code executes, which no other load on the machine changes.

    python benchmarks/instructions.py            print the counts
    python benchmarks/instructions.py --check    fail when one has grown by more than 5 %
    python benchmarks/instructions.py --update   write them as the baseline of this Python

Only frames of src/shipworthy count. A count says nothing of what happens in C, so it is a gate
against creeping growth; what a guard costs is measured in guards.py.
"""

import argparse
import asyncio
import json
import logging
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any, Self

from cells import CALLS, WORKERS, our_calls, our_scrape, our_worker
from fastapi import FastAPI, WebSocket
from hull_arms import hardened
from rounds import ask, bare, bare_of, living, take_stdout

import shipworthy
from shipworthy.events import Event, emit, event
from shipworthy.telemetry import AccessLog
from shipworthy.telemetry.logs import LogLines

BASELINE = Path(__file__).with_name("instructions.json")
GROWTH_RATIO = 1.05
# A rare path (a refilled store of ids, a new second) is in few of them, so the median has none.
TIMES = 31
# A port that nobody has by convention (discard): nothing is sent there anyway.
NOWHERE = "http://127.0.0.1:9"
NONE_KEPT = {"SHIPWORTHY_TRACES__SAMPLE_RATIO": "0", "SHIPWORTHY_TRACES__SLOW": "0"}

IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
OURS = str(Path(shipworthy.__file__).parent)
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


class Counting:
    """Counts the instructions of our frames within a `with` block, in this thread."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Self:
        sys.settrace(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _called(self, frame: FrameType, _: str, __: Any) -> Any:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._stepped

    def _stepped(self, _: FrameType, kind: str, __: Any) -> Any:
        if kind == "opcode":
            self.count += 1
        return self._stepped


async def counted(work: Callable[[], Awaitable[Any]]) -> int:
    """Return the instructions of `work`, the median of several times, once it is warm."""
    for _ in range(3):
        await work()
    counts = []
    for _ in range(TIMES):
        with Counting() as counting:
            await work()
        counts.append(counting.count)
    return int(median(counts))


async def talk(app: Callable[..., Any], messages: int) -> None:
    """Hold a websocket conversation: each message of ours is echoed."""
    incoming = [{"type": "websocket.connect"}]
    incoming += [{"type": "websocket.receive", "text": "hello"} for _ in range(messages)]
    incoming += [{"type": "websocket.disconnect", "code": 1000}]
    scope = {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": "/echo",
        "raw_path": b"/echo",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"shop.example.org")],
        "client": ("203.0.113.9", 4711),
        "server": ("127.0.0.1", 8000),
        "subprotocols": [],
        "state": {},
    }

    async def receive() -> dict[str, Any]:
        return incoming.pop(0)

    async def send(_: Any) -> None:
        return None

    await app(scope, receive, send)


def echoing() -> FastAPI:
    """The bare application with a websocket that echoes."""
    app = bare()

    @app.websocket("/echo")
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(text)

    return app


async def metric_counts() -> dict[str, int]:
    """Return the instructions of counting, and of a scrape of 16 workers with 100 routes."""
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        calls = our_calls(folder)
        place = Path(folder) / "scrape"
        place.mkdir()
        workers = [our_worker(str(place), number) for number in range(WORKERS)]
        scrape = our_scrape(str(place))

        async def count_and_observe() -> None:
            calls[CALLS[0]](1)
            calls[CALLS[2]](1)

        async def scrape_it() -> None:
            scrape()

        found = {
            "count and observe": await counted(count_and_observe),
            "scrape of 16 workers with 100 routes": await counted(scrape_it),
        }
        for segment, _ in workers:
            segment.close()
        return found


async def counts() -> dict[str, int]:
    """Return the instructions of everything that is gated."""
    app = hardened(echoing())
    # Traced, and no trace is kept: what most requests of a traced service are.
    traced = hardened(bare(), SHIPWORTHY_TRACES__ENDPOINT=NOWHERE, **NONE_KEPT)

    @event()
    class NobodyListens(Event):
        """Nobody listens to this."""

        number: int

    # Outside of `run` the hull gives every event to `logging`; this is about one that none takes.
    NobodyListens.listeners = ()

    async def state_it() -> None:
        emit(NobodyListens, number=1)

    log = AccessLog(os.open(os.devnull, os.O_WRONLY), human=False)
    logger = logging.getLogger("bench")
    logger.propagate, logger.handlers = False, [LogLines(log)]

    async def log_it() -> None:
        # The part that the caller waits for.
        logger.warning("sold berth %d", 3, extra={"client": 17, "quay": "north"})

    # One look-up, however many routes there are.
    many = hardened(bare_of(500))
    async with living(app), living(many), living(traced):
        short = await counted(lambda: talk(app, 1))
        long = await counted(lambda: talk(app, 11))
        return {
            "GET request": await counted(lambda: ask(app)),
            "GET request with 500 routes": await counted(lambda: ask(many)),
            "GET request whose trace is not kept": await counted(lambda: ask(traced)),
            "websocket message": (long - short) // 10,
            "emit without a listener": await counted(state_it),
            "log record": await counted(log_it),
            **await metric_counts(),
        }


def main() -> int:
    """Count, and do with the counts what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="compare with the baseline")
    parser.add_argument("--update", action="store_true", help="write the baseline")
    options = parser.parse_args()
    out = take_stdout()
    now = asyncio.run(counts())
    baselines = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    if options.update:
        baselines[PYTHON] = now
        BASELINE.write_text(json.dumps(baselines, indent=2, sort_keys=True) + "\n")
    before = baselines.get(PYTHON, {})
    grown = []
    for name, count in now.items():
        known = before.get(name)
        print(f"{name}: {count} instructions (baseline {known or 'none'})", file=out)
        if known and count > known * GROWTH_RATIO:
            grown.append(name)
        if known and count < known / GROWTH_RATIO:
            print("  less than the baseline by 5 %: write it with --update", file=out)
    if options.check and not before:
        print(f"no baseline for Python {PYTHON}; write one with --update", file=out)
    if options.check and grown:
        print(f"grown by more than 5 %: {', '.join(grown)}", file=out)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
