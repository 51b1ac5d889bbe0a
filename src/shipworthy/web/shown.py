"""What people see of requests and websockets, and when they are called."""

from typing import Final

from shipworthy.events import (
    BURN_RULES,
    HTTP_STATUSES,
    Alert,
    Board,
    Both,
    BurnRules,
    Combined,
    Compared,
    Expression,
    Increase,
    Mean,
    Metric,
    Number,
    Panel,
    Quantile,
    Rate,
    Selection,
    Slo,
    Urgency,
    Value,
    ratio,
)
from shipworthy.web import admission
from shipworthy.web.blocked import BLOCKED
from shipworthy.web.csp import REPORTS
from shipworthy.web.door import INSIDE, REFUSED, WAITED, WAITING
from shipworthy.web.limits import KEYS, SHARED, UNASKED
from shipworthy.web.replay import REPLAYS, RUN_AGAIN
from shipworthy.web.request_metrics import (
    ACTIVE,
    BACKGROUND,
    CONNECTIONS,
    DISCONNECTS,
    DURATION,
    EXCEPTIONS,
    FIRST_BYTE,
    HANDSHAKES,
    MESSAGES,
    RECEIVED,
    SENT,
)

_FAILURES: Final = tuple(status for status in HTTP_STATUSES.values if status.startswith("5"))
_METHOD: Final = ("http_request_method",)
_ROUTE: Final = ("http_route",)
_ALL: Final = Selection(metric=DURATION)
_ALL_BY_ROUTE: Final = Selection(metric=DURATION, by=_ROUTE)
_FAILED_WHERE: Final = {"http_response_status_code": _FAILURES}
_FAILED: Final = Selection(metric=DURATION, where=_FAILED_WHERE)
_FAILED_BY_ROUTE: Final = Selection(metric=DURATION, by=_ROUTE, where=_FAILED_WHERE)
_LEFT: Final = Selection(metric=DISCONNECTS, by=_ROUTE)
_RAISED: Final = Selection(metric=EXCEPTIONS, by=("http_route", "error_type"))


def _bytes_per_second(metric: Metric) -> Expression:
    of = Selection(metric=metric)
    return Combined(Mean(of), "*", Rate(of))


def availability(objective_ratio: float, period_days: float, rules: BurnRules = BURN_RULES) -> Slo:
    """Return the objective of requests that do not fail by the service's fault."""
    return Slo(
        name="availability",
        help="Requests are not answered with a status of 500 or more.",
        objective_ratio=objective_ratio,
        total=_ALL,
        bad=_FAILED,
        period_days=period_days,
        rules=rules,
        drill="a route that raises for half of its requests, a hundred a second",
    )


def latency(
    objective_ratio: float,
    within_seconds: float,
    period_days: float,
    rules: BurnRules = BURN_RULES,
) -> Slo:
    """Return the objective of requests that are answered in time.

    Raises `ValueError` where `within_seconds` is no bucket of the durations, with the nearest.
    """
    return Slo(
        name="latency",
        help=f"Requests are answered within {within_seconds:g} s, whatever the answer.",
        objective_ratio=objective_ratio,
        total=_ALL,
        within_seconds=within_seconds,
        period_days=period_days,
        rules=rules,
        drill="a route that sleeps for a second in half of its requests, a hundred a second",
    )


WEB_PANELS: Final = (
    Panel(
        title="Requests",
        help="Requests answered, by status; 499 is a client that left before.",
        board=Board.OVERVIEW,
        shows=(
            (
                "{http_response_status_code}",
                Rate(Selection(metric=DURATION, by=("http_response_status_code",))),
            ),
        ),
        unit="per_second",
    ),
    Panel(
        title="Requests by route",
        help="Requests answered, by the template of their route.",
        board=Board.OVERVIEW,
        shows=(("{http_route}", Rate(_ALL_BY_ROUTE)),),
        unit="per_second",
    ),
    Panel(
        title="Requests by method",
        help="Requests answered, by method; _other is one that nobody knows.",
        board=Board.OVERVIEW,
        shows=(
            (
                "{http_request_method}",
                Rate(Selection(metric=DURATION, by=("http_request_method",))),
            ),
        ),
        unit="per_second",
    ),
    Panel(
        title="Share of requests that failed",
        help="Answered with a status of 500 or more.",
        board=Board.OVERVIEW,
        shows=(("failed", ratio(Rate(_FAILED), Rate(_ALL))),),
        unit="ratio",
    ),
    Panel(
        title="Share of requests that failed, by route",
        help="Answered with a status of 500 or more, by the template of their route.",
        board=Board.OVERVIEW,
        shows=(("{http_route}", ratio(Rate(_FAILED_BY_ROUTE), Rate(_ALL_BY_ROUTE))),),
        unit="ratio",
    ),
    Panel(
        title="Time to answer",
        help="From the head of a request to the last byte of its answer: half, 95 and 99 of 100.",
        board=Board.OVERVIEW,
        shows=(
            ("half", Quantile(0.5, _ALL)),
            ("95 of 100", Quantile(0.95, _ALL)),
            ("99 of 100", Quantile(0.99, _ALL)),
        ),
        unit="seconds",
    ),
    Panel(
        title="Time to answer, by route",
        help="Within which 95 of 100 requests are answered, by the template of their route.",
        board=Board.OVERVIEW,
        shows=(("{http_route}", Quantile(0.95, _ALL_BY_ROUTE)),),
        unit="seconds",
    ),
    Panel(
        title="Time to the first byte",
        help="Of answers that came in parts: within which 95 of 100 began, by route.",
        board=Board.OVERVIEW,
        shows=(("{http_route}", Quantile(0.95, Selection(metric=FIRST_BYTE, by=_ROUTE))),),
        unit="seconds",
    ),
    Panel(
        title="Requests in flight",
        help="Requests that are being answered, by method, and background tasks of answered ones.",
        board=Board.OVERVIEW,
        shows=(
            ("{http_request_method}", Value(Selection(metric=ACTIVE, by=_METHOD))),
            ("background", Value(Selection(metric=BACKGROUND))),
        ),
        unit="count",
    ),
    Panel(
        title="Bodies",
        help="Bytes of bodies received and sent in a second.",
        board=Board.OVERVIEW,
        shows=(("received", _bytes_per_second(RECEIVED)), ("sent", _bytes_per_second(SENT))),
        unit="bytes",
    ),
    Panel(
        title="Exceptions",
        help="Exceptions that the application did not handle, by their class and route.",
        board=Board.OVERVIEW,
        shows=(("{error_type} {http_route}", Rate(_RAISED)),),
        unit="per_second",
    ),
    Panel(
        title="Clients that left",
        help="Clients that left before their answer was over, as far as that was heard, by route.",
        board=Board.OVERVIEW,
        shows=(("{http_route}", Rate(_LEFT)),),
        unit="per_second",
    ),
    Panel(
        title="Websockets",
        help="Websockets that are open, by route.",
        board=Board.OVERVIEW,
        shows=(("{http_route}", Value(Selection(metric=CONNECTIONS, by=_ROUTE))),),
        unit="count",
    ),
    Panel(
        title="Messages of websockets",
        help="Messages received and sent, and handshakes by their status; 101 is an accepted one.",
        board=Board.OVERVIEW,
        shows=(
            ("{direction}", Rate(Selection(metric=MESSAGES, by=("direction",)))),
            (
                "handshake {http_response_status_code}",
                Rate(Selection(metric=HANDSHAKES, by=("http_response_status_code",))),
            ),
        ),
        unit="per_second",
    ),
    Panel(
        title="At the door",
        help="Requests inside that may keep a database connection, and those that wait outside.",
        board=Board.DATABASE,
        shows=(
            ("inside", Value(Selection(metric=INSIDE))),
            ("waiting", Value(Selection(metric=WAITING))),
        ),
        unit="count",
    ),
    Panel(
        title="Not let in at once",
        help="Requests that had to wait at the door, and those refused after their wait.",
        board=Board.DATABASE,
        shows=(
            ("waited", Rate(Selection(metric=WAITED))),
            ("refused", Rate(Selection(metric=REFUSED))),
        ),
        unit="per_second",
    ),
    Panel(
        title="Admission",
        help="Requests inside, those that wait for their turn, and how many may be inside in an "
        "overload; streams are websockets, event streams and what takes long by itself.",
        board=Board.OVERVIEW,
        shows=(
            ("inside", Value(Selection(metric=admission.INSIDE))),
            ("waiting", Value(Selection(metric=admission.WAITING))),
            ("limit", Value(Selection(metric=admission.LIMIT))),
            ("streams", Value(Selection(metric=admission.STREAMS))),
        ),
        unit="count",
    ),
    Panel(
        title="Overload",
        help="Share of the time in which more requests came than could be served, of all workers.",
        board=Board.OVERVIEW,
        shows=(("overloaded", Rate(Selection(metric=admission.OVERLOADED))),),
        unit="ratio",
    ),
    Panel(
        title="Turned away in an overload",
        help="By class and reason; in mode report those that would have been.",
        board=Board.OVERVIEW,
        shows=(
            (
                "{class} {reason}",
                Rate(Selection(metric=admission.SHED, by=("class", "reason"))),
            ),
        ),
        unit="per_second",
    ),
    Panel(
        title="Requests whose database failed",
        help="Run again, or why not.",
        board=Board.RESILIENCE,
        shows=(("{result}", Rate(Selection(metric=REPLAYS, by=("result",)))),),
        unit="per_second",
    ),
    Panel(
        title="Turned away",
        help="Requests that a guard turned away, and in mode report those that it would have.",
        board=Board.SECURITY,
        shows=(
            (
                "{guard}: {rule} ({mode})",
                Rate(Selection(metric=BLOCKED, by=("guard", "rule", "mode"))),
            ),
        ),
        unit="per_second",
    ),
    Panel(
        title="Clients of the rate limits",
        help="Clients, by policy, that are kept apart in memory; at limits.keys_most new ones "
        "share places.",
        board=Board.SECURITY,
        shows=(("kept apart", Value(Selection(metric=KEYS))),),
        unit="count",
    ),
    Panel(
        title="Rate limits without their means",
        help="Decisions about new clients that shared a place, and requests for which the store "
        "could not be asked.",
        board=Board.SECURITY,
        shows=(
            ("shared a place", Rate(Selection(metric=SHARED))),
            ("store away", Rate(Selection(metric=UNASKED))),
        ),
        unit="per_second",
    ),
    Panel(
        title="Reports of browsers",
        help="What browsers say the Content-Security-Policy would forbid; new is what no report "
        "had named before, noise what pages of others and extensions cause.",
        board=Board.SECURITY,
        shows=(("{outcome}", Rate(Selection(metric=REPORTS, by=("outcome",)))),),
        unit="per_second",
    ),
)

WEB_ALERTS: Final = (
    Alert(
        name="RouteFails",
        when=Both(
            Compared(
                ratio(Increase(_FAILED_BY_ROUTE, 600), Increase(_ALL_BY_ROUTE, 600)),
                ">",
                Number(0.05),
            ),
            Compared(Increase(_FAILED_BY_ROUTE, 600), ">=", Number(20)),
        ),
        for_seconds=300,
        urgency=Urgency.TICKET,
        summary="{value} of the requests to {http_route} fail",
        cause="That route raises, or something it needs is away. Other routes hide it in the sum.",
        look="The panel 'Exceptions'; the log lines of that route with a status of 500 or more, "
        "and their request ids.",
        act="Was it released lately: roll it back. Else help what it needs (BreakerOpen?).",
        drill="a route that raises for half of its requests, ten a second",
    ),
    Alert(
        name="ExceptionsUnhandled",
        when=Compared(Increase(_RAISED, 900), ">=", Number(10)),
        for_seconds=0,
        urgency=Urgency.TICKET,
        summary="{http_route} raised {error_type} {value} times in a quarter of an hour",
        cause="A case that the application does not handle.",
        look="The events `web.exception_unhandled` have the stack and the request id.",
        act="Handle it, or answer 4xx where it is the client's fault.",
        drill="a route that raises, called twelve times",
    ),
    Alert(
        name="ClientsLeave",
        when=Both(
            Compared(ratio(Increase(_LEFT, 900), Increase(_ALL_BY_ROUTE, 900)), ">", Number(0.1)),
            Compared(Increase(_LEFT, 900), ">=", Number(50)),
        ),
        for_seconds=300,
        urgency=Urgency.TICKET,
        summary="{value} of the clients of {http_route} leave before their answer is over",
        cause="The answer takes longer than they wait, or a proxy in between cuts it. Where the "
        "server is not uvicorn there are more than are counted: only an application that listens "
        "for it hears of them.",
        look="The panel 'Time to answer, by route': is there a round number, as 30 s, at which "
        "they leave? That is the timeout of a proxy or a client.",
        act="Shorten the answer, or move the work behind it to the background.",
        drill="a route that streams for 5 s, and clients that leave after one, one a second",
    ),
    Alert(
        name="DoorRefuses",
        when=Compared(Increase(Selection(metric=REFUSED), 300), ">=", Number(10)),
        for_seconds=0,
        urgency=Urgency.TICKET,
        summary="{value} requests found no place in five minutes and were answered 503",
        cause="More requests that need the database come than connections are free in time.",
        look="The panels 'At the door' and 'Connections': is it slow, or the burst large?",
        act="Is the database slow, help it. Is it traffic: more replicas, or a larger pool after "
        "`shipworthy db check`.",
        drill="a pool of 2, db.checkout at 1 s, and 200 requests at once that each take 500 ms",
    ),
    Alert(
        name="RequestsRunAgain",
        when=Compared(
            Increase(Selection(metric=REPLAYS, where={"result": RUN_AGAIN}), 600), ">=", Number(50)
        ),
        for_seconds=0,
        urgency=Urgency.TICKET,
        summary="{value} requests in ten minutes failed with their database and were run again",
        cause="The database gives transactions up (conflicts), or connections are lost. Clients "
        "notice nothing yet but time.",
        look="The events `web.request_replayed` have outcome and error.",
        act="Conflicts: as for TransactionsRunAgainOften. Lost connections: who ends them? A "
        "failover, a restart, a proxy with an idle timeout.",
        drill="end every connection at the server, once a second, under traffic",
    ),
)

WEB_SHOWN: Final = (*WEB_PANELS, *WEB_ALERTS)
