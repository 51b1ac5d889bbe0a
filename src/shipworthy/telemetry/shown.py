"""What people see of the processes, and of the counting itself."""

from typing import Final

from shipworthy.events import (
    Age,
    Alert,
    Board,
    Compared,
    Increase,
    Number,
    Panel,
    Rate,
    Selection,
    Urgency,
    Value,
)
from shipworthy.telemetry.metrics import OVERFLOW, UNREAD
from shipworthy.telemetry.process import BORN, CPU, MOST, OPEN, RESIDENT

_OVER: Final = Selection(metric=OVERFLOW, by=("metric",))
_UNREADABLE: Final = Selection(metric=UNREAD, by=("metric",))

COUNTING_SHOWN: Final = (
    Panel(
        title="CPU",
        help="CPUs that the processes keep busy, user and system.",
        board=Board.LIFECYCLE,
        shows=(("CPUs", Rate(Selection(metric=CPU))),),
        unit="count",
    ),
    Panel(
        title="Memory",
        help="Memory that the processes hold in RAM, together.",
        board=Board.LIFECYCLE,
        shows=(("resident", Value(Selection(metric=RESIDENT))),),
        unit="bytes",
    ),
    Panel(
        title="File descriptors",
        help="Those that are open in all processes, and how many one process may open.",
        board=Board.LIFECYCLE,
        shows=(
            ("open", Value(Selection(metric=OPEN))),
            ("one may open", Value(Selection(metric=MOST))),
        ),
        unit="count",
    ),
    Panel(
        title="Age of the service",
        help="How long ago the oldest process began.",
        board=Board.LIFECYCLE,
        shows=(("age", Age(Selection(metric=BORN))),),
        unit="seconds",
    ),
    Panel(
        title="Label sets that were not taken",
        help="Counted as another, because a value was none or there was no room, by metric.",
        board=Board.TELEMETRY,
        shows=(("{metric}", Rate(_OVER)),),
        unit="per_second",
    ),
    Panel(
        title="Readings left out",
        help="Numbers that could not be read when somebody asked, by metric.",
        board=Board.TELEMETRY,
        shows=(("{metric}", Rate(_UNREADABLE)),),
        unit="per_second",
    ),
    Alert(
        name="CardinalityOverflow",
        when=Compared(Increase(_OVER, 900), ">", Number(0)),
        for_seconds=0,
        urgency=Urgency.TICKET,
        summary="{metric} was given label sets it has no room for, {value} times",
        cause="A label has values that its declaration does not name, or more names than it "
        "allows: a version that is new, or something that a client sends.",
        look="`/metrics` for the series of that metric: which label has `_other`?",
        act="Name the value in its domain, or give the label fewer values. What was not taken "
        "counts in `_other`, so sums are right meanwhile.",
        drill="call more routes than http_route may have, or a counter of the demo with a value "
        "that its label does not name",
    ),
    Alert(
        name="ReadingsFail",
        when=Compared(Increase(_UNREADABLE, 900), ">", Number(0)),
        for_seconds=300,
        urgency=Urgency.TICKET,
        summary="{metric} cannot be read, so its panels and alerts see nothing of it",
        cause="The function that gives its number raises, or gives none that is finite.",
        look="The log line 'the reading of metric ... failed' has the stack.",
        act="Mend that function; a metric of ours is a bug of ours.",
        drill="a gauge of the demo whose reading raises",
    ),
)
