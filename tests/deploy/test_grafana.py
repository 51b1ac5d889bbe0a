"""Dashboards: linted by rules of our own, and each rule is seen to find what it is for."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from deploy.dashboard_lint import lint
from deploy.sample import PANELS, catalogue
from shipworthy.deploy.alarms import Prometheus
from shipworthy.deploy.grafana import dashboard_files, panel_recordings
from shipworthy.events import Catalogue
from shipworthy.serve import service_catalogue

Dashboard = dict[str, Any]

_SHOP = Prometheus(job="shop", scrape_interval_seconds=15.0)


def _written(declared: Catalogue) -> dict[str, Dashboard]:
    files = dashboard_files(declared.panels.values(), _SHOP)
    return {path: json.loads(text) for path, text in files.items()}


def test_each_board_is_a_dashboard_with_its_panels() -> None:
    """In the order of the boards and of the declarations."""
    written = _written(catalogue())
    assert list(written) == [
        "dashboards/overview.json",
        "dashboards/slo.json",
        "dashboards/database.json",
        "dashboards/business.json",
    ]
    overview = written["dashboards/overview.json"]
    assert [panel["title"] for panel in overview["panels"]] == ["Requests", "Failures", "Duration"]
    assert overview["uid"] == "shipworthy-overview"


def test_a_line_is_named_after_its_labels_and_asks_for_what_was_chosen() -> None:
    """The window follows the zoom, and is four scrapes at least."""
    (duration,) = (
        panel
        for panel in _written(catalogue())["dashboards/overview.json"]["panels"]
        if panel["title"] == "Duration"
    )
    first, second = duration["targets"]
    assert (first["refId"], first["legendFormat"]) == ("A", "p50 {{route}}")
    assert second["expr"] == (
        "histogram_quantile(0.99, sum by (le, route) (rate(shop_request_duration_seconds_bucket"
        '{job=~"$job", instance=~"$instance"}[$__rate_interval])))'
    )
    assert duration["fieldConfig"]["defaults"]["unit"] == "s"


def test_a_window_of_days_is_added_up_from_what_the_rules_record() -> None:
    """Of the whole service: what is recorded knows no instances."""
    (failures,) = _written(catalogue())["dashboards/slo.json"]["panels"]
    text = failures["targets"][0]["expr"]
    assert 'job:shop_requests_total:increase5m{job=~"$job", selection="all"}' in text
    recorded = {one.record for one in panel_recordings(PANELS, _SHOP)}
    assert recorded == {"job:shop_requests_total:increase5m"}


def test_a_time_is_counted_in_milliseconds_as_grafana_does() -> None:
    """And is shown as how long ago it was."""
    (seen,) = _written(catalogue())["dashboards/business.json"]["panels"]
    assert seen["targets"][0]["expr"].endswith(") * 1000")
    assert seen["fieldConfig"]["defaults"]["unit"] == "dateTimeFromNow"


def test_a_budget_that_is_overspent_is_still_seen() -> None:
    """It is below 0, where a hard end of the axis would draw nothing."""
    (budget,) = (
        panel
        for panel in _written(service_catalogue())["dashboards/slo.json"]["panels"]
        if panel["title"] == "Availability: budget left"
    )
    defaults = budget["fieldConfig"]["defaults"]
    assert "min" not in defaults
    assert defaults["custom"]["axisSoftMin"] == 0


@pytest.mark.parametrize("declared", [catalogue, service_catalogue], ids=["sample", "ours"])
def test_nothing_is_wrong_with_a_dashboard(declared: Callable[[], Catalogue]) -> None:
    """Of the sample, and of everything the rooms declare."""
    written = _written(declared())
    assert {path: lint(one, declared().metrics) for path, one in written.items()} == {
        path: [] for path in written
    }


def _target(dashboard: Dashboard, text: str) -> None:
    dashboard["panels"][0]["targets"][0]["expr"] = text


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda it: it.update(uid="It changes!"), "no name that stays"),
        (lambda it: it.update(editable=True), "will be lost"),
        (lambda it: it.update(description=""), "no title or description"),
        (lambda it: it["templating"]["list"].pop(), "its variables are datasource, job"),
        (lambda it: it["panels"][1].update(id=1), "ids are not unique"),
        (lambda it: it["panels"][1]["gridPos"].update(x=6), "Requests lies on Failures"),
        (lambda it: it["panels"][1]["gridPos"].update(x=20), "wider than the page"),
        (lambda it: it["panels"][0].update(description=""), "panel 1 has no title"),
        (lambda it: it["panels"][0]["fieldConfig"]["defaults"].update(unit=""), "has no unit"),
        (lambda it: it["panels"][0].update(targets=[]), "asks for nothing"),
        (lambda it: it["panels"][0].update(datasource=None), "the chosen source of data"),
        (lambda it: _target(it, "sum("), "Requests: "),
        (lambda it: _target(it, "sum(rate(x[$__interval]))"), "no $__rate_interval"),
        (lambda it: _target(it, 'up{job="$job", instance="$i"}'), "no metric is called up"),
        (lambda it: _target(it, "shop_requests_total"), "not of the job and the instance"),
        (
            lambda it: _target(it, 'shop_requests_total{job="a", instance="b", colour="red"}'),
            "has no label colour",
        ),
        (
            lambda it: _target(it, 'shop_request_duration_seconds{job="a", instance="b"}'),
            "no metric is called shop_request_duration_seconds",
        ),
    ],
)
def test_the_lint_finds_what_it_is_for(spoil: Callable[[Dashboard], None], complaint: str) -> None:
    """Each rule has a dashboard that breaks it."""
    dashboard = copy.deepcopy(_written(catalogue())["dashboards/overview.json"])
    spoil(dashboard)
    found = lint(dashboard, catalogue().metrics)
    assert any(complaint in sentence for sentence in found), found


def test_boards_without_panels_are_not_written() -> None:
    """An empty page would look like a broken one."""
    assert dashboard_files([], _SHOP) == {}
    assert len(dashboard_files(PANELS[:1], _SHOP)) == 1
