"""What a dashboard must be to be of use, as a list of what it is not.

Types of Grafana cannot see these: that a query parses, asks for metrics and labels that exist, and
belongs to the instance that was chosen; that panels do not lie on one another.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import promql_parser
from promql_parser import VectorSelector

from shipworthy.events import Metric

# What Prometheus puts beside the labels of a metric.
_OF_THE_TARGET = {"job", "instance"}
_SUFFIXES = {"histogram": ("_bucket", "_count", "_sum")}


def lint(dashboard: Mapping[str, Any], metrics: Mapping[str, Metric]) -> list[str]:
    """Return a sentence for everything that is wrong with a dashboard."""
    return [*_frame(dashboard), *_panels(dashboard["panels"], metrics)]


def _frame(dashboard: Mapping[str, Any]) -> Iterator[str]:
    if not re.fullmatch(r"[a-z0-9-]{1,40}", dashboard["uid"]):
        yield f"uid {dashboard['uid']!r} is no name that stays"
    if dashboard["editable"]:
        yield "it can be edited, and what is edited will be lost"
    if not dashboard["title"] or not dashboard["description"]:
        yield "it has no title or description"
    variables = {one["name"]: one for one in dashboard["templating"]["list"]}
    if [*variables] != ["datasource", "job", "instance"]:
        yield f"its variables are {', '.join(variables)}"
    for annotation in dashboard["annotations"]["list"]:
        yield from _source(annotation, annotation["name"])


def _panels(panels: list[Mapping[str, Any]], metrics: Mapping[str, Metric]) -> Iterator[str]:
    ids = [panel["id"] for panel in panels]
    if len(set(ids)) != len(ids):
        yield f"ids are not unique: {ids}"
    for one, other in combinations(panels, 2):
        if _overlap(one["gridPos"], other["gridPos"]):
            yield f"{one['title']} lies on {other['title']}"
    for panel in panels:
        title = panel["title"]
        if not title or not panel["description"]:
            yield f"panel {panel['id']} has no title or description"
        if not panel["fieldConfig"]["defaults"].get("unit"):
            yield f"{title} has no unit"
        if panel["gridPos"]["x"] + panel["gridPos"]["w"] > 24:
            yield f"{title} is wider than the page"
        yield from _source(panel, title)
        if not panel["targets"]:
            yield f"{title} asks for nothing"
        for target in panel["targets"]:
            yield from _source(target, title)
            yield from _query(target["expr"], title, metrics)


def _source(thing: Mapping[str, Any], title: str) -> Iterator[str]:
    if thing["datasource"] != {"type": "prometheus", "uid": "${datasource}"}:
        yield f"{title} does not ask the chosen source of data"


def _query(text: str, title: str, metrics: Mapping[str, Metric]) -> Iterator[str]:
    if re.search(r"\[(?!\$__rate_interval|\d)", text):
        yield f"{title}: a window is no $__rate_interval: {text}"
    try:
        parsed = promql_parser.parse(text.replace("$__rate_interval", "1m"))
    except ValueError as error:
        yield f"{title}: {error}: {text}"
        return
    for selector in _selectors(parsed):
        # A recorded sum is called by:metric:how, and is of a whole service.
        recorded = selector.name.count(":") == 2
        metric = _metric(selector.name.split(":")[1] if recorded else selector.name, metrics)
        if metric is None:
            yield f"{title}: no metric is called {selector.name}"
            continue
        named = {matcher.name for matcher in selector.matchers.matchers}
        of_target = {"job"} if recorded else _OF_THE_TARGET
        known = {*metric.labels, *_OF_THE_TARGET, *({"le"} if metric.kind == "histogram" else ())}
        known |= {"selection"} if recorded else set()
        yield from (f"{title}: {metric.name} has no label {name}" for name in named - known)
        if not named >= of_target:
            yield f"{title}: {selector.name} is not of the job and the instance that were chosen"


def _metric(name: str, metrics: Mapping[str, Metric]) -> Metric | None:
    for metric in metrics.values():
        suffixes = _SUFFIXES.get(metric.kind, ("",))
        if name in [f"{metric.name}{suffix}" for suffix in suffixes]:
            return metric
    return None


def _selectors(parsed: Any) -> Iterator[VectorSelector]:
    if isinstance(parsed, VectorSelector):
        yield parsed
    for part in ("expr", "lhs", "rhs", "vector_selector"):
        inner = getattr(parsed, part, None)
        if inner is not None:
            yield from _selectors(inner)
    for argument in getattr(parsed, "args", None) or ():
        yield from _selectors(argument)


def _overlap(one: Mapping[str, int], other: Mapping[str, int]) -> bool:
    return all(
        one[at] < other[at] + other[size] and other[at] < one[at] + one[size]
        for at, size in (("x", "w"), ("y", "h"))
    )
