"""Measure the calls of one environment, a round at a time, when told to.

`python calls.py calls_ours` imports that module and answers each line `N` on standard input with
one line of JSON: the CPU seconds per call of each arm over N calls. A line `memory N` is answered
with the bytes that N rejections have left in the process, by arm. Needs nothing but Python.
"""

import asyncio
import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Arm:
    """A call to measure, and in which of the tables it stands."""

    kind: str  # "sync", "async" or "rejected"
    call: Callable[[], Any]


def work() -> int:
    """The call that is protected."""
    return 1


async def work_async() -> int:
    """The same as a coroutine."""
    return 1


BARE = {"bare call": Arm("sync", work), "bare coroutine": Arm("async", work_async)}


def measure(arm: Arm, times: int) -> float:
    """Return the CPU seconds of one call."""
    gc.collect()
    if arm.kind == "async":
        return asyncio.run(_measure_async(arm.call, times))
    call = arm.call
    if arm.kind == "rejected":
        began = time.process_time()
        _reject(call, times)
    else:
        began = time.process_time()
        for _ in range(times):
            call()
    return (time.process_time() - began) / times


async def _measure_async(call: Callable[[], Awaitable[Any]], times: int) -> float:
    began = time.process_time()
    for _ in range(times):
        await call()
    return (time.process_time() - began) / times


def _reject(call: Callable[[], Any], times: int) -> None:
    for _ in range(times):
        try:
            call()
        except Exception:  # noqa: BLE001 - each library has its own
            continue
        raise SystemExit("a call that should have been rejected was made")


def resident_bytes() -> int:
    """Return the memory of this process that is in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def left_by(arm: Arm, times: int) -> int:
    """Return the bytes that so many rejections have left behind."""
    _reject(arm.call, 100)
    gc.collect()
    before = resident_bytes()
    _reject(arm.call, times)
    gc.collect()
    return resident_bytes() - before


def serve_rounds(arms: dict[str, Arm]) -> None:
    """Answer each line, the order of the arms turned round each time."""
    for arm in arms.values():
        measure(arm, 500)
    turn = list(arms)
    print(json.dumps({name: arm.kind for name, arm in arms.items()}), flush=True)
    for line in sys.stdin:
        word, _, number = line.strip().rpartition(" ")
        if word == "memory":
            answer = {
                name: left_by(arm, int(number))
                for name, arm in arms.items()
                if arm.kind == "rejected"
            }
        else:
            answer = {name: measure(arms[name], int(number)) for name in turn}
            turn.reverse()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve_rounds(BARE | importlib.import_module(sys.argv[1]).arms())
