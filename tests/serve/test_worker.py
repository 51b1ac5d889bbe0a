"""How a worker starts and leaves: real signals, in the identifiers of research L01 to L34."""

import asyncio
import os
import signal
import time
from pathlib import Path

import httpx
import pytest
from launch import PATIENCE_SECONDS, TOKEN, TRIALS, Diary, During, Run, Service, brisk, started
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

# What a loaded machine may add to a bound that other processes keep.
LATENESS_SECONDS = 2.5


def test_what_is_in_flight_at_sigterm_finishes_and_says_goodbye(run: Run, diary: Diary) -> None:
    """A request, a stream and a background task end before the app's shutdown (L01-L06).

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
    """The idle connection is answered once more instead of being cut (L14, L16)."""
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


def test_a_second_sigterm_cancels_what_is_left_and_still_stops_in_order(
    run: Run, diary: Diary
) -> None:
    """The client gets a 503 that says when to come back; the app's shutdown runs (L08)."""
    with run() as service:
        service.until_ready()
        slow = During(service, "/slow?seconds=30")
        service.until(lambda: "slow began" in diary())
        service.signal()
        service.until(lambda: service.status()["phase"] == "draining")
        service.signal()
        code = service.ended()

    assert slow.result().status_code == 503
    assert "retry-after" in slow.result().headers
    assert slow.result().headers["content-type"] == "application/problem+json"
    assert diary()[-2:] == ["slow cancelled", "stop"]
    assert code == 0
    assert "/slow" in str([line for line in service.lines() if "cancelled" in str(line)])


def test_a_third_sigterm_leaves_at_once_with_the_stacks(run: Run, diary: Diary) -> None:
    """Exit 70 at once, and every stack is on standard error (L08)."""
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


def test_a_handler_that_swallows_cancellation_does_not_hold_the_exit(
    run: Run, diary: Diary
) -> None:
    """Cancelled, left behind and named; the shutdown still runs, and 70 says so (L11)."""
    with run() as service:
        service.until_ready()
        During(service, "/swallow")
        service.until(lambda: "swallow began" in diary())
        began = time.monotonic()
        service.signal()
        code = service.ended()
        took = time.monotonic() - began

    assert took < 5 + LATENESS_SECONDS
    assert code == 70
    assert "stop" in diary()
    assert "/swallow" in service.out


def test_a_blocked_loop_is_ended_by_the_grace_period_with_its_line(run: Run, diary: Diary) -> None:
    """Only another process can keep this deadline; faulthandler names the line (L12)."""
    with run(settings=brisk(grace="5s")) as service:
        service.until_ready()
        During(service, "/block?seconds=60")
        service.until(lambda: "block began" in diary())
        began = time.monotonic()
        service.signal()
        code = service.ended()
        took = time.monotonic() - began

    assert code == 70
    assert 4 < took < 5 + LATENESS_SECONDS
    assert "trials.py" in service.err
    assert "in block" in service.err


def test_a_killed_supervisor_takes_its_worker_along(run: Run) -> None:
    """The worker notices and leaves in order; no orphan keeps the port (L21)."""
    with run() as service:
        service.until_ready()
        worker = service.worker_pid()
        service.process.kill()
        service.ended()
        service.until(lambda: not Path(f"/proc/{worker}").exists())


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


def test_a_new_connection_for_each_request_loses_none_at_the_end(run: Run) -> None:
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
    with run(settings=brisk(drain="5s", idle_grace="1s")) as service:
        service.until_ready()
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
