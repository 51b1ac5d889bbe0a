"""What is remembered and watched, on the operations port: charts, panels and alerts.

Not here: how values are kept and alerts evaluated (`telemetry`), and the pages that draw them
(`console`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, final

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from shipworthy.clock import SYSTEM_CLOCK, Clock
from shipworthy.errors import Misuse, Rejected, UnitInvalid
from shipworthy.events import (
    Age,
    Alert,
    Expression,
    Increase,
    Mean,
    Metric,
    Panel,
    Quantile,
    Rate,
    Selection,
    Value,
    kept_apart_by,
)
from shipworthy.operations.endpoint import Asked, Endpoint, Reply, refusal, schema_of, told
from shipworthy.operations.facts import NameUnknown
from shipworthy.operations.recorded import instant_of, number_of
from shipworthy.telemetry import AlertState, Memory, Point, Raised, about
from shipworthy.units import parse_duration

AT_ONCE: Final = 4
POINTS_MAX: Final = 500
LINES_MAX: Final = 100
# Whoever waits for a chart waits no longer, and what it takes is the supervisor's.
DRAWN_WITHIN_SECONDS: Final = 2.0
_POINTS: Final = 120
_SPAN_SECONDS: Final = 3600.0
_SHOWS: Final = ("rate", "increase", "value", "quantile", "mean", "age")


@dataclass(frozen=True, slots=True, kw_only=True)
class LineReply:
    """One line of a chart: a value for each of the times, null where there is none."""

    name: str
    labels: Mapping[str, str]
    values: tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesReply:
    """A chart: times in Unix seconds, and lines over them.

    `window_seconds` is that of rates which name none; `left_out` how many lines are more than 100.
    """

    title: str
    unit: str
    window_seconds: float
    times: tuple[float, ...]
    lines: tuple[LineReply, ...]
    left_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelReply:
    """One panel: what it shows and where it stands."""

    title: str
    help: str
    board: str
    unit: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelsReply:
    """All panels that are declared, in the order of their declaration."""

    panels: tuple[PanelReply, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunbookReply:
    """What may be behind an alert, where to look, and what to do."""

    cause: str
    look: str
    act: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertReply:
    """An alert for one label set, or one that is inactive and has none.

    `since` is when its condition began to hold, in Unix seconds.
    """

    name: str
    state: str
    urgency: str
    labels: Mapping[str, str]
    since: float | None
    value: float | None
    summary: str
    for_seconds: float
    runbook: RunbookReply


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertsReply:
    """What fires, what is pending, what was over lately, and what is inactive, in this order."""

    alerts: tuple[AlertReply, ...]


@final
class ChartsBusy(Rejected):
    """As many charts are being made as this port makes at once."""

    def __init__(self) -> None:
        super().__init__(f"{AT_ONCE} charts are being made; ask again", retry_after_seconds=1)


def watch_endpoints(memory: Memory, *, clock: Clock = SYSTEM_CLOCK) -> tuple[Endpoint, ...]:
    """Return the endpoints about what `memory` holds."""
    free = AT_ONCE

    async def series(asked: Asked) -> Response:
        nonlocal free
        if not memory.every_seconds:
            raise Misuse("history.every is 0, so nothing is remembered; set it, as to 10s")
        title, unit, shows = _shows(asked.request, memory)
        since, until = _span(asked.request, clock.wall())
        points = number_of(asked.request, "points", _POINTS, POINTS_MAX)

        def draw() -> list[tuple[str, Expression, tuple[float, list[Point]]]]:
            keeping, give_up = memory.keeping, clock.now() + DRAWN_WITHIN_SECONDS
            return [
                (
                    name,
                    of,
                    keeping.series(of, since=since, until=until, points=points, give_up=give_up),
                )
                for name, of in shows
            ]

        if not free:
            raise ChartsBusy
        free -= 1
        try:
            found = await anyio.to_thread.run_sync(draw, limiter=anyio.CapacityLimiter(1))
        except TimeoutError:
            raise Misuse(
                f"this chart takes longer than {DRAWN_WITHIN_SECONDS:g} s; ask for fewer points, a "
                "shorter time, or some of the label sets, as where=route=/orders"
            ) from None
        finally:
            free += 1
        lines = [
            line for name, of, (_, line_points) in found for line in _lines(name, of, line_points)
        ]
        window, first = found[0][2]
        return told(
            SeriesReply(
                title=title,
                unit=unit,
                window_seconds=window,
                times=tuple(round(point.wall, 3) for point in first),
                lines=tuple(lines[:LINES_MAX]),
                left_out=max(0, len(lines) - LINES_MAX),
            )
        )

    async def panels(_: Asked) -> Response:
        return told(PanelsReply(panels=tuple(map(_panel, memory.panels.values()))))

    async def alerts(_: Asked) -> Response:
        return told(AlertsReply(alerts=tuple(_alerts(memory))))

    asked_wrong = refusal(422, "It cannot be asked so; the sentence says how.")
    return (
        Endpoint(
            path="/api/series",
            summary="A chart over time: of a panel by its title, or of one metric",
            replies=(Reply(says="The chart.", schema=schema_of(SeriesReply)), asked_wrong),
            answer=series,
        ),
        Endpoint(
            path="/api/panels",
            summary="The panels that are declared, by board",
            replies=(Reply(says="The panels.", schema=schema_of(PanelsReply)),),
            answer=panels,
        ),
        Endpoint(
            path="/api/alerts",
            summary="Every alert with its state, since when, its value, and what to do",
            replies=(Reply(says="The alerts.", schema=schema_of(AlertsReply)),),
            answer=alerts,
        ),
    )


def _alerts(memory: Memory) -> Iterator[AlertReply]:
    raised, offset = memory.rounds.raised, memory.rounds.offset_seconds
    for state in (AlertState.FIRING, AlertState.PENDING, AlertState.RESOLVED):
        for one in about(raised, state):
            yield _raised(one, offset)
    known = {one.alert.name for one in raised}
    for alert in memory.alerts.values():
        if alert.name not in known:
            yield _alert(alert)


def _raised(one: Raised, offset: float) -> AlertReply:
    return AlertReply(
        name=one.alert.name,
        state=str(one.state),
        urgency=str(one.alert.urgency),
        labels=one.named,
        since=round(one.since + offset, 3),
        value=one.value,
        summary=one.summary,
        for_seconds=one.alert.for_seconds,
        runbook=_runbook(one.alert),
    )


def _alert(alert: Alert) -> AlertReply:
    return AlertReply(
        name=alert.name,
        state="inactive",
        urgency=str(alert.urgency),
        labels={},
        since=None,
        value=None,
        summary=alert.summary,
        for_seconds=alert.for_seconds,
        runbook=_runbook(alert),
    )


def _runbook(alert: Alert) -> RunbookReply:
    return RunbookReply(cause=alert.cause, look=alert.look, act=alert.act)


def _panel(panel: Panel) -> PanelReply:
    return PanelReply(
        title=panel.title,
        help=panel.help,
        board=str(panel.board),
        unit=panel.unit,
        lines=tuple(name for name, _ in panel.shows),
    )


def _lines(name: str, of: Expression, points: list[Point]) -> Iterator[LineReply]:
    """Yield a line for each label set that had a value at any time, named as the panel says."""
    names = kept_apart_by(of) or ()
    for labels in dict.fromkeys(labels for point in points for labels in point.values):
        named = dict(zip(names, labels, strict=True))
        yield LineReply(
            name=name.format_map(named),
            labels=named,
            values=tuple(point.values.get(labels) for point in points),
        )


def _shows(request: Request, memory: Memory) -> tuple[str, str, tuple[tuple[str, Expression], ...]]:
    """Return title, unit and expressions that are asked for."""
    query = request.query_params
    title, name = query.get("panel", ""), query.get("metric", "")
    if bool(title) == bool(name):
        raise Misuse(
            "name a panel by its title, as ?panel=Requests, or a metric, as ?metric=NAME&show=rate"
        )
    if title:
        panel = memory.panels.get(title)
        if panel is None:
            raise NameUnknown("panel", title, memory.panels)
        return panel.title, panel.unit, panel.shows
    metric = memory.metrics.get(name)
    if metric is None:
        raise NameUnknown("metric", name, memory.metrics)
    try:
        of = _expression(request, metric)
    except ValueError as error:
        raise Misuse(str(error)) from error
    line = ", ".join(f"{{{label}}}" for label in kept_apart_by(of) or ()) or name
    return name, _unit(of, metric), ((line, of),)


def _unit(of: Expression, metric: Metric) -> str:
    match of:
        case Rate():
            return "per_second" if metric.unit in ("", "seconds") else f"{metric.unit}_per_second"
        case Increase():
            return "count" if metric.kind == "histogram" else metric.unit or "count"
        case Age():
            return "seconds"
        case _:
            return metric.unit or "count"


def _expression(request: Request, metric: Metric) -> Expression:
    query = request.query_params
    where: dict[str, tuple[str, ...]] = {}
    for text in query.getlist("where"):
        label, equal, value = text.partition("=")
        if not equal:
            raise Misuse(f"'where' is label=value, as in where=state=ready, and not '{text[:100]}'")
        where[label] = (*where.get(label, ()), value)
    by = tuple(dict.fromkeys(query.getlist("by")))
    selection = Selection(metric=metric, by=by, where=where)
    over = _duration(query["over"], "over") if "over" in query else None
    usual = {"gauge": "value", "counter": "rate", "histogram": "quantile"}[metric.kind]
    match query.get("show", usual):
        case "rate":
            return Rate(selection, over)
        case "increase":
            return Increase(selection, over)
        case "value":
            return Value(selection)
        case "mean":
            return Mean(selection, over)
        case "age":
            return Age(selection)
        case "quantile":
            return Quantile(_share(query.get("share", "0.95")), selection, over)
    raise Misuse(f"'show' is one of {', '.join(_SHOWS)}")


def _share(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise Misuse("'share' is a number between 0 and 1, as 0.99") from None


def _duration(text: str, name: str) -> float:
    try:
        return parse_duration(text)
    except UnitInvalid:
        raise Misuse(f"'{name}' is a length of time with its unit, as in 5m") from None


def _span(request: Request, now: float) -> tuple[float, float]:
    # What is still to come is not there; each line ends at the same time.
    until = instant_of(request, "until", now)
    until = now if until is None else min(until, now)
    since = instant_of(request, "since", now)
    since = until - _SPAN_SECONDS if since is None else since
    if not 0 <= since < until:
        raise Misuse("'since' is before 'until' and before now, and both are after 1970")
    return since, until
