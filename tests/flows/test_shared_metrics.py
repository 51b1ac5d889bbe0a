"""Several workers of a server that is not ours: whichever is asked tells of all, the dead too."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from serve.launch import PATIENCE_SECONDS, counted

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

APPS = Path(__file__).parent / "apps"
TOKEN = "a-scrape-token-of-32-characters-x"


@contextmanager
def uvicorn(directory: Path, *arguments: str) -> Iterator[httpx.Client]:
    """Run the application under uvicorn; a client that makes a connection for each request."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd, port = listener.fileno(), listener.getsockname()[1]
        environ = {
            **os.environ,
            "SHIPWORTHY_METRICS__PATH": "/metrics",
            "SHIPWORTHY_METRICS__SHARED_DIRECTORY": str(directory / "counts"),
            "SHIPWORTHY_METRICS__TOKEN": TOKEN,
        }
        command = [sys.executable, "-m", "uvicorn", "--app-dir", str(APPS), "counted:app"]
        process = subprocess.Popen(
            [*command, "--fd", str(fd), "--log-level", "warning", *arguments],
            cwd=directory,
            env=environ,
            stdout=subprocess.DEVNULL,
            pass_fds=[fd],
            start_new_session=True,
        )
    headers = {"Authorization": f"Bearer {TOKEN}", "Connection": "close"}
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=PATIENCE_SECONDS
        ) as client:
            yield client
        process.terminate()
        process.wait(PATIENCE_SECONDS)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def _answered(client: httpx.Client, seen: dict[int, int], *, by: int) -> None:
    """Ask until so many processes have answered."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while len(seen) < by:
        assert time.monotonic() < give_up, f"only {seen} answered"
        pid = int(client.get("/pid").text)
        seen[pid] = seen.get(pid, 0) + 1


def _sales(client: httpx.Client) -> float:
    (line,) = [
        line
        for line in client.get("/metrics").text.splitlines()
        if line.startswith("shop_sales_total ")
    ]
    return float(line.split()[1])


def _until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def test_every_worker_tells_of_all_and_of_the_dead(tmp_path: Path) -> None:
    """Two workers; one is killed and replaced, and all are replaced by another run: no scrape
    shows a part, and no counter goes backwards."""
    seen: dict[int, int] = {}
    with uvicorn(tmp_path, "--workers", "2") as client:
        _answered(client, seen, by=2)
        shown = {counted(client.get("/metrics").text) for _ in range(20)}
        assert shown == {float(sum(seen.values()))}
        # What the application counts with `prometheus_client` is written down every ten seconds, or
        # when its own worker is asked.
        _until(lambda: _sales(client) == float(sum(seen.values())))
        assert client.get("/metrics", headers={"Authorization": "Bearer x"}).status_code == 401
        assert (
            client.get("/metrics", headers={"Accept": "application/openmetrics-text"}).text[-6:]
            == "# EOF\n"
        )

        killed = next(iter(seen))
        os.kill(killed, signal.SIGKILL)
        _answered(client, seen, by=3)
        shown = {counted(client.get("/metrics").text) for _ in range(20)}
        assert shown == {float(sum(seen.values()))}
        text = client.get("/metrics").text
        (line,) = [row for row in text.splitlines() if row.startswith("process_open_fds ")]
        assert float(line.split()[1]) > 10  # of both that live
    with uvicorn(tmp_path) as client:
        _answered(client, seen, by=4)
        assert counted(client.get("/metrics").text) == float(sum(seen.values()))
        assert len(list((tmp_path / "counts").glob("*.cells"))) == 1


def test_without_a_lifespan_it_is_refused_and_not_shown_in_part(tmp_path: Path) -> None:
    """Such a server gives no worker a beginning."""
    with uvicorn(tmp_path, "--lifespan", "off") as client:
        _answered(client, {}, by=1)
        answer = client.get("/metrics")
        assert (answer.status_code, answer.text) == (
            503,
            "this server runs no lifespan, so its workers do not count together\n",
        )
