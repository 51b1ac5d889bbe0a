"""Facts that rooms state, each declared once as data beside the room that states it.

A room declares an event as a class and states it with `emit(CheckFailed, check="db", ...)`. Logs,
and the metrics, panels and alerts of later rooms, are derived from the declaration by whoever
listens; the room that emits knows none of them. A room that counts declares a `Metric` likewise.

Not here: what is done with a fact. Log lines and metrics are made in `telemetry`.
"""

from shipworthy.events.declare import Event, Field, Label, Measure, Severity, declared, event
from shipworthy.events.emit import emit, listen
from shipworthy.events.metric import Fold, Kind, Metric

__all__ = [
    "Event",
    "Field",
    "Fold",
    "Kind",
    "Label",
    "Measure",
    "Metric",
    "Severity",
    "declared",
    "emit",
    "event",
    "listen",
]
