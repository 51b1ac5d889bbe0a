"""Keeps the spare process: starts it, has it import libraries, hands it over, ends it.

What is due is decided in `standby.py`, and what the process does meanwhile is in `preload.py`.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from shipworthy.clock import SYSTEM_CLOCK
from shipworthy.events import Event, Severity, emit, event
from shipworthy.serve.channel import Channel
from shipworthy.serve.preload import environment_stamp
from shipworthy.serve.standby import SpareStage, Standby, StandbyRule, Step

# A process that got SIGKILL is gone in milliseconds, unless it waits for a disk.
_END_SECONDS = 1.0


@event(severity=Severity.WARNING)
class SpareLost(Event):
    """The spare process could not be started, or ended though nobody had told it to.

    Another one is started a minute later; a worker that is lost meanwhile is followed by a process
    that starts from nothing.
    """

    because: str


@dataclass(frozen=True, slots=True)
class Begun:
    """A process that is a worker or may become one, with our ends of its pipe and its watcher's."""

    process: asyncio.subprocess.Process
    channel: Channel
    watching: socket.socket

    def let_go(self) -> None:
        """End the process at once, which has nothing to leave in order, and close our ends."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.channel.close()
        self.watching.close()


class Spares:
    """At most one spare process, on the supervisor's loop; `start` starts one that waits."""

    def __init__(self, rule: StandbyRule, start: Callable[[], Awaitable[Begun]]) -> None:
        self._standby = Standby(rule)
        self._start = start
        self._begun: Begun | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._stamp: tuple[int, ...] = ()
        # Those that were told to end are still to be buried.
        self._ending: set[asyncio.subprocess.Process] = set()
        self._tasks: set[asyncio.Task[int]] = set()

    @property
    def stage(self) -> SpareStage:
        """Return how far the spare is."""
        return self._standby.stage

    @property
    def pids(self) -> set[int]:
        """Return the processes that are waited for here."""
        kept = set() if self._begun is None else {self._begun.process.pid}
        return kept | {process.pid for process in self._ending}

    def tick(self, now: float, *, at_rest: bool, room: bool, libraries: Sequence[str]) -> None:
        """Start or end the spare when that is due; it imports `libraries` and waits."""
        match self._standby.tick(now, at_rest=at_rest, room=room):
            case Step.START:
                self._keeping = asyncio.create_task(self._keep(libraries))
            case Step.END:
                self._end()

    async def take(self) -> Begun | None:
        """Return the spare, to be told to serve; None when there is none that is fit for it."""
        begun, keeping = self._begun, self._keeping
        if begun is None or keeping is None or not self._standby.take():
            return None
        self._begun = self._keeping = None
        keeping.cancel()
        await asyncio.wait({keeping})  # else two would read the same pipe
        if begun.process.returncode is None and environment_stamp() == self._stamp:
            return begun
        self._bury(begun)
        return None

    def outdated(self) -> None:
        """End the spare: what it has imported may not be what there is now."""
        self._standby.outdated()
        self._end()

    def failed(self) -> None:
        """Note that a worker that had been the spare could not start: without one for a while.

        Whatever it was, the next start is to be one from nothing.
        """
        self._standby.lost(SYSTEM_CLOCK.now())
        self._end()

    async def close(self) -> None:
        """End the spare and see it buried."""
        self.outdated()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_END_SECONDS)

    async def _keep(self, libraries: Sequence[str]) -> None:
        because = "it ended by itself"
        try:
            self._stamp = environment_stamp()
            self._begun = begun = await self._start()
            begun.channel.send("preload", modules=list(libraries))
            async for message in begun.channel.messages():
                if message["kind"] == "warm":
                    self._standby.warm()
        except Exception as error:  # noqa: BLE001 - whatever it is, workers are started without
            because = f"{type(error).__name__}: {error}"
        self._keeping = None
        self._standby.lost(SYSTEM_CLOCK.now())
        self._end()
        emit(SpareLost, because=because)

    def _end(self) -> None:
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.cancel()
        begun, self._begun = self._begun, None
        if begun is not None:
            self._bury(begun)

    def _bury(self, begun: Begun) -> None:
        begun.let_go()
        self._ending.add(begun.process)
        burying = asyncio.create_task(begun.process.wait())
        self._tasks.add(burying)

        def buried(_: "asyncio.Task[int]") -> None:
            self._tasks.discard(burying)
            self._ending.discard(begun.process)

        burying.add_done_callback(buried)
