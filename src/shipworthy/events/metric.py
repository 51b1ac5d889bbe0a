"""How a metric is declared: a name with its kind, its sentence, and labels with few values."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from math import isfinite
from types import MappingProxyType
from typing import Literal, get_args

from typing_extensions import override

from shipworthy.events.labels import Domain, OneOf

Kind = Literal["counter", "gauge", "histogram"]
Fold = Literal["sum", "max", "min"]
Unit = Literal["seconds", "bytes", "ratio", ""]

_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric, declared once beside the room that counts it.

    `labels` names the dimensions, each with the domain of its values; `buckets` are the ascending
    upper bounds of a histogram, without the infinite one; `fold` says what the gauges of several
    workers are together (counters and histograms always add up). A metric that no panel and no
    alert shows says in `unshown` why not. Raises `ValueError` for a declaration that Prometheus
    would not take, so that it is found at import and not by the scraper.
    """

    name: str
    kind: Kind
    help: str
    labels: Mapping[str, Domain] = field(default_factory=dict)
    buckets: tuple[float, ...] = ()
    fold: Fold = "sum"
    unshown: str = field(default="", kw_only=True)
    # Mappings are equal in any order, but a cell's values stand in this one.
    _order: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise ValueError(f"metric {self.name!r}: {'; '.join(problems)}")
        object.__setattr__(self, "labels", MappingProxyType(dict(self.labels)))
        object.__setattr__(self, "_order", tuple(self.labels))

    @override
    def __hash__(self) -> int:
        return hash(self.name)

    def zeros(self) -> dict[tuple[str, ...], float]:
        """Return 0 for each label set, where all are known beforehand; else nothing.

        A counter that is not there before its first count has not grown by it, for whoever asks how
        much it grew: an alert would sleep through the first time.
        """
        domains = self.labels.values()
        known = [domain.values for domain in domains if isinstance(domain, OneOf)]
        return dict.fromkeys(product(*known), 0.0) if len(known) == len(domains) else {}

    @property
    def unit(self) -> Unit:
        """Return the unit that the name ends in, before `_total`; "" for what is only counted."""
        ending = self.name.removesuffix("_total").rpartition("_")[2]
        return ending if ending in _UNITS else ""


_UNITS: tuple[Unit, ...] = get_args(Unit)


def _problems(metric: Metric) -> Iterator[str]:
    if not _NAME.match(metric.name):
        yield "a name is lower case letters, digits and underscores"
    if (metric.kind == "counter") != metric.name.endswith("_total"):
        yield "a counter's name ends in _total, and no other's does"
    if not metric.help.strip():
        yield "it has no help: say what is counted, and in which unit"
    yield from _label_problems(metric.labels)
    if (metric.kind == "histogram") != bool(metric.buckets):
        yield "a histogram has buckets, and nothing else has"
    if list(metric.buckets) != sorted(set(metric.buckets)) or not all(
        map(isfinite, metric.buckets)
    ):
        yield f"buckets are finite and ascend, these do not: {metric.buckets}"
    if metric.kind != "gauge" and metric.fold != "sum":
        yield f"only a gauge is folded by {metric.fold!r}; counters and histograms add up"


def _label_problems(labels: object) -> Iterator[str]:
    if not isinstance(labels, Mapping):
        yield "its labels are a mapping of names to domains, as {'state': OneOf('open', 'closed')}"
        return
    for label, domain in labels.items():
        if not _NAME.match(label) or label == "le":
            yield f"{label!r} cannot be a label: lower case letters, digits, underscores, not 'le'"
        if not isinstance(domain, Domain):
            yield f"{label!r} has no domain: OneOf(...), Declared() or Routes()"
