"""What people see of the way that traces take, and when they are called."""

from typing import Final

from shipworthy.events import (
    Alert,
    Board,
    Compared,
    Number,
    Panel,
    Rate,
    Selection,
    Urgency,
    Value,
)
from shipworthy.telemetry.span_export import FAILING, FAILURES, KEPT, SPANS

TRACES_SHOWN: Final = (
    Panel(
        title="Traces kept",
        help="Requests whose trace was kept, by why; nothing where traces.endpoint is not set.",
        board=Board.TELEMETRY,
        shows=(("{because}", Rate(Selection(metric=KEPT, by=("because",)))),),
        unit="per_second",
    ),
    Panel(
        title="Spans on their way",
        help="Spans sent, refused by the collector, dropped for want of room; and failed posts.",
        board=Board.TELEMETRY,
        shows=(
            ("{outcome}", Rate(Selection(metric=SPANS, by=("outcome",)))),
            ("posts that failed", Rate(Selection(metric=FAILURES))),
        ),
        unit="per_second",
    ),
    Alert(
        name="TracesUnsent",
        when=Compared(Value(Selection(metric=FAILING)), ">", Number(0)),
        for_seconds=600,
        urgency=Urgency.TICKET,
        summary="the collector does not take traces, {value} workers say",
        cause="The collector is away, cannot be reached from here, or refuses what it is sent.",
        look="The event `telemetry.spans_unsent`, and a note of `/health`, say what it answered or "
        "that it did not. The panel 'Spans on their way': were spans dropped already?",
        act="Start the collector, or mend `traces.endpoint` and `traces.headers`. Requests do not "
        "wait for it; without traces for a while, set the endpoint to nothing.",
        drill="a collector that answers 503 to every post",
    ),
)
