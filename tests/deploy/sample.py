"""A few metrics of every kind, and expressions over them, for the tests of this room."""

from collections.abc import Mapping
from typing import Any, Final

from hypothesis import strategies as st

from shipworthy.events import (
    Absent,
    Age,
    Alert,
    Board,
    Both,
    Catalogue,
    Combined,
    Compared,
    Condition,
    Declared,
    Expression,
    Increase,
    Mean,
    Metric,
    Number,
    OneOf,
    Panel,
    Quantile,
    Rate,
    Routes,
    Selection,
    Unless,
    Urgency,
    Value,
    Within,
    ratio,
)

REQUESTS: Final = Metric(
    "shop_requests_total",
    "counter",
    "Requests.",
    {"route": Routes(), "status": OneOf("200", "404", "500", "503")},
)
SECONDS: Final = Metric(
    "shop_request_duration_seconds",
    "histogram",
    "Seconds a request took.",
    {"route": Routes()},
    buckets=(0.1, 0.5, 1.0, 5.0),
)
BYTES: Final = Metric(
    "shop_body_bytes", "histogram", "Bytes of a body.", {}, buckets=(1024.0, 1048576.0, 1e9)
)
IN_USE: Final = Metric("shop_pool_in_use", "gauge", "Connections out.", {"pool": Declared()})
CAPACITY: Final = Metric("shop_pool_capacity", "gauge", "The most.", {"pool": Declared()})
LAG: Final = Metric("shop_lag_seconds", "gauge", "How far behind.", fold="max")
SEEN: Final = Metric(
    "shop_seen_timestamp_seconds",
    "gauge",
    "When it was seen.",
    {"job_name": Declared()},
    fold="min",
)
STATE: Final = Metric(
    "shop_breaker_state",
    "gauge",
    "1 for the state it is in.",
    {"breaker": Declared(), "state": OneOf("closed", "open", "half_open")},
    fold="max",
)
METRICS: Final = (REQUESTS, SECONDS, BYTES, IN_USE, CAPACITY, LAG, SEEN, STATE)

# Values of labels that a careless writer of PromQL, YAML or regular expressions stumbles over.
_AWKWARD: Final = (
    "/a/{id}",
    'say "hi"',
    "back\\slash",
    "new\nline",
    "a|b",
    "ü.*",
    "$x",
    "{{x}}",
    "- a: b",
)


def wheres(metric: Metric) -> st.SearchStrategy[Mapping[str, str | tuple[str, ...]]]:
    """Any choice of values for some labels of a metric."""

    def values(label: str) -> st.SearchStrategy[str | tuple[str, ...]]:
        domain = metric.labels[label]
        one = st.sampled_from(domain.values if isinstance(domain, OneOf) else _AWKWARD)
        return one | st.lists(one, min_size=1, max_size=3, unique=True).map(tuple)

    return st.fixed_dictionaries({}, optional={label: values(label) for label in metric.labels})


@st.composite
def selections_of(draw: st.DrawFn, metric: Metric, by: tuple[str, ...]) -> Selection:
    return Selection(metric=metric, by=by, where=draw(wheres(metric)), unless=draw(wheres(metric)))


_WINDOWS: Final = st.none() | st.sampled_from((60.0, 90.0, 300.0, 3600.0, 86400.0))


@st.composite
def leaves(draw: st.DrawFn, by: tuple[str, ...]) -> Expression:
    metric = draw(st.sampled_from([metric for metric in METRICS if set(by) <= {*metric.labels}]))
    of = draw(selections_of(metric, by))
    window = draw(_WINDOWS)
    if metric.kind == "counter":
        return draw(st.sampled_from((Rate(of, window), Increase(of, window), Value(of))))
    if metric.kind == "gauge":
        return Age(of) if metric is SEEN else Value(of)
    share = draw(st.sampled_from((0.01, 0.5, 0.99)))
    bound = draw(st.sampled_from(metric.buckets))
    shown = (
        Rate(of, window),
        Increase(of, window),
        Quantile(share, of, window),
        Mean(of, window),
        Within(bound, of, window),
    )
    return draw(st.sampled_from(shown))


@st.composite
def combined(draw: st.DrawFn, inner: st.SearchStrategy[Expression]) -> Expression:
    left, right = draw(inner), draw(inner | st.builds(Number, st.sampled_from((-1.5, 2.0, 1e9))))
    if draw(st.booleans()) and not isinstance(right, Number):
        left, right = right, left
    return Combined(left, draw(st.sampled_from("+-*/")), right, draw(st.booleans()))


_BYS: Final = st.sampled_from(((), ("route",), ("pool",), ("breaker", "state")))


def expressions_by(by: tuple[str, ...]) -> st.SearchStrategy[Expression]:
    """Any expression whose samples are kept apart by these labels."""
    return st.recursive(leaves(by), combined, max_leaves=4)


expressions = _BYS.flatmap(expressions_by)


@st.composite
def compared(draw: st.DrawFn, by: tuple[str, ...]) -> Condition:
    left = draw(expressions_by(by))
    right = draw(expressions_by(by) | st.builds(Number, st.sampled_from((0.0, 0.25, -3.0, 1e6))))
    operator = draw(st.sampled_from((">", ">=", "<", "<=", "==", "!=")))
    return Compared(left, operator, right)


def _joined(inner: st.SearchStrategy[Condition]) -> st.SearchStrategy[Condition]:
    return st.builds(Both, inner, inner) | st.builds(Unless, inner, inner)


def _absent() -> st.SearchStrategy[Condition]:
    return st.sampled_from(METRICS).flatmap(lambda metric: selections_of(metric, ())).map(Absent)


def conditions_by(by: tuple[str, ...]) -> st.SearchStrategy[Condition]:
    first = compared(by) | _absent() if not by else compared(by)
    return st.recursive(first, _joined, max_leaves=3)


conditions = _BYS.flatmap(conditions_by)


def _alert(name: str, when: Condition, for_seconds: float = 0.0, **more: Any) -> Alert:
    return Alert(
        **{
            "name": name,
            "when": when,
            "for_seconds": for_seconds,
            "urgency": Urgency.TICKET,
            "summary": f"{name} happens: {{value}}.",
            "cause": "Something is wrong.",
            "look": "Look there.",
            "act": "Do this.",
            "drill": "nothing",
            **more,
        }
    )


_FAILED: Final = Selection(metric=REQUESTS, where={"status": ("500", "503")})
_EVERY: Final = Selection(metric=REQUESTS)
_SLOW: Final = Selection(metric=SECONDS, by=("route",))

ALERTS: Final = (
    _alert(
        "ErrorsHigh",
        Both(
            Compared(ratio(Rate(_FAILED, 600.0), Rate(_EVERY, 600.0)), ">", Number(0.05)),
            Compared(Increase(_FAILED, 600.0), ">=", Number(20.0)),
        ),
        600.0,
        urgency=Urgency.PAGE,
    ),
    _alert(
        "PoolExhausted",
        Compared(
            ratio(
                Value(Selection(metric=IN_USE, by=("pool",))),
                Value(Selection(metric=CAPACITY, by=("pool",))),
            ),
            ">=",
            Number(0.95),
        ),
        120.0,
        urgency=Urgency.PAGE,
        summary="{pool} is full.",
        keep_seconds=300.0,
    ),
    _alert("SlowRoute", Compared(Quantile(0.95, _SLOW, 300.0), ">", Number(0.5)), 300.0),
    _alert("SlowOnAverage", Compared(Mean(_SLOW), ">", Number(0.5))),
    _alert(
        "FewAreFast",
        Compared(ratio(Within(0.5, _SLOW, 300.0), Rate(_SLOW, 300.0)), "<", Number(0.9)),
    ),
    _alert("Errors", Compared(Increase(_FAILED, 300.0), ">", Number(0.0))),
    _alert(
        "BreakerOpen",
        Compared(
            Value(Selection(metric=STATE, by=("breaker",), where={"state": "open"})),
            "==",
            Number(1.0),
        ),
        60.0,
    ),
    _alert("Stale", Compared(Age(Selection(metric=SEEN, by=("job_name",))), ">", Number(93600.0))),
    _alert(
        "Behind",
        Unless(
            Compared(Value(Selection(metric=LAG)), ">", Number(30.0)),
            Compared(Value(Selection(metric=CAPACITY)), "<", Number(1.0)),
        ),
        300.0,
    ),
    _alert("Gone", Absent(Selection(metric=SECONDS)), 300.0),
    _alert(
        "ErrorsForDays",
        Both(
            Compared(ratio(Rate(_FAILED, 86400.0), Rate(_EVERY, 86400.0)), ">", Number(0.01)),
            Both(
                Compared(ratio(Rate(_FAILED, 21600.0), Rate(_EVERY, 21600.0)), ">", Number(0.01)),
                Compared(Increase(_FAILED, 86400.0), ">=", Number(10.0)),
            ),
        ),
    ),
    _alert(
        "SlowForDays",
        Compared(
            Combined(
                Number(1.0),
                "-",
                Combined(
                    Within(0.5, Selection(metric=SECONDS), 43200.0),
                    "/",
                    Rate(Selection(metric=SECONDS), 43200.0),
                ),
            ),
            ">",
            Number(0.1),
        ),
    ),
    _alert("LagUnknown", Absent(Selection(metric=LAG))),
    _alert("NobodyCounts", Absent(_EVERY), 300.0),
    _alert(
        "SlowAndFailing",
        Both(
            Compared(ratio(Rate(_FAILED), Rate(_EVERY)), ">", Number(0.01)),
            Compared(Quantile(0.9, Selection(metric=SECONDS)), ">", Number(1.0)),
        ),
    ),
    _alert(
        "OneStatusMany",
        Both(
            Compared(Rate(Selection(metric=REQUESTS, by=("status",))), ">", Number(5.0)),
            Compared(Rate(_FAILED), ">", Number(1.0)),
            on=(),
        ),
    ),
)


def _panel(title: str, unit: Any, *shows: tuple[str, Expression], board: Board) -> Panel:
    return Panel(title=title, help=f"What {title} is.", board=board, shows=shows, unit=unit)


PANELS: Final = (
    _panel(
        "Failures of a day",
        "ratio",
        ("failed", ratio(Rate(_FAILED, 86400.0), Rate(_EVERY, 86400.0))),
        board=Board.SLO,
    ),
    _panel("Requests", "per_second", ("all", Rate(_EVERY)), board=Board.OVERVIEW),
    _panel(
        "Failures", "ratio", ("failed", ratio(Rate(_FAILED), Rate(_EVERY))), board=Board.OVERVIEW
    ),
    _panel(
        "Duration",
        "seconds",
        ("p50 {route}", Quantile(0.5, _SLOW)),
        ("p99 {route}", Quantile(0.99, _SLOW)),
        board=Board.OVERVIEW,
    ),
    _panel(
        "Pool",
        "count",
        ("{pool}", Value(Selection(metric=IN_USE, by=("pool",)))),
        board=Board.DATABASE,
    ),
    _panel(
        "Seen",
        "timestamp",
        ("{job_name}", Value(Selection(metric=SEEN, by=("job_name",)))),
        board=Board.BUSINESS,
    ),
)


def catalogue() -> Catalogue:
    """A catalogue of all of the above."""
    made = Catalogue()
    made.add(*METRICS, *PANELS, *ALERTS)
    return made
