"""What the supervisor keeps up whatever the worker does."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from launch import (
    PATIENCE_SECONDS,
    TOKEN,
    TRIALS,
    Diary,
    During,
    Run,
    Service,
    brisk,
    counted,
    started,
)

from shipworthy.serve import judge

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

# What a loaded machine may add to a wait that is bounded; far less than the bound.
LATENESS_SECONDS = 0.5
BOTH = ["draining", "ready"]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for tests that may end its workers and leave it ready with one; exit 0."""
    directory = tmp_path_factory.mktemp("kept")
    with started(TRIALS, directory=directory, settings=brisk(grace="40s", drain="30s")) as service:
        yield service.until_ready()
        service.signal()
        code = service.ended()

    assert code == 0


@pytest.mark.parametrize(
    ("path", "began"),
    [("/block?seconds=30", "block began"), ("/gil", "gil began"), ("/thread?seconds=30", "thread")],
    ids=["loop blocked", "GIL held by C", "thread pool full"],
)
def test_the_operations_port_answers_within_a_second_whatever_the_app_does(
    run: Run, diary: Diary, path: str, began: str
) -> None:
    """No probe queues behind users; a silent worker is found not ready, with the reason."""
    with run() as service:
        service.until_ready()
        waiting = [During(service, path) for _ in range(45 if "thread" in path else 1)]
        service.until(lambda: any(line.startswith(began) for line in diary()))
        if "thread" not in path:
            service.until(
                lambda: httpx.get(f"{service.operations}/readyz").status_code == 503, seconds=5
            )
        took, codes = {}, {}
        for probe in ("/livez", "/readyz", "/health", "/metrics", "/api/status"):
            start = time.monotonic()
            answer = httpx.get(
                service.operations + probe,
                headers={"Authorization": f"Bearer {TOKEN}"},
                timeout=5,
            )
            took[probe], codes[probe] = time.monotonic() - start, answer.status_code
        worker = service.status()["workers"][0]
        os.kill(service.worker_pid(), signal.SIGKILL)
        del waiting

    assert max(took.values()) < 1.0 + LATENESS_SECONDS, took
    assert codes["/livez"] == 200
    assert codes["/metrics"] == 200
    if "thread" not in path:
        assert codes["/readyz"] == 503
        assert "its event loop has not moved for" in worker["blocked"]


def test_the_operations_port_answers_while_the_worker_is_stopped(kept: Service) -> None:
    """SIGSTOP is what a debugger or a frozen container does; nobody is killed for it (L31)."""
    kept.get("/")
    before = httpx.get(f"{kept.operations}/metrics").text
    pid = kept.worker_pid()
    os.kill(pid, signal.SIGSTOP)
    kept.until(lambda: kept.status()["workers"][0]["blocked"] != "", seconds=5)
    start = time.monotonic()
    during = httpx.get(f"{kept.operations}/metrics").text
    took = time.monotonic() - start
    os.kill(pid, signal.SIGCONT)
    kept.until(lambda: httpx.get(f"{kept.operations}/readyz").status_code == 200)

    assert took < 1.0 + LATENESS_SECONDS
    assert counted(during) >= counted(before) >= 1
    assert kept.worker_pid() == pid


def test_a_killed_worker_is_replaced_and_no_counter_goes_backwards(kept: Service) -> None:
    """The socket is the supervisor's, so clients in the meantime wait in the kernel (L19)."""
    for _ in range(3):
        kept.get("/")
    before = counted(httpx.get(f"{kept.operations}/metrics").text)
    old = kept.worker_pid()
    os.kill(old, signal.SIGKILL)
    meanwhile = kept.get("/")
    after = counted(httpx.get(f"{kept.operations}/metrics").text)

    assert meanwhile.text == "hello"
    assert kept.worker_pid() != old
    assert after >= before >= 3
    kept.until(lambda: any(line.get("event") == "serve.worker_lost" for line in kept.lines()))


def test_a_worker_that_is_told_to_stop_by_somebody_else_is_followed_at_once(kept: Service) -> None:
    """Its last request is finished while the next worker serves on the same socket already."""
    held = During(kept, "/held")
    kept.until(lambda: "held began" in kept.diary())
    old = kept.worker_pid()
    os.kill(old, signal.SIGTERM)
    kept.until(lambda: [w["phase"] for w in kept.status()["workers"]] == BOTH)
    answer = kept.get("/")
    (kept.directory / "release").write_text("")
    first = held.result()
    kept.until(lambda: len(kept.status()["workers"]) == 1)

    assert (first.text, answer.text) == ("held", "hello")
    assert kept.worker_pid() != old


def test_sighup_brings_a_new_worker_and_loses_nobody(kept: Service) -> None:
    """Without a terminal it asks for a new worker; the old one finishes what it began."""
    slow = During(kept, "/slow?seconds=1")
    kept.until(lambda: "slow began" in kept.diary())
    old = kept.worker_pid()
    kept.signal(signal.SIGHUP)
    kept.until(lambda: kept.worker_pid() != old)
    answer = kept.get("/")
    kept.until(lambda: len(kept.status()["workers"]) == 1)

    assert (slow.result().text, answer.text) == ("slow", "hello")


def test_metrics_are_answered_in_the_first_second_of_a_blocked_loop(kept: Service) -> None:
    """The worker is asked, does not answer, and its last counts stand in."""
    kept.get("/")
    before = counted(httpx.get(f"{kept.operations}/metrics").text)
    blocked = During(kept, "/block?seconds=2.5")
    kept.until(lambda: "block began" in kept.diary())
    start = time.monotonic()
    metrics = httpx.get(f"{kept.operations}/metrics", timeout=5)
    took = time.monotonic() - start
    requests = httpx.get(
        f"{kept.operations}/api/requests",
        headers={"Authorization": f"Bearer {TOKEN}"},
        timeout=5,
    )
    blocked.result()

    assert (metrics.status_code, requests.status_code) == (200, 200)
    assert counted(metrics.text) >= before >= 1
    assert took < 1.0 + LATENESS_SECONDS


def test_a_worker_that_cannot_be_started_again_ends_the_service(run: Run, tmp_path: Path) -> None:
    """The release folder is gone: tried again, then given up with the reason."""
    release = tmp_path / "release"
    release.mkdir()
    (release / "shop.py").write_text("from fastapi import FastAPI\napp = FastAPI()\n")
    with started("shop:app", directory=release) as service:
        service.until_ready()
        worker = service.worker_pid()
        release.rename(tmp_path / "gone")
        os.kill(worker, signal.SIGKILL)
        code = service.ended()

    assert code == 78
    assert "no worker process could be started" in service.err


def test_settings_that_broke_meanwhile_are_the_reason_a_new_worker_gives(
    run: Run, tmp_path: Path
) -> None:
    """They are read anew by each worker; the sentence has the place."""
    with run() as service:
        service.until_ready()
        (tmp_path / "shipworthy.toml").write_text("[serve]\nprot = 1\n")
        os.kill(service.worker_pid(), signal.SIGKILL)
        code = service.ended()

    assert code == 78
    assert "serve.prot: no such setting" in service.err
    assert "Traceback" not in service.err


def test_it_serves_and_leaves_when_nobody_reads_what_it_says(tmp_path: Path) -> None:
    """Closed standard streams are no reason to fall silent or to write into a socket."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("", 0)) as two:
        port, ops_port = one.getsockname()[1], two.getsockname()[1]
    shell = f"exec {sys.executable} -m shipworthy run {TRIALS} --port {port} --ops-port {ops_port}"
    process = subprocess.Popen(
        ["sh", "-c", f"{shell} 0<&- 1>&- 2>&-"], cwd=tmp_path, start_new_session=True
    )
    give_up = time.monotonic() + PATIENCE_SECONDS
    ready = 0
    while ready != 200 and time.monotonic() < give_up:
        with suppress(httpx.HTTPError):
            ready = httpx.get(f"http://127.0.0.1:{ops_port}/readyz").status_code
        time.sleep(0.05)
    time.sleep(3 * judge.STALE_SECONDS / 2)
    later = httpx.get(f"http://127.0.0.1:{ops_port}/readyz").status_code
    answer = httpx.get(f"http://127.0.0.1:{port}/").text
    process.terminate()
    code = process.wait(PATIENCE_SECONDS)

    assert (ready, later, answer) == (200, 200, "hello")
    assert code == 0


def test_a_crash_loop_ends_the_service_with_its_reason(run: Run) -> None:
    """Five ends within a minute: a person must look (L20)."""
    with run() as service:
        service.until_ready()

        def crash() -> bool:
            with suppress(httpx.HTTPError):
                service.get("/exits")
            return service.process.poll() is not None

        service.until(crash, seconds=30)

    assert service.ended() == 78
    assert "ended 5 times within 60 s" in service.err
    assert "exited with code 9" in service.err


def test_the_apps_own_health_route_joins_readiness(run: Run, tmp_path: Path) -> None:
    """`lifecycle.ready_route`: when the app says no, so do both ports."""
    (tmp_path / "shop.py").write_text(
        "import pathlib\nfrom fastapi import FastAPI, Response\napp = FastAPI()\n"
        "@app.get('/healthz')\ndef healthz(response: Response):\n"
        "    if pathlib.Path('ill').exists():\n        response.status_code = 503\n"
        "    return {}\n"
    )
    settings = brisk(ready_route="/healthz", check_interval="100ms")
    with run("shop:app", settings=settings) as service:
        service.until_ready()
        service.until(lambda: httpx.get(f"{service.operations}/readyz").status_code == 200)
        (tmp_path / "ill").write_text("")
        service.until(lambda: httpx.get(f"{service.operations}/readyz").status_code == 503)
        service.until(lambda: service.get("/readyz").status_code == 503)
        (tmp_path / "ill").unlink()
        service.until(lambda: httpx.get(f"{service.operations}/readyz").status_code == 200)
