"""How a worker starts and leaves: real signals, in the identifiers of research L01 to L34."""

import os
import signal
import time
from pathlib import Path

import httpx
import pytest
from launch import BRISK, TRIALS, Diary, During, Run
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


def test_what_is_in_flight_at_sigterm_finishes_and_says_goodbye(run: Run, diary: Diary) -> None:
    """A request, a stream and a background task end before the app's shutdown (L01-L06)."""
    with run() as service:
        service.until_ready()
        slow = During(service, "/slow?seconds=1")
        stream = During(service, "/stream?parts=10")
        service.get("/background")
        service.until(lambda: {"slow began", "stream began", "background began"} <= set(diary()))
        service.signal()
        code = service.ended()

    assert (slow.result().text, slow.result().headers["connection"]) == ("slow", "close")
    assert stream.result().text == "".join(f"{number}\n" for number in range(10))
    assert code == 0
    assert diary()[-1] == "stop"
    assert "background ended" in diary()
    assert "slow ended" in diary()


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
    settings = BRISK.replace('grace = "5s"', 'grace = "9s"') + 'lame_duck = "1500ms"\n'
    with run(settings=settings) as service:
        service.until_ready()
        before = [httpx.get(f"{base}/readyz") for base in (service.url, service.operations)]
        service.signal()
        service.until(
            lambda: httpx.get(f"{service.operations}/readyz").status_code == 503, seconds=1
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
    settings = BRISK.replace('idle_grace = "200ms"', 'idle_grace = "2s"')
    with run(settings=settings) as service:
        service.until_ready()
        with httpx.Client(base_url=service.url) as client:
            client.get("/")
            service.signal()
            service.until(lambda: service.status()["phase"] == "draining")
            last = client.get("/")
        code = service.ended()

    assert (last.text, last.headers["connection"]) == ("hello", "close")
    assert code == 0


def test_a_websocket_is_told_to_come_back(run: Run, diary: Diary) -> None:
    """1012, and the app sees its end."""
    with run() as service:
        service.until_ready()
        with connect(service.url.replace("http", "ws") + "/socket", proxy=None) as websocket:
            websocket.send("hi")
            echo = websocket.recv(5)
            service.signal()
            with pytest.raises(ConnectionClosed) as closed:
                websocket.recv(5)
        code = service.ended()

    assert echo == "hi"
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    assert "socket ended" in diary()
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
    settings = BRISK.replace("5s", "60s").replace('cancel = "500ms"', 'cancel = "20s"')
    with run(settings=settings.replace('drain = "2s"', 'drain = "20s"')) as service:
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
    assert took < 2
    assert "Thread 0x" in service.err or "Current thread" in service.err
    assert "had to be ended by force" in service.err


def test_a_handler_that_swallows_cancellation_does_not_hold_the_exit(
    run: Run, diary: Diary
) -> None:
    """It is cancelled, left behind and named; the app's shutdown still runs (L11)."""
    with run() as service:
        service.until_ready()
        During(service, "/swallow")
        service.until(lambda: "swallow began" in diary())
        began = time.monotonic()
        service.signal()
        code = service.ended()
        took = time.monotonic() - began

    assert took < 5 + 1
    assert code == 0
    assert "stop" in diary()
    assert "/swallow" in service.out


def test_a_blocked_loop_is_ended_by_the_grace_period_with_its_line(run: Run, diary: Diary) -> None:
    """Only another process can keep this deadline; faulthandler names the line (L12)."""
    with run() as service:
        service.until_ready()
        During(service, "/block?seconds=60")
        service.until(lambda: "block began" in diary())
        began = time.monotonic()
        service.signal()
        code = service.ended()
        took = time.monotonic() - began

    assert code == 70
    assert 4 < took < 5 + 1.5
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
    with run(target, START_SECONDS="60") as service:
        service.until(lambda: diary() == ["start"])
        began = time.monotonic()
        service.signal()
        code = service.ended()
        took = time.monotonic() - began

    assert code == 3
    assert took < 5 + 1
    assert "told to stop before it was ready" in service.err


def test_a_start_up_that_hangs_is_given_up_with_its_number(run: Run) -> None:
    """The setting that bounds it is kept."""
    with run(settings='[lifecycle]\nstart = "1s"\n', START_SECONDS="60") as service:
        code = service.ended()

    assert code == 3
    assert "1" in service.err
    assert "start" in service.err


def test_a_shutdown_that_hangs_is_left_behind(run: Run, diary: Diary) -> None:
    """Bounded by `lifecycle.stop`; the rest is still stopped (L10)."""
    with run(STOP_SECONDS="60") as service:
        service.until_ready()
        began = time.monotonic()
        service.signal()
        code = service.ended()
        took = time.monotonic() - began

    assert took < 5 + 1
    assert code in {0, 70}
    assert diary()[-1] == "stop"


def test_a_flask_app_is_served_through_threads_and_drained(run: Run, tmp_path: Path) -> None:
    """WSGI is found by itself; the ids reach the handler's thread."""
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
        service.signal()
        code = service.ended()

    assert answer.text == answer.headers["x-request-id"]
    assert slow.result().text == "slow"
    assert code == 0
