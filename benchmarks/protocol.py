"""What the protocol guard costs beside stock uvicorn, on an application that does nothing.

    python benchmarks/protocol.py                    measure, print, write results/protocol.md
    python benchmarks/protocol.py --rounds 4 --try   a short look that writes nothing

Three servers of one process each, on uvloop and httptools, without access lines, and without our
hull: stock uvicorn; our engine with the guard; our engine with the guard switched off. All serve at
once and are loaded by turns with wrk (Debian: apt-get install wrk) on the same cores, so the CPU
time of the server for a request depends least on who else runs. A ratio is within one round.
"""

import argparse
import contextlib
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles

from environment import commit

RESULT = Path(__file__).parent / "results" / "protocol.md"
CONNECTIONS = 32
# As a browser sends them, since the guard looks at each header.
HEADERS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "application/json",
    "Accept-Language": "en-GB,en;q=0.7",
    "Accept-Encoding": "gzip, deflate, br",
    "Cookie": "theme=dark; session=0123456789abcdef",
    "X-Forwarded-For": "203.0.113.9",
}
APP = """
async def app(scope, receive, send):
    headers = [(b"content-length", b"4")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"fine"})
"""
STOCK = (
    APP
    + """
import uvicorn

uvicorn.run(
    app, port=PORT, loop="uvloop", http="httptools", lifespan="off", access_log=False,
    log_level="critical",
)
"""
)
OURS = (
    APP
    + """
import asyncio
import uvloop
from shipworthy.serve.engine import UvicornEngine
from shipworthy.serve.protocol import ConnectionRules
from shipworthy.serve.protocol_settings import ProtocolSettings
from shipworthy.serve.sockets import listen_tcp

async def serve():
    rules = ConnectionRules.of(ProtocolSettings(mode="MODE"), head_bytes=32 * 1024)
    engine = UvicornEngine(app, rules=rules)
    await engine.start(listen_tcp("127.0.0.1", PORT, backlog=2048, option="--port"), {})
    await asyncio.Event().wait()

uvloop.run(serve())
"""
)
ARMS = {
    "stock uvicorn": STOCK,
    "our engine, guard on": OURS.replace("MODE", "enforce"),
    "our engine, guard off": OURS.replace("MODE", "off"),
}


class Server:
    """One of them, in a process of its own."""

    def __init__(self, text: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as chosen:
            self.port = chosen.getsockname()[1]
        self._process = subprocess.Popen(
            [sys.executable, "-c", text.replace("PORT", str(self.port))],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        give_up = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise SystemExit("a server does not serve")
            time.sleep(0.05)

    def load(self, seconds: int) -> tuple[float, float]:
        """Load it; return requests a second, and CPU seconds of the server for one."""
        wrk = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s"]
        for name, value in HEADERS.items():
            wrk += ["-H", f"{name}: {value}"]
        before = self._cpu_seconds()
        told = subprocess.run(
            [*wrk, f"http://127.0.0.1:{self.port}/"], capture_output=True, text=True, check=True
        ).stdout
        if "Non-2xx" in told or "Socket errors" in told:
            raise SystemExit(f"the load met errors, so it cannot be measured:\n{told}")
        requests = int(re.search(r"(\d+) requests in", told)[1])
        per_second = float(re.search(r"Requests/sec:\s+([\d.]+)", told)[1])
        return per_second, (self._cpu_seconds() - before) / requests

    def _cpu_seconds(self) -> float:
        tasks = Path(f"/proc/{self._process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9

    def kill(self) -> None:
        """End it."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)


PAGE = """\
# What the protocol guard costs beside stock uvicorn

{date}, CPython {python}, {cpus} CPUs ({machine}), load {load:.1f} before, {commit}.

Made by `python benchmarks/protocol.py`: {rounds} rounds of {seconds} s for each, by turns; wrk with
{connections} connections that ask again at once and {headers} headers, on the same cores. The
application does nothing, so this is the largest share that the guard can have. A ratio is to stock
uvicorn within one round; the median is shown with its quartiles.

| server | requests a second | ratio | CPU for a request | ratio |
|---|--:|---|--:|---|
{rows}

Versions: {versions}.
"""


def ratio(ours: list[float], stock: list[float]) -> str:
    """Return the median of the ratios within a round, with quartiles."""
    low, middle, high = quantiles([a / b for a, b in zip(ours, stock, strict=True)], n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=15, help="how often each is loaded")
    parser.add_argument("--seconds", type=int, default=2, help="how long each load lasts")
    parser.add_argument("--try", dest="trial", action="store_true", help="print, and write nothing")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds: quartiles need at least 2")
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed; on Debian: apt-get install wrk")
    load = os.getloadavg()[0]
    servers: dict[str, Server] = {}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ARMS}
    try:
        for name, text in ARMS.items():
            servers[name] = Server(text)
            servers[name].load(1)
        turn = list(ARMS)
        for _ in range(options.rounds):
            for name in turn:
                found[name].append(servers[name].load(options.seconds))
            turn.reverse()
    finally:
        for server in servers.values():
            server.kill()
    rates = {name: [rate for rate, _ in loads] for name, loads in found.items()}
    costs = {name: [cost for _, cost in loads] for name, loads in found.items()}
    stock = "stock uvicorn"
    page = PAGE.format(
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        python=platform.python_version(),
        cpus=os.cpu_count(),
        machine=platform.machine(),
        load=load,
        commit=commit(),
        rounds=options.rounds,
        seconds=options.seconds,
        connections=CONNECTIONS,
        headers=len(HEADERS) + 1,
        rows="\n".join(
            f"| {name} | {median(rates[name]):,.0f} | {ratio(rates[name], rates[stock])} "
            f"| {median(costs[name]) * 1e6:.1f} us | {ratio(costs[name], costs[stock])} |"
            for name in ARMS
        ),
        versions=", ".join(
            f"{each} {version(each)}" for each in ("uvicorn", "uvloop", "httptools")
        ),
    )
    print(page)
    if not options.trial:
        RESULT.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
