"""What people see of the history and of alerts that the service evaluates itself."""

from typing import Final

from shipworthy.events import (
    Alert,
    Board,
    Compared,
    Increase,
    Number,
    Panel,
    Quantile,
    Selection,
    Urgency,
    Value,
)
from shipworthy.telemetry.keeping import SETS, SIZE, UNKEPT
from shipworthy.telemetry.memory import COST
from shipworthy.telemetry.rounds import FIRING, JUDGING, TOLD, UNJUDGED

_FAILED: Final = Selection(metric=TOLD, by=("receiver",), unless={"outcome": "told"})

MEMORY_PANELS: Final = (
    Panel(
        title="Alerts that fire",
        help="Label sets for which each alert fires, as the service itself evaluates it.",
        board=Board.OVERVIEW,
        shows=(("{alert} {urgency}", Value(Selection(metric=FIRING, by=("alert", "urgency")))),),
        unit="count",
    ),
    Panel(
        title="Messages about alerts",
        help="Messages in an hour to those who are to be told, by how that ended.",
        board=Board.TELEMETRY,
        shows=(
            (
                "{receiver} {outcome}",
                Increase(Selection(metric=TOLD, by=("receiver", "outcome")), 3600),
            ),
        ),
        unit="count",
    ),
    Panel(
        title="What the history takes",
        help="The supervisor's memory of metrics, and its file.",
        board=Board.TELEMETRY,
        shows=(("{place}", Value(Selection(metric=SIZE, by=("place",)))),),
        unit="bytes",
    ),
    Panel(
        title="Series in the history",
        help="Label sets of all metrics that the history in memory holds.",
        board=Board.TELEMETRY,
        shows=(("series", Value(Selection(metric=SETS))),),
        unit="count",
    ),
    Panel(
        title="What the history lost",
        help="Minutes that could not be written and label sets without room, in an hour.",
        board=Board.TELEMETRY,
        shows=(("{what}", Increase(Selection(metric=UNKEPT, by=("what",)), 3600)),),
        unit="count",
    ),
    Panel(
        title="Cost of a round",
        help="How long 19 of 20 snapshots and evaluations of all alerts take at most.",
        board=Board.TELEMETRY,
        shows=(
            ("to remember", Quantile(0.95, Selection(metric=COST), 900)),
            ("to evaluate", Quantile(0.95, Selection(metric=JUDGING), 900)),
        ),
        unit="seconds",
    ),
)

MEMORY_ALERTS: Final = (
    Alert(
        name="AlertsNotTold",
        when=Compared(Increase(_FAILED, 1800), ">=", Number(3)),
        for_seconds=0,
        urgency=Urgency.TICKET,
        summary="{value} messages about alerts in half an hour may not have reached the {receiver}",
        cause="The receiver is away, refuses, or takes longer than `alerts.timeout`.",
        look="The event `telemetry.alert_untold` says what it answered.",
        act="Until it hears again, the log and `GET /api/alerts` have every alert.",
        drill="a webhook that answers 500, and any alert that fires",
    ),
    Alert(
        name="AlertsNotEvaluated",
        when=Compared(Increase(Selection(metric=UNJUDGED, by=("what",)), 900), ">", Number(0)),
        for_seconds=0,
        urgency=Urgency.TICKET,
        summary="{value} times in 15 minutes an alert was not evaluated whole ({what})",
        cause="`evaluation`: an expression that fails. `series`: one alert holds for more than 200 "
        "label sets.",
        look="The event `telemetry.alert_unjudged` names the alert and the error.",
        act="Keep the alert apart by fewer labels, or mend its condition.",
        drill="an alert by a label of 300 values that holds for all",
    ),
    Alert(
        name="HistoryNotKept",
        when=Compared(
            Increase(Selection(metric=UNKEPT, where={"what": "minute"}), 900), ">=", Number(5)
        ),
        for_seconds=0,
        urgency=Urgency.TICKET,
        summary="{value} minutes of the history were not written in a quarter of an hour",
        cause="The disk is full, the folder is not writable, or another process has the file.",
        look="The event `telemetry.history_unkept` names the file and the error.",
        act="Make room, or set history.folder. Alerts and the newest charts go on in memory.",
        drill="a file where history.folder should be, for six minutes",
    ),
)

MEMORY_SHOWN: Final = (*MEMORY_PANELS, *MEMORY_ALERTS)
