"""What the drill has shown: each query of each panel, and our evaluator beside Prometheus.

Two comparisons. *Recomputed*: our evaluator over the very samples that Prometheus has, at the same
instants, over the whole drill with all that broke in it; nothing but the evaluation can differ.
*Charted*: what the service itself answers from what it has remembered itself, beside Prometheus;
the two have looked at different moments, so that is for steady traffic.
"""

import json
import math
import time
from array import array
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from flows.drilling import JOB, Stage
from shipworthy.deploy import Scope, promql
from shipworthy.deploy.promql import range_text
from shipworthy.events import Catalogue, Metric, Panel, kept_apart_by, selections
from shipworthy.telemetry import History, Series, evaluate

# Both look once a second, and an exposition is a little older than its scrape.
_APART_SECONDS = 1.5
_CLOSE_RATIO = 0.01
# As the boards have it: $__rate_interval of a scrape each second.
_WINDOW_SECONDS = 5.0
_SCOPE = Scope(matching=f'job="{JOB}"')
_INSTANTS = 60


@dataclass(frozen=True, slots=True)
class Query:
    """One query of one panel, and how many numbers it had over the drill."""

    board: str
    title: str
    line: str
    expression: str
    samples: int


def asked(stage: Stage, until: float) -> list[Query]:
    """Ask Prometheus every query of every dashboard, over the whole drill."""
    found = []
    step = max(1.0, (until - stage.began) / 1000)
    for path in sorted((stage.monitoring / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                expression = (
                    target["expr"]
                    .replace("$__rate_interval", "5s")
                    .replace("$job", JOB)
                    .replace("$instance", ".+")
                )
                values = stage.prometheus.over(expression, stage.began, until, step)
                found.append(
                    Query(
                        path.stem,
                        panel["title"],
                        target["legendFormat"],
                        expression,
                        sum(map(len, values.values())),
                    )
                )
    return found


@dataclass(slots=True)
class Compared:
    """A panel in our evaluation beside Prometheus: how many values agreed within 1 %."""

    board: str
    title: str
    values: int = 0
    agreed: int = 0
    worst_ratio: float = 0.0
    worst: str = ""

    def take(self, line: str, ours: float | None, near: Sequence[float]) -> None:
        """Count one value of ours beside what Prometheus has had near it."""
        if ours is None and not near:
            return
        apart = _apart(ours, near)
        self.values += 1
        self.agreed += apart <= _CLOSE_RATIO
        if apart > max(self.worst_ratio, _CLOSE_RATIO):
            self.worst_ratio = apart
            self.worst = f"{line}: {ours} beside {min(near, default=None)}"


def recomputed(stage: Stage, catalogue: Catalogue, until: float) -> list[Compared]:
    """Compare every panel over all samples of the drill, at 60 instants of it."""
    history = _history(stage, catalogue, until)
    first, last = math.ceil(stage.began), math.floor(until)
    instants = range(first, last, max(1, (last - first) // _INSTANTS))
    found = []
    for panel in catalogue.panels.values():
        compared = Compared(str(panel.board), panel.title)
        for line, of in panel.shows:
            query = promql(of, window=range_text(_WINDOW_SECONDS), scope=_SCOPE)
            names = kept_apart_by(of) or ()
            theirs = stage.prometheus.over(query, first, last, instants.step)
            for at in instants:
                vector = {
                    tuple(dict(labels).get(name, "") for name in names): value
                    for labels, value in theirs.get(at, {}).items()
                }
                ours = evaluate(of, history, at, _WINDOW_SECONDS)
                for labels in dict.fromkeys((*ours, *vector)):
                    near = [vector[labels]] if labels in vector else []
                    where = f"{line} {labels} at {at - first} s"
                    compared.take(where, ours.get(labels), near)
        found.append(compared)
    return found


def _history(stage: Stage, catalogue: Catalogue, until: float) -> History:
    """Remember what Prometheus has scraped as if it had been seen here: all of it, as it was."""
    seconds = until - stage.began + 60
    instance = stage.service.operations.removeprefix("http://")
    (up,) = stage.prometheus.samples(f'up{{instance="{instance}"}}', until, seconds)
    index = {at: number for number, (at, _) in enumerate(up[1])}
    columns = {
        metric: _columns(stage, metric, index, until, seconds)
        for metric in {
            selection.metric
            for panel in catalogue.panels.values()
            for _, of in panel.shows
            for selection in selections(of)
        }
    }
    history = History(interval_seconds=1.0, bytes_max=1 << 30)
    for at, number in index.items():
        snapshot = {metric.name: _series(metric, of, number) for metric, of in columns.items()}
        there = {name: series for name, series in snapshot.items() if series["sets"]}
        history.add(there, at=at, wall=at)
    return history


# Of each label set of a metric its samples by scrape, NaN where it has none: one array, or of a
# histogram one for each bucket and the sum.
_Columns = dict[tuple[str, ...], dict[str, "array[float]"]]


def _columns(
    stage: Stage, metric: Metric, index: Mapping[float, int], until: float, seconds: float
) -> _Columns:
    found: _Columns = defaultdict(dict)
    for suffix in ("_bucket", "_sum") if metric.kind == "histogram" else ("",):
        selector = f'{metric.name}{suffix}{{job="{JOB}"}}'
        for labels, samples in stage.prometheus.samples(selector, until, seconds):
            key = tuple(labels.get(label, "") for label in metric.labels)
            column = found[key][labels.get("le", suffix)] = array("d", [math.nan]) * len(index)
            for at, value in samples:
                column[index[at]] = value
    return found


def _series(metric: Metric, columns: _Columns, number: int) -> Series:
    return {
        "kind": metric.kind,
        "help": metric.help,
        "labels": [*metric.labels],
        "buckets": [*metric.buckets],
        "fold": metric.fold,
        "sets": [
            ([*labels], numbers)
            for labels, places in columns.items()
            if (numbers := _numbers({place: of[number] for place, of in places.items()}))
        ],
    }


def _numbers(values: Mapping[str, float]) -> list[float]:
    """Return the numbers of a label set at a scrape; of a histogram how many each bucket has."""
    if any(map(math.isnan, values.values())):
        return []
    if "_sum" not in values:
        return [*values.values()]
    below = sorted((float(bound), count) for bound, count in values.items() if bound != "_sum")
    counts = [0.0, *(count for _, count in below)]
    return [*(now - before for before, now in pairwise(counts)), values["_sum"]]


def charted(stage: Stage, catalogue: Catalogue, *, seconds: float, times: int) -> list[Compared]:
    """Compare every panel, over windows of so many seconds, at so many times.

    The two look at different moments, up to a second apart. So what is asked is whether ours lies
    within 1 % of what Prometheus has within that second and a half. A time at which Prometheus got
    no answer is left out.
    """
    until = time.time() - 3
    ends = [until - 2 * number for number in range(times)]
    instance = stage.service.operations.removeprefix("http://")
    up = stage.prometheus.over(
        f'up{{instance="{instance}"}}', until - 2 * times - 3, until + 3, 0.25
    )
    down = [at for at, vector in up.items() if 0.0 in vector.values()]
    ends = [end for end in ends if not any(abs(end - at) <= _APART_SECONDS for at in down)]
    return [_charted(stage, panel, ends, seconds) for panel in catalogue.panels.values()]


def _charted(stage: Stage, panel: Panel, ends: Sequence[float], seconds: float) -> Compared:
    compared = Compared(str(panel.board), panel.title)
    for end in ends:
        chart = _chart(stage, panel, end, seconds)
        near = _near(stage, panel, end, chart["window_seconds"])
        for line in chart["lines"]:
            compared.take(line["name"], line["values"][-1], near.get(line["name"], []))
    return compared


def _chart(stage: Stage, panel: Panel, end: float, seconds: float) -> Any:
    parameters = {
        "panel": panel.title,
        "since": datetime.fromtimestamp(end - seconds, UTC).isoformat(),
        "until": datetime.fromtimestamp(end, UTC).isoformat(),
        "points": 1,
    }
    return stage.ask("/api/series", params=parameters).json()


def _near(stage: Stage, panel: Panel, end: float, window: float) -> dict[str, list[float]]:
    """Return what Prometheus has for each line, within the time that the two may be apart."""
    found: dict[str, list[float]] = {}
    for name, of in panel.shows:
        query = promql(of, window=range_text(window), scope=_SCOPE)
        answer = stage.prometheus.over(query, end - _APART_SECONDS, end + _APART_SECONDS, 0.25)
        for vector in answer.values():
            for labels, value in vector.items():
                found.setdefault(name.format_map(dict(labels)), []).append(value)
    return found


def _apart(value: float | None, near: list[float]) -> float:
    if value is None or not near:
        return math.inf
    least, most = min(near), max(near)
    if least <= value <= most:
        return 0.0
    off = min(abs(value - least), abs(value - most))
    return off / max(abs(value), abs(least), abs(most))
