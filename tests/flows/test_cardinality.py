"""Whatever a client sends, it becomes no label that was not declared, and nothing that stays."""

import asyncio
from pathlib import Path

import pytest

from flows.cardinality import METRICS, ROUTES, ask, attack, service, strangers, suffered
from shipworthy import harden
from shipworthy.settings import load
from shipworthy.web.request_metrics import EXCEPTIONS

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]
# The whole attack, 100,000 in process and 10,000 over sockets, is evidence/cardinality.py.
REQUESTS = 3_000


def hardened(tmp_path: Path):
    said = {"SHIPWORTHY_WEB__ACCESS_LOG": "false"}
    return harden(service(), settings=load(environ=said, directory=tmp_path))


def test_ever_new_requests_make_no_ever_new_series(tmp_path, caplog):
    """Every label is a declared value, every route a template, and all had been seen early."""
    caplog.set_level("CRITICAL")

    left = asyncio.run(suffered(hardened(tmp_path), REQUESTS, warm_count=REQUESTS))

    assert left["strangers"] == []
    sets = left["label_sets"]
    # 8 methods, as many templates as there are, and the five statuses each can have.
    assert sets["http_server_request_duration_seconds"] <= 8 * len(ROUTES) * 5
    assert sets["http_server_response_body_size_bytes"] <= len(ROUTES)
    # A class for each request is the application's own doing; there is an end to it all the same.
    assert sets.pop(EXCEPTIONS.name) <= 1000
    del left["label_sets_warm"][EXCEPTIONS.name]
    assert sum(sets.values()) <= sum(left["label_sets_warm"].values()) + 10


def test_a_label_that_is_a_path_would_be_found(tmp_path):
    """The attack is one: where a path becomes a label, there are as many as requests."""
    app = hardened(tmp_path)
    requests = list(attack(20, seed=3))
    assert len({sent.path for sent in requests}) == 20

    async def all_of_them():
        for sent in requests:
            await ask(app, sent)

    asyncio.run(all_of_them())
    snapshot = app.registry.snapshot()
    assert strangers(snapshot) == []
    name = "http_server_request_duration_seconds"
    snapshot[name]["sets"].append((["GET", requests[0].path, "200"], [0.0]))
    snapshot[name]["sets"].append((["BREW", "_unmatched", "200"], [0.0]))

    assert strangers(snapshot) == [
        f"{name}: http_route={requests[0].path!r}",
        f"{name}: http_request_method='BREW'",
    ]


def test_every_template_of_the_service_is_met_by_the_attack(tmp_path, caplog):
    """What is never asked for proves nothing."""
    caplog.set_level("CRITICAL")
    app = hardened(tmp_path)

    async def all_of_them():
        for sent in attack(300, seed=4):
            await ask(app, sent)

    asyncio.run(all_of_them())

    sets = app.registry.snapshot()[next(iter(METRICS))]["sets"]
    assert {labels[1] for labels, _ in sets} == ROUTES
