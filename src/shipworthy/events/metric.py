"""How a metric is declared: a name with its kind, its sentence, and labels with few values."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Fold = Literal["sum", "max", "min"]

_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric, declared once beside the room that counts it.

    `labels` names the dimensions, each with few values; `buckets` are the ascending upper bounds
    of a histogram, without the infinite one; `fold` says what the gauges of several workers are
    together (counters and histograms always add up). Raises `ValueError` for a declaration that
    Prometheus would not take, so that it is found at import and not by the scraper.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    fold: Fold = "sum"

    def __post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise ValueError(f"metric {self.name!r}: {'; '.join(problems)}")


def _problems(metric: Metric) -> Iterator[str]:
    if not _NAME.match(metric.name):
        yield "a name is lower case letters, digits and underscores"
    if (metric.kind == "counter") != metric.name.endswith("_total"):
        yield "a counter's name ends in _total, and no other's does"
    if not metric.help.strip():
        yield "it has no help: say what is counted, and in which unit"
    for label in metric.labels:
        if not _NAME.match(label) or label == "le":
            yield f"{label!r} cannot be a label: lower case letters, digits, underscores, not 'le'"
    if len(set(metric.labels)) != len(metric.labels):
        yield f"a label is named twice in {metric.labels}"
    if (metric.kind == "histogram") != bool(metric.buckets):
        yield "a histogram has buckets, and nothing else has"
    if list(metric.buckets) != sorted(set(metric.buckets)) or not all(
        map(isfinite, metric.buckets)
    ):
        yield f"buckets are finite and ascend, these do not: {metric.buckets}"
    if metric.kind != "gauge" and metric.fold != "sum":
        yield f"only a gauge is folded by {metric.fold!r}; counters and histograms add up"
