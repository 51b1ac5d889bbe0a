"""Rate limits from the front door: an application nobody changed, and a file that changes."""

from collections import Counter
from pathlib import Path

import httpx
import pytest

from serve.launch import BRISK, PATIENCE_SECONDS, TRIALS, brisk, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

SHOP = """
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

async def item(request):
    return PlainTextResponse(request.path_params["id"])

async def login(request):
    return PlainTextResponse("no", status_code=401)

app = Starlette(routes=[Route("/items/{id}", item), Route("/login", login, methods=["POST"])])
"""
LIMITS = """
[limits]
mode = "enforce"
[limits.policies.default]
rate = "%d/hour"
burst = %d
[limits.policies.login]
match = ["POST /login"]
algorithm = "exact"
rate = "3/15m"
count = "failures"
"""


def answers(client: httpx.Client, url: str, number: int) -> Counter[int]:
    """Ask so many times, each on a connection of its own, so that both workers are met."""
    return Counter(
        client.get(f"{url}/items/{index}", headers={"connection": "close"}).status_code
        for index in range(number)
    )


def test_limits_hold_are_explained_and_change_without_a_restart(tmp_path: Path) -> None:
    """In each of two workers; a broken file keeps the limits of before and says so."""
    (tmp_path / "shop.py").write_text(SHOP)
    settings = tmp_path / "shipworthy.toml"
    base = brisk() + "[serve]\nworkers = 2\n"
    settings.write_text(base + LIMITS % (5, 5))
    with (
        started("shop:app", directory=tmp_path) as service,
        httpx.Client(timeout=PATIENCE_SECONDS) as client,
    ):
        service.until_ready()
        found = answers(client, service.url, 60)
        # Memory is each worker for itself, which `limits explain` says too.
        assert found[200] <= 10
        assert found[429] == 60 - found[200] >= 50
        refused = client.get(f"{service.url}/items/1")
        while refused.status_code != 429:
            refused = client.get(f"{service.url}/items/1")
        assert refused.json()["type"] == "urn:shipworthy:problem:limitreached"
        assert int(refused.headers["retry-after"]) > 600
        assert refused.headers["ratelimit-policy"] == '"default";q=5;w=3600'
        assert client.get(f"{service.url}/livez").status_code == 200
        assert client.get(f"{service.operations}/livez").status_code == 200
        metrics = client.get(f"{service.operations}/metrics").text
        assert 'shipworthy_blocked_total{guard="limits",rule="default",mode="enforce"}' in metrics
        assert "shipworthy_limits_keys" in metrics
        workers = service.serving()

        settings.write_text(base + "[limits\n")
        service.until(lambda: len(service.events("admission.limits_kept")) >= 2)
        assert answers(client, service.url, 10)[200] == 0

        settings.write_text(base + LIMITS % (100_000, 1_000))
        service.until(lambda: len(service.events("admission.limits_changed")) >= 2)
        assert answers(client, service.url, 40) == {200: 40}
        assert service.serving() == workers

        guesses = Counter(
            client.post(f"{service.url}/login", headers={"connection": "close"}).status_code
            for _ in range(20)
        )
        assert guesses[401] <= 6
        assert guesses[429] >= 14


def test_workers_count_alone_where_no_folder_can_be_made_for_them(tmp_path):
    """As they do their metrics, and both serve: a limit is not worth the start."""
    (tmp_path / "taken").write_text("a file, where the folder was to be")
    settings = f'{BRISK}[metrics]\nrun_directory = "{tmp_path / "taken"}"\n'
    with started(TRIALS, "--workers", "2", directory=tmp_path, settings=settings) as service:
        service.until_ready()
        answer = service.get("/").text
        service.signal()
        code = service.ended()
    assert (answer, code) == ("hello", 0)
