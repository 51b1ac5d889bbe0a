"""The supervisor's turns at remembering go on, whatever one of them meets."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from shipworthy.events import Event, listen
from shipworthy.serve.remembering import Remembering, TurnFailed
from shipworthy.telemetry import Snapshot

pytestmark = pytest.mark.anyio


class Recorder:
    """What a memory is asked for."""

    def __init__(self, *, every_seconds: float = 0.01) -> None:
        self.every_seconds = every_seconds
        self.judge_seconds = every_seconds
        self.did: list[str] = []
        self.fail: set[str] = set()
        self.loop = asyncio.get_running_loop()
        self.seen = asyncio.Event()
        self.until: Callable[[], bool] = lambda: False
        self.block_seconds = 0.0

    def _do(self, what: str) -> None:
        self.did.append(what)
        time.sleep(self.block_seconds)
        if self.until():
            self.loop.call_soon_threadsafe(self.seen.set)
        if what in self.fail:
            raise RuntimeError(f"{what} is broken")

    def begin(self) -> None:
        self._do("begin")

    def remember(self, snapshots: list[Snapshot]) -> None:
        self._do("remember")

    def judge(self) -> None:
        self._do("judge")

    def end(self) -> None:
        self._do("end")


async def _snapshots() -> list[Snapshot]:
    return [{}]


async def _live(memory: Recorder, until: Callable[[], bool], snapshots=_snapshots) -> list[Event]:
    facts: list[Event] = []
    stop = listen(facts.append, TurnFailed)
    memory.until = until
    remembering = Remembering(memory, snapshots)  # type: ignore[arg-type]
    try:
        await remembering.begin()
        await asyncio.wait_for(memory.seen.wait(), 20)
    finally:
        await remembering.end()
        stop()
    return facts


async def test_snapshots_and_alerts_have_their_turns() -> None:
    """What was left is read first, and what is not written is written last."""
    memory = Recorder()
    await _live(memory, lambda: memory.did.count("judge") > 2 and memory.did.count("remember") > 2)
    assert memory.did[0] == "begin"
    assert memory.did[-1] == "end"


async def test_a_turn_that_fails_is_said_once_and_ends_nothing() -> None:
    """Neither that of the snapshots nor that of the alerts, and the other goes on, too."""
    memory = Recorder()
    memory.fail = {"begin", "remember", "judge", "end"}
    facts = await _live(
        memory, lambda: memory.did.count("judge") > 2 and memory.did.count("remember") > 2
    )
    assert sorted(fact.turn for fact in facts if isinstance(fact, TurnFailed)) == [
        "begin",
        "end",
        "judge",
        "remember",
    ]


async def test_workers_that_cannot_be_asked_cost_one_snapshot() -> None:
    """The next turn asks again."""
    memory = Recorder()
    asked = 0

    async def broken() -> list[Snapshot]:
        nonlocal asked
        asked += 1
        if asked < 3:
            raise OSError("nobody answers")
        return [{}]

    facts = await _live(memory, lambda: "remember" in memory.did, broken)
    assert len(facts) == 1
    assert asked >= 3


async def test_the_loop_does_not_wait_for_what_takes_time() -> None:
    """A disk that takes 50 ms a turn leaves the loop of the probes alone."""
    memory = Recorder()
    memory.block_seconds = 0.05
    late = 0.0

    async def watch() -> None:
        nonlocal late
        while True:
            before = asyncio.get_running_loop().time()
            await asyncio.sleep(0.001)
            late = max(late, asyncio.get_running_loop().time() - before)

    watching = asyncio.create_task(watch())
    turns = asyncio.get_running_loop().time()
    await _live(memory, lambda: len(memory.did) > 10)
    spent = asyncio.get_running_loop().time() - turns
    watching.cancel()
    assert spent > 0.5
    # As long as all turns together would have been far more than a loaded machine is late.
    assert late < spent / 2


async def test_who_remembers_nothing_has_no_turns() -> None:
    """`history.every = 0`: no thread, no snapshot."""
    memory = Recorder(every_seconds=0.0)
    remembering = Remembering(memory, _snapshots)  # type: ignore[arg-type]
    await remembering.begin()
    await remembering.end()
    assert memory.did == []


@pytest.mark.slow
async def test_a_disk_that_hangs_does_not_keep_the_process_from_ending() -> None:
    """Its thread is left behind: nobody waits for it, the interpreter neither."""
    code = f"""
import asyncio, threading
from {Remembering.__module__} import Remembering

class Hung:
    every_seconds, judge_seconds = 60.0, 0.0
    def begin(self): pass
    def end(self): threading.Event().wait()

async def main():
    remembering = Remembering(Hung(), None)
    await remembering.begin()
    await remembering.end()
    print("ended")

asyncio.run(main())
"""
    ended = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "ended\n", "")
