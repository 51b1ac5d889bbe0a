"""What the workers of a server without a supervisor of ours count together; each reads all.

Not here: the workers of `run`, whose supervisor reads them (`serve`), and who may ask (`web`).
"""

import os
import secrets
import threading
from pathlib import Path
from typing import final

from shipworthy.errors import SettingsInvalid
from shipworthy.telemetry.metrics import Registry
from shipworthy.telemetry.segment import Segment
from shipworthy.telemetry.snapshot import Snapshot
from shipworthy.telemetry.together import SegmentDirectory


@final
class SharedCounts:
    """The counts of this process and of all others that were given the same directory.

    Safe between threads. What is in the directory outlives its processes: counters go on where the
    workers before have left them.
    """

    def __init__(self, directory: Path, registry: Registry) -> None:
        self._path = directory
        self._registry = registry
        self._lock = threading.Lock()
        self._pid = 0
        self._segment: Segment | None = None
        self._all: SegmentDirectory | None = None

    def begin(self) -> None:
        """Count in the directory from now on, until the process ends; twice is once.

        The kernel says when that is. Raises `SettingsInvalid` where it cannot be.
        """
        if self._pid == os.getpid():
            return
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner = self._path.stat().st_uid
            if owner != os.geteuid():
                raise PermissionError(0, f"it belongs to the user {owner}", str(self._path))
            # Not by process id alone: that comes again.
            name = f"worker-{os.getpid()}-{secrets.token_hex(4)}"
            self._segment = Segment.begin(self._path, name)
            self._all = SegmentDirectory(self._path)
        except OSError as error:
            refused = (
                f"metrics.shared_directory: {self._path} cannot be used "
                f"({error.strerror or error}); name a directory that this service can make"
            )
            raise SettingsInvalid([refused]) from error
        self._registry.keep_in(self._segment)
        self._pid = os.getpid()

    def say(self, *, asked: bool = False) -> None:
        """Write beside the counts what is only read, as gauges are. Raises `OSError`."""
        if self._segment is not None:
            self._segment.say(self._registry.rest(asked=asked))

    def told(self) -> list[Snapshot]:
        """Return what all have counted, the dead too. Raises `OSError`, also where it is busy."""
        with self._lock:
            return [] if self._all is None else self._all.told()
