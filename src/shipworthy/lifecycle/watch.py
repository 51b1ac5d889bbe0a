"""Ask a health check in the background, again and again."""

import asyncio
from typing import Any

from shipworthy.clock import Clock
from shipworthy.events import emit
from shipworthy.lifecycle.checks import Check, CheckChanged, CheckStanding
from shipworthy.lifecycle.hooks import BECAUSE_CHARACTERS, explain, leave_behind, where
from shipworthy.redact import redact


class Watch:
    """Ask one check every `interval_seconds`, never twice at once, and keep what it answered.

    Whatever the check does, `standing` is up to date and reading it waits for nothing. A call that
    swallows its cancellation counts as a failure on each round until it ends; only then is the
    check called again.
    """

    def __init__(self, check: Check, clock: Clock) -> None:
        self.check = check
        self.standing = CheckStanding(check, clock.now())
        self._clock = clock
        self._call: asyncio.Task[Any] | None = None
        self._called = 0.0

    async def run(self) -> None:
        """Ask for ever; ends by cancellation, and then leaves no call behind that obeys one."""
        try:
            while True:
                await self.ask()
                await asyncio.sleep(self.check.interval_seconds)
        finally:
            if self._call is not None:
                await leave_behind(self._call)

    async def ask(self) -> None:
        """Ask once, and note the answer or that there is none."""
        if self._call is None or self._call.done():
            # An answer that came after its time is not taken: it tells of the past.
            self._called = self._clock.now()
            self._call = asyncio.create_task(self._asked())
            await asyncio.wait({self._call}, timeout=self.check.timeout_seconds)
        call = self._call
        now = self._clock.now()
        took_seconds = now - self._called
        if call.done():
            because = self._answer(call)
        else:
            because = f"no answer after {took_seconds:.1f} s; it stands at {where(call)}"
            await leave_behind(call)
        if self.standing.answered(because, now=now, took_seconds=took_seconds):
            emit(
                CheckChanged,
                check=self.check.name,
                status=self.standing.status.value,
                because=because,
            )

    async def _asked(self) -> str | None:
        return await self.check.ask()

    def asking(self) -> "tuple[asyncio.Task[str | None], float] | None":
        """Return the call that is within its time, and the seconds it has left; else None."""
        if self._call is None or self._call.done():
            return None
        left_seconds = self._called + self.check.timeout_seconds - self._clock.now()
        return (self._call, left_seconds) if left_seconds > 0 else None

    def _answer(self, call: "asyncio.Task[str | None]") -> str:
        if call.cancelled():
            return "it was cancelled"
        error = call.exception()
        if error is not None:
            return explain(error)
        answer = call.result()
        if answer is None:
            return ""
        return redact(str(answer))[:BECAUSE_CHARACTERS] or "it answered an empty text"
