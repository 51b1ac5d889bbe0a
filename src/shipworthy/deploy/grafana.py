"""Dashboards for Grafana, one for each board of the catalogue. Pure.

Schema v1, as every Grafana since 8 reads it and as files in a folder are provisioned.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from string import Formatter
from typing import Any, Final

from shipworthy.deploy.alarms import Prometheus
from shipworthy.deploy.compose import DATASOURCE_UID
from shipworthy.deploy.promql import Recording, Scope, promql, recordings
from shipworthy.deploy.windows import shortened
from shipworthy.events import Board, Panel

_SCHEMA_VERSION: Final = 41
# Grafana's grid is 24 wide.
_WIDE, _HIGH, _ACROSS = 12, 8, 2
_UNITS: Final = {
    "seconds": "s",
    "bytes": "bytes",
    "ratio": "percentunit",
    "per_second": "cps",
    "count": "short",
    # Grafana counts in milliseconds, Prometheus in seconds.
    "timestamp": "dateTimeFromNow",
}
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_CHOSEN: Final = 'job=~"$job", instance=~"$instance"'
_STARTS: Final = "process_start_time_seconds"


def dashboard_files(panels: Iterable[Panel], prometheus: Prometheus) -> dict[str, str]:
    """Return a dashboard for each board that has panels, by path; its job is chosen at first."""
    boards: dict[Board, list[Panel]] = {}
    for panel in panels:
        boards.setdefault(panel.board, []).append(panel)
    return {
        f"dashboards/{board}.json": json.dumps(
            _dashboard(board, boards[board], prometheus), indent=2
        )
        + "\n"
        for board in Board
        if board in boards
    }


def _dashboard(board: Board, panels: Sequence[Panel], prometheus: Prometheus) -> dict[str, Any]:
    return {
        # Stable, so that a link to a board outlives that it is written anew.
        "uid": f"shipworthy-{board}",
        "title": f"Shipworthy: {board}",
        "description": f"Written by `shipworthy generate monitoring` for {prometheus.job}.",
        "tags": ["shipworthy"],
        "schemaVersion": _SCHEMA_VERSION,
        "version": 1,
        # Written anew from the code; what is changed here would be lost.
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "fiscalYearStartMonth": 0,
        "links": [
            {
                "type": "dashboards",
                "title": "Boards",
                "tags": ["shipworthy"],
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
                "targetBlank": False,
                "icon": "external link",
                "tooltip": "",
                "url": "",
            }
        ],
        "templating": {
            "list": [_datasource(), _label("job", "", prometheus.job), _label("instance", _JOB)]
        },
        "annotations": {"list": [_starts()]},
        "panels": [_panel(index, panel, prometheus) for index, panel in enumerate(panels)],
    }


_JOB: Final = 'job=~"$job"'


def _datasource() -> dict[str, Any]:
    return {
        "type": "datasource",
        "name": "datasource",
        "label": "Data source",
        "query": "prometheus",
        "current": {"text": "Prometheus", "value": DATASOURCE_UID},
        "multi": False,
        "includeAll": False,
    }


def _label(name: str, matching: str, chosen: str = "") -> dict[str, Any]:
    everything = {"text": ["All"], "value": ["$__all"]}
    query = (
        f"label_values(up{{{matching}}}, {name})"
        if matching
        else f"label_values({_STARTS}, {name})"
    )
    return {
        "type": "query",
        "name": name,
        "label": name.capitalize(),
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "current": {"text": [chosen], "value": [chosen]} if chosen else everything,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        # Looked up anew when the time range changes: instances come and go.
        "refresh": 2,
        "sort": 1,
    }


def _starts() -> dict[str, Any]:
    """A mark where a process began: it is younger than a minute for that minute only."""
    age = f"time() - min by (job, instance) ({_STARTS}{{{_CHOSEN}}})"
    return {
        "name": "Starts and deploys",
        "enable": True,
        "hide": False,
        "iconColor": "blue",
        "datasource": _SOURCE,
        "target": {"refId": "Starts", "expr": f"({age}) < 60", "interval": "60s"},
    }


def _panel(index: int, panel: Panel, prometheus: Prometheus) -> dict[str, Any]:
    return {
        "id": index + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.help,
        "datasource": _SOURCE,
        "gridPos": {
            "h": _HIGH,
            "w": _WIDE,
            "x": index % _ACROSS * _WIDE,
            "y": index // _ACROSS * _HIGH,
        },
        "fieldConfig": {
            "defaults": {
                "unit": _UNITS[panel.unit],
                "custom": {
                    "drawStyle": "line",
                    "lineWidth": 1,
                    "fillOpacity": 10,
                    "showPoints": "never",
                    "spanNulls": False,
                    # Soft, because a budget that is overspent goes below nothing; and a time may
                    # begin anywhere.
                    **({} if panel.unit == "timestamp" else {"axisSoftMin": 0}),
                },
            },
            "overrides": [],
        },
        "options": {
            "legend": {
                "displayMode": "table",
                "placement": "bottom",
                "showLegend": True,
                "calcs": ["lastNotNull", "max"],
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [_target(panel, number, prometheus) for number in range(len(panel.shows))],
    }


def _target(panel: Panel, number: int, prometheus: Prometheus) -> dict[str, Any]:
    name, shown = panel.shows[number]
    of = shortened(shown, prometheus.scale)
    sums = replace(prometheus.sums(of, ("job",)), matching=_JOB)
    text = promql(of, window="$__rate_interval", scope=Scope(matching=_CHOSEN, sums=sums))
    return {
        "refId": chr(ord("A") + number),
        "datasource": _SOURCE,
        "expr": f"({text}) * 1000" if panel.unit == "timestamp" else text,
        "legendFormat": _legend(name),
        "range": True,
        "instant": False,
        "exemplar": "histogram_quantile" in text,
    }


def panel_recordings(panels: Iterable[Panel], prometheus: Prometheus) -> Iterator[Recording]:
    """Yield the recording rules that the dashboards rely on."""
    for panel in panels:
        for _, shown in panel.shows:
            of = shortened(shown, prometheus.scale)
            yield from recordings(of, window="5m", scope=prometheus.scope(of, ("job",)))


def _legend(name: str) -> str:
    """Return the name of a line as Grafana fills it in, from `{label}` to `{{label}}`."""
    return "".join(
        text + (f"{{{{{label}}}}}" if label is not None else "")
        for text, label, _, _ in Formatter().parse(name)
    )
