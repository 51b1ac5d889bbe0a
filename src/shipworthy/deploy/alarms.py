"""The alarms of a catalogue: each alert as a rule of Prometheus, with what proves it. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Final, final

from shipworthy.deploy.alarm import AlarmRule
from shipworthy.deploy.promql import (
    KeptSums,
    Scope,
    promql,
    quoted,
    range_text,
    recordings,
)
from shipworthy.deploy.scenario import Waits, scenarios
from shipworthy.deploy.steady import Untestable
from shipworthy.deploy.windows import shortened_condition, windows_seconds
from shipworthy.errors import Misuse
from shipworthy.events import Alert, Board, Condition, Expression, Metric, Panel, counts, selections

# Of a rate whose declaration names no window.
USUAL_WINDOW_SECONDS: Final = 300.0
# A window from here on is added up of sums, each of so long: a day of every series, read at every
# evaluation, is more than Prometheus should be asked for.
_SUMS_FROM_SECONDS: Final = 6 * 3600.0
_SUMS_EVERY_SECONDS: Final = 300.0
_HOURLY_FROM_SECONDS: Final = 7 * 86400.0
_HOURLY_SECONDS: Final = 3600.0
# As `events.value_text` writes it. Not `humanize`, which says `83.3m` of one in twelve.
VALUE: Final = (
    '{{ if ge $value 10.0 }}{{ printf "%.0f" $value }}{{ else }}{{ printf "%.3g" $value }}{{ end }}'
)
WHOLE_VALUE: Final = '{{ printf "%.0f" $value }}'
# Where an alert stands whose metrics no panel shows.
ELSEWHERE: Final = "service"


class Unwritable(Misuse):
    """What is declared cannot be written for Prometheus; the message names the declaration."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Prometheus:
    """What the rules must know of the Prometheus they are for."""

    job: str
    scrape_interval_seconds: float
    scale: float = 1.0

    @property
    def matching(self) -> str:
        """Return the matcher that every selector of a rule begins with."""
        return f"job={quoted(self.job)}"

    def sums(self, of: Expression | Condition, apart: tuple[str, ...]) -> KeptSums:
        """Return the sums that are recorded for the long windows of an expression."""
        least = _SUMS_FROM_SECONDS / self.scale
        long = [window for window in windows_seconds(of, 0.0) if window >= least]
        hourly = min(long, default=0.0) >= _HOURLY_FROM_SECONDS / self.scale
        every = _HOURLY_SECONDS if hourly else _SUMS_EVERY_SECONDS
        return KeptSums(
            every_seconds=every / self.scale,
            from_seconds=least,
            matching=self.matching,
            apart=apart,
        )

    def scope(self, of: Expression | Condition, apart: tuple[str, ...]) -> Scope:
        """Return what a rule is about: this service, kept apart by these labels."""
        return Scope(matching=self.matching, apart=apart, sums=self.sums(of, apart))

    @property
    def usual_window_seconds(self) -> float:
        """Return the window of a rate that names none."""
        return USUAL_WINDOW_SECONDS / self.scale


def catalogue_alarms(
    alerts: Sequence[Alert],
    panels: Sequence[Panel],
    prometheus: Prometheus,
    objectives: Mapping[str, str] | None = None,
) -> Iterator[AlarmRule]:
    """Yield an alarm for each alert, in their order.

    `objectives` names, by alert, the objective it belongs to, which becomes a label. Raises
    `Unwritable` for the first that cannot be written or cannot be tested.
    """
    for alert in alerts:
        try:
            yield _alarm(alert, panels, prometheus, (objectives or {}).get(alert.name, ""))
        except (ValueError, Untestable) as error:
            raise Unwritable(f"alert {alert.name}: {error}") from error


def _alarm(
    alert: Alert, panels: Sequence[Panel], prometheus: Prometheus, objective: str
) -> AlarmRule:
    scale, usual = prometheus.scale, prometheus.usual_window_seconds
    when = shortened_condition(alert.when, scale)
    apart = _apart(when)
    _held_to_scrapes(when, prometheus)
    scope, window = prometheus.scope(when, apart), range_text(usual)
    recorded = recordings(when, window=window, scope=scope)
    waits = Waits(
        for_seconds=alert.for_seconds / scale,
        keep_seconds=alert.keep_seconds / scale,
        default_window_seconds=usual,
        recorded_every_seconds=recorded[0].every_seconds if recorded else 0.0,
    )
    service = {"job": prometheus.job, "instance": "one:9000"}
    return AlarmRule(
        name=alert.name,
        # A file each: a test of days would evaluate the others with it.
        group=f"{Board.SLO}-{alert.name}" if objective else _group(when, panels),
        labels={"slo": objective} if objective else {},
        expr=promql(when, window=window, scope=scope),
        recordings=recorded,
        for_seconds=waits.for_seconds,
        keep_seconds=waits.keep_seconds,
        urgency=alert.urgency,
        summary=_template(alert),
        cause=alert.cause,
        look=alert.look,
        act=alert.act,
        drill=alert.drill,
        scenarios=scenarios(when, waits, service=service, apart=apart),
    )


def _apart(when: Condition) -> tuple[str, ...]:
    """A gauge is the state of one instance; what is counted happens to the whole service."""
    gauges = any(of.metric.kind == "gauge" for of in selections(when))
    return ("job", "instance") if gauges else ("job",)


def _held_to_scrapes(when: Condition, prometheus: Prometheus) -> None:
    windows = windows_seconds(when, prometheus.usual_window_seconds)
    least = 4 * prometheus.scrape_interval_seconds
    if windows and min(windows) < least:
        raise ValueError(
            f"a window of {range_text(min(windows))} is shorter than four scrapes "
            f"({range_text(least)}): set monitoring.scrape_interval to at most "
            f"{range_text(min(windows) / 4)}"
        )


def _group(when: Condition, panels: Sequence[Panel]) -> str:
    """Name the file of an alert after the board on which its first metric is shown."""
    asked = [of.metric for of in selections(when)]
    for metric in asked:
        for panel in panels:
            # The board of objectives shows what all the others do.
            if panel.board != Board.SLO and metric in _shown(panel):
                return str(panel.board)
    return ELSEWHERE


def _shown(panel: Panel) -> list[Metric]:
    return [of.metric for _, expression in panel.shows for of in selections(expression)]


def _template(alert: Alert) -> str:
    """Return its sentence as a template of Prometheus, which fills in the labels and the value."""
    value = WHOLE_VALUE if counts(alert.when) else VALUE
    written = []
    for text, name, _, _ in Formatter().parse(alert.summary):
        written.append(text)
        if name is not None:
            written.append(value if name == "value" else f"{{{{ $labels.{name} }}}}")
    return "".join(written)
