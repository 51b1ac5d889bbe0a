"""Scenarios of `docs/reference/lifecycle-scenarios.md` that the tests of one room do not show."""

import asyncio
import base64
import os
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from serve.launch import PATIENCE_SECONDS, TRIALS, During, Service, brisk, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

# What a loaded machine may add to a bound that other processes keep.
LATENESS_SECONDS = 2.5
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def _ready(service: Service) -> httpx.Response:
    return httpx.get(f"{service.operations}/readyz", timeout=5)


def _serving(service: Service, count: int) -> list[int]:
    """Wait until so many workers serve, and return them."""
    service.until(lambda: len(service.serving()) == count)
    return service.serving()


WEBSOCKETS = 1000


def test_a_thousand_websockets_are_told_one_after_the_other(tmp_path: Path) -> None:
    """L04: each gets 1012, spread over 80 % of the drain, and the app sees each disconnect.

    10 ms for each would be longer than the drain, so its part is shared out.
    """
    spread_seconds = 0.8 * 4
    codes: list[int] = []
    ended: list[float] = []

    async def follow(address: tuple[str, int], opened: asyncio.Semaphore) -> None:
        async with opened:
            reader, writer = await asyncio.open_connection(*address)
            key = base64.b64encode(os.urandom(16))
            writer.write(
                b"GET /socket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\n\r\n"
            )
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101"), head
            waiting.append(1)
        frame = await reader.readexactly(4)
        ended.append(time.monotonic())
        assert frame[0] == 0x88, frame
        codes.append(int.from_bytes(frame[2:4]))
        writer.write(b"\x88\x82\0\0\0\0" + frame[2:4])  # its answer, with a mask of zeros
        assert await reader.read() == b""
        writer.close()

    async def follow_all(service: Service) -> None:
        host, port = service.url.removeprefix("http://").split(":")
        opened = asyncio.Semaphore(50)
        following = [
            asyncio.create_task(follow((host, int(port)), opened)) for _ in range(WEBSOCKETS)
        ]
        while len(waiting) < WEBSOCKETS:
            done, _ = await asyncio.wait(following, timeout=0.02)
            assert not done, done.pop().exception()
        service.signal()
        await asyncio.gather(*following)

    waiting: list[int] = []
    settings = brisk(drain="4s", grace="12s") + "[web]\naccess_log = false\n"
    with started(TRIALS, directory=tmp_path, settings=settings) as service:
        service.until_ready()
        asyncio.run(follow_all(service))
        code = service.ended()
        seen = service.diary().count("socket ended")

    assert code == 0, service.err
    assert codes == [1012] * WEBSOCKETS
    assert seen == WEBSOCKETS
    assert 0.7 * spread_seconds < ended[-1] - ended[0] < spread_seconds + LATENESS_SECONDS
    # Evenly it would be 78 in a quarter of a second; who was late by one is told with the next.
    most = max(sum(at <= other < at + 0.25 for other in ended) for at in ended)
    assert most < WEBSOCKETS / 4, most


def test_loops_that_never_come_back_are_ended_by_the_grace_period(tmp_path: Path) -> None:
    """L12: whatever holds them, the deadline is kept from outside, and faulthandler says the line.

    A call that sleeps, C that keeps the GIL, Python without a pause: three services side by side.
    """
    blocks = {"/block?seconds=60": "block", "/gil": "hold_gil", "/spin": "spin"}
    settings = brisk(grace="3s", drain="300ms", cancel="200ms", stop="500ms")
    took: list[float] = []
    with ExitStack() as all_three:
        services = []
        for name in blocks.values():
            (tmp_path / name).mkdir()
            one = started(TRIALS, directory=tmp_path / name, settings=settings)
            services.append(all_three.enter_context(one))
        for service in services:
            service.until_ready()
        for service, path in zip(services, blocks, strict=True):
            During(service, path)
        for service in services:
            service.until(lambda service=service: len(service.diary()) == 2)
        began = time.monotonic()
        for service in services:
            service.signal()
        codes = []
        for service in services:
            codes.append(service.ended())
            took.append(time.monotonic() - began)

    assert codes == [70] * 3
    assert min(took) > 2
    assert max(took) < 3 + LATENESS_SECONDS
    for service, function in zip(services, blocks.values(), strict=True):
        assert re.search(rf'trials\.py", line \d+ in {function}', service.err)


def test_clients_that_think_less_than_the_idle_grace_lose_nothing(tmp_path: Path) -> None:
    """L15: each is answered once more; one that thinks longer finds an end, never half an answer.

    A thousandth of a second before the end of the grace is as good as its beginning; the pauses
    here keep a distance, since the machine may be busy.
    """
    idle_grace, longest_thought = 2.0, 1.2
    chance = random.Random(15)
    thoughts = [chance.uniform(0, longest_thought) for _ in range(20)]
    lost: list[str] = []
    said_goodbye: list[bool] = []

    def think(service: Service, thought: float) -> None:
        with httpx.Client(base_url=service.url, timeout=PATIENCE_SECONDS) as client:
            while True:
                try:
                    answer = client.get("/")
                except httpx.HTTPError as error:
                    lost.append(f"{thought:.2f} s: {error!r}")
                    return
                answered.append(thought)
                if answer.headers.get("connection") == "close":
                    said_goodbye.append(True)
                    return
                time.sleep(thought)

    answered: list[float] = []
    settings = brisk(grace="20s", drain="10s", idle_grace=f"{idle_grace}s")
    with started(TRIALS, directory=tmp_path, settings=settings) as service:
        service.until_ready()
        with service.raw() as longer:
            longer.sendall(GET)
            first = b""
            while not first.endswith(b"hello"):
                part = longer.recv(4096)
                assert part, first
                first += part
            clients = [threading.Thread(target=think, args=(service, each)) for each in thoughts]
            for client in clients:
                client.start()
            service.until(lambda: len(set(answered)) == len(thoughts))
            service.signal()
            rest = longer.recv(4096)
            for client in clients:
                client.join(PATIENCE_SECONDS)
        code = service.ended()

    assert lost == []
    assert len(said_goodbye) == len(thoughts)
    assert rest == b""
    assert code == 0


def test_nobody_is_refused_before_the_balancer_had_its_time(tmp_path: Path) -> None:
    """L17, L18: asked every 10 ms on new connections; who never ends a head holds up nobody.

    Half a head, and one that comes byte by byte, are given up soon after the listening.
    """
    lame_duck = 1.0
    unready = refused = 0.0
    wrong: list[str] = []
    settings = brisk(grace="20s", drain="12s", lame_duck=f"{lame_duck}s")
    with started(TRIALS, directory=tmp_path, settings=settings) as service:
        service.until_ready()
        # Each asks on a connection of its own.
        anew = httpx.Limits(max_keepalive_connections=0)
        with (
            service.raw() as half,
            service.raw() as trickle,
            httpx.Client(base_url=service.url, limits=anew, timeout=PATIENCE_SECONDS) as client,
        ):
            half.sendall(b"GET / HTTP/1.1\r\nX: ")
            trickle.sendall(b"GET / HTTP/1.1\r\nX: ")
            service.until(lambda: service.status()["workers"][0]["connections"] == 2)
            began = time.monotonic()
            service.signal()
            while not refused:
                try:
                    status = client.get("/readyz").status_code
                except httpx.ConnectError:
                    refused = time.monotonic()
                    continue
                except httpx.HTTPError as error:
                    wrong.append(repr(error))
                    continue
                if status == 503 and not unready:
                    unready = time.monotonic()
                trickle.sendall(b"a")
                time.sleep(0.01)
            while service.process.poll() is None and time.monotonic() < began + 10:
                try:
                    trickle.sendall(b"a")
                except OSError:
                    break
                time.sleep(0.05)
            code = service.ended()
            took = time.monotonic() - refused

    assert wrong == []
    assert 0 < unready - began < lame_duck
    # 503 was noticed a moment after it was so; both clocks are the client's.
    assert refused - unready > lame_duck - 0.1
    assert code == 0
    assert took < 1 + LATENESS_SECONDS


@pytest.mark.parametrize("where", ["/dev/full", "full/log"], ids=["/dev/full", "full disk"])
def test_a_log_on_a_full_disk_holds_up_nobody(tmp_path: Path, where: str) -> None:
    """L28: what cannot be written is lost; requests are answered and the drain is clean."""
    before: Sequence[str] = ("sh", "-c", f'exec "$@" >{where}', "sh")
    if where == "full/log":
        space = ("unshare", "--user", "--map-root-user", "--mount")
        if subprocess.run([*space, "true"], check=False, capture_output=True).returncode:
            pytest.skip("no mount namespace may be made here")
        (tmp_path / "full").mkdir()
        full = f'mount -t tmpfs -o size=16k none full && exec "$@" >{where}'
        before = (*space, "sh", "-c", full, "sh")
    with started(TRIALS, directory=tmp_path, settings=brisk(), before=before) as service:
        service.until_ready()
        with httpx.Client(base_url=service.url, timeout=PATIENCE_SECONDS) as client:
            answers = {client.get("/").text for _ in range(150)}
        dropped = re.compile(r"^shipworthy_log_lines_dropped_total [1-9]", re.MULTILINE)
        service.until(lambda: dropped.search(service.metrics()))
        slow = During(service, "/slow?seconds=0.5")
        service.until(lambda: "slow began" in service.diary())
        log = Path(f"/proc/{service.process.pid}/root{tmp_path}/{where}")
        size = log.stat().st_size if where == "full/log" else None
        began = time.monotonic()
        service.signal()
        code = service.ended()
        took = time.monotonic() - began

    assert answers == {"hello"}
    assert slow.result().text == "slow"
    assert code == 0, service.err
    assert took < 4 + LATENESS_SECONDS
    assert service.diary()[-1] == "stop"
    assert size in {None, 16384}


def test_a_machine_that_was_suspended_kills_no_worker(tmp_path: Path) -> None:
    """L31: the whole group stands for longer than `wedged`; all go on, and what was asked is."""
    settings = brisk() + '[serve]\nwedged = "2s"\n'
    with started(TRIALS, "--workers", "2", directory=tmp_path, settings=settings) as service:
        service.until_ready()
        old = _serving(service, 2)
        slow = During(service, "/slow?seconds=0.5")
        service.until(lambda: "slow began" in service.diary())
        os.killpg(service.process.pid, signal.SIGSTOP)
        time.sleep(3)
        os.killpg(service.process.pid, signal.SIGCONT)
        ready = _ready(service).status_code
        answer = slow.result().text
        time.sleep(0.5)  # five looks of the supervisor
        after = service.serving()
        service.signal()
        code = service.ended()

    assert (ready, answer) == (200, "slow")
    assert after == old
    assert not service.events("serve.worker_wedged")
    assert not service.events("serve.worker_lost")
    assert code == 0


def test_a_clock_that_jumps_changes_no_deadline(
    tmp_path: Path, debian: Callable[[str, str], str]
) -> None:
    """L31: two days ahead and two back, while serving and in the drain; only the `Date` follows.

    The clock of the wall is that of libfaketime; the monotonic one is left alone, as the kernel
    leaves it alone when the clock is set.
    """
    debian("faketime", "faketime")
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    clock = tmp_path / "clock"

    def jump(seconds: int) -> None:
        (tmp_path / "next").write_text(f"{seconds:+}\n")
        (tmp_path / "next").replace(clock)

    jump(0)
    fake = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    # Time to end as well: a measured process writes its coverage when it does.
    settings = brisk(grace="30s", drain="15s", stop="5s") + '[serve]\nwedged = "2s"\n'
    with started(TRIALS, directory=tmp_path, settings=settings, environ=fake) as service:
        service.until_ready()
        old = service.serving()
        first = service.get("/").headers["date"]
        dates = {first}
        # Two days, so that no midnight that comes meanwhile makes two of them the same.
        for seconds in (172_800, -172_800):
            jump(seconds)
            service.until(lambda: service.get("/").headers["date"][:16] not in seen(dates))
            dates.add(service.get("/").headers["date"])
            assert _ready(service).status_code == 200
        slow = During(service, "/slow?seconds=1.5")
        service.until(lambda: "slow began" in service.diary())
        began = time.monotonic()
        service.signal()
        service.until(lambda: service.status()["phase"] == "draining")
        jump(172_800)
        last = service.serving()
        code = service.ended()
        took = time.monotonic() - began

    assert len(seen(dates)) == 3
    assert last in ([], old)
    assert slow.result().text == "slow"
    assert code == 0, service.err
    assert 1 < took < 4 + LATENESS_SECONDS
    assert not service.events("serve.worker_wedged")


def seen(dates: set[str]) -> set[str]:
    """The days of these dates."""
    return {date[:16] for date in dates}


LIFESPANS = """
from contextlib import AsyncExitStack, asynccontextmanager
from fastapi import FastAPI

def note(line):
    with open("diary.txt", "a") as diary:
        diary.write(line + "\\n")

def life(name, inner=None):
    @asynccontextmanager
    async def lifespan(app):
        async with AsyncExitStack() as stack:
            note(f"{name} starts")
            if inner is not None:
                await stack.enter_async_context(inner.router.lifespan_context(inner))
            if name == "broken":
                raise RuntimeError("no price list")
            yield
            note(f"{name} stops")
    return lifespan

shelf = FastAPI(lifespan=life("shelf"))
@shelf.get("/books")
def books():
    return "books"

app = FastAPI(lifespan=life("shop", shelf))
app.mount("/shelf", shelf)
broken = FastAPI(lifespan=life("broken", shelf))
"""


def test_lifespans_in_one_another_start_and_stop_once_and_in_order(tmp_path: Path) -> None:
    """L32: the application runs that of what it mounts; one that fails is the reason for exit 3."""
    (tmp_path / "shop.py").write_text(LIFESPANS)
    with ExitStack() as both:
        whole = both.enter_context(started("shop:app", directory=tmp_path, settings=brisk()))
        aside = tmp_path / "broken"
        aside.mkdir()
        (aside / "shop.py").write_text(LIFESPANS)
        broken = both.enter_context(started("shop:broken", directory=aside, settings=brisk()))
        whole.until_ready()
        books = whole.get("/shelf/books").json()
        whole.signal()
        codes = whole.ended(), broken.ended()

    assert books == "books"
    assert whole.diary() == ["shop starts", "shelf starts", "shop stops", "shelf stops"]
    assert codes == (0, 3)
    assert "no price list" in broken.err
