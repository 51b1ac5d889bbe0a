"""Series for promtool: well, as bad as it must be, and well again."""

import pytest

from deploy.sample import ALERTS
from shipworthy.deploy.alarm import Scenario
from shipworthy.deploy.scenario import Waits, scenarios, series_text
from shipworthy.events import Alert

_SERVICE = {"job": "shop", "instance": "one:9000"}


def _played(alert: Alert) -> tuple[Scenario, ...]:
    waits = Waits(
        for_seconds=alert.for_seconds,
        keep_seconds=alert.keep_seconds,
        default_window_seconds=300.0,
    )
    return scenarios(alert.when, waits, service=_SERVICE, apart=("job",))


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_it_is_well_then_bad_then_well_again(alert: Alert) -> None:
    """Nothing fires at first and at last; in between, one label set does."""
    first, *others = _played(alert)
    fired = [len(labels) for _, labels in first.checks]
    assert fired[0] == fired[-1] == 0
    assert fired[-2] == 1
    assert all(not labels for other in others for _, labels in other.checks)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_before_it_has_held_for_long_enough_nothing_fires(alert: Alert) -> None:
    """An alert that waits is looked at while it waits."""
    first = _played(alert)[0]
    assert len(first.checks) == (4 if alert.for_seconds else 3)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_every_series_is_as_long_as_the_last_look(alert: Alert) -> None:
    """A series that ends early would let an alert recover for another reason."""
    for scenario in _played(alert):
        last_step = round(scenario.checks[-1][0] / scenario.interval_seconds)
        for _, values in scenario.series:
            parts = [part for part in values.split() if part != "stale"]
            steps = sum(
                int(part.rpartition("x")[2]) + (not part.startswith("_")) for part in parts
            ) + values.count("stale")
            assert steps >= last_step + 1, values


def test_a_counter_never_falls_and_a_time_moves_on() -> None:
    """Where one phase ends the next begins; a gauge of a time stays so many seconds behind."""
    by_name = {alert.name: alert for alert in ALERTS}
    counted = dict(_played(by_name["ErrorsHigh"])[0].series)
    (values,) = (text for name, text in counted.items() if '"500"' in name)
    assert values == "0+60x19 1200+60x29 3000+60x19" or values.startswith("0+")
    starts = [float(part.partition("+")[0]) for part in values.split()]
    assert starts == sorted(starts)
    seen = dict(_played(by_name["Stale"])[0].series)
    (values,) = (text for name, text in seen.items() if name.startswith("shop_seen"))
    assert [part.partition("+")[2].partition("x")[0] for part in values.split()] == ["15"] * 3


def test_a_series_that_goes_is_marked_so() -> None:
    """Without the mark Prometheus would go on seeing its last sample for five minutes."""
    (gone,) = (alert for alert in ALERTS if alert.name == "Gone")
    series = dict(_played(gone)[0].series)
    (values,) = (text for name, text in series.items() if "_count{" in name)
    assert " stale _x" in values


def test_a_series_is_named_in_order_of_its_labels() -> None:
    """And its values are quoted as PromQL quotes them."""
    assert series_text("x", {"b": 'a"', "a": "1"}) == r'x{a="1",b="a\""}'
