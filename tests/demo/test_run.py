"""`shipworthy demo` from outside: it starts, says where, serves, and leaves nothing behind."""

import json
import os
import re
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any, TypeVar

import pytest

from shipworthy import demo
from shipworthy.demo.prepare import STATE
from shipworthy.demo.run import Traffic, _environment, has_display, open_browser, welcome
from shipworthy.demo.traffic import MARK
from shipworthy.serve import ReadyFacts

Seen = TypeVar("Seen")
# A start takes two; a loaded machine needs its time to import what the demo is made of.
START_SECONDS = 50
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
    alone = welcome(FACTS, database="", traffic_pid=None)
    assert "traffic     none" in alone
    assert "how many requests" in said
    assert "how many requests" not in alone
    assert "break it" not in said


def test_the_welcome_says_how_to_replace_the_workers_and_break_the_database():
    """One line for each, to be copied as it stands, and where one sees what it does."""
    said = welcome(FACTS, database="", traffic_pid=None, action="break-database")

    assert (
        "  replace     curl -X POST -H "
        '"Authorization: Bearer t0k" http://127.0.0.1:9000/api/restart\n' in said
    )
    assert "http://127.0.0.1:9000/health\nsays how far it is" in said
    assert (
        "  break it    curl -X POST -H "
        '"Authorization: Bearer t0k" http://127.0.0.1:9000/api/actions/break-database\n' in said
    )


def test_the_welcome_says_how_to_delete_a_client_and_put_it_back():
    """Three lines to be copied as they stand, but for the number; none where nothing is kept."""
    said = welcome(FACTS, database="", traffic_pid=None, recorded=True)

    assert "  delete      curl -X DELETE -H 'X-User: ana' http://127.0.0.1:8000/clients/1\n" in said
    assert (
        '  look        curl -H "Authorization: Bearer t0k" http://127.0.0.1:9000/api/trash?limit=3'
        in said
    )
    assert "http://127.0.0.1:9000/api/trash/ID/restore\n" in said
    assert "/api/trash" not in welcome(FACTS, database="", traffic_pid=None)


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
    assert traffic.stop() == ""


def test_traffic_that_does_not_listen_is_ended_all_the_same(monkeypatch: pytest.MonkeyPatch):
    """A process that is stopped takes no SIGTERM; the demo does not wait for it for long."""
    monkeypatch.setattr(MODULE, "TRAFFIC_STOP_SECONDS", 0.05)
    traffic = Traffic()
    pid = traffic.start("http://127.0.0.1:1")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)

    said = traffic.stop()

    assert not Path(f"/proc/{pid}").exists()
    assert said == "traffic: it had to be ended, and its count is lost\n"
    assert traffic.stop() == ""


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
@pytest.mark.timeout(120)
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
    last = (tmp_path / "out").read_text().splitlines()[-1]

    assert ready == "ok\n"
    assert len(page["items"]) == 20
    assert "GET /health:responseTime" in health["checks"]
    assert served >= 5
    assert alive
    assert code == 0
    assert not Path(f"/proc/{running.traffic}").exists()
    assert re.match(r"traffic: [1-9]\d* requests, 0 failed(;|$)", last)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_client_is_deleted_and_put_back(tmp_path: Path):
    """The story of the welcome, while there is traffic; it is told on each server further below."""
    with demonstration(tmp_path) as running:
        tell_of_a_deletion(running)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_its_workers_are_replaced_while_it_serves(tmp_path: Path):
    """Two new ones in the end; neither the traffic nor several writers at once see a failure."""
    with demonstration(tmp_path) as running, ThreadPoolExecutor(2) as writers:
        before = until(lambda: serving(running), lambda pids: len(pids) == 2, seconds=START_SECONDS)
        over = threading.Event()

        def keep_writing() -> list[int]:
            codes = []
            while not over.wait(0.01):
                codes.append(write(running)[0])
            return codes

        written = [writers.submit(keep_writing) for _ in range(2)]
        try:
            answer = exchange(f"{running.operations}/api/restart", "POST", token=running.token)
            replaced = until(
                lambda: replaced_of(running), lambda pids: len(pids) == 2, seconds=START_SECONDS
            )
            after = serving(running)
        finally:
            over.set()
        codes = [code for future in written for code in future.result()]
        running.process.send_signal(signal.SIGINT)
        running.process.wait(30)
    last = (tmp_path / "out").read_text().splitlines()[-1]

    assert answer[0] == 202
    assert len(before) == len(after) == 2
    assert replaced == before
    assert after.isdisjoint(before)
    assert set(codes) == {201}
    assert re.match(r"traffic: [1-9]\d* requests, 0 failed(;|$)", last)


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


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_locked_file_keeps_changes_waiting_and_is_free_again(tmp_path: Path):
    """Started over the API: reads go on, a change is told to come again, and it ends by itself."""
    with demonstration(tmp_path) as running:
        before = write(running)
        started = act(running, "POST", seconds=8)
        changed = until(lambda: write(running), lambda answer: answer[0] != 201)
        read = status(f"{running.service}/projects?size=1")
        over = until(lambda: not action(running)["running"], bool, seconds=20)
        after = until(lambda: write(running)[0], lambda code: code == 201)
        running.process.send_signal(signal.SIGINT)
        code = running.process.wait(30)

    assert before[0] == 201
    assert started["running"]
    assert changed[0] in {409, 503, 504}
    assert changed[0] == 504 or int(changed[1]["retry-after"]) >= 1
    assert read == 200
    assert over
    assert after == 201
    assert code == 0


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_ctrl_c_while_the_file_is_locked_leaves_nobody_and_no_lock(tmp_path: Path):
    """The process that holds the lock ends with the demo, before its time."""
    with demonstration(tmp_path) as running:
        act(running, "POST", seconds=120)
        holder = until(lambda: lock_holders(tmp_path), bool)
        running.process.send_signal(signal.SIGINT)
        code = running.process.wait(30)
        left = until(lambda: lock_holders(tmp_path), lambda found: not found)

    with closing(sqlite3.connect(tmp_path / STATE / "demo.sqlite3", timeout=0)) as file:
        file.execute("BEGIN IMMEDIATE")
    assert len(holder) == 1
    assert left == []
    assert code == 0


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_a_broken_server_is_answered_for_and_comes_back(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
):
    """503 or 504 with Retry-After, an open breaker, not ready; and then all is as before.

    Before it, since a start takes its time: what was deleted there is put back.
    """
    database = plain(request.getfixturevalue(f"{kind}_url"))
    with demonstration(tmp_path, database=database) as running:
        until(lambda: status(f"{running.operations}/readyz"), lambda code: code == 200)
        tell_of_a_deletion(running)
        act(running, "POST", seconds=12)
        seen, opened, unready = set(), False, False
        while action(running)["running"]:
            code, headers, _ = exchange(f"{running.service}/projects?size=1")
            seen.add((code, "retry-after" in headers))
            opened |= "open" in {breaker["state"] for breaker in breakers(running)}
            unready |= status(f"{running.operations}/readyz") == 503
        well = until(
            lambda: status(f"{running.service}/projects?size=1"), lambda c: c == 200, seconds=20
        )

        def states_after_calls() -> set[str]:
            # The breaker of each worker and engine closes by calls, and the traffic has one
            # connection only: a route for each engine, over connections of their own.
            for path in ("/projects?size=1", "/summary"):
                status(f"{running.service}{path}")
            return {breaker["state"] for breaker in breakers(running)}

        closed = until(
            states_after_calls,
            lambda states: states == {"closed"},
            seconds=20,
        )
        ready = until(
            lambda: status(f"{running.operations}/readyz"), lambda c: c == 200, seconds=20
        )

    assert (503, True) in seen
    assert seen <= {(200, False), (503, True), (504, True)}
    assert opened
    assert unready
    assert (well, closed, ready) == (200, {"closed"}, 200)


@dataclass(frozen=True)
class Running:
    """A demo that said where it is."""

    process: subprocess.Popen[str]
    service: str
    operations: str
    traffic: int
    token: str


@contextmanager
def demonstration(directory: Path, *, database: str | None = None) -> Iterator[Running]:
    """Start the demo on free ports in `directory`, and end it however the block ends."""
    with (directory / "out").open("w+") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", program(port=0, ops_port=0)],
            cwd=directory,
            env=os.environ | ({"DATABASE_URL": database} if database else {}),
            stdout=out,
            text=True,
        )
        try:
            give_up = time.monotonic() + START_SECONDS
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
                found(r"token +(\S+)", said),
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
        r"^http_server_request_duration_seconds_count\{.*\} (\S+)$",
        get(f"{running.operations}/metrics"),
        re.MULTILINE,
    )
    return sum(map(float, counted))


def until(look: Callable[[], Seen], enough: Callable[[Seen], bool], *, seconds: float = 10) -> Seen:
    """Look again until it is enough, for `seconds` at most, and return what was seen last."""
    give_up = time.monotonic() + seconds
    while not enough(seen := look()) and time.monotonic() < give_up:
        time.sleep(0.05)
    return seen


def found(pattern: str, text: str) -> str:
    """Return the first group of the first match."""
    match = re.search(pattern, text)
    assert match is not None, text
    return match[1]


def serving(running: Running) -> set[int]:
    """Return the processes that serve."""
    _, _, said = exchange(f"{running.operations}/api/status", token=running.token)
    workers = json.loads(said)["service"]["workers"]
    return {worker["pid"] for worker in workers if worker["phase"] == "ready"}


def replaced_of(running: Running) -> set[int]:
    """Return the processes that gave way to others, by the notes of `/health`."""
    notes = json.loads(get(f"{running.operations}/health"))["notes"]
    return {int(pid) for pid in re.findall(r"worker (\d+) ended .*, replaced: ", "\n".join(notes))}


def act(running: Running, method: str, *, seconds: float) -> dict[str, Any]:
    """Start the action, or stop it, and return how it stands."""
    url = f"{running.operations}/api/actions/break-database"
    _, _, said = exchange(url, method, {"seconds": seconds}, token=running.token)
    return json.loads(said)


def action(running: Running) -> dict[str, Any]:
    """Return how the one action stands."""
    _, _, said = exchange(f"{running.operations}/api/actions", token=running.token)
    return json.loads(said)["actions"][0]


def breakers(running: Running) -> list[dict[str, Any]]:
    """Return how the breakers stand."""
    _, _, said = exchange(f"{running.operations}/api/breakers", token=running.token)
    return json.loads(said)["breakers"]


def tell_of_a_deletion(running: Running) -> None:
    """Delete a client as `ana` and put it back as `ben`: what went, by whom, and all of it back."""
    client = f"{running.service}/clients/1"
    before = tree_of(running, 1)
    gone = exchange(client, "DELETE", headers={"X-User": "ana"})[0]
    missing = exchange(client)[0]
    trash = asked(running, "trash?limit=20")
    (deletion,) = [one for one in trash["deletions"] if one["actor"] == "ana"]
    restored = exchange(
        f"{running.operations}/api/trash/{deletion['id']}/restore",
        "POST",
        {"by": "ben"},
        token=running.token,
    )
    after = tree_of(running, 1)
    trail = asked(running, "audit/entries?table=clients&limit=2")

    assert (gone, missing, restored[0]) == (204, 404, 200)
    assert deletion["tables"]["clients"] == 1
    assert set(deletion["tables"]) == {"clients", "projects", "epics", "tasks", "task_labels"}
    assert json.loads(restored[2])["rows"] == deletion["rows"]
    assert after == before
    assert [(one["op"], one["actor"]) for one in trail["entries"]] == [
        ("insert", "ben"),
        ("delete", "ana"),
    ]


def asked(running: Running, what: str) -> dict[str, Any]:
    """Return what the operations port answers to a question."""
    return json.loads(exchange(f"{running.operations}/api/{what}", token=running.token)[2])


def tree_of(running: Running, client: int) -> list[Any]:
    """Return a client, its projects and their tasks, but for those that the traffic plays with."""
    found = [json.loads(get(f"{running.service}/clients/{client}"))]
    for project in json.loads(get(f"{running.service}/projects?size=100&client_id={client}"))[
        "items"
    ]:
        if not project["name"].startswith(MARK):
            found.append(json.loads(get(f"{running.service}/projects/{project['id']}")))
            found.append(get(f"{running.service}/projects/{project['id']}/export"))
    return found


def write(running: Running) -> tuple[int, Message]:
    """Create a label of an unused name; status and headers of the answer."""
    body = {"name": secrets.token_hex(4), "colour": "#123456"}
    return exchange(f"{running.service}/labels", "POST", body)[:2]


def status(url: str) -> int:
    """Return the status of an answer."""
    return exchange(url)[0]


def exchange(
    url: str,
    method: str = "GET",
    body: object = None,
    *,
    token: str = "",
    headers: Mapping[str, str] | None = None,
) -> tuple[int, Message, bytes]:
    """Return status, headers and body of an answer, whatever it is."""
    request = urllib.request.Request(url, method=method, headers=dict(headers or {}))
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.status, refused.headers, refused.read()


def lock_holders(directory: Path) -> list[str]:
    """Return the processes that hold the lock of the database in `directory`."""
    found = []
    for listing in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = listing.read_bytes().split(b"\0")
            if b"shipworthy.demo.lock" in words and str(directory).encode() in b" ".join(words):
                found.append(listing.parent.name)
    return found


def plain(url: str) -> str:
    """Return a URL as people write it, without a driver."""
    scheme, rest = url.split("://", 1)
    return f"{scheme.partition('+')[0]}://{rest}"


def get(url: str) -> str:
    """Read a page, whatever its status."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.read().decode()
