"""The three lines with which an application counts what it is about."""

import pytest

from shipworthy.events import CATALOGUE, Declared, Metric, OneOf
from shipworthy.telemetry import PROCESS, Registry, counter, gauge, histogram

CHANNELS = {"channel": OneOf("web", "phone")}
ORDERS = Metric("shop_counting_orders_total", "counter", "Orders.", CHANNELS)
SECONDS = Metric("shop_counting_seconds", "histogram", "Seconds.", {}, (1.0,))
DEPTH = Metric("shop_counting_depth", "gauge", "Depth.")


def test_a_metric_of_the_application_is_declared_and_counted_at_once() -> None:
    """Wherever it is made, and on the page of every hull; again is the same one."""
    orders = counter(ORDERS)
    orders.cell("web").add(2)
    histogram(SECONDS).cell().observe(0.5)
    gauge(DEPTH, read=lambda: 3.0)
    hull = Registry()
    hull.join(PROCESS)

    snapshot = hull.snapshot()

    assert counter(ORDERS) is orders
    assert snapshot[ORDERS.name]["sets"] == [(["web"], [2.0]), (["phone"], [0.0])]
    assert snapshot[SECONDS.name]["sets"] == [([], [1.0, 0.0, 0.5])]
    assert snapshot[DEPTH.name]["sets"] == [([], [3.0])]
    assert {ORDERS.name, SECONDS.name, DEPTH.name} <= set(CATALOGUE.metrics)


def test_label_sets_that_are_known_are_there_before_their_first_count() -> None:
    """An alert on no orders at all, or on the first failure, needs the 0."""
    names = {"kind": OneOf("a", "b"), "job": Declared()}
    counter(Metric("shop_counting_jobs_total", "counter", "Jobs.", names))
    many = {"kind": OneOf(*map(str, range(51)))}
    counter(Metric("shop_counting_kinds_total", "counter", "Kinds.", many))
    histogram(Metric("shop_counting_by_seconds", "histogram", "Seconds.", CHANNELS, (1.0,)))

    snapshot = PROCESS.snapshot()

    assert snapshot["shop_counting_by_seconds"]["sets"] == [
        ([channel], [0.0, 0.0, 0.0]) for channel in ("web", "phone")
    ]
    assert snapshot["shop_counting_jobs_total"]["sets"] == []
    assert snapshot["shop_counting_kinds_total"]["sets"] == []


def test_a_name_that_means_two_things_is_refused_where_it_is_declared() -> None:
    """The message says which."""
    counter(ORDERS)

    with pytest.raises(ValueError, match="'shop_counting_orders_total' is declared twice"):
        counter(Metric(ORDERS.name, "counter", "Others.", CHANNELS))
