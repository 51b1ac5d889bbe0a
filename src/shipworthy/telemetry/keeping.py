"""The shell around what is remembered: histories in memory, the file, and what is asked of both."""

import sqlite3
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Annotated, Final, Literal, final

from shipworthy.clock import SYSTEM_CLOCK, Clock
from shipworthy.errors import ShipworthyError
from shipworthy.events import (
    Condition,
    Event,
    Expression,
    Label,
    Measure,
    Metric,
    OneOf,
    Seldom,
    Severity,
    emit,
    event,
    selections,
)
from shipworthy.telemetry.buckets import Bucket, BucketFill, Totals
from shipworthy.telemetry.evaluate import Values, evaluate, holds, widened
from shipworthy.telemetry.history import Histories, History, Remembered
from shipworthy.telemetry.metrics import Registry
from shipworthy.telemetry.retention import RetentionSettings
from shipworthy.telemetry.rollups import FILE_NAME, Rollups, Tier, is_spoilt
from shipworthy.telemetry.settings import HistorySettings
from shipworthy.telemetry.snapshot import Snapshot

FOLDER: Final = ".shipworthy"

MINUTE: Final = 60
FIVE_MINUTES: Final = 300
HOUR: Final = 3600
# So far back alerts look: the windows of objectives are up to three days, their budget is a month.
_DAYS_SECONDS: Final = 4 * 86400.0
_MONTH_SECONDS: Final = 32 * 86400.0
# What fails each minute is no news each minute.
_SAID_AGAIN_SECONDS: Final = 3600.0
# A rate over fewer points than that is noise.
_POINTS_IN_WINDOW: Final = 4

SIZE = Metric(
    "shipworthy_history_bytes",
    "gauge",
    "What the history of the metrics takes, in memory and in its file.",
    {"place": OneOf("memory", "file")},
)
SETS = Metric("shipworthy_history_series", "gauge", "Label sets that the history in memory holds.")
UNKEPT = Metric(
    "shipworthy_history_unkept_total",
    "counter",
    "What the history lost: minutes not written to its file, label sets it had no room for.",
    {"what": OneOf("minute", "series")},
)


@event(severity=Severity.WARNING)
class HistoryUnkept(Event):
    """The history cannot be kept in its file, and goes on in memory.

    `held_back` is how often that failed since this was last said.
    """

    step: Annotated[Literal["open", "write", "read"], Label]
    file: str
    because: str
    held_back: Annotated[int, Measure]


@event(severity=Severity.WARNING)
class HistorySpoilt(Event):
    """The file of the history was spoilt; it was put aside, and another one was begun."""

    file: str


@final
@dataclass(frozen=True, slots=True)
class Point:
    """The values of an expression at a time of the wall clock."""

    wall: float
    values: Values


def state_folder(settings: HistorySettings, directory: Path, environ: Mapping[str, str]) -> Path:
    """Return where the files of this service are: as set, as systemd says, or beside it."""
    if settings.folder:
        return directory / settings.folder
    given = environ.get("STATE_DIRECTORY", "").split(":")[0]
    return Path(given) if given else directory / FOLDER


@final
class Keeping:
    """Remembers snapshots, and answers from them; safe between threads.

    Nothing that the disk does is an error here: it is stated, counted, and tried again with the
    next minute. The file is not there before the first minute is over.
    """

    def __init__(
        self,
        settings: HistorySettings,
        retention: RetentionSettings,
        folder: Path,
        *,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._clock = clock
        self._file = folder / FILE_NAME if settings.file else None
        self._file_bytes = settings.disk_bytes
        self.minutes = Tier(MINUTE, retention.minutes_seconds)
        self.fives = Tier(FIVE_MINUTES, retention.five_minutes_seconds)
        self.hours = Tier(HOUR, retention.hours_seconds)
        half, quarter = settings.memory_bytes // 2, settings.memory_bytes // 4
        self._recent = History(
            interval_seconds=settings.every_seconds,
            span_seconds=retention.recent_seconds,
            bytes_max=half,
        )
        self._days = _Coarse(
            FIVE_MINUTES, min(_DAYS_SECONDS, retention.five_minutes_seconds), quarter
        )
        self._month = _Coarse(HOUR, min(_MONTH_SECONDS, retention.hours_seconds), quarter)
        self.past = Histories(self._recent, self._days.history, self._month.history)
        self._buckets = BucketFill(MINUTE)
        self._rollups: Rollups | None = None
        self._anew = False
        self._lost_minutes = 0
        self._seldom = Seldom(_SAID_AGAIN_SECONDS)
        self._lock = threading.Lock()
        self._disk = threading.Lock()

    def begin(self) -> None:
        """Remember what the file has of the time before this process."""
        if self._file is None or not self._file.exists():
            return
        with self._disk, self._lock:
            rollups = self._opened()
            if rollups is None:
                return
            with self._told("read"):
                self._restore(rollups)

    def take(self, snapshot: Snapshot) -> None:
        """Remember a snapshot; once a minute, write the minute to the file."""
        at, wall = self._clock.now(), self._clock.wall()
        with self._lock:
            if not self._recent.add(snapshot, at=at, wall=wall, anew=self._anew):
                return
            self._anew = False
            over = self._buckets.add(snapshot, at=at, wall=wall)
            if over is not None:
                self._days.add(*over, at=at, wall=wall)
                self._month.add(*over, at=at, wall=wall)
        if over is not None:
            self._write(*over)

    def end(self) -> None:
        """Write the minute that is begun, and let go of the file."""
        with self._lock:
            over = self._buckets.close()
        # Nobody wants a file of a service that was there for a moment.
        if over is not None and self._rollups is not None:
            self._write(*over)
        with self._disk:
            if self._rollups is not None:
                self._rollups.close()
                self._rollups = None

    def value(self, of: Expression, *, window_seconds: float) -> Values:
        """Return what an expression is worth now."""
        with self._lock:
            return evaluate(of, self.past, self._clock.now(), window_seconds)

    def holds(self, condition: Condition) -> Values:
        """Return for which label sets a condition holds now, each with its value."""
        with self._lock:
            return holds(condition, self.past, self._clock.now())

    def series(
        self, of: Expression, *, since: float, until: float, points: int, give_up: float = inf
    ) -> tuple[float, list[Point]]:
        """Return the window of its rates, and the values of an expression over a wall time.

        The newest is as fine as memory has it, what is older as the file has it. Raises
        `TimeoutError` when the clock shows `give_up`, which it looks at before each point.
        """
        now, wall = self._clock.now(), self._clock.wall()
        until = min(until, wall)
        step = max((until - since) / points, self._recent.interval_seconds)
        history, past = self._in_memory(wall - since, now)
        window = max(step, _POINTS_IN_WINDOW * history.interval_seconds)
        seen = history.begin + wall - now
        if since < seen and self._file_has_more(since - window, seen, wall):
            past = history = self._from_file(of, since - window, until, give_up)
            window = max(step, _POINTS_IN_WINDOW * history.interval_seconds)
        of = widened(of, _POINTS_IN_WINDOW * history.interval_seconds)
        found: list[Point] = []
        # A quotient that is whole but for its rounding is whole.
        count = max(1, int((until - since) / step + 1e-6))
        for index in range(count + 1):
            if self._clock.now() > give_up:
                raise TimeoutError("a chart took too long")
            at_wall = until - (count - index) * step
            with self._lock:
                values = evaluate(of, past, at_wall - wall + now, window)
            found.append(Point(at_wall, values))
        return window, found

    def metrics(self, registry: Registry) -> None:
        """Register what this takes, and what it lost."""
        registry.gauge(SIZE, read=self._sizes)
        registry.gauge(SETS, read=lambda: self._recent.sets)
        registry.running_total(
            UNKEPT,
            read=lambda: {
                ("minute",): float(self._lost_minutes),
                ("series",): float(self._recent.untaken),
            },
        )

    def _sizes(self) -> dict[tuple[str, ...], float]:
        memory = sum(history.size_bytes for history in self.past.all)
        disk = 0.0
        if self._file is not None:
            with suppress(OSError):
                disk = float(self._file.stat().st_size)
        return {("memory",): float(memory), ("file",): disk}

    def _in_memory(self, age: float, now: float) -> tuple[History, Remembered]:
        """Return the histories in memory from the finest on that reaches back so far.

        Where none does, from the one that reaches back farthest.
        """
        every = self.past.all
        first = next((history for history in every if history.begin <= now - age), None)
        if first is None:
            first = min(every, key=lambda history: history.begin)
        return first, Histories(*every[every.index(first) :])

    def _file_has_more(self, since: float, seen: float, wall: float) -> bool:
        """Say whether the file shows something of the time before `seen`, and not before `since`.

        A young service has its first minutes in memory, of which the file has one wide bucket.
        """
        tier = self._tier(wall - since)
        with self._disk, self._told("read"):
            if self._rollups is not None:
                begin = max(since, self._rollups.begin(tier))
                # The first says from what its counts grew, and shows nothing by itself.
                return begin + 2 * tier.width_seconds < seen
        return False

    def _tier(self, age: float) -> Tier:
        """Return the finest buckets of the file that are kept for as long."""
        return self.fives if age <= self.fives.kept_seconds else self.hours

    def _from_file(self, of: Expression, since: float, until: float, give_up: float) -> History:
        """Make a history of what the file has of a time; empty where it cannot be read."""
        now, wall = self._clock.now(), self._clock.wall()
        tier = self._tier(wall - since)
        width = float(tier.width_seconds)
        history = History(interval_seconds=width, span_seconds=tier.kept_seconds)
        totals = Totals()
        names = sorted({of.metric.name for of in selections(of)})
        with self._disk, self._told("read"):
            if self._rollups is not None:
                for start, bucket in self._rollups.read(tier, since - width, until, wanted=names):
                    if self._clock.now() > give_up:
                        break  # whoever asks gives up as well
                    end = start + width
                    history.add(totals.add(bucket), at=end - wall + now, wall=end)
        return history

    def _restore(self, rollups: Rollups) -> None:
        now, wall = self._clock.now(), self._clock.wall()
        for tier, history, totals in (
            (self.minutes, self._recent, Totals()),
            (self.fives, self._days.history, self._days.totals),
            (self.hours, self._month.history, self._month.totals),
        ):
            width = tier.width_seconds
            for start, bucket in rollups.read(tier, wall - history.span_seconds, wall):
                # What the clock calls the future was seen, too, but not after now.
                at = min(start + width, wall) - wall + now
                history.add(totals.add(bucket), at=at, wall=at + wall - now)
        # The counts of this process begin at 0.
        self._anew = self._recent.snapshots > 0

    def _write(self, start: float, bucket: Bucket) -> None:
        if self._file is None:
            return
        with self._disk:
            rollups = self._rollups or self._opened()
            if rollups is not None:
                with self._told("write"):
                    rollups.put(start, bucket)
                    return
            self._lost_minutes += 1

    def _opened(self) -> Rollups | None:
        assert self._file is not None
        with self._told("open"):
            _make_folder(self._file.parent)
            tiers = (self.minutes, self.fives, self.hours)
            self._rollups = Rollups(self._file, tiers, bytes_max=self._file_bytes)
            if self._rollups.put_aside:
                emit(HistorySpoilt, file=str(self._file))
        return self._rollups

    def _told(self, step: Literal["open", "write", "read"]) -> "_Told":
        return _Told(step, self._trouble)

    def _trouble(self, step: Literal["open", "write", "read"], error: Exception) -> None:
        if isinstance(error, sqlite3.Error) and is_spoilt(error) and self._rollups is not None:
            # The next minute opens it again, which puts it aside.
            self._rollups.close()
            self._rollups = None
        held_back = self._seldom.held_back(step, self._clock.now())
        if held_back is not None:
            because = str(error)
            emit(
                HistoryUnkept, step=step, file=str(self._file), because=because, held_back=held_back
            )


@final
class _Told:
    """States what the disk did, in place of raising it."""

    def __init__(
        self,
        step: Literal["open", "write", "read"],
        trouble: Callable[[Literal["open", "write", "read"], Exception], None],
    ) -> None:
        self._step = step
        self._trouble = trouble

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: object, __: object) -> bool:
        if isinstance(error, OSError | sqlite3.Error | ShipworthyError | ValueError):
            self._trouble(self._step, error)
            return True
        return False


@final
class _Coarse:
    """A history of wider buckets, each added when it is over."""

    def __init__(self, width_seconds: int, span_seconds: float, bytes_max: int) -> None:
        self.history = History(
            interval_seconds=float(width_seconds), span_seconds=span_seconds, bytes_max=bytes_max
        )
        self.totals = Totals()
        self._width = width_seconds
        self._start: float | None = None
        self._open = Bucket()

    def add(self, start: float, bucket: Bucket, *, at: float, wall: float) -> None:
        begin = start // self._width * self._width
        if self._start is not None and begin != self._start:
            self.history.add(self.totals.add(self._open), at=at, wall=wall)
            self._open = Bucket()
        self._start = begin
        self._open.merge(bucket)


def _make_folder(folder: Path) -> None:
    """Make the folder, and have version control pass over one that we name ourselves."""
    if folder.exists():
        return
    folder.mkdir(parents=True, mode=0o700)
    if folder.name == FOLDER:
        (folder / ".gitignore").write_text("*\n")
