"""The catalogue: what is declared is found by name, and a name means one thing."""

from collections.abc import Iterator

import pytest

from shipworthy.events import (
    CATALOGUE,
    Alert,
    Board,
    Catalogue,
    Compared,
    Increase,
    Metric,
    Number,
    OneOf,
    Panel,
    Rate,
    Selection,
    Slo,
    Urgency,
    alerts_of,
    declare,
    panels_of,
)

PLACED = Metric("orders_placed_total", "counter", "Orders.", {"channel": OneOf("web", "shop")})
FAILED = Metric("orders_failed_total", "counter", "Orders that could not be placed.")
PANEL = Panel(
    title="Orders",
    help="Orders placed.",
    board=Board.BUSINESS,
    shows=(("placed", Rate(Selection(metric=PLACED))),),
    unit="per_second",
)
ALERT = Alert(
    name="OrdersFail",
    when=Compared(Increase(Selection(metric=FAILED), 900.0), ">", Number(0)),
    for_seconds=0.0,
    urgency=Urgency.TICKET,
    summary="orders fail",
    cause="The shop is closed.",
    look="At the shop.",
    act="Open it.",
    drill="order while it is closed",
)
SLO = Slo(
    name="orders",
    help="Orders are placed.",
    objective_ratio=0.99,
    total=Selection(metric=PLACED),
    bad=Selection(metric=FAILED),
)


def test_what_is_added_is_found_by_name_in_its_order() -> None:
    """A panel, an alert and an objective bring the metrics that they show."""
    catalogue = Catalogue()

    catalogue.add(ALERT, PANEL, SLO)

    assert list(catalogue.metrics) == ["orders_failed_total", "orders_placed_total"]
    panels = {panel.title: panel for panel in (PANEL, *panels_of(SLO))}
    alerts = {alert.name: alert for alert in (ALERT, *alerts_of(SLO))}
    assert (catalogue.panels, catalogue.alerts) == (panels, alerts)
    assert catalogue.slos == {"orders": SLO}
    again = Catalogue()
    again.add(*catalogue.everything())
    assert list(again.everything()) == list(catalogue.everything())


def test_an_objective_of_a_threshold_needs_no_metric_of_failures() -> None:
    """Its good ones are counted in the same histogram."""
    took = Metric("took_seconds", "histogram", "Seconds.", buckets=(0.1, 1.0))
    catalogue = Catalogue()

    catalogue.add(
        Slo(
            name="quick",
            help="Quick.",
            objective_ratio=0.99,
            total=Selection(metric=took),
            within_seconds=0.1,
        )
    )

    assert list(catalogue.metrics) == ["took_seconds"]


def test_the_same_thing_twice_is_one_and_two_things_of_one_name_are_refused() -> None:
    """A module that is imported anew harms nothing; a second meaning would."""
    catalogue = Catalogue()
    catalogue.add(PLACED, PANEL)
    catalogue.add(Metric(PLACED.name, "counter", PLACED.help, dict(PLACED.labels)), PANEL)

    with pytest.raises(ValueError, match="metric 'orders_placed_total' is declared twice"):
        catalogue.add(Metric(PLACED.name, "counter", "Something else."))
    assert catalogue.metrics == {PLACED.name: PLACED}


def test_labels_in_another_order_are_another_metric() -> None:
    """The values of a cell stand in the order of the labels."""
    one, two = {"a": OneOf("x"), "b": OneOf("y")}, {"b": OneOf("y"), "a": OneOf("x")}
    catalogue = Catalogue()
    catalogue.add(Metric("n", "gauge", "N.", one))

    with pytest.raises(ValueError, match="declared twice"):
        catalogue.add(Metric("n", "gauge", "N.", two))


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Take out what a test declares for the whole process."""
    yield
    CATALOGUE._metrics.pop(FAILED.name)
    CATALOGUE._alerts.pop(ALERT.name)


@pytest.mark.usefixtures("forgotten")
def test_whoever_declares_adds_to_the_one_of_the_process() -> None:
    """Rooms and users do it by the same function."""
    declare(ALERT)

    assert CATALOGUE.alerts["OrdersFail"] is ALERT
    assert CATALOGUE.metrics[FAILED.name] is FAILED
