"""A page for each alert: what it means, where to look, what to do. Pure."""

from collections.abc import Iterable
from typing import Final

from shipworthy.deploy.alarm import AlarmRule
from shipworthy.deploy.alarms import VALUE, WHOLE_VALUE
from shipworthy.deploy.promql import range_text
from shipworthy.deploy.rules import HEAD
from shipworthy.events import Urgency

_MEANS: Final = {
    Urgency.PAGE: "page: it wakes somebody",
    Urgency.TICKET: "ticket: it is looked at in working hours",
    Urgency.INFO: "info: it is only shown",
}


def runbook_files(alarms: Iterable[AlarmRule]) -> dict[str, str]:
    """Return a page for each alarm, by path."""
    return {f"runbooks/{alarm.name}.md": _page(alarm) for alarm in alarms}


def _sentence(summary: str) -> str:
    """Return it with the names of what Prometheus fills in."""
    for value in (VALUE, WHOLE_VALUE):
        summary = summary.replace(value, "`value`")
    return summary.replace("{{ $labels.", "`").replace(" }}", "`")


def _page(alarm: AlarmRule) -> str:
    lasts = f"for {range_text(alarm.for_seconds)}" if alarm.for_seconds else "at once"
    if alarm.keep_seconds:
        lasts += f", and is kept for {range_text(alarm.keep_seconds)} after it ends"
    return "\n".join(
        [
            f"<!-- {HEAD} -->",
            f"# {alarm.name}",
            "",
            _sentence(alarm.summary),
            "",
            f"- Severity: {_MEANS[alarm.urgency]}",
            f"- Fires: {lasts}",
            f"- Rule: `rules/{alarm.group}.yml`; its test: `tests/{alarm.name}.yml`",
            "",
            "## What it means",
            "",
            alarm.cause,
            "",
            "## Where to look",
            "",
            alarm.look,
            "",
            "## What to do",
            "",
            alarm.act,
            "",
            "## Try it",
            "",
            f"Beside production, and with a scale so that nobody waits: {alarm.drill}.",
            "",
            "## When it fires",
            "",
            "```promql",
            alarm.expr,
            "```",
            "",
        ]
    )
