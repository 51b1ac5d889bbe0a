"""What the supervisor keeps up whatever the worker does."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from launch import BRISK, TOKEN, Diary, During, Run, counted

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


@pytest.mark.parametrize(
    ("path", "began"),
    [("/block?seconds=30", "block began"), ("/gil", "gil began"), ("/thread?seconds=30", "thread")],
    ids=["loop blocked", "GIL held by C", "thread pool full"],
)
def test_the_operations_port_answers_within_a_second_whatever_the_app_does(
    run: Run, diary: Diary, path: str, began: str
) -> None:
    """No probe queues behind users; a silent worker is found not ready, with the reason."""
    settings = BRISK.replace('grace = "5s"', 'grace = "4.5s"').replace("2s", "1s")
    with run(settings=settings) as service:
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

    assert max(took.values()) < 1.0, took
    assert codes["/livez"] == 200
    assert codes["/metrics"] == 200
    if "thread" not in path:
        assert codes["/readyz"] == 503
        assert "its event loop has not moved for" in worker["blocked"]


def test_the_operations_port_answers_while_the_worker_is_stopped(run: Run) -> None:
    """SIGSTOP is what a debugger or a frozen container does; nobody is killed for it (L31)."""
    with run() as service:
        service.until_ready()
        service.get("/")
        before = httpx.get(f"{service.operations}/metrics").text
        pid = service.worker_pid()
        os.kill(pid, signal.SIGSTOP)
        service.until(lambda: service.status()["workers"][0]["blocked"] != "", seconds=5)
        start = time.monotonic()
        during = httpx.get(f"{service.operations}/metrics").text
        took = time.monotonic() - start
        os.kill(pid, signal.SIGCONT)
        service.until(lambda: httpx.get(f"{service.operations}/readyz").status_code == 200)
        same = service.worker_pid()
        service.signal()
        code = service.ended()

    assert took < 1.0
    assert counted(during) >= counted(before) >= 1
    assert same == pid
    assert code == 0


def test_a_killed_worker_is_replaced_and_no_counter_goes_backwards(run: Run) -> None:
    """The socket is the supervisor's, so clients in the meantime wait in the kernel (L19)."""
    with run() as service:
        service.until_ready()
        for _ in range(3):
            service.get("/")
        before = counted(httpx.get(f"{service.operations}/metrics").text)
        old = service.worker_pid()
        os.kill(old, signal.SIGKILL)
        meanwhile = service.get("/")
        after = counted(httpx.get(f"{service.operations}/metrics").text)
        new = service.worker_pid()
        service.signal()
        code = service.ended()

    assert meanwhile.text == "hello"
    assert new != old
    assert after >= before >= 3
    assert code == 0
    assert any(line.get("event") == "serve.worker_lost" for line in service.lines())


def test_a_worker_that_is_told_to_stop_by_somebody_else_leaves_the_socket_listening(
    run: Run,
) -> None:
    """A SIGTERM to the worker alone drains it; the next one takes over the same socket."""
    with run() as service:
        service.until_ready()
        old = service.worker_pid()
        os.kill(old, signal.SIGTERM)
        service.until(lambda: service.status()["workers"][-1:] and service.worker_pid() != old)
        answer = service.get("/")
        service.signal()
        code = service.ended()

    assert answer.text == "hello"
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


def test_the_api_drains_like_the_first_sigterm(run: Run) -> None:
    """With its token, and only with it."""
    with run() as service:
        service.until_ready()
        refused = httpx.post(f"{service.operations}/api/drain")
        done = httpx.post(
            f"{service.operations}/api/drain", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        code = service.ended()

    assert refused.status_code == 401
    assert done.status_code in {200, 202}
    assert code == 0


def test_the_apps_own_health_route_joins_readiness(run: Run, tmp_path: Path) -> None:
    """`lifecycle.ready_route`: when the app says no, so do both ports."""
    (tmp_path / "shop.py").write_text(
        "import pathlib\nfrom fastapi import FastAPI, Response\napp = FastAPI()\n"
        "@app.get('/healthz')\ndef healthz(response: Response):\n"
        "    if pathlib.Path('ill').exists():\n        response.status_code = 503\n"
        "    return {}\n"
    )
    settings = BRISK + 'ready_route = "/healthz"\ncheck_interval = "100ms"\n'
    with run("shop:app", settings=settings) as service:
        service.until_ready()
        service.until(lambda: httpx.get(f"{service.operations}/readyz").status_code == 200)
        (tmp_path / "ill").write_text("")
        service.until(lambda: httpx.get(f"{service.operations}/readyz").status_code == 503)
        service.until(lambda: service.get("/readyz").status_code == 503)
        (tmp_path / "ill").unlink()
        service.until(lambda: httpx.get(f"{service.operations}/readyz").status_code == 200)
