"""The how-to about a metric of the business is run as it is written."""

import re

from docs.documents import ROOT
from shipworthy.events import CATALOGUE
from shipworthy.telemetry import PROCESS


def test_the_lines_of_the_how_to_count_show_and_call() -> None:
    """The metric is counted, its panel and its alert are in the catalogue."""
    text = (ROOT / "docs/how-to/add-a-business-metric.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    try:
        exec(compile(code, "add-a-business-metric.md", "exec"), {})

        assert PROCESS.snapshot()["shop_orders_placed_total"]["sets"]
        assert CATALOGUE.panels["Orders"].board == "business"
        assert CATALOGUE.alerts["NoOrders"].urgency == "page"
    finally:
        CATALOGUE._metrics.pop("shop_orders_placed_total", None)
        CATALOGUE._panels.pop("Orders", None)
        CATALOGUE._alerts.pop("NoOrders", None)
