"""All that is declared to be counted, shown and alerted of, by this package and by its users."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, TypeVar, final

from shipworthy.events.algebra import selections
from shipworthy.events.metric import Metric
from shipworthy.events.shown import Alert, Panel
from shipworthy.events.slo import Slo, alerts_of, panels_of

T = TypeVar("T", Metric, Panel, Alert, Slo)


@final
class Catalogue:
    """Metrics, panels, alerts and objectives by name, in the order of their declaration."""

    def __init__(self) -> None:
        self._metrics: dict[str, Metric] = {}
        self._panels: dict[str, Panel] = {}
        self._alerts: dict[str, Alert] = {}
        self._slos: dict[str, Slo] = {}
        self.metrics: Mapping[str, Metric] = MappingProxyType(self._metrics)
        self.panels: Mapping[str, Panel] = MappingProxyType(self._panels)
        self.alerts: Mapping[str, Alert] = MappingProxyType(self._alerts)
        self.slos: Mapping[str, Slo] = MappingProxyType(self._slos)

    def add(self, *things: Metric | Panel | Alert | Slo) -> None:
        """Take these with the metrics they show, and an objective with its panels and alerts.

        The same thing again changes nothing.

        Raises `ValueError` for one that differs from another of its kind and name, having taken
        those before it.
        """
        for thing in things:
            if isinstance(thing, Metric):
                _put(self._metrics, thing.name, thing)
                continue
            self.add(*metrics_of(thing))
            match thing:
                case Panel():
                    _put(self._panels, thing.title, thing)
                case Alert():
                    _put(self._alerts, thing.name, thing)
                case _:
                    _put(self._slos, thing.name, thing)
                    self.add(*panels_of(thing), *alerts_of(thing))

    def everything(self) -> "Iterator[Metric | Panel | Alert | Slo]":
        """Yield all that was added."""
        yield from self.metrics.values()
        yield from self.panels.values()
        yield from self.alerts.values()
        yield from self.slos.values()


def metrics_of(thing: Panel | Alert | Slo) -> Iterator[Metric]:
    """Yield the metrics that a panel shows, an alert asks or an objective counts."""
    match thing:
        case Panel():
            for _, of in thing.shows:
                yield from (one.metric for one in selections(of))
        case Alert():
            yield from (one.metric for one in selections(thing.when))
        case _:
            yield from (one.metric for one in (thing.total, thing.bad) if one is not None)


def _put(known: dict[str, T], name: str, thing: T) -> None:
    if known.setdefault(name, thing) != thing:
        kind = type(thing).__name__.lower()
        raise ValueError(
            f"{kind} {name!r} is declared twice, and differently: give one of them another name"
        )


CATALOGUE: Final = Catalogue()


def declare(*things: Metric | Panel | Alert | Slo) -> None:
    """Add these to the catalogue of this process; see `Catalogue.add`."""
    CATALOGUE.add(*things)
