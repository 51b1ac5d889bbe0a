"""What the supervisor keeps up whatever the worker does."""

import asyncio
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest
from launch import (
    PATIENCE_SECONDS,
    TOKEN,
    TRIALS,
    Diary,
    During,
    Load,
    Run,
    Service,
    alive,
    brisk,
    counted,
    started,
)

from shipworthy.clock import SYSTEM_CLOCK
from shipworthy.events import listen
from shipworthy.lifecycle import Exit
from shipworthy.serve import judge
from shipworthy.serve.judge import WorkerSeen
from shipworthy.serve.order import Order
from shipworthy.serve.supervision import SupervisionRule
from shipworthy.serve.supervisor import (
    Duties,
    DutyFailed,
    Supervisor,
    hear_watcher,
    start_worker,
)
from shipworthy.settings import load

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

# What a loaded machine may add to a wait that is bounded; far less than the bound.
LATENESS_SECONDS = 0.5
BOTH = ["draining", "ready"]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for tests that may end its workers and leave it ready with one; exit 0."""
    directory = tmp_path_factory.mktemp("kept")
    settings = brisk(grace="40s", drain="30s")
    with started(TRIALS, directory=directory, settings=settings, spare=True) as service:
        yield service.until_ready()
        service.signal()
        code = service.ended()

    assert code == 0


SHOP = f"""
import sys
sys.path.insert(0, {str(Path(TRIALS).parent)!r})
from trials import app
"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two workers, for tests that leave two ready workers behind; exit 0."""
    directory = tmp_path_factory.mktemp("pair")
    (directory / "shop.py").write_text(SHOP)
    settings = brisk() + '[serve]\nwedged = "2s"\nrecycle_interval = "100ms"\n'
    two = ("--workers", "2")
    with started("shop:app", *two, directory=directory, settings=settings, spare=True) as service:
        service.until_ready()
        service.until(lambda: len(service.serving()) == 2)
        yield service
        slow = [During(service, "/slow?seconds=1") for _ in range(6)]
        service.until(lambda: service.diary().count("slow began") >= 6)
        service.signal()
        code = service.ended()

    assert [one.result().text for one in slow] == ["slow"] * 6
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


def test_a_supervisor_without_a_free_descriptor_starts_the_worker_when_it_has_one(
    run: Run,
) -> None:
    """The place is tried again: nothing else would fill it, and a drain would wait for it."""
    with run() as service:
        service.until_ready()
        old, supervisor = service.worker_pid(), service.process.pid
        most = resource.prlimit(supervisor, resource.RLIMIT_NOFILE)
        resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (3, most[1]))
        os.kill(old, signal.SIGKILL)
        service.until(lambda: len(service.events("serve.worker_lost")) >= 2)
        resource.prlimit(supervisor, resource.RLIMIT_NOFILE, most)
        service.until(service.serving)
        service.signal()
        code = service.ended()

    lost = service.events("serve.worker_lost")
    assert lost[0]["worker_pid"] == old
    assert "no worker process could be started" in lost[1]["because"]
    assert not service.events("serve.duty_failed")
    assert code == 0


def test_idle_clients_of_the_operations_port_take_a_bounded_number_of_descriptors(
    kept: Service,
) -> None:
    """It needs no token to connect; who asks is answered all the same."""
    host, port = kept.operations.removeprefix("http://").split(":")
    descriptors = Path(f"/proc/{kept.process.pid}/fd")
    with ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection((host, int(port)), timeout=5))
            for _ in range(300)
        ]
        # 256 are kept, so those before them are let go.
        kept.until(lambda: all(_hung_up(client) for client in clients[:44]), seconds=10)

        assert len(list(descriptors.iterdir())) < 300
        assert kept.status()["ready"]["ok"]


def _hung_up(client: socket.socket) -> bool:
    client.settimeout(0)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


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


def test_after_sighup_a_request_gets_the_drain_of_the_new_file(run: Run, tmp_path: Path) -> None:
    """The worker has read it; what it grants must not be cut by a supervisor that has not."""
    with run(settings=brisk(drain="200ms", grace="2800ms")) as service:
        service.until_ready()
        old = service.worker_pid()
        (tmp_path / "shipworthy.toml").write_text(brisk(drain="8s", grace="12s"))
        service.signal(signal.SIGHUP)
        service.until(lambda: service.serving() and service.serving() != [old])
        service.until(lambda: old not in [w["pid"] for w in service.status()["workers"]])
        slow = During(service, "/slow?seconds=3.2")
        service.until(lambda: "slow began" in service.diary())
        service.signal()
        code = service.ended()

    assert slow.result().text == "slow"
    assert code == 0


def test_an_app_that_forks_is_told_once_what_that_may_cost(kept: Service) -> None:
    """L23: threads of its own stop in the child, with the locks they held; ours are no news."""
    before = len(kept.events("serve.app_forked"))
    assert kept.get("/forks").text == "forked"
    for _ in range(2):
        assert kept.get("/forks?beside").text == "forked"
    kept.until(lambda: len(kept.events("serve.app_forked")) > before)
    kept.get("/")

    (forked,) = kept.events("serve.app_forked")[before:]
    assert forked["level"] == "warning"
    assert "beside" in forked["threads"]
    assert not [name for name in forked["threads"] if name.startswith("shipworthy")]
    # We fork nobody: a worker is a program of its own.
    assert "shipworthy.serve" in Path(f"/proc/{kept.worker_pid()}/cmdline").read_text()


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


def test_what_broke_meanwhile_is_the_reason_a_new_worker_gives(run: Run, tmp_path: Path) -> None:
    """L20: the settings first, then the code: on the port meanwhile, and at the end with 78.

    Both are read anew by each worker. A sentence has the place, an exception its traceback.
    """
    shop = tmp_path / "shop.py"
    shop.write_text("from fastapi import FastAPI\napp = FastAPI()\n")
    with run("shop:app") as service:
        service.until_ready()
        (tmp_path / "shipworthy.toml").write_text("[serve]\nprot = 1\n")
        os.kill(service.worker_pid(), signal.SIGKILL)
        probe = httpx.get(f"{service.operations}/readyz")
        while "serve.prot" not in probe.text:
            probe = httpx.get(f"{service.operations}/readyz")
        shop.write_text("raise RuntimeError('no price list')\n")
        (tmp_path / "shipworthy.toml").write_text("")
        code = service.ended()

    assert probe.status_code == 503
    assert "serve.prot: no such setting" in probe.text
    assert "Traceback" not in probe.text
    assert code == 78
    assert re.search(
        r'Traceback.*shop\.py", line 1.*RuntimeError: no price list', service.err, re.DOTALL
    )


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


BUSY = """
import time

from shipworthy.events import CATALOGUE, Board, Metric, Panel, Selection, Value, declare

METRIC = Metric("shop_depth", "gauge", "Depth.")
SHOWS = (("depth", Value(Selection(metric=METRIC))),)
declare(Panel(title="Depth", help="Depth.", board=Board.BUSINESS, shows=SHOWS, unit="count"))


class Slow(dict):
    asked = False

    def values(self):
        if not Slow.asked:
            Slow.asked = True
            time.sleep(1.2)
        return super().values()


CATALOGUE.panels = Slow(CATALOGUE.panels)


async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})
"""


def test_a_worker_too_busy_to_say_what_it_declares_is_asked_again(run: Run, tmp_path: Path) -> None:
    """Nobody else would ask before the next worker is ready, and its alerts slept until then."""
    (tmp_path / "busy.py").write_text(BUSY)
    with run("busy:app") as service:
        service.until_ready()

        def titles() -> list[str]:
            signed = {"Authorization": f"Bearer {TOKEN}"}
            answer = httpx.get(f"{service.operations}/api/panels", headers=signed, timeout=20)
            return [panel["title"] for panel in answer.json()["panels"]]

        service.until(lambda: "Depth" in titles())


def test_two_workers_serve_and_are_told_of_apart_and_together(pair: Service) -> None:
    """Each in its place, the gauge over both, and nothing in the way of a pass."""
    status = pair.status()

    assert len({worker["generation"] for worker in status["workers"]}) == 2
    assert (status["wanted"], status["phase"], status["replacing"]) == (2, "ready", 0)
    assert 'shipworthy_serve_workers{state="wanted"} 2\n' in pair.metrics()
    assert 'shipworthy_serve_workers{state="ready"} 2\n' in pair.metrics()
    assert 'shipworthy_serve_worker_ends_total{reason="lost"} ' in pair.metrics()
    assert httpx.get(f"{pair.operations}/health").json()["status"] == "pass"


def test_one_worker_more_and_one_less(pair: Service) -> None:
    """SIGTTIN and SIGTTOU; the one that goes says that it was not needed."""
    pair.signal(signal.SIGTTIN)
    pair.until(lambda: len(pair.serving()) == 3)
    pair.signal(signal.SIGTTOU)
    pair.until(lambda: len(pair.status()["workers"]) == 2)

    assert pair.status()["ended"][0]["end"] == "surplus"
    pair.until(lambda: pair.events("serve.workers_wanted")[-1]["wanted"] == 2)
    assert pair.events("serve.workers_wanted")[-2]["wanted"] == 3


def test_one_of_two_is_killed_under_load(pair: Service) -> None:
    """L19: the other serves, what the dead one held is all that is lost, two serve again.

    How soon is in `flows/test_killed.py`.
    """
    with Load(pair) as load:
        before = counted(pair.metrics())
        victim, other = pair.serving()
        os.kill(victim, signal.SIGKILL)
        answer = pair.get("/")
        seen = [counted(pair.metrics())]
        pair.until(lambda: len(set(pair.serving()) - {victim}) == 2)
        seen.append(counted(pair.metrics()))

    assert answer.text == "hello"
    assert other in pair.serving()
    assert len(load.failures) <= 6, load.failures
    assert before <= seen[0] <= seen[1]
    pair.until(lambda: pair.status()["ended"][0]["end"] == "lost")
    assert 'shipworthy_serve_worker_ends_total{reason="lost"} 1\n' in pair.metrics()


@pytest.mark.parametrize("by", ["signal", "command"])
def test_a_round_replaces_both_and_fails_nobody(pair: Service, by: str) -> None:
    """SIGHUP, or `POST /api/restart`: two always serve, a third is the most there is."""
    old = pair.serving()
    with Load(pair) as load:
        if by == "signal":
            pair.signal(signal.SIGHUP)
        else:
            assert pair.command("restart").status_code == 202
        rounds = []
        there = set(old)
        while there & set(old):
            status = pair.status()
            there = {worker["pid"] for worker in status["workers"]}
            phases = [worker["phase"] for worker in status["workers"]]
            rounds.append((phases.count("ready"), len(phases), status["ready"]["ok"]))

    assert load.failures == []
    assert min(ready for ready, _, _ in rounds) == 2
    assert max(workers for _, workers, _ in rounds) == 3
    assert all(ok for _, _, ok in rounds)
    assert [ended["pid"] for ended in pair.status()["ended"][:2]] == old[::-1]
    assert {ended["end"] for ended in pair.status()["ended"][:2]} == {"replaced"}
    assert pair.status()["replacing"] == 0


def test_new_code_that_cannot_start_replaces_nobody(pair: Service) -> None:
    """L29: the round ends with its first successor, and both old ones serve on."""
    old = pair.serving()
    (pair.directory / "shop.py").write_text("app = no such thing\n")
    pair.signal(signal.SIGHUP)
    pair.until(lambda: pair.events("serve.replacement_failed"))
    (pair.directory / "shop.py").write_text(SHOP)

    assert pair.serving() == old
    assert pair.status()["replacing"] == 0
    assert pair.status()["ended"][0]["end"] == "failed"
    assert "SyntaxError" in pair.events("serve.replacement_failed")[0]["because"]
    assert "SyntaxError" in pair.status()["ended"][0]["because"]


def test_a_worker_whose_loop_stands_is_replaced_and_the_other_serves(pair: Service) -> None:
    """L26: SIGABRT leaves every stack; its clients are lost, nobody else is; the probe is good."""
    old = pair.serving()
    blocked = During(pair, "/block?seconds=30")
    pair.until(lambda: "block began" in pair.diary())
    with Load(pair) as load:
        pair.until(lambda: "wedged" in [ended["end"] for ended in pair.status()["ended"]])
        ready = httpx.get(f"{pair.operations}/readyz").status_code
        pair.until(lambda: len(pair.serving()) == 2)
    with pytest.raises(httpx.HTTPError):
        blocked.result()

    assert load.failures == []
    assert ready == 200
    assert len(set(old) & set(pair.serving())) == 1
    (wedged,) = pair.events("serve.worker_wedged")
    assert wedged["because"].startswith("its event loop has not moved for 2.")
    assert 'trials.py", line' in pair.err


def test_a_supervisor_that_was_stopped_kills_nobody_for_it(pair: Service) -> None:
    """L31: what the workers said meanwhile is still to be read; longer than `wedged`."""
    old = pair.serving()
    pair.signal(signal.SIGSTOP)
    time.sleep(2.5)
    pair.signal(signal.SIGCONT)
    ready = httpx.get(f"{pair.operations}/readyz").status_code
    time.sleep(0.5)

    assert ready == 200
    assert pair.serving() == old


@pytest.mark.timeout(120)
def test_workers_that_have_served_their_requests_are_followed_and_nobody_notices(run: Run) -> None:
    """L33: `max_requests` under load, one at a time; the counts are those of all, gone or not."""
    settings = brisk(grace="20s", lame_duck="1s")
    settings += '[serve]\nworkers = 2\nmax_requests = 150\nrecycle_interval = "100ms"\n'
    with run(settings=settings) as service:
        service.until_ready()
        most = 0
        probed: list[int] = []

        def recycled() -> bool:
            nonlocal most
            probed.append(service.get("/readyz").status_code)
            most = max(most, len(service.status()["workers"]))
            return len(service.events("serve.worker_recycled")) >= 2

        with Load(service, clients=3) as load:
            service.until(recycled)
            during = counted(service.metrics())
        service.until(lambda: len(service.status()["workers"]) == 2)
        after = counted(service.metrics())
        slow = During(service, "/slow?seconds=1")
        service.until(lambda: "slow began" in service.diary())
        drained, refused = service.command("drain"), service.command("restart")
        code = service.ended()

    assert load.failures == []
    assert most <= 3
    assert set(probed) == {200}
    # Probes are no requests of the service's.
    assert during <= after == load.answered
    assert slow.result().text == "slow"
    assert (drained.status_code, refused.status_code, code) == (202, 409, 0)
    assert "requests" in service.events("serve.worker_recycled")[0]["because"]
    assert {left["end"] for left in service.events("serve.worker_left")} >= {"recycled", "drained"}


def test_no_worker_ends_the_listening_for_the_others_before_its_time(run: Run) -> None:
    """L17: the lame duck ends early where nobody asks, but the neighbour may be asked."""
    settings = brisk(lame_duck="2s", idle_grace="100ms")
    with run(TRIALS, "--workers", "2", settings=settings) as service:
        service.until_ready()
        service.until(lambda: len(service.serving()) == 2)
        began = time.monotonic()
        service.signal()
        answers = 0
        while time.monotonic() < began + 1.5:
            answers += service.get("/").text == "hello"
            time.sleep(0.3)
        code = service.ended()

    assert answers >= 2
    assert code == 0


@pytest.mark.anyio
async def test_a_worker_is_told_to_end_even_while_its_process_is_being_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM finds no process yet; the one that comes is ended before it has imported the app."""
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(60)\n")
    asked, may = asyncio.Event(), asyncio.Event()

    async def late(order: Order) -> asyncio.subprocess.Process:
        asked.set()
        await may.wait()
        return await start_worker(order)

    monkeypatch.setattr("shipworthy.serve.supervisor.start_worker", late)
    rule = SupervisionRule(start_seconds=50, grace_seconds=50, start_abort_seconds=50)
    serving = asyncio.create_task(
        Supervisor(
            target="slow:app",
            directory=tmp_path,
            config=None,
            overrides={},
            settings=load(environ={}, directory=tmp_path),
            rule=rule,
            sockets=[],
            operations_sockets=[],
            token="none",
            on_ready=lambda _: None,
        ).run()
    )
    await asked.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(0.01)
    may.set()

    left = await asyncio.wait_for(serving, 20)

    assert left.code is Exit.START_FAILED


def test_what_a_watcher_says_is_heard_and_nonsense_is_passed_over() -> None:
    """The other end is a process whose app may write into any descriptor it finds."""
    seen = WorkerSeen(1, pid=42, heard_at=SYSTEM_CLOCK.now(), serving=True)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.settimeout(0)
    with ours, theirs:
        hear_watcher(ours, seen)
        for said in (b"{", b"[]", b"{}", b'{"blocked_seconds": "x"}', b'{"blocked_seconds": null}'):
            theirs.send(said)
        hear_watcher(ours, seen)
        before = judge.blocked(seen, SYSTEM_CLOCK.now())
        theirs.send(b'{"blocked_seconds": 0.5, "where": "app/x.py:41 in f"}')
        hear_watcher(ours, seen)
        during = judge.blocked(seen, SYSTEM_CLOCK.now())
        for _ in range(40):  # more than are taken at once, and the last one counts
            theirs.send(b'{"blocked_seconds": 0}')
            hear_watcher(ours, seen)

    assert before == ""
    assert during.endswith(" s; it stands at app/x.py:41 in f")
    assert judge.blocked(seen, SYSTEM_CLOCK.now()) == ""


def test_when_the_supervisor_is_killed_all_workers_end(run: Run) -> None:
    """L21: nobody serves on without somebody who keeps the deadlines."""
    with run(TRIALS, "--workers", "2") as service:
        service.until_ready()
        service.until(lambda: len(service.serving()) == 2)
        workers = service.serving()
        service.signal(signal.SIGKILL)
        service.until(lambda: not any(map(alive, workers)))


def test_a_duty_that_fails_is_stated_once_a_minute_and_done_again_each_time() -> None:
    """Where no thread can be started a look at the disk raises; supervision must not end with it.

    Another duty that fails meanwhile is news of its own.
    """
    times: list[float] = []
    stated: list[str] = []

    def fails(now: float) -> None:
        times.append(now)
        raise RuntimeError("can't start new thread")

    duties = Duties()
    stop = listen(lambda failed: stated.append(failed.because), DutyFailed)
    for now in (0.0, 0.1, 59.9, 60.0, 60.1):
        duties.do("minding", fails, now)
    duties.do("burying", fails, 60.2)
    duties.do("supervising", times.append, 60.3)
    stop()

    assert times == [0.0, 0.1, 59.9, 60.0, 60.1, 60.2, 60.3]
    because = "RuntimeError: can't start new thread"
    assert stated == [f"minding: {because}"] * 2 + [f"burying: {because}"]
