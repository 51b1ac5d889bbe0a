"""The traffic: bounded in rate, without a trace in the database, and gone when it should be."""

import http.server
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, create_engine, func, select

from shipworthy.demo import traffic
from shipworthy.demo.models import Model
from shipworthy.demo.traffic import (
    CUT,
    LATE,
    MARK,
    REFUSED,
    Caller,
    Errand,
    Told,
    TrafficCount,
    drive,
    plan_and_cancel,
    sweep,
    visits,
)


@pytest.mark.slow
def test_the_database_stays_as_large_as_it_was(sqlite_client: TestClient, sqlite_url: str):
    """After many visits, writers among them, every table has as many rows as before."""
    before = sizes(sqlite_url)
    asked: Counter[str] = Counter()

    def call(ask: Errand) -> Told:
        asked[ask.method] += 1
        return answer_of(sqlite_client, ask)

    drive(islice(visits(Random(7), lambda: 0.0), 40), call, lambda: False)

    assert sizes(sqlite_url) == before
    assert asked["POST"] > 10
    assert asked["DELETE"] >= 3
    assert asked["PATCH"] > 5
    assert asked["GET"] > 2 * (asked["POST"] + asked["PATCH"] + asked["DELETE"])


@pytest.mark.slow
def test_every_request_of_a_visit_succeeds_on_the_demo(sqlite_client: TestClient):
    """Nothing is asked that the service refuses, but for the page that is not there on purpose."""
    statuses: Counter[int] = Counter()

    def call(ask: Errand) -> Told:
        answer = answer_of(sqlite_client, ask)
        statuses[answer.status] += 1
        return answer

    drive(islice(visits(Random(1), lambda: 0.0), 40), call, lambda: False)

    assert set(statuses) <= {200, 201, 204, 404}
    assert min(statuses[200], statuses[201], statuses[204]) > 0
    assert statuses[404] < 0.05 * statuses.total()


def test_what_an_interrupted_visit_left_is_swept(sqlite_client: TestClient, sqlite_url: str):
    """A visit cut short after its first writes leaves rows; the next sweep takes them."""
    before = sizes(sqlite_url)
    pauses = iter([False] * 5 + [True])
    drive(
        iter([plan_and_cancel(Random(1))]),
        lambda ask: answer_of(sqlite_client, ask),
        lambda: next(pauses),
    )
    left = sizes(sqlite_url)

    drive(iter([sweep()]), lambda ask: answer_of(sqlite_client, ask), lambda: False)

    assert left["projects"] == before["projects"] + 1
    assert left["tasks"] > before["tasks"]
    assert sizes(sqlite_url) == before


def test_a_sweep_takes_only_what_is_ours(sqlite_client: TestClient):
    """A project that merely has the mark inside its name stays."""
    name = f"Not {MARK}anybody"
    made = sqlite_client.post("/clients/1/projects", json={"name": name}).json()["id"]

    drive(iter([sweep()]), lambda ask: answer_of(sqlite_client, ask), lambda: False)

    assert sqlite_client.get(f"/projects/{made}").status_code == 200


def test_sweeps_come_first_and_every_minute():
    """The first visit is a sweep, and then one follows each minute."""
    now = 1000.0
    coming = visits(Random(3), lambda: now)

    names = [next(coming).__name__ for _ in range(30)]
    now += traffic.SWEEP_SECONDS
    names += [next(coming).__name__ for _ in range(30)]

    assert [index for index, name in enumerate(names) if name == "sweep"] == [0, 30]


@pytest.mark.parametrize("answer", [Told(0), Told(500), Told(503), Told(404)])
def test_a_service_in_trouble_ends_a_visit(answer: Told):
    """Whatever goes wrong, a visit ends after few requests and raises nothing."""
    asked = 0

    def call(_: Errand) -> Told:
        nonlocal asked
        asked += 1
        return answer

    drive(islice(visits(Random(5), lambda: 0.0), 50), call, lambda: False)

    assert 50 <= asked <= 200


def test_a_pause_comes_before_every_request(monkeypatch: pytest.MonkeyPatch):
    """However fast the answers come, no request is made without its pause."""
    paused = asked = 0

    def pause() -> bool:
        nonlocal paused
        paused += 1
        return paused > 100

    def call(_: Errand) -> Told:
        nonlocal asked
        asked += 1
        return Told(200, {"items": []})

    drive(visits(Random(2), lambda: 0.0), call, pause)

    assert (paused, asked) == (101, 100)


def test_a_caller_survives_what_it_meets(served: str):
    """No listener, no JSON, a connection that is closed: each is an answer, never an exception."""
    nobody = Caller("http://127.0.0.1:1")(Errand("GET", "/"))
    caller = Caller(served)

    answers = [
        caller(ask)
        for ask in (
            Errand("GET", "/text"),
            Errand("GET", "/broken"),
            Errand("GET", "/json"),
            Errand("POST", "/json", {"a": 1}),
        )
    ]

    caller.close()
    assert nobody == Told(0, lost=REFUSED)
    listed = Told(200, {"items": []})
    assert answers == [Told(200), Told(0, lost=CUT), listed, listed]


def test_a_caller_waits_for_an_answer_for_so_long(monkeypatch: pytest.MonkeyPatch):
    """Somebody who accepts and stays silent is told from one who cuts."""
    monkeypatch.setattr(traffic, "TIMEOUT_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        caller = Caller(f"http://127.0.0.1:{silent.getsockname()[1]}")

        assert caller(Errand("GET", "/")) == Told(0, lost=LATE)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ([], "0 requests, 0 failed"),
        ([Told(200), Told(201), Told(204), Told(404)], "4 requests, 0 failed"),
        ([Told(200)] * 1234, "1,234 requests, 0 failed"),
        (
            [Told(500), Told(503), Told(503)],
            "3 requests, 3 failed (1 answered 500, 2 answered 503)",
        ),
        ([Told(409), Told(0, lost=CUT)], "2 requests, 2 failed (1 answered 409, 1 cut off)"),
        ([Told(0, lost=LATE), Told(200)], "2 requests, 1 failed (1 no answer in 10 s)"),
        ([Told(0, lost=REFUSED), Told(200)], "2 requests, 1 failed (1 refused)"),
        (
            [Told(200), Told(0, lost=REFUSED), Told(0, lost=CUT), Told(0, lost=REFUSED)],
            "3 requests, 2 failed (1 cut off, 1 refused); 1 more found nobody there any more",
        ),
    ],
)
def test_what_failed_is_counted_by_its_kind(told: list[Told], said: str):
    """Refusals count as soon as anything follows them; only those at the end are the end's."""
    count = TrafficCount()
    for one in told:
        count.add(one)

    assert count.sentence() == f"traffic: {said}"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(served: str, number: signal.Signals):
    """It ends by itself, with success, within the time of a request, and says what it counted."""
    process = subprocess.Popen(
        [sys.executable, "-m", "shipworthy.demo.traffic", served],
        stdout=subprocess.PIPE,
        text=True,
    )
    Served.asked.wait(20)

    process.send_signal(number)

    said, _ = process.communicate(timeout=5)
    assert process.returncode == 0
    assert re.fullmatch(r"traffic: [1-9]\d* requests, 0 failed\n", said)


@pytest.mark.slow
def test_it_ends_where_nobody_reads_its_count(served: str):
    """A closed pipe at its end is no failure of it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "shipworthy.demo.traffic", served],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    Served.asked.wait(20)

    process.terminate()

    assert process.wait(5) == 0
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.slow
def test_it_ends_when_its_parent_is_gone(served: str):
    """Traffic whose demo was killed does not go on."""
    code = (
        "import subprocess, sys, os\n"
        f"p = subprocess.Popen([sys.executable, '-m', 'shipworthy.demo.traffic', {served!r}, "
        "'--parent', str(os.getpid())])\n"
        "print(p.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    orphan = int(parent.stdout.readline())
    Served.asked.wait(20)
    running = alive(orphan)

    parent.kill()
    parent.communicate()

    give_up = time.monotonic() + 5
    while alive(orphan) and time.monotonic() < give_up:
        time.sleep(0.02)
    assert running
    assert not alive(orphan)


class Served(http.server.BaseHTTPRequestHandler):
    """Answers JSON, text, or nothing."""

    asked = threading.Event()
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.asked.set()
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/broken":
            self.close_connection = True
            return
        body = b"hello" if self.path == "/text" else b'{"items": []}'
        kind = "text/plain" if self.path == "/text" else "application/json"
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_):
        """Keep quiet."""


@pytest.fixture
def served() -> Iterator[str]:
    """The URL of a server that answers everything."""
    Served.asked.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Served)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def answer_of(client: TestClient, ask: Errand) -> Told:
    """Ask the service in this process."""
    response = client.request(ask.method, ask.path, json=ask.body)
    kind = response.headers.get("content-type") if response.content else None
    return Told(response.status_code, response.json() if kind == "application/json" else None)


def sizes(url: str) -> dict[str, int]:
    """Return how many rows each table has."""
    engine: Engine = create_engine(url)
    with engine.connect() as connection:
        found = {
            table.name: connection.scalar(select(func.count()).select_from(table)) or 0
            for table in Model.metadata.sorted_tables
        }
    engine.dispose()
    return found


def alive(pid: int) -> bool:
    """Is there a process of this id that is not merely waiting to be reaped?"""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
