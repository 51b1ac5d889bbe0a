"""What a guarded call costs beside a bare one, with httpx and requests.

    python benchmarks/outbound.py                    measure, print, write results/outbound.md
    python benchmarks/outbound.py --rounds 3 --try   a short look that writes nothing

Two things are measured. *Without a network*: the transport answers at once from memory, so the
difference of the two arms is what our side adds. *Over loopback*: a server in another process
answers on a kept connection, so the ratio is the least that an app can see of it. The arms take
turns round by round; the median over the rounds is shown with quartiles. Each call is made for a
request with a trace and under a deadline, which is the dear case.
"""

import argparse
import asyncio
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles

import httpx
import requests

from shipworthy import outbound
from shipworthy.context import RequestRecord, deadline_scope, request_scope
from shipworthy.outbound import Outbound
from shipworthy.outbound.requests import send as send_requests
from shipworthy.outbound.transport import send, send_async

RESULT = Path(__file__).parent / "results" / "outbound.md"
URL = "http://127.0.0.1:9/"

SERVER = """
import socket
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
while True:
    connection, _ = listening.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while connection.recv(65536):
        connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
"""

Arms = dict[str, Callable[[int], float]]


def timed(call: Callable[[], object]) -> Callable[[int], float]:
    def run(times: int) -> float:
        began = time.perf_counter()
        for _ in range(times):
            call()
        return (time.perf_counter() - began) / times

    return run


def in_memory() -> Arms:
    out = Outbound()
    request = httpx.Request("GET", URL, extensions={"timeout": httpx.Timeout(5).as_dict()})
    answer = httpx.Response(200, content=b"ok")
    stream = answer.stream

    def at_once(_: httpx.Request) -> httpx.Response:
        answer.stream = stream
        return answer

    async def at_once_async(_: httpx.Request) -> httpx.Response:
        answer.stream = stream
        return answer

    def async_arm(guarded: bool) -> Callable[[int], float]:
        async def go(times: int) -> float:
            began = time.perf_counter()
            for _ in range(times):
                if guarded:
                    await send_async(out, httpx, None, request, at_once_async)
                else:
                    await at_once_async(request)
            return (time.perf_counter() - began) / times

        return lambda times: asyncio.run(go(times))

    prepared = requests.Request("GET", URL).prepare()
    adapter = requests.adapters.HTTPAdapter()
    said = requests.Response()
    said.status_code = 200

    def adapted(_: requests.PreparedRequest, **__: object) -> requests.Response:
        return said

    return {
        "httpx, bare": timed(lambda: at_once(request)),
        "httpx, guarded": timed(lambda: send(out, httpx, None, request, at_once)),
        "httpx async, bare": async_arm(guarded=False),
        "httpx async, guarded": async_arm(guarded=True),
        "requests, bare": timed(lambda: adapted(prepared, timeout=5)),
        "requests, guarded": timed(
            lambda: send_requests(out, adapter, prepared, adapted, stream=False, timeout=5)
        ),
    }


def over_loopback(url: str) -> Arms:
    def hooked(run: Callable[[int], float]) -> Callable[[int], float]:
        def go(times: int) -> float:
            outbound.install()
            try:
                return run(times)
            finally:
                outbound.uninstall()

        return go

    async def get(times: int) -> float:
        async with httpx.AsyncClient(trust_env=False) as client:
            await client.get(url)
            began = time.perf_counter()
            for _ in range(times):
                await client.get(url)
            return (time.perf_counter() - began) / times

    def get_sync(times: int) -> float:
        with httpx.Client(trust_env=False) as client:
            client.get(url)
            return timed(lambda: client.get(url))(times)

    def get_requests(times: int) -> float:
        with requests.Session() as session:
            session.trust_env = False
            session.get(url, timeout=5)
            return timed(lambda: session.get(url, timeout=5))(times)

    found: Arms = {}
    for name, run in (
        ("httpx", get_sync),
        ("httpx async", lambda times: asyncio.run(get(times))),
        ("requests", get_requests),
    ):
        found[f"{name}, bare"] = run
        found[f"{name}, guarded"] = hooked(run)
    return found


def measured(arms: Arms, *, rounds: int, times: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in arms}
    record = RequestRecord("request-1", "request-1", "a" * 32, "b" * 16)
    with request_scope(record), deadline_scope(time.monotonic() + 3600):
        for at in range(rounds + 1):
            for name, run in arms.items():
                seconds = run(times)
                if at:  # the first round warms up
                    found[name].append(seconds)
    return found


def table(title: str, found: dict[str, list[float]], *, ratios: bool) -> list[str]:
    head = ["client", "bare, us", "guarded, us", "added, us"] + ["ratio"] * ratios
    lines = [f"## {title}", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name in ("httpx", "httpx async", "requests"):
        bare, guarded = found[f"{name}, bare"], found[f"{name}, guarded"]
        added = [(b - a) * 1e6 for a, b in zip(bare, guarded, strict=True)]
        ratio = median(b / a for a, b in zip(bare, guarded, strict=True))
        low, _, high = quantiles(added, n=4)
        row = [
            name,
            f"{median(bare) * 1e6:.1f}",
            f"{median(guarded) * 1e6:.1f}",
            f"{median(added):.1f} ({low:.1f} to {high:.1f})",
        ] + [f"{ratio:.2f}"] * ratios
        lines.append(f"| {' | '.join(row)} |")
    return [*lines, ""]


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--try", action="store_true", dest="short", help="write nothing")
    chosen = options.parse_args()
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}/"
        lines = [
            "# Cost of a guarded outbound call",
            "",
            (
                f"{datetime.now(UTC):%Y-%m-%d}, CPython {platform.python_version()}, "
                f"httpx {version('httpx')}, requests {version('requests')}, "
                f"{chosen.rounds} rounds. "
                "Written by `benchmarks/outbound.py`, which says what was measured."
            ),
            "",
            *table(
                "Without a network",
                measured(in_memory(), rounds=chosen.rounds, times=5000),
                ratios=False,
            ),
            *table(
                "Over loopback",
                measured(over_loopback(url), rounds=chosen.rounds, times=300),
                ratios=True,
            ),
        ]
    finally:
        server.kill()
        server.wait(10)
    print("\n".join(lines))
    if not chosen.short:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
