"""What all workers have counted: read from their segments, or asked from those that have none.

Not here: how a segment is written and read (`telemetry`).
"""

from typing import final

from shipworthy.events import Event, Severity, emit, event
from shipworthy.telemetry import RunDirectory, SegmentDirectory, Snapshot, from_json, retired


@event(severity=Severity.WARNING)
class WorkersCountAlone(Event):
    """The workers have no directory to count in: a killed one takes with it what is new.

    New is what it has counted since it was last asked. `metrics.run_directory` names another place.
    """

    because: str


@final
class Counts:
    """Keeps what workers have counted over their ends; no counter goes backwards."""

    def __init__(self) -> None:
        self._run: RunDirectory | None = None
        self._segments: SegmentDirectory | None = None
        self._asked: dict[int, Snapshot] = {}
        self._departed: Snapshot = {}
        self._last: list[Snapshot] = []
        # Said when it begins, and not with each snapshot.
        self._unreadable = False

    def begin(self, wanted: str) -> None:
        """Make the directory, in `wanted` where that is said; without one, say why, and go on."""
        try:
            self._run = RunDirectory.make(wanted)
            self._segments = SegmentDirectory(self._run.path)
        except OSError as error:
            self.close()
            emit(WorkersCountAlone, because=str(error))

    @property
    def path(self) -> str:
        """Return where the workers count, "" where each does in its memory."""
        return str(self._run.path) if self._run is not None else ""

    def heard(self, generation: int, snapshot: Snapshot) -> None:
        """Take what a worker without a segment has said of itself."""
        if snapshot:
            self._asked[generation] = from_json(snapshot)

    def ended(self, generation: int) -> None:
        """Keep the counts of a worker whose process is gone."""
        self._departed = retired([self._departed, self._asked.pop(generation, {})])
        self._told(generation)

    def told(self) -> list[Snapshot]:
        """Return what all have counted, the dead too; as it last was where it cannot be read."""
        return [*self._told(), self._departed, *self._asked.values()]

    def close(self) -> None:
        """Remove the directory; twice is once."""
        if self._segments is not None:
            self._segments.close()
        if self._run is not None:
            self._run.remove()
        self._run = self._segments = None

    def _told(self, *ended: int) -> list[Snapshot]:
        if self._segments is None:
            return self._last
        try:
            self._last = self._segments.told(ended=[segment_name(one) for one in ended])
            self._unreadable = False
        except OSError as error:
            if not self._unreadable:
                emit(WorkersCountAlone, because=f"{self.path} cannot be read: {error}")
            self._unreadable = True
        return self._last


def segment_name(generation: int) -> str:
    """Return the name of a worker's segment; no two workers of a run have the same."""
    return f"worker-{generation}"
