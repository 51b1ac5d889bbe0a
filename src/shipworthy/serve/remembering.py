"""The supervisor's turns at remembering: what takes time happens in a thread of its own.

Not here: what is remembered and how alerts are evaluated (`telemetry`).
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from typing import Annotated, Any, final

from shipworthy.clock import SYSTEM_CLOCK
from shipworthy.events import Event, Measure, Seldom, Severity, emit, event
from shipworthy.telemetry import Memory, Snapshot

# Writing the last minute is milliseconds; a disk that hangs must not keep the service from ending.
_END_SECONDS = 1.0
_SAID_AGAIN_SECONDS = 600.0


@event(severity=Severity.ERROR)
class TurnFailed(Event):
    """A snapshot was not remembered, or alerts were not evaluated; the next turn tries again.

    `held_back` is how often that failed since this was last said.
    """

    turn: str
    because: str
    held_back: Annotated[int, Measure]


@final
class Remembering:
    """Takes snapshots and evaluates alerts until it is ended; one that fails ends neither."""

    def __init__(self, memory: Memory, snapshots: Callable[[], Awaitable[list[Snapshot]]]) -> None:
        self._memory = memory
        self._snapshots = snapshots
        # One thread: what is remembered is evaluated after it, and both never hold up a probe. Not
        # that of an executor, for which the end of the process waits, however long it hangs.
        self._due: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._tasks: list[asyncio.Task[None]] = []
        self._seldom = Seldom(_SAID_AGAIN_SECONDS)

    async def begin(self) -> None:
        """Begin; what the process before has left is read before the first turn."""
        memory = self._memory
        if not memory.every_seconds:
            return
        threading.Thread(target=self._work_off, name="shipworthy-memory", daemon=True).start()
        self._tasks.append(asyncio.create_task(self._turns("remember", memory.every_seconds)))
        if memory.judge_seconds:
            self._tasks.append(asyncio.create_task(self._turns("judge", memory.judge_seconds)))
        await self._work("begin", memory.begin)

    async def end(self) -> None:
        """Write what is not written, within a second, and take no more turns."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            with suppress(TimeoutError):
                async with asyncio.timeout(_END_SECONDS):
                    await self._work("end", self._memory.end)
        self._due.put(None)

    async def _turns(self, turn: str, every_seconds: float) -> None:
        """Do a turn at a time that does not drift; turns that were missed are not made up for."""
        due = SYSTEM_CLOCK.now()
        while True:
            due = max(due + every_seconds, SYSTEM_CLOCK.now())
            await asyncio.sleep(due - SYSTEM_CLOCK.now())
            if turn == "judge":
                await self._work(turn, self._memory.judge)
                continue
            try:
                snapshots = await self._snapshots()
            except Exception as error:  # noqa: BLE001 - the next turn may go better
                self._say(turn, error)
            else:
                await self._work(turn, self._memory.remember, snapshots)

    async def _work(self, turn: str, work: Callable[..., None], *facts: Any) -> None:
        done: Future[None] = Future()

        def do() -> None:
            if done.set_running_or_notify_cancel():
                try:
                    work(*facts)
                except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
                    done.set_exception(error)
                else:
                    done.set_result(None)

        self._due.put(do)
        try:
            await asyncio.wrap_future(done)
        except Exception as error:  # noqa: BLE001 - without the next turn nobody is told of anything
            self._say(turn, error)

    def _work_off(self) -> None:
        while (do := self._due.get()) is not None:
            do()

    def _say(self, turn: str, error: Exception) -> None:
        held_back = self._seldom.held_back(turn, SYSTEM_CLOCK.now())
        if held_back is not None:
            because = f"{type(error).__name__}: {error}"
            emit(TurnFailed, turn=turn, because=because, held_back=held_back)
