"""What `run` remembers and watches: the history, the alerts, and what is declared to be shown."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from shipworthy.clock import SYSTEM_CLOCK, Clock
from shipworthy.events import Alert, Catalogue, Event, Metric, Panel, Severity, emit, event
from shipworthy.settings import Loaded
from shipworthy.telemetry.alert_settings import AlertSettings
from shipworthy.telemetry.declarations import read_declarations
from shipworthy.telemetry.keeping import Keeping, state_folder
from shipworthy.telemetry.metrics import Registry
from shipworthy.telemetry.retention import RetentionSettings
from shipworthy.telemetry.rounds import Rounds
from shipworthy.telemetry.settings import HistorySettings
from shipworthy.telemetry.snapshot import Snapshot, folded

COST = Metric(
    "shipworthy_history_round_seconds",
    "histogram",
    "How long it took to remember one snapshot of all metrics, in seconds.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0),
)

# What users bring from elsewhere may be of another kind, which nothing here can be asked of.
_KEPT_KINDS = frozenset({"counter", "gauge", "histogram"})


@event(severity=Severity.WARNING)
class DeclarationsUnread(Event):
    """Something the application declares to be shown is not taken; what was known before holds.

    It was not understood, or has the name of something else of ours.
    """

    because: str


@final
class Memory:
    """Remembers the snapshots of one service, and evaluates the alerts of `catalogue` and its own.

    Its methods work on memory and disk, and are for a thread; `declared` and the rest that only
    reads is safe from any.
    """

    def __init__(
        self,
        settings: Loaded,
        registry: Registry,
        directory: Path,
        catalogue: Catalogue,
        *,
        url: str = "",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        history = settings.of(HistorySettings)
        folder = state_folder(history, directory, os.environ)
        self._clock = clock
        self.metrics: Mapping[str, Metric]
        self.panels: Mapping[str, Panel]
        self.alerts: Mapping[str, Alert]
        self.every_seconds = history.every_seconds
        self.judge_seconds = settings.of(AlertSettings).every_seconds
        self._catalogue = catalogue
        self.declared([])
        self.keeping = Keeping(history, settings.of(RetentionSettings), folder, clock=clock)
        self.rounds = Rounds(
            self.keeping,
            settings.of(AlertSettings),
            lambda: list(self.alerts.values()),
            registry,
            folder=folder if history.file else None,
            url=url,
            clock=clock,
        )
        self.keeping.metrics(registry)
        self._cost = registry.histogram(COST).cell()

    def declared(self, plain: Any) -> None:
        """Take what the application declares, in place of what it declared before."""
        try:
            found = read_declarations(plain)
        except (ValueError, TypeError) as error:
            emit(DeclarationsUnread, because=str(error))
            return
        together = Catalogue()
        together.add(*self._catalogue.everything())
        refused: list[str] = []
        for thing in found.everything():
            try:
                together.add(thing)
            except ValueError as error:
                refused.append(str(error))
        if refused:
            emit(DeclarationsUnread, because=refused[0])
        self.metrics, self.panels, self.alerts = (
            together.metrics,
            together.panels,
            together.alerts,
        )

    def begin(self) -> None:
        """Remember what the process before has left."""
        self.keeping.begin()
        self.rounds.begin()

    def remember(self, snapshots: list[Snapshot]) -> None:
        """Take the snapshots of all processes as one."""
        began = self._clock.now()
        kept = folded(snapshots)
        self.keeping.take(
            {name: series for name, series in kept.items() if series["kind"] in _KEPT_KINDS}
        )
        self._cost.observe(self._clock.now() - began)

    def judge(self) -> None:
        """Evaluate all alerts once."""
        self.rounds.look()

    def end(self) -> None:
        """Write what is not written yet, and tell nobody any more."""
        self.rounds.end()
        self.keeping.end()
