"""How a worker starts and leaves: real signals, in the identifiers of research L01 to L34."""

import asyncio
import fcntl
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from launch import (
    BRISK,
    PATIENCE_SECONDS,
    TOKEN,
    TRIALS,
    Diary,
    During,
    Run,
    Service,
    alive,
    brisk,
    started,
)
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from shipworthy import harden
from shipworthy.assembly import NO_PROTOCOL_GUARD
from shipworthy.events import listen
from shipworthy.lifecycle import Phase, commit_fence, start_background
from shipworthy.serve.channel import Channel
from shipworthy.serve.supervision import Word
from shipworthy.serve.worker import (
    CONNECTIONS_LEAST,
    RequestsCancelled,
    Worker,
    _connections_max,
    _Looks,
)
from shipworthy.settings import load

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

# What a loaded machine may add to a bound that other processes keep.
LATENESS_SECONDS = 2.5


def test_what_is_in_flight_at_sigterm_finishes_and_says_goodbye(run: Run, diary: Diary) -> None:
    """L01, L02, L04, L06: all that was begun ends before the app's shutdown.

    A websocket is told to come back (1012), a slow reader gets all of its answer though its last
    byte is still with us when the drain begins.
    """
    with run(settings=brisk(grace="15s", drain="8s")) as service:
        service.until_ready()
        slow = During(service, "/slow?seconds=1")
        stream = During(service, "/stream?parts=10")
        service.get("/background")
        service.until(lambda: {"slow began", "stream began", "background began"} <= set(diary()))
        with (
            service.raw() as reader,
            connect(service.url.replace("http", "ws") + "/socket", proxy=None) as websocket,
        ):
            websocket.send("hi")
            echo = websocket.recv(PATIENCE_SECONDS)
            reader.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            head = reader.recv(4096)
            service.signal()
            with pytest.raises(ConnectionClosed) as closed:
                websocket.recv(PATIENCE_SECONDS)
            service.until(lambda: service.status()["phase"] == "draining")
            size = len(head.partition(b"\r\n\r\n")[2])
            while part := reader.recv(2**20):
                size += len(part)
        code = service.ended()

    assert (slow.result().text, slow.result().headers["connection"]) == ("slow", "close")
    assert stream.result().text == "".join(f"{number}\n" for number in range(10))
    assert echo == "hi"
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    assert size == 20_000_000
    assert code == 0
    assert diary()[-1] == "stop"
    assert {"background ended", "slow ended", "socket ended"} <= set(diary())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "systemd"])
def test_a_signal_to_the_whole_group_is_one_drain(run: Run, diary: Diary, number: int) -> None:
    """A terminal and a control group signal supervisor and worker at once; nothing is cut."""
    with run() as service:
        service.until_ready()
        slow = During(service, "/slow?seconds=1")
        service.until(lambda: "slow began" in diary())
        os.killpg(service.process.pid, number)
        code = service.ended()

    assert slow.result().text == "slow"
    assert diary()[-2:] == ["slow ended", "stop"]
    assert code == 0


def test_ctrl_c_means_to_a_worker_what_its_supervisor_says(run: Run) -> None:
    """It reaches the whole group, and under a supervisor that is told otherwise nothing begins."""
    with run() as service:
        service.until_ready()
        os.kill(service.worker_pid(), signal.SIGINT)
        ready = [service.get("/readyz").status_code for _ in range(20)]
        service.signal()
        code = service.ended()

    assert set(ready) == {200}
    assert code == 0


def test_readiness_fails_at_once_and_the_lame_duck_still_answers(run: Run) -> None:
    """The balancer has its time to notice; each answer says `Connection: close` (L17)."""
    with run(settings=brisk(lame_duck="3s")) as service:
        service.until_ready()
        before = [httpx.get(f"{base}/readyz") for base in (service.url, service.operations)]
        service.signal()
        service.until(
            lambda: httpx.get(f"{service.operations}/readyz").status_code == 503, seconds=2
        )
        ready = service.get("/readyz")
        live = httpx.get(f"{service.operations}/livez")
        answer = service.get("/")
        code = service.ended()

    assert [probe.status_code for probe in before] == [200, 200]
    assert ready.status_code == 503
    assert live.status_code == 200
    assert (answer.text, answer.headers["connection"]) == ("hello", "close")
    assert code == 0


def test_a_client_that_keeps_its_connection_loses_nothing(run: Run) -> None:
    """The idle connection is answered once more instead of being cut (L14, L15, L16)."""
    with run(settings=brisk(idle_grace="2s")) as service:
        service.until_ready()
        with httpx.Client(base_url=service.url) as client:
            client.get("/")
            service.signal()
            service.until(lambda: service.status()["phase"] == "draining")
            last = client.get("/")
        code = service.ended()

    assert (last.text, last.headers["connection"]) == ("hello", "close")
    assert code == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_second_signal_cancels_what_is_left_and_still_stops_in_order(
    run: Run, diary: Diary, second: signal.Signals
) -> None:
    """The client gets a 503 that says when to come back; the app's shutdown runs (L08)."""
    with run() as service:
        service.until_ready()
        slow = During(service, "/slow?seconds=30")
        service.until(lambda: "slow began" in diary())
        service.signal()
        service.until(lambda: service.status()["phase"] == "draining")
        service.signal(second)
        code = service.ended()

    assert slow.result().status_code == 503
    assert "retry-after" in slow.result().headers
    assert slow.result().headers["content-type"] == "application/problem+json"
    assert diary()[-2:] == ["slow cancelled", "stop"]
    assert code == 0
    assert "/slow" in str([line for line in service.lines() if "cancelled" in str(line)])


def test_a_third_sigterm_leaves_at_once_with_the_stacks(run: Run, diary: Diary) -> None:
    """Exit 70 at once; every stack is on standard error, and who held it in the report (L08)."""
    with run(settings=brisk(grace="60s", drain="20s", cancel="20s")) as service:
        service.until_ready()
        During(service, "/swallow")
        service.until(lambda: "swallow began" in diary())
        service.signal()
        service.until(lambda: service.status()["phase"] == "draining")
        service.signal()
        service.until(lambda: "swallow swallowed" in diary())
        began = time.monotonic()
        service.signal()
        code = service.ended()
        took = time.monotonic() - began

    assert code == 70
    assert took < 2 + LATENESS_SECONDS
    assert "Thread 0x" in service.err or "Current thread" in service.err
    assert "had to be ended by force" in service.err
    assert re.search(r"left behind: GET /swallow, .*trials.py:\d+ in swallow", service.err)
    (line,) = [line for line in service.lines() if line.get("event") == "serve.drained_in_part"]
    assert line["forced"] is True
    assert "left behind: GET /swallow" in str(line["held_by"])


def test_a_client_that_left_is_counted_though_the_application_never_hears_of_it(
    run: Run, diary: Diary
) -> None:
    """Most handlers listen for nothing; what they send then goes nowhere, and raises nothing."""
    with run() as service:
        service.until_ready()
        with service.raw() as client:
            client.sendall(b"GET /slow?seconds=0.5 HTTP/1.1\r\nHost: x\r\n\r\n")
            service.until(lambda: "slow began" in diary())
        service.until(lambda: "slow ended" in diary())
        left = re.compile(r"^shipworthy_http_client_disconnects_total{.*} 1$", re.MULTILINE)
        service.until(lambda: left.search(service.metrics()))
        service.signal()
        assert service.ended() == 0


def test_a_replaced_worker_that_leaves_work_behind_was_forced(run: Run, diary: Diary) -> None:
    """It ends by itself, with code 70; nobody had to strike it, and yet it was not ready to go."""
    with run() as service:
        service.until_ready()
        During(service, "/swallow")
        service.until(lambda: "swallow began" in diary())
        service.command("restart")
        service.until(lambda: service.status()["ended"])
        assert service.status()["ended"][0]["end"] == "forced"
        assert 'worker_ends_total{reason="forced"} 1\n' in service.metrics()
        service.signal()
        service.ended()


def test_a_handler_that_swallows_cancellation_does_not_hold_the_exit(
    run: Run, diary: Diary
) -> None:
    """Cancelled, left behind and named; the shutdown still runs, and 70 says so (L11).

    Its client is told to come back, and does not wait for a connection that ends without a word.
    """
    with run() as service:
        service.until_ready()
        swallow = During(service, "/swallow")
        service.until(lambda: "swallow began" in diary())
        began = time.monotonic()
        service.signal()
        code = service.ended()
        took = time.monotonic() - began

    assert took < 5 + LATENESS_SECONDS
    assert code == 70
    assert "stop" in diary()
    assert "/swallow" in service.out
    assert swallow.result().status_code == 503
    assert swallow.result().headers["retry-after"] == "1"
    assert swallow.result().headers["connection"] == "close"
    (line,) = [line for line in service.lines() if line.get("event") == "serve.drained_in_part"]
    (left,) = [text for text in line["held_by"] if text.startswith("left behind")]
    assert "GET /swallow" in left
    assert "trials.py" in left
    assert "in swallow" in left


def test_a_killed_supervisor_takes_its_worker_along(run: Run, diary: Diary) -> None:
    """L21: the worker notices and leaves in order; no orphan keeps the port."""
    with run() as service:
        service.until_ready()
        worker = service.worker_pid()
        slow = During(service, "/slow?seconds=1")
        service.until(lambda: "slow began" in diary())
        service.process.kill()
        service.until(lambda: not alive(worker))
        with pytest.raises(httpx.ConnectError):
            service.get("/")
        service.ended()

    assert slow.result().text == "slow"
    assert diary()[-2:] == ["slow ended", "stop"]


@pytest.mark.parametrize("hang", ["START_SECONDS", "IMPORT"])
def test_sigterm_during_start_up_ends_it_within_its_bound(
    run: Run, diary: Diary, tmp_path: Path, hang: str
) -> None:
    """Whether the lifespan hangs or the import does: gone in time, not with code 0 (L09)."""
    (tmp_path / "slow_import.py").write_text(
        "import pathlib, time\npathlib.Path('diary.txt').write_text('start')\ntime.sleep(60)\n"
    )
    target = "slow_import:app" if hang == "IMPORT" else TRIALS
    with run(target, settings=brisk(grace="5s"), START_SECONDS="60") as service:
        service.until(lambda: diary() == ["start"])
        began = time.monotonic()
        service.signal()
        code = service.ended()
        took = time.monotonic() - began

    assert code == 3
    assert took < 5 + LATENESS_SECONDS
    assert "told to stop before it was ready" in service.err


def test_a_start_up_that_hangs_is_given_up_with_its_number(run: Run) -> None:
    """The setting that bounds it is kept."""
    with run(settings=brisk(start="2s"), START_SECONDS="60") as service:
        code = service.ended()

    assert code == 3
    assert "component 'application' did not start" in service.err
    assert "2.0 s" in service.err


def test_a_shutdown_that_hangs_is_left_behind(run: Run, diary: Diary) -> None:
    """Bounded by `lifecycle.stop`; the rest is still stopped (L10)."""
    with run(STOP_SECONDS="60") as service:
        service.until_ready()
        began = time.monotonic()
        service.signal()
        code = service.ended()
        took = time.monotonic() - began

    assert took < 5 + LATENESS_SECONDS
    assert code == 70
    assert diary()[-1] == "stop"


def test_a_flask_app_is_served_through_threads_and_drained(run: Run, tmp_path: Path) -> None:
    """WSGI is found by itself; the ids reach the handler's thread.

    The API drains as the first SIGTERM does.
    """
    (tmp_path / "shop.py").write_text(
        "import time\nfrom flask import Flask\nfrom shipworthy.context import current_request\n"
        "app = Flask(__name__)\n"
        "@app.get('/')\ndef home():\n    return current_request().request_id\n"
        "@app.get('/slow')\ndef slow():\n"
        "    open('diary.txt', 'w').write('began')\n    time.sleep(1)\n    return 'slow'\n"
    )
    with run("shop:app") as service:
        service.until_ready()
        answer = service.get("/")
        slow = During(service, "/slow")
        service.until(lambda: (tmp_path / "diary.txt").exists())
        httpx.post(f"{service.operations}/api/drain", headers={"Authorization": f"Bearer {TOKEN}"})
        code = service.ended()

    assert answer.text == answer.headers["x-request-id"]
    assert slow.result().text == "slow"
    assert code == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_new_connection_for_each_request_loses_none_at_the_end(run: Run, workers: str) -> None:
    """Every client is answered whole or refused; none is reset (promise 7)."""

    async def client(address: tuple[str, int], seen: dict[str, int]) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_connection(*address)
            except ConnectionRefusedError:
                seen["refused"] += 1
                return
            try:
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                await reader.readuntil(b"hello")
                seen["answered"] += 1
            except (ConnectionError, asyncio.IncompleteReadError):
                seen["lost"] += 1
                return
            finally:
                writer.close()

    async def clients(service: Service) -> dict[str, int]:
        host, port = service.url.removeprefix("http://").split(":")
        seen = {"answered": 0, "refused": 0, "lost": 0}
        working = [asyncio.create_task(client((host, int(port)), seen)) for _ in range(40)]
        while seen["answered"] < 400:
            await asyncio.sleep(0.01)
        service.signal()
        await asyncio.wait(working, timeout=PATIENCE_SECONDS)
        return seen

    # A client that is slow to speak for longer than `idle_grace` may be cut; this loop is busy.
    settings = brisk(drain="5s", idle_grace="1s")
    with run(TRIALS, "--workers", workers, settings=settings) as service:
        service.until_ready()
        service.until(lambda: len(service.serving()) == int(workers))
        seen = asyncio.run(clients(service))
        code = service.ended()

    assert seen["answered"] >= 400
    assert (seen["lost"], seen["refused"]) == (0, 40)
    assert code == 0


def test_a_drain_that_was_asked_for_beforehand_is_not_cut_short_by_the_first_sigterm(
    run: Run, diary: Diary
) -> None:
    """A preStop hook asks the API, with the token, then the platform signals."""
    with run() as service:
        service.until_ready()
        slow = During(service, "/slow?seconds=1")
        service.until(lambda: "slow began" in diary())
        refused = httpx.post(f"{service.operations}/api/drain")
        phase = service.status()["phase"]
        httpx.post(f"{service.operations}/api/drain", headers={"Authorization": f"Bearer {TOKEN}"})
        service.until(lambda: service.status()["phase"] == "draining")
        service.signal()
        code = service.ended()

    assert (refused.status_code, phase) == (401, "ready")
    assert slow.result().text == "slow"
    assert code == 0


def test_the_app_gets_the_flags_of_python_and_its_programs_none_of_our_sockets(
    tmp_path: Path,
) -> None:
    """`python -O -X dev -m shipworthy run` is meant for the app.

    Its programs may outlive the service, and the port must be free then.
    """
    (tmp_path / "shop.py").write_text(
        "import os, subprocess, sys\nfrom fastapi import FastAPI\napp = FastAPI()\n"
        'code = \'import os; print([os.readlink(f) for f in map("/proc/self/fd/{}".format, '
        "range(3, 50)) if os.path.exists(f)])'\n"
        "held = subprocess.run([sys.executable, '-c', code], close_fds=False, "
        "capture_output=True, text=True).stdout\n"
        "@app.get('/')\ndef home():\n"
        "    return [sys.flags.optimize, sys.flags.dev_mode, held]\n"
    )
    with started("shop:app", directory=tmp_path, flags=("-O", "-X", "dev")) as service:
        service.until_ready()
        optimize, dev_mode, held = service.get("/").json()

    assert (optimize, dev_mode) == (1, True)
    assert held.startswith("[")
    assert "socket:" not in held


def test_as_the_first_process_of_a_container_it_hears_sigterm_and_buries_orphans(
    tmp_path: Path,
) -> None:
    """PID 1 inherits what nobody waits for (L22), and the kernel gives it no default signals."""
    (tmp_path / "shop.py").write_text(
        "import os, pathlib, subprocess\nfrom fastapi import FastAPI\napp = FastAPI()\n"
        "@app.get('/orphan')\ndef orphan():\n"
        "    subprocess.run(['sh', '-c', 'sleep 0.1 & exit 0'])\n"
        "@app.get('/zombies')\ndef zombies():\n"
        "    stats = [p.read_text() for p in pathlib.Path('/proc').glob('[0-9]*/stat')]\n"
        "    return sum(') Z ' in stat for stat in stats)\n"
    )
    first = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    with started("shop:app", directory=tmp_path, before=first) as service:
        service.until_ready()
        for _ in range(5):
            service.get("/orphan")
        time.sleep(0.2)
        service.until(lambda: service.get("/zombies").json() == 0)
        (inner,) = (
            Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children")
            .read_text()
            .split()
        )
        os.kill(int(inner), signal.SIGTERM)
        code = service.ended()

    assert code == 0


def test_a_generator_that_nobody_ended_runs_its_finally(run: Run, diary: Diary) -> None:
    """As under `asyncio.run`: the process ends without the collection that would have found it."""
    with run() as service:
        service.until_ready()
        assert service.get("/kept").text == "kept"
        service.signal()
        code = service.ended()

    assert code == 0
    assert "generator ended" in diary()


def test_event_streams_and_websockets_are_sent_on_one_after_the_other(
    run: Run, diary: Diary
) -> None:
    """L03, L04: each stream ends with its end, between two events; each websocket with 1012.

    They do not hold the drain, and their clients do not come back all at once.
    """
    count = 12
    ended: list[tuple[float, bytes]] = []
    closed: list[tuple[float, int]] = []

    def stream(service: Service) -> None:
        with service.raw() as client:
            client.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
            told = b""
            while part := client.recv(4096):
                told += part
            ended.append((time.monotonic(), told))

    def websocket(service: Service) -> None:
        with connect(service.url.replace("http", "ws") + "/socket", proxy=None) as client:
            client.send("hi")
            client.recv(PATIENCE_SECONDS)
            opened.append(1)
            with pytest.raises(ConnectionClosed) as met:
                client.recv(PATIENCE_SECONDS)
            closed.append((time.monotonic(), met.value.rcvd.code if met.value.rcvd else 0))

    opened: list[int] = []
    with run(settings=brisk(grace="30s", drain="20s")) as service:
        service.until_ready()
        clients = [
            threading.Thread(target=client, args=(service,))
            for client in (stream, websocket)
            for _ in range(count)
        ]
        for client in clients:
            client.start()
        service.until(lambda: diary().count("events began") == count == len(opened))
        began = time.monotonic()
        service.signal()
        code = service.ended()
        took = time.monotonic() - began
        for client in clients:
            client.join(PATIENCE_SECONDS)

    assert code == 0
    assert took < 5 + LATENESS_SECONDS
    assert len(ended) == count
    for _, told in ended:
        assert told.endswith(b"data: x\n\n\r\n0\r\n\r\n")
    assert diary().count("events ended") == count
    assert [status for _, status in closed] == [1012] * count
    assert diary().count("socket ended") == count
    for seen in (ended, closed):
        assert max(seen)[0] - min(seen)[0] > 0.5 * 0.01 * count


def test_background_work_ends_before_the_application_stops(run: Run, diary: Diary) -> None:
    """L06: the drain waits for it; what has a time of its own is cancelled when that is over."""
    with run(settings=brisk(grace="20s", drain="15s")) as service:
        service.until_ready()
        service.get("/job?late=1")
        service.until(lambda: {"job began", "late job began"} <= set(diary()))
        service.signal()
        code = service.ended()

    assert code == 0
    assert diary()[-3:] == ["job ended", "late job cancelled", "stop"]
    (line,) = [line for line in service.lines() if line.get("event") == "serve.drained"]
    assert "background work 'late job'" in str(line["held_by"])
    assert "trials.py" in str(line["held_by"])


def test_a_commit_is_not_cancelled_and_one_that_does_not_end_is_named(
    run: Run, diary: Diary
) -> None:
    """L07: within the time to cancel it ends and its request is cancelled then; beyond, 70."""
    with run(settings=brisk(drain="300ms", cancel="1500ms")) as service:
        service.until_ready()
        short, long = During(service, "/commit?seconds=1"), During(service, "/commit?seconds=60")
        service.until(lambda: diary().count("commit began") == 2)
        service.signal()
        code = service.ended()

    assert code == 70
    assert diary() == [
        "start",
        "commit began",
        "commit began",
        "commit ended",
        "commit cancelled",
        "stop",
    ]
    assert [short.result().status_code, long.result().status_code] == [503, 503]
    (line,) = [line for line in service.lines() if line.get("event") == "serve.drained_in_part"]
    request_id = long.result().headers["x-request-id"]
    assert f"left behind: a COMMIT of request {request_id}" in str(line["held_by"])


@pytest.mark.parametrize("path", ["/thread", "/executor"])
def test_a_thread_that_goes_on_is_named_and_its_client_told(
    run: Run, diary: Diary, path: str
) -> None:
    """L13: nobody can cancel it; the exit has its bound all the same.

    Also where it is of `run_in_executor`, which the end of the interpreter would wait for.
    """
    with run(settings=brisk(drain="300ms", stop="1s")) as service:
        service.until_ready()
        thread = During(service, f"{path}?seconds=60")
        service.until(lambda: "thread began" in diary())
        began = time.monotonic()
        service.signal()
        code = service.ended()
        took = time.monotonic() - began

    assert code == 70
    assert took < 5 + LATENESS_SECONDS
    assert thread.result().status_code == 503
    assert thread.result().headers["connection"] == "close"
    assert "retry-after" in thread.result().headers
    assert re.search(r"thread '.*' was still running .* at .*trials.py:\d+ in thread", service.err)
    (line,) = [line for line in service.lines() if str(line.get("event")).startswith("serve.drain")]
    for said in ("draining, .* waited for thread", "running: thread"):
        assert re.search(rf"{said} '.*', at .*trials.py:\d+ in thread", "\n".join(line["held_by"]))


def test_a_client_that_is_slow_to_ask_is_served_and_one_that_never_ends_is_not_waited_for(
    run: Run,
) -> None:
    """L05, L16, L18: an upload and a late first byte are answered; half a head is cut.

    An upload that does not end is told to come back when the time is over.
    """

    def answer(client: socket.socket) -> bytes:
        told = b""
        while part := client.recv(4096):
            told += part
        return told

    post = b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\n"
    # A first byte may come within `idle_grace`, which is long here: the machine may be busy.
    with run(settings=brisk(grace="20s", drain="4s", idle_grace="3s")) as service:
        service.until_ready()
        with ExitStack() as open_:
            slow, endless, late, half = [open_.enter_context(service.raw()) for _ in range(4)]
            slow.sendall(post)
            endless.sendall(post + b"1")
            half.sendall(b"GET / HTTP/1.1\r\nX: ")
            service.until(lambda: service.status()["workers"][-1]["in_flight"] == 2)
            service.signal()
            service.until(lambda: service.status()["phase"] == "draining")
            for byte in (b"1", b"2", b"3", b"4", b"5", b"6"):
                slow.sendall(byte)
                time.sleep(0.05)
            late.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            told = [answer(client) for client in (slow, late, half, endless)]
        code = service.ended()

    assert told[0].startswith(b"HTTP/1.1 200")
    assert told[0].endswith(b'{"bytes":6}')
    assert told[1].endswith(b"hello")
    assert told[2] == b""
    assert told[3].startswith(b"HTTP/1.1 503")
    for said in (told[0], told[1], told[3]):
        assert b"connection: close" in said.lower()
    assert code == 0


def test_a_reader_of_the_log_that_has_stopped_does_not_hold_the_end(tmp_path: Path) -> None:
    """L28, L34: lines are written last and for a bounded time; that some are lost is no failure."""
    (tmp_path / "shipworthy.toml").write_text(brisk())
    unread, stdout = os.pipe()
    fcntl.fcntl(stdout, fcntl.F_SETPIPE_SZ, 4096)
    process = subprocess.Popen(
        [sys.executable, "-m", "shipworthy", "run", TRIALS, "--port", "0", "--ops-port", "0"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    os.close(stdout)
    try:
        assert process.stderr is not None
        found = None
        while found is None:
            found = re.search(r"the app answers at (\S+)", process.stderr.readline())
        with httpx.Client(base_url=found[1], timeout=PATIENCE_SECONDS) as client:
            for _ in range(60):  # 4 KiB are the lines of some 15
                client.get("/")
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=PATIENCE_SECONDS)
        took = time.monotonic() - began
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        os.close(unread)

    assert process.returncode == 0, told
    assert took < 5 + LATENESS_SECONDS


class Here:
    """A worker in the loop of the test, told over its pipe as a supervisor does."""

    def __init__(self, worker: Worker, sock: socket.socket, channel: Channel) -> None:
        self.hardened = worker._hardened
        self.sock = sock
        self.channel = channel
        self.told: list[dict[str, Any]] = []

    async def until(self, kind: str) -> dict[str, Any]:
        async for message in self.channel.messages():
            self.told.append(message)
            if message["kind"] == kind:
                return message
        raise AssertionError(f"the worker was gone before it said {kind}")

    def leave(self) -> None:
        self.channel.send(Word.DRAIN, together=False)

    async def ask(self, path: str) -> str:
        """Ask once, on a connection of its own, and return the first line of the answer."""
        reader, writer = await asyncio.open_connection(*self.sock.getsockname())
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        try:
            answer = await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)
        finally:
            writer.close()
        return answer.partition(b"\r\n")[0].decode()


@asynccontextmanager
async def here(app: Any, directory: Path, **lifecycle: str) -> AsyncIterator[Here]:
    times = {"drain": "20s", "idle_grace": "100ms", "cancel": "5s", "grace": "40s", **lifecycle}
    said = {f"SHIPWORTHY_LIFECYCLE__{name.upper()}": text for name, text in times.items()}
    settings = load(environ={"SHIPWORTHY_WEB__ACCESS_LOG": "false", **said}, directory=directory)
    ours, theirs = socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        worker = Worker(
            harden(app, settings=settings), [sock.dup()], settings, stop_logging=lambda: None
        )
        running = asyncio.create_task(worker.run(theirs))
        one = Here(worker, sock, await Channel.over(ours))
        try:
            await one.until("ready")
            yield one
        finally:
            one.leave()
            await asyncio.wait({running}, timeout=PATIENCE_SECONDS)
            one.channel.close()
            running.result()


def test_thousands_of_pieces_of_work_do_not_hold_the_loop_in_the_drain(tmp_path: Path) -> None:
    """Who looks at them 50 times a second must not take the loop from the requests.

    The report names the oldest, and says how many more there are.
    """

    async def play() -> tuple[float, dict[str, Any]]:
        over = asyncio.Event()

        async def work() -> None:
            await over.wait()

        async with here(Starlette(), tmp_path) as worker:
            for number in range(3000):
                start_background(f"mail {number}", work())
            worker.leave()
            while worker.hardened.lifecycle.phase is not Phase.DRAINING:
                await asyncio.sleep(0.001)
            held_seconds, began = 0.0, time.monotonic()
            while (now := time.monotonic()) - began < 1.0:
                await asyncio.sleep(0.001)
                took = time.monotonic() - now
                held_seconds += took if took > 0.03 else 0.0
            over.set()
            return held_seconds, await worker.until("bye")

    held_seconds, bye = asyncio.run(play())
    (phase,) = [one for one in bye["report"]["phases"] if one["phase"] == "draining"]

    assert held_seconds < 0.5
    assert phase["held_by"][0]["name"] == "background work 'mail 0'"
    assert len(phase["held_by"]) + phase["more"] == 3000


def test_only_requests_that_were_cancelled_are_said_to_be(tmp_path: Path) -> None:
    """L07: one inside a COMMIT is spared and answers; another goes on and is cancelled later.

    Those that were cancelled at first are named at once, all that come later in one event.
    """

    async def play() -> tuple[list[str], dict[str, Any]]:
        release = asyncio.Event()

        async def slow(_: Request) -> Response:
            await asyncio.Event().wait()
            raise AssertionError

        async def pay(request: Request) -> Response:
            with commit_fence():
                await release.wait()
            await asyncio.sleep(float(request.query_params["then"]))
            return Response()

        app = Starlette(routes=[Route("/slow", slow), Route("/pay", pay)])
        # The client's time for its COMMIT is 0.25 s, then /pay?then=30 is late.
        async with here(app, tmp_path, drain="100ms") as worker:
            paths = ("/slow", "/pay?then=0", "/pay?then=30")
            asked = [asyncio.create_task(worker.ask(path)) for path in paths]
            calls = worker.hardened.in_flight
            while len(calls) < len(paths):
                await asyncio.sleep(0.001)
            worker.leave()
            while len(calls) == len(paths):
                await asyncio.sleep(0.001)
            release.set()
            return await asyncio.gather(*asked), await worker.until("bye")

    facts: list[Any] = []
    stop = listen(facts.append)
    try:
        answers, bye = asyncio.run(play())
    finally:
        stop()
    at_first, later = [fact for fact in facts if isinstance(fact, RequestsCancelled)]

    assert [answer.split()[1] for answer in answers] == ["503", "200", "503"]
    assert [one["path"] for one in at_first.requests] == ["/slow"]
    assert len(at_first.spared) == 2
    assert [one["path"] for one in later.requests] == ["/pay"]
    assert later.requests[0]["request_id"] in at_first.spared
    assert later.spared == []
    assert bye["report"]["requests_cancelled"] == 2


def test_what_holds_the_drain_is_looked_at_when_it_can_have_changed() -> None:
    """With each phase, four times a second, and when one of the last few has ended."""
    looks = _Looks()

    def due(at: float, *, holding: int, phase: Phase = Phase.DRAINING) -> bool:
        return looks.due(phase, holding=holding, now=at)

    assert due(10.0, holding=900)
    assert not due(10.02, holding=899)  # so many end all the time
    assert due(10.25, holding=700)
    assert due(10.27, holding=20)
    assert not due(10.29, holding=20)
    assert not due(10.29, holding=21)
    assert due(10.31, holding=19)
    assert due(10.33, holding=19, phase=Phase.CANCELLING)


ODD = """
import os
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
import shipworthy
from shipworthy.lifecycle import Check

async def spool():
    return os.fsdecode(b"caf\\xe9") + " cannot be read"

def refuse():
    raise OSError("this system does not say")

async def hello(request):
    app.lifecycle.health = refuse
    return PlainTextResponse("hello")

app = shipworthy.harden(Starlette(routes=[Route("/", hello)]))
app.lifecycle.add_check(Check("spool", spool, interval_seconds=0.1))
"""


def test_what_an_app_has_that_cannot_be_told_does_not_silence_its_worker(
    run: Run, tmp_path: Path
) -> None:
    """A reason that is no UTF-8, a call that fails: who is not heard is taken for wedged."""
    (tmp_path / "odd.py").write_text(ODD)
    with run("odd:app") as service:
        service.until_ready()
        service.until(lambda: "caf? cannot be read" in str(service.status()["workers"]))
        service.get("/")
        service.until(lambda: "how this worker is could not be said" in service.out)
        # It is heard again and again.
        service.until(lambda: _heartbeat_age(service) > 0.1)
        service.until(lambda: _heartbeat_age(service) < 0.1, seconds=5)
        (worker,) = service.status()["workers"]
        service.signal()
        code = service.ended()

    assert worker["phase"] == "ready"
    assert service.out.count("how this worker is could not be said") == 1
    assert code == 0


def _heartbeat_age(service: Service) -> float:
    return float(service.status()["workers"][0]["heartbeat_age_seconds"])


def test_clients_that_hold_on_are_refused_and_counted(run: Run) -> None:
    """The settings reach the connections, and what is refused reaches the metrics and the log."""
    with run(settings=BRISK + '[protocol]\nheader = "1s"\n') as service:
        service.until_ready()
        with service.raw() as slow, service.raw() as bad:
            slow.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
            bad.sendall(b"GET / HTTP/1.1\r\n\r\n")
            answers = [b"".join(iter(partial(one.recv, 65536), b"")) for one in (bad, slow)]
        service.until(lambda: len(service.events("web.request_blocked")) == 2)
        count = 'shipworthy_blocked_total{guard="protocol",rule="header-deadline",mode="enforce"} 1'
        service.until(lambda: count in service.metrics())
        notes = httpx.get(
            f"{service.operations}/health", headers={"Authorization": f"Bearer {TOKEN}"}
        ).json()["notes"]

    assert [answer[:13] for answer in answers] == [b"HTTP/1.1 400 ", b"HTTP/1.1 408 "]
    assert NO_PROTOCOL_GUARD not in notes


def test_a_guard_that_is_switched_off_is_said(run: Run) -> None:
    """`/health` has it, as it has under a server that is not ours."""
    with run(settings=BRISK + '[protocol]\nmode = "off"\n') as service:
        service.until_ready()
        with service.raw() as two_hosts:
            two_hosts.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n")
            answer = two_hosts.recv(65536)
        notes = httpx.get(
            f"{service.operations}/health", headers={"Authorization": f"Bearer {TOKEN}"}
        ).json()["notes"]

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert NO_PROTOCOL_GUARD in notes


@pytest.mark.parametrize(
    ("soft", "most"),
    [(400, 276), (64, CONNECTIONS_LEAST), (resource.RLIM_INFINITY, 0)],
)
def test_a_worker_keeps_as_many_connections_as_leave_it_ready(
    soft: int, most: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Below the mark at which it is not ready, with room for databases and files."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
    assert _connections_max(load(environ={}, directory=tmp_path)) == most
    off = load(environ={"SHIPWORTHY_PROTOCOL__MODE": "off"}, directory=tmp_path)
    assert _connections_max(off) == 0
