"""Counting for the application: metrics of its own, in three lines, from anywhere in its code.

They are declared to the catalogue and counted in one registry of this process, which every hull
shows; so a module may make its counter when it is imported, before there is a hull.
"""

from math import prod
from typing import Final, TypeVar

from shipworthy.events import Metric, declare
from shipworthy.telemetry.metrics import Counter, Histogram, Read, Registry

PROCESS: Final = Registry()
F = TypeVar("F", Counter, Histogram)
# As many label sets of one metric are there before they are counted.
BEGUN_MAX: Final = 50


def counter(metric: Metric) -> Counter:
    """Declare `metric` and return its counter: `ORDERS.cell("web").add()` counts one.

    Where all values of its labels are known beforehand and make up to 50 label sets, these are 0
    from the start: how much a count grew is not known of one that begins with its first.

    Raises `ValueError` for another kind, and for a name that is declared differently already.
    """
    declare(metric)
    return _begun(metric, PROCESS.counter(metric))


def histogram(metric: Metric) -> Histogram:
    """Declare `metric` and return its histogram; the rest is as with `counter`."""
    declare(metric)
    return _begun(metric, PROCESS.histogram(metric))


def gauge(metric: Metric, *, read: Read) -> None:
    """Declare `metric` and ask `read` for it with each look; it must answer at once."""
    declare(metric)
    PROCESS.gauge(metric, read=read)


def _begun(metric: Metric, family: F) -> F:
    if prod(domain.most for domain in metric.labels.values()) <= BEGUN_MAX:
        for values in metric.zeros():
            family.cell(*values)
    return family
