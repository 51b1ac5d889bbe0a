"""A service at its limits, from the front door: it says so, and goes on (L25, L26)."""

import re
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.launch import BRISK, TOKEN, TRIALS, During, Service, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

LIMIT = 200


def checks(service: Service) -> dict[str, Any]:
    """The checks of `/health`, as an operator sees them."""
    answer = httpx.get(
        f"{service.operations}/health", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=5
    )
    found: dict[str, Any] = answer.json()["checks"]
    return found


def descriptors_open(service: Service) -> int:
    """How many the worker says are open; 0 while it does not say."""
    found = re.match(r"[\d,]+", checks(service)["descriptors:usedRatio"][0].get("output", ""))
    return int(found[0].replace(",", "")) if found else 0


def test_a_blocked_loop_is_named_while_it_stands(tmp_path: Path) -> None:
    """L26: by line, request and route, in the log, on the operations port and in the metrics."""
    with started(TRIALS, directory=tmp_path, settings=BRISK) as service:
        service.until_ready()
        request = During(service, "/block?seconds=1.5")
        service.until(lambda: service.status()["workers"][0]["blocked"])
        said = service.status()["workers"][0]["blocked"]
        warned = checks(service)["worker:heartbeatAge"][0]["output"]
        answer = request.result()
        service.until(lambda: service.events("lifecycle.loop_moves"))
        metrics = service.metrics()
        service.signal()
        service.ended()

    place = r"apps/trials\.py:\d+ in block"
    assert re.fullmatch(
        rf"its event loop has not moved for [01]\.\d s; it stands at .*{place}.*", said
    )
    assert re.search(place, warned)
    (blocked,) = service.events("lifecycle.loop_blocked")
    assert re.search(place, blocked["where"])
    assert blocked["request_id"] == answer.headers["x-request-id"]
    assert blocked["route"] == "/block"
    (moves,) = service.events("lifecycle.loop_moves")
    assert moves["blocked_seconds"] >= 1.5
    counted = re.search(r"^shipworthy_loop_blocked_seconds_total (\S+)$", metrics, re.MULTILINE)
    assert counted
    assert float(counted[1]) >= 1.5
    assert 'shipworthy_loop_lag_seconds_bucket{le="+Inf"}' in metrics


def test_a_service_short_of_descriptors_says_so_and_recovers(tmp_path: Path) -> None:
    """L25: more clients than descriptors: not ready, alive, and ready again when they are gone.

    Where nobody holds clients to a pace: the protocol's guard closes the quiet before that.
    """
    short = ("sh", "-c", f'ulimit -n {LIMIT}; exec "$@"', "sh")
    alone = f'{BRISK}[protocol]\nmode = "off"\n'
    with started(TRIALS, directory=tmp_path, settings=alone, before=short) as service:
        service.until_ready()
        worker = service.worker_pid()
        host, port = service.url.removeprefix("http://").split(":")
        clients = []
        for _ in range(2 * LIMIT):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex((host, int(port)))
            clients.append(client)
            if len(clients) == LIMIT * 9 // 10:
                service.until(
                    lambda: httpx.get(f"{service.operations}/readyz", timeout=5).status_code == 503
                )
        # The count needs a descriptor itself: without any left it must not become "nothing known".
        service.until(lambda: descriptors_open(service) >= LIMIT - 1)
        line = checks(service)["descriptors:usedRatio"][0]
        ready = httpx.get(f"{service.operations}/readyz", timeout=5)
        for client in clients:
            client.close()
        service.until(
            lambda: httpx.get(f"{service.operations}/readyz", timeout=5).status_code == 200
        )
        answer = service.get("/").text
        same = service.worker_pid() == worker
        service.signal()
        code = service.ended()

    assert line["status"] == "fail"
    assert ready.status_code == 503
    assert "file descriptors are open" in ready.text
    assert f"of {LIMIT} file descriptors are open" in line["output"]
    (told,) = [
        event
        for event in service.events("lifecycle.resource_over_budget")
        if event["resource"] == "descriptors"
    ]
    assert told["because"].startswith(f"a worker may open {LIMIT} file descriptors")
    assert answer == "hello"
    assert same
    assert code == 0


def test_quiet_clients_make_room_before_descriptors_run_out(tmp_path: Path) -> None:
    """L25: twice as many as there are descriptors, all of them silent: others are served."""
    short = ("sh", "-c", f'ulimit -n {LIMIT}; exec "$@"', "sh")
    with ExitStack() as stack:
        service = stack.enter_context(
            started(TRIALS, directory=tmp_path, settings=BRISK, before=short)
        ).until_ready()
        host, port = service.url.removeprefix("http://").split(":")
        for _ in range(2 * LIMIT):
            stack.enter_context(socket.create_connection((host, int(port)), timeout=30))
        answer = service.get("/").text
        ready = httpx.get(f"{service.operations}/readyz", timeout=30)
    assert answer == "hello"
    assert ready.status_code == 200


def test_what_the_service_may_use_is_said(tmp_path: Path) -> None:
    """In `/health`, each with its source; the shares are metrics over all processes."""
    with started(TRIALS, directory=tmp_path, settings=BRISK) as service:
        service.until_ready()
        service.until(lambda: "descriptors:usedRatio" in checks(service))
        service.until(lambda: "memory:usedRatio" in checks(service))
        limits = service.status()["limits"]
        metrics = service.metrics()
        service.signal()
        service.ended()

    assert [line.split(":")[0] for line in limits] == [
        "memory",
        "CPUs",
        "file descriptors",
        "processes and threads",
    ]
    for resource in ("memory", "descriptors", "loop_lag", "disk"):
        assert f'shipworthy_resource_level{{resource="{resource}"}} ' in metrics
