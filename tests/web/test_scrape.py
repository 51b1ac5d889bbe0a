"""Who asks the application's port for the metrics of all workers, and what is answered."""

import shutil
from pathlib import Path

import pytest

from shipworthy.clock import SYSTEM_CLOCK
from shipworthy.events import Metric
from shipworthy.telemetry import Registry, SharedCounts
from shipworthy.web import Correlation, Line, Problems, Scrape

pytestmark = pytest.mark.anyio

ASKED = Metric("t_asked_total", "counter", "Asked.")
SIGNED = [(b"authorization", b"Bearer t0ken")]


async def _app(scope, receive, send):
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": b"tea"})


class Setup:
    def __init__(self, directory: Path, *, elsewhere: bool = False):
        registry = Registry()
        registry.counter(ASKED).cell().add(7.0)
        self.scrape = Scrape(
            SharedCounts(directory / "counts", registry),
            path="/metrics",
            token="t0ken",
            elsewhere=lambda: elsewhere,
        )
        self.line = Line(
            _app,
            (Correlation(), self.scrape),
            answers=Problems(mode="enforce", development=False, leaving=lambda: False),
            route_of=lambda scope: "",
            now=SYSTEM_CLOCK.now,
        )


async def test_who_has_the_token_gets_the_metrics(ask, tmp_path):
    """In the form the scraper likes; nobody else, and no other path or method."""
    setup = Setup(tmp_path)
    await setup.scrape.start()
    told = await ask(setup.line, "/metrics", headers=SIGNED)
    assert (told.status, told.one(b"cache-control")) == (200, b"no-store")
    assert b"\nt_asked_total 7.0\n" in told.body or b"\nt_asked_total 7\n" in told.body
    opened = [*SIGNED, (b"accept", b"application/openmetrics-text")]
    assert (await ask(setup.line, "/metrics", headers=opened)).body.endswith(b"# EOF\n")
    head = await ask(setup.line, "/metrics", method="HEAD", headers=SIGNED)
    assert (head.status, head.body) == (200, b"")
    for headers in ([], [(b"authorization", b"Bearer t0ke")], [(b"authorization", b"t0ken")]):
        told = await ask(setup.line, "/metrics", headers=headers)
        assert (told.status, told.one(b"www-authenticate")) == (401, b"Bearer")
        assert b"t_asked" not in told.body
    for path, method in (("/metrics/", "GET"), ("/metrics", "POST"), ("/", "GET")):
        assert (await ask(setup.line, path, method=method, headers=SIGNED)).status == 418
    await setup.scrape.stop()


async def test_what_cannot_be_told_whole_is_not_told(ask, tmp_path):
    """Before the start, and where the directory is gone."""
    setup = Setup(tmp_path)
    told = await ask(setup.line, "/metrics", headers=SIGNED)
    assert (told.status, b"no lifespan" in told.body) == (503, True)
    await setup.scrape.start()
    shutil.rmtree(tmp_path / "counts")
    told = await ask(setup.line, "/metrics", headers=SIGNED)
    assert (told.status, b"cannot be read" in told.body) == (503, True)
    await setup.scrape.stop()


async def test_under_a_supervisor_of_ours_the_path_is_the_applications(ask, tmp_path):
    """The operations port has all of it."""
    assert (await ask(Setup(tmp_path, elsewhere=True).line, "/metrics")).status == 418
