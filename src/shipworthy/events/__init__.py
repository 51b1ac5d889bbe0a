"""Facts that rooms state, each declared once as data beside the room that states it.

A room declares an event as a class and states it with `emit(CheckFailed, check="db", ...)`. Logs,
and the metrics, panels and alerts of later rooms, are derived from the declaration by whoever
listens; the room that emits knows none of them. A room that counts declares a `Metric` likewise.

Not here: what is done with a fact. Log lines and metrics are made in `telemetry`.
"""

from shipworthy.events.algebra import (
    Absent,
    Age,
    Both,
    Combined,
    Compared,
    Condition,
    Expression,
    Increase,
    Mean,
    Number,
    Quantile,
    Rate,
    Selection,
    Unless,
    Value,
    Within,
    kept_apart_by,
    must_be_bucket,
    ratio,
    selections,
)
from shipworthy.events.catalogue import CATALOGUE, Catalogue, declare, metrics_of
from shipworthy.events.emit import emit, listen
from shipworthy.events.facts import Event, Field, Label, Measure, Severity, declared, event
from shipworthy.events.http import (
    HTTP_METHODS,
    HTTP_SECONDS,
    HTTP_STATUSES,
    method_label,
    status_label,
)
from shipworthy.events.labels import OTHER, Declared, Domain, FirstNames, OneOf, Routes
from shipworthy.events.metric import Fold, Kind, Metric, Unit
from shipworthy.events.seldom import Seldom
from shipworthy.events.shown import Alert, Board, Panel, Shows, Urgency
from shipworthy.events.slo import (
    BURN_RULES,
    BurnRules,
    BurnWindow,
    Slo,
    alerts_of,
    burn_problems,
    panels_of,
)

__all__ = [
    "BURN_RULES",
    "CATALOGUE",
    "HTTP_METHODS",
    "HTTP_SECONDS",
    "HTTP_STATUSES",
    "OTHER",
    "Absent",
    "Age",
    "Alert",
    "Board",
    "Both",
    "BurnRules",
    "BurnWindow",
    "Catalogue",
    "Combined",
    "Compared",
    "Condition",
    "Declared",
    "Domain",
    "Event",
    "Expression",
    "Field",
    "FirstNames",
    "Fold",
    "Increase",
    "Kind",
    "Label",
    "Mean",
    "Measure",
    "Metric",
    "Number",
    "OneOf",
    "Panel",
    "Quantile",
    "Rate",
    "Routes",
    "Seldom",
    "Selection",
    "Severity",
    "Shows",
    "Slo",
    "Unit",
    "Unless",
    "Urgency",
    "Value",
    "Within",
    "alerts_of",
    "burn_problems",
    "declare",
    "declared",
    "emit",
    "event",
    "kept_apart_by",
    "listen",
    "method_label",
    "metrics_of",
    "must_be_bucket",
    "panels_of",
    "ratio",
    "selections",
    "status_label",
]
