"""What people see of calls to other services, and when they are called."""

from typing import Final

from shipworthy.events import (
    HTTP_STATUSES,
    Alert,
    Board,
    Both,
    Compared,
    Increase,
    Number,
    Panel,
    Quantile,
    Rate,
    Selection,
    Urgency,
    ratio,
)
from shipworthy.outbound.metrics import CALL_SECONDS

_ADDRESS: Final = ("server_address",)
# No answer at all is a failure too.
_FAILURES: Final = tuple(
    status for status in HTTP_STATUSES.values if status.startswith("5") or status == "none"
)
_CALLS: Final = Selection(metric=CALL_SECONDS, by=_ADDRESS)
_FAILED: Final = Selection(
    metric=CALL_SECONDS, by=_ADDRESS, where={"http_response_status_code": _FAILURES}
)

OUTBOUND_SHOWN: Final = (
    Panel(
        title="Calls to other services",
        help="Calls by address and status, each attempt; none is one without an answer.",
        board=Board.RESILIENCE,
        shows=(
            (
                "{server_address} {http_response_status_code}",
                Rate(
                    Selection(
                        metric=CALL_SECONDS, by=("server_address", "http_response_status_code")
                    )
                ),
            ),
        ),
        unit="per_second",
    ),
    Panel(
        title="Time of calls to other services",
        help="Within which 95 of 100 answers began, by address.",
        board=Board.RESILIENCE,
        shows=(("{server_address}", Quantile(0.95, _CALLS)),),
        unit="seconds",
    ),
    Alert(
        name="DependencyFails",
        when=Both(
            Compared(ratio(Increase(_FAILED, 600), Increase(_CALLS, 600)), ">", Number(0.1)),
            Compared(Increase(_FAILED, 600), ">=", Number(20)),
        ),
        for_seconds=300,
        urgency=Urgency.TICKET,
        summary="{value} of the calls to {server_address} fail or get no answer",
        cause="The other service is in trouble, or the way to it.",
        look="The panel 'Calls to other services': which status? `shipworthy breakers list`: is "
        "its breaker open?",
        act="Tell those who run it. Does too much of this service wait for it, isolate its breaker "
        "(`shipworthy breakers isolate NAME`), so that calls fail at once and fallbacks serve.",
        drill="a service that answers 500 to every third call, two calls a second",
    ),
)
