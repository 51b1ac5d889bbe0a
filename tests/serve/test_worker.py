"""How a worker starts and leaves: real signals, in the identifiers of research L01 to L34."""

import asyncio
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
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
    alive,
    brisk,
    started,
)
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

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
