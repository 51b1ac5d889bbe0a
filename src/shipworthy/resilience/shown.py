"""What people see of breakers, retries, fallbacks and bulkheads, and when they are called."""

from typing import Final

from shipworthy.events import (
    Alert,
    Board,
    Both,
    Combined,
    Compared,
    Increase,
    Number,
    Panel,
    Rate,
    Selection,
    Urgency,
    Value,
    ratio,
)
from shipworthy.resilience.circuit import BreakerState
from shipworthy.resilience.metrics import (
    BREAKER_CALLS,
    BREAKER_KEEPS_OUT,
    BREAKER_OPENED,
    BREAKER_OPENINGS,
    BREAKER_STATE,
    BULKHEAD_CALLS,
    FALLBACKS,
    PIPELINE_CALLS,
    PIPELINE_RETRIES,
    RETRY_BUDGET,
)

_OPENED: Final = Selection(metric=BREAKER_OPENED, by=("breaker",))
_IN_A_ROW: Final = Selection(metric=BREAKER_OPENINGS, by=("breaker",))
_KEEPS_OUT: Final = Selection(metric=BREAKER_KEEPS_OUT, by=("breaker",))
_ATTEMPTS: Final = Selection(metric=PIPELINE_CALLS, by=("pipeline",))
_MADE: Final = Selection(metric=PIPELINE_RETRIES, by=("pipeline",), where={"result": "made"})
_SPENT: Final = Selection(
    metric=PIPELINE_RETRIES, by=("pipeline",), where={"result": "budget_spent"}
)
_WANTED: Final = Combined(Increase(_SPENT, 300), "+", Increase(_MADE, 300))
_INSTEAD: Final = Selection(metric=FALLBACKS, by=("pipeline",))


def _breaker(state: BreakerState) -> Value:
    return Value(Selection(metric=BREAKER_STATE, by=("breaker",), where={"state": state}))


def _bulkhead(what: str) -> Value:
    return Value(Selection(metric=BULKHEAD_CALLS, by=("bulkhead",), where={"what": what}))


RESILIENCE_PANELS: Final = (
    Panel(
        title="Breakers",
        help="1 for the state that a breaker is in; several where processes differ.",
        board=Board.RESILIENCE,
        shows=(
            (
                "{breaker} {state}",
                Value(Selection(metric=BREAKER_STATE, by=("breaker", "state"))),
            ),
        ),
        unit="count",
    ),
    Panel(
        title="Calls through breakers",
        help="Calls by how they ended; those refused were not made.",
        board=Board.RESILIENCE,
        shows=(
            (
                "{breaker} {outcome}",
                Rate(Selection(metric=BREAKER_CALLS, by=("breaker", "outcome"))),
            ),
        ),
        unit="per_second",
    ),
    Panel(
        title="Breakers that keep calls out",
        help="In how many processes; not where an open one has had no cause to for 45 s.",
        board=Board.RESILIENCE,
        shows=(("{breaker}", Value(_KEEPS_OUT)),),
        unit="count",
    ),
    Panel(
        title="Breakers that opened",
        help="How often each opened in an hour, in all processes; and in a row, in one of them.",
        board=Board.RESILIENCE,
        shows=(
            ("{breaker}", Increase(_OPENED, 3600)),
            ("{breaker} in a row", Value(_IN_A_ROW)),
        ),
        unit="count",
    ),
    Panel(
        title="Attempts of pipelines",
        help="Attempts by how they ended; those refused were not made.",
        board=Board.RESILIENCE,
        shows=(
            (
                "{pipeline} {outcome}",
                Rate(Selection(metric=PIPELINE_CALLS, by=("pipeline", "outcome"))),
            ),
        ),
        unit="per_second",
    ),
    Panel(
        title="Retries",
        help="Retries that were made, and those that were not because the budget was spent.",
        board=Board.RESILIENCE,
        shows=(
            ("{pipeline} made", Rate(_MADE)),
            ("{pipeline} not made, budget spent", Rate(_SPENT)),
        ),
        unit="per_second",
    ),
    Panel(
        title="Retry budget",
        help="Retries that the budget of each pipeline has left, over all processes.",
        board=Board.RESILIENCE,
        shows=(("{pipeline}", Value(Selection(metric=RETRY_BUDGET, by=("pipeline",)))),),
        unit="count",
    ),
    Panel(
        title="Fallbacks",
        help="Answers that stand in for another, by where they came from.",
        board=Board.RESILIENCE,
        shows=(
            ("{pipeline} {source}", Rate(Selection(metric=FALLBACKS, by=("pipeline", "source")))),
        ),
        unit="per_second",
    ),
    Panel(
        title="Bulkheads",
        help="Calls under way and waiting in each bulkhead, and the limit of those under way.",
        board=Board.RESILIENCE,
        shows=(
            ("{bulkhead} under way", _bulkhead("in_use")),
            ("{bulkhead} waiting", _bulkhead("waiting")),
            ("{bulkhead} limit", _bulkhead("limit")),
        ),
        unit="count",
    ),
)

RESILIENCE_ALERTS: Final = (
    Alert(
        name="BreakerOpen",
        when=Compared(Value(_KEEPS_OUT), ">", Number(0)),
        for_seconds=60,
        urgency=Urgency.PAGE,
        summary="the breaker {breaker} has kept calls out for a minute, in {value} processes",
        cause="What it protects fails, hangs or does not answer: calls are refused at once, and "
        "the few that try whether it is back fail. A name `db:...` is a database, another one a "
        "service that is called.",
        look="`shipworthy breakers list` says since when and why, `/health` what depends on it.",
        act="Help the target: it closes by itself when its trial calls succeed. For planned work "
        "hold it open beforehand with `shipworthy breakers isolate NAME`, which calls nobody. Do "
        "not close it by hand while the target is away.",
        drill="the action break-database for longer than a minute",
    ),
    Alert(
        name="BreakerIsolated",
        when=Compared(_breaker(BreakerState.ISOLATED), ">", Number(0)),
        for_seconds=4 * 3600,
        urgency=Urgency.TICKET,
        summary="the breaker {breaker} has been held open by hand for four hours",
        cause="Somebody isolated it, and may have forgotten it.",
        look="`shipworthy breakers list` says why; the event `operations.operator_commanded` says "
        "from where.",
        act="Is the work over: `shipworthy breakers close NAME`.",
        drill="`shipworthy breakers isolate db:main`, and leave it",
    ),
    Alert(
        name="BreakerFlapping",
        # One process alone: what eight open once each is one outage.
        when=Compared(Value(_IN_A_ROW), ">=", Number(6)),
        for_seconds=0,
        urgency=Urgency.TICKET,
        summary="the breaker {breaker} opened {value} times, each soon after it had closed",
        cause="What it protects works for moments only: it is overloaded, or one of several "
        "servers behind one name fails.",
        look="The panel 'Calls through breakers': do successes and failures alternate? The events "
        "`resilience.breaker_changed` say why each time.",
        act="Take the failing server out, or send less: a bulkhead or a longer time open "
        "(`resilience` in the settings) gives it room.",
        drill="break-database for 20 s, whole for 40 s, and so on",
    ),
    Alert(
        name="RetryBudgetSpent",
        when=Both(
            Compared(Increase(_SPENT, 300), ">", Number(0)),
            Compared(
                ratio(
                    Increase(_SPENT, 300),
                    _WANTED,
                ),
                ">",
                Number(0.5),
            ),
        ),
        for_seconds=300,
        urgency=Urgency.TICKET,
        summary="most retries of {pipeline} are not made, because its budget is spent",
        cause="So much fails that retries would be a load of their own.",
        look="The panels 'Attempts of pipelines' and 'Retries'. `shipworthy breakers list`.",
        act="Help what the pipeline calls. A larger budget does not: it would call still more.",
        drill="a pipeline with a retry rule to a target that refuses every call, twenty a second",
    ),
    Alert(
        name="RetryStorm",
        when=Both(
            Compared(ratio(Increase(_MADE, 300), Increase(_ATTEMPTS, 300)), ">", Number(0.2)),
            Compared(Increase(_MADE, 300), ">=", Number(50)),
        ),
        for_seconds=300,
        urgency=Urgency.TICKET,
        summary="{value} of the attempts of {pipeline} are retries",
        cause="What it calls fails often enough that the service calls it a fifth more.",
        look="The panel 'Attempts of pipelines': does it fail for all callers, or since a release?",
        act="Help what is called. Where retries do not help (it refuses, and means it), do not "
        "retry that error.",
        drill="a target that fails every third call, ten calls a second",
    ),
    Alert(
        name="BulkheadFull",
        when=Compared(Combined(_bulkhead("in_use"), "-", _bulkhead("limit")), ">=", Number(0)),
        for_seconds=120,
        urgency=Urgency.TICKET,
        summary="the bulkhead {bulkhead} has been full for two minutes, so calls are refused",
        cause="What is called there has become slow, or is called more often.",
        look="The panel 'Bulkheads', and 'Calls through breakers' for calls that are slow.",
        act="Help what is called; a larger bulkhead lets a slow target hold more of this service.",
        drill="a bulkhead of 2 and three callers whose calls last for minutes",
    ),
    Alert(
        name="FallbackServing",
        when=Both(
            Compared(ratio(Increase(_INSTEAD, 900), Increase(_ATTEMPTS, 900)), ">", Number(0.05)),
            Compared(Increase(_INSTEAD, 900), ">=", Number(20)),
        ),
        for_seconds=300,
        urgency=Urgency.TICKET,
        summary="{value} of the answers of {pipeline} stand in for others",
        cause="What is called fails, and people are given a replica's, an older or a default "
        "answer. They may not notice.",
        look="The panel 'Fallbacks' says from where, the events `resilience.fallback_used` why.",
        act="Help what is called. If it stays away, say so to those who rely on fresh answers.",
        drill="a pipeline with a default, to a target that refuses every call",
    ),
)

RESILIENCE_SHOWN: Final = (*RESILIENCE_PANELS, *RESILIENCE_ALERTS)
