"""`shipworthy demo` from outside: it starts, says where, serves, and leaves nothing behind."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from shipworthy import demo
from shipworthy.demo.run import Traffic, _environment, has_display, open_browser, welcome
from shipworthy.serve import ReadyFacts

Seen = TypeVar("Seen")
# `demo.run` is the function; the module of that name is found here.
MODULE = sys.modules["shipworthy.demo.run"]
FACTS = ReadyFacts(
    url="http://127.0.0.1:8000", operations_url="http://127.0.0.1:9000", token="t0k", pid=12
)


def test_the_welcome_says_where_everything_is():
    """Address, API page, operations port, its token, the database, and the traffic."""
    said = welcome(FACTS, database="demo.sqlite3 (6 clients)", traffic_pid=34)

    for part in (
        "http://127.0.0.1:8000\n",
        "http://127.0.0.1:8000/docs",
        "http://127.0.0.1:9000\n",
        "t0k",
        "demo.sqlite3 (6 clients)",
        "process 34",
        "Ctrl-C",
    ):
        assert part in said
    assert "traffic     none" in welcome(FACTS, database="", traffic_pid=None)


@pytest.mark.parametrize(
    ("environ", "platform", "seen"),
    [
        ({}, "linux", False),
        ({"DISPLAY": ""}, "linux", False),
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({}, "darwin", True),
    ],
)
def test_a_browser_needs_a_display(environ: dict[str, str], platform: str, *, seen: bool):
    """Over ssh and in a container nobody would see it."""
    assert has_display(environ, platform) is seen


def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Without what `[demo]` brings, one sentence says how to get it, and the code is 3."""
    monkeypatch.setattr(MODULE, "NEEDED", ("json", "no_such_module"))

    code = demo.run(browser=False)

    assert code == 3
    assert capsys.readouterr().err == (
        "shipworthy: the demo needs no_such_module, which is not installed: "
        "pip install 'shipworthy[demo]'\n"
    )


def test_an_unusable_database_is_said_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """The sentence is on standard error, the code is 3, and the option wins over the variable."""
    monkeypatch.setenv("DATABASE_URL", "sqlite:///would-be-fine.sqlite3")

    code = demo.run(database="oracle://a:secret@b/c", browser=False)

    said = capsys.readouterr()
    assert code == 3
    assert said.err.startswith("shipworthy: the demo has no drivers for the database")
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_traffic_needs_plain_http():
    """A demo behind TLS is served without traffic."""
    traffic = Traffic()

    assert traffic.start("https://127.0.0.1:1") is None
    traffic.stop()


def test_traffic_is_ended_by_its_id():
    """It runs from start to stop; a second stop does nothing."""
    traffic = Traffic()

    pid = traffic.start("http://127.0.0.1:1")
    traffic.stop()
    traffic.stop()

    assert pid is not None
    assert not Path(f"/proc/{pid}").exists()


def test_traffic_that_does_not_listen_is_ended_all_the_same(monkeypatch: pytest.MonkeyPatch):
    """A process that is stopped takes no SIGTERM; the demo does not wait for it for long."""
    monkeypatch.setattr(MODULE, "TRAFFIC_STOP_SECONDS", 0.05)
    traffic = Traffic()
    pid = traffic.start("http://127.0.0.1:1")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)

    traffic.stop()

    assert not Path(f"/proc/{pid}").exists()


def test_the_browser_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    """A browser that returns only when it is closed holds nothing up."""
    opened: list[str] = []
    called, closed = threading.Event(), threading.Event()

    def browse(url: str) -> None:
        opened.append(url)
        called.set()
        closed.wait(10)

    monkeypatch.setattr("webbrowser.open", browse)

    open_browser("http://127.0.0.1:8000/docs")

    assert called.wait(10)
    closed.set()
    assert opened == ["http://127.0.0.1:8000/docs"]


def test_ctrl_c_before_the_service_starts_is_clean(monkeypatch: pytest.MonkeyPatch):
    """Somebody who changes their mind during the preparation gets no traceback."""

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("shipworthy.demo.prepare.prepare", interrupted)

    assert demo.run(browser=False) == 0


@pytest.mark.parametrize("before", [None, "postgresql://mine/own"])
def test_the_environment_is_put_back(before: str | None, monkeypatch: pytest.MonkeyPatch):
    """The service's processes see the demo's database; afterwards the variable is as it was."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    if before is not None:
        monkeypatch.setenv("DATABASE_URL", before)

    with _environment("DATABASE_URL", "sqlite:///demo"):
        inside = os.environ["DATABASE_URL"]

    assert inside == "sqlite:///demo"
    assert os.environ.get("DATABASE_URL") == before


@pytest.mark.slow
def test_the_whole_demo(tmp_path: Path):
    """It starts on free ports, is ready by its own health route, has traffic, and ends clean."""
    with demonstration(tmp_path) as running:
        ready = until(lambda: get(f"{running.operations}/readyz"), lambda said: said == "ok\n")
        page = json.loads(get(f"{running.service}/projects?size=20"))
        health = json.loads(get(f"{running.operations}/health"))
        served = until(lambda: requests(running), lambda count: count >= 5)
        alive = Path(f"/proc/{running.traffic}").exists()

        running.process.send_signal(signal.SIGINT)
        code = running.process.wait(30)

    assert ready == "ok\n"
    assert len(page["items"]) == 20
    assert "GET /health:responseTime" in health["checks"]
    assert served >= 5
    assert alive
    assert code == 0
    assert not Path(f"/proc/{running.traffic}").exists()


@pytest.mark.slow
@pytest.mark.parametrize("option", ["port", "ops_port"])
def test_a_port_that_is_taken(tmp_path: Path, option: str):
    """The sentence names the address and the option; the code is 3; nothing stays."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        ports = {"port": 0, "ops_port": 0} | {option: number}

        done = subprocess.run(
            [sys.executable, "-c", program(**ports)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    assert done.returncode == 3
    assert done.stderr.startswith(f"shipworthy: 127.0.0.1:{number} is in use by another process")
    assert done.stderr.count("\n") == 1


@dataclass(frozen=True)
class Running:
    """A demo that said where it is."""

    process: subprocess.Popen[str]
    service: str
    operations: str
    traffic: int


@contextmanager
def demonstration(directory: Path) -> Iterator[Running]:
    """Start the demo on free ports in `directory`, and end it however the block ends."""
    with (directory / "out").open("w+") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", program(port=0, ops_port=0)],
            cwd=directory,
            stdout=out,
            text=True,
        )
        try:
            give_up = time.monotonic() + 30
            said = ""
            while "Ctrl-C stops it" not in said:
                assert process.poll() is None, "the demo ended by itself"
                assert time.monotonic() < give_up, f"the demo did not become ready: {said}"
                time.sleep(0.05)
                said = (directory / "out").read_text()
            yield Running(
                process,
                found(r"service +(\S+)", said),
                found(r"operations +(\S+)", said),
                int(found(r"traffic .* process (\d+)", said)),
            )
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def program(*, port: int, ops_port: int) -> str:
    """What `shipworthy demo` runs."""
    return (
        "import sys\nfrom shipworthy import demo\n"
        f"sys.exit(demo.run(port={port}, ops_port={ops_port}, browser=False))"
    )


def requests(running: Running) -> float:
    """Return how many requests the service counted."""
    counted = re.findall(
        r"^shipworthy_web_requests_total\{.*\} (\S+)$",
        get(f"{running.operations}/metrics"),
        re.MULTILINE,
    )
    return sum(map(float, counted))


def until(look: Callable[[], Seen], enough: Callable[[Seen], bool]) -> Seen:
    """Look again until it is enough, for 10 s at most, and return what was seen last."""
    give_up = time.monotonic() + 10
    while not enough(seen := look()) and time.monotonic() < give_up:
        time.sleep(0.05)
    return seen


def found(pattern: str, text: str) -> str:
    """Return the first group of the first match."""
    match = re.search(pattern, text)
    assert match is not None, text
    return match[1]


def get(url: str) -> str:
    """Read a page, whatever its status."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.read().decode()
