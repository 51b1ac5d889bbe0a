"""What people see of the log, and when they are called."""

from typing import Final

from shipworthy.events import (
    Alert,
    Board,
    Compared,
    Increase,
    Number,
    Panel,
    Selection,
    Urgency,
)
from shipworthy.telemetry.sink import LINES_DROPPED, LINES_LEFT_OUT, SECRETS_REDACTED

LOG_SHOWN: Final = (
    Panel(
        title="Log lines not written",
        help="In five minutes: dropped for want of a reader or of room; left out of a flood.",
        board=Board.TELEMETRY,
        shows=(
            ("dropped", Increase(Selection(metric=LINES_DROPPED), 300)),
            ("left out", Increase(Selection(metric=LINES_LEFT_OUT), 300)),
        ),
        unit="count",
    ),
    Panel(
        title="Secrets kept out of texts",
        help="What redaction found in an hour, by rule; a step up is code that began to log some.",
        board=Board.SECURITY,
        shows=(("{rule}", Increase(Selection(metric=SECRETS_REDACTED, by=("rule",)), 3600)),),
        unit="count",
    ),
    Alert(
        name="LogLinesDropped",
        when=Compared(Increase(Selection(metric=LINES_DROPPED), 900), ">", Number(0)),
        for_seconds=0,
        urgency=Urgency.TICKET,
        summary="lines of the log are missing, because nobody took the ones before them",
        cause="Whoever reads standard output has stopped or is too slow, or the disk of "
        "`log.file` is full.",
        look="The collector that reads the log, `df` for the disk; in the log itself the line that "
        "says how many were dropped.",
        act="Start the collector again or make room; raise `log.level` where the service says too "
        "much.",
        drill="a reader of standard output that stops while requests go on",
    ),
)
