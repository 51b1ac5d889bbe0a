"""What an application declares is drawn and watched by `run`, with no server beside it."""

from pathlib import Path

import httpx
import pytest

from alert_sinks import webhook_sink
from serve.launch import TOKEN, brisk, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

APP = f"{Path(__file__).parent / 'apps' / 'watched.py'}:app"
QUICK = """
[history]
every = "1s"
[alerts]
every = "1s"
wait = "0s"
"""


def test_a_sale_is_in_a_chart_and_an_alert_at_a_webhook(tmp_path: Path) -> None:
    """Through two workers, pipes, the evaluator and real sockets; declared in the application."""
    with (
        webhook_sink() as sink,
        started(
            APP,
            "--workers",
            "2",
            directory=tmp_path,
            settings=brisk() + QUICK,
            environ={"SHIPWORTHY_ALERTS__WEBHOOK": f"http://127.0.0.1:{sink.port}/"},
        ) as service,
    ):
        service.until_ready()

        def ask(path: str) -> dict:
            answer = httpx.get(
                f"{service.operations}{path}",
                headers={"Authorization": f"Bearer {TOKEN}"},
                timeout=20,
            )
            return answer.json()

        service.until(lambda: "Sold" in [panel["title"] for panel in ask("/api/panels")["panels"]])
        for _ in range(3):
            httpx.post(f"{service.url}/sell/pen", timeout=20).raise_for_status()
        told = sink.received.get(timeout=60)
        assert told["alerts"][0]["labels"]["alertname"] == "SoldMany"
        assert told["alerts"][0]["annotations"]["summary"] == "3 of pen were sold"
        (alert,) = [one for one in ask("/api/alerts")["alerts"] if one["name"] == "SoldMany"]
        assert (alert["state"], alert["labels"]) == ("firing", {"what": "pen"})
        chart = ask("/api/series?panel=Sold&since=1m&points=20")
        assert "pen" in [line["name"] for line in chart["lines"]]
        total = ask("/api/series?metric=shop_sold_total&show=value&since=30s&points=10")
        assert total["lines"][0]["values"][-1] == 3.0
        service.until(lambda: service.events("telemetry.alert_fired"))
        assert "shipworthy_history_round_seconds_count" in service.metrics()
