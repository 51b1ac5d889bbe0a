"""A change of the limits needs no restart: their file is looked at, and read when it has changed.

Every process looks by itself, so it holds for all workers and under any server, and nobody has to
be told: it takes a second at most. What cannot be used changes nothing, and is said.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final, final

from shipworthy.admission.settings import LimitsSettings
from shipworthy.errors import SettingsInvalid
from shipworthy.events import Event, Label, Severity, emit, event
from shipworthy.settings import Environment, load

LOOK_SECONDS: Final = 1.0
# Where a process is started by these, they hold until it is started again.
AT_START: Final = ("store", "secret", "keys_most")


@event(severity=Severity.INFO)
class LimitsChanged(Event):
    """The limits are others from now on; a policy that allows something else counts anew.

    `not_yet` are settings that hold from the next start.
    """

    file: Annotated[str, Label]
    policies: str
    not_yet: str


@event(severity=Severity.ERROR)
class LimitsKept(Event):
    """The settings were changed to what cannot be used, so the limits of before hold on."""

    file: Annotated[str, Label]
    because: str


@final
class LimitsFile:
    """Looks at the settings file and hands its limits on when they have changed.

    `change` gets settings in which nothing is refused. Belongs to one event loop; the file is read
    in a thread.
    """

    def __init__(
        self,
        file: str,
        environment: Environment,
        settings: LimitsSettings,
        change: Callable[[LimitsSettings], None],
    ) -> None:
        # Absolute: an application may go elsewhere in its start.
        self._file = Path(file).absolute() if file else None
        self._environment = environment
        self._settings = settings
        self._change = change
        self._seen = self._stamp()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look from now on."""
        if self._file is not None:
            self._task = asyncio.create_task(self._look(), name="limits-file")

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def look_once(self) -> None:
        """Read the file if it is another than the last time."""
        stamp = self._stamp()
        if stamp != self._seen:
            # Before it is read: who writes meanwhile is read again.
            self._seen = stamp
            await asyncio.to_thread(self._read)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look_once()

    def _stamp(self) -> tuple[int, int, int] | None:
        if self._file is None:
            return None
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> None:
        assert self._file is not None
        found = self._settings
        try:
            found = load(file=self._file, environment=self._environment).of(LimitsSettings)
            problems = found.refusals(self._environment)
        except SettingsInvalid as error:
            problems = list(error.problems)
        if problems:
            emit(LimitsKept, file=self._file.name, because="; ".join(problems)[:1000])
            return
        if found == self._settings:
            return
        not_yet = [
            f"limits.{name}"
            for name in AT_START
            if getattr(found, name) != getattr(self._settings, name)
        ]
        self._settings = found
        self._change(found)
        emit(
            LimitsChanged,
            file=self._file.name,
            policies=", ".join(found.policies),
            not_yet=", ".join(not_yet),
        )
