"""What `shipworthy run` costs beside bare uvicorn with the same number of workers.

    python benchmarks/serving.py                    measure, print, write results/serving.md
    python benchmarks/serving.py --rounds 3 --try   a short look that writes nothing

Both arms serve at once and are loaded by turns, so what else the machine does meets both; each
ratio is within one round, and the median over the rounds is shown with quartiles. The load is wrk
(Debian: apt-get install wrk) on the same cores, so the CPU time that the server's processes take
for a request is shown too: it depends least on who else runs.
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
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles

from environment import commit

from shipworthy.demo.prepare import prepare

HERE = Path(__file__).parent
RESULT = HERE / "results" / "serving.md"
START_SECONDS = 60.0
CONNECTIONS = 32
IDLE_SECONDS = 10.0
EXITS = 10
# DESIGN: at most so much of bare uvicorn's throughput, on the demo's list route.
BUDGET_RATIO = 0.95
UVICORN, OURS = "uvicorn", "shipworthy run"
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Served:
    """An application, by the words that each server takes for it, and the path that is asked."""

    title: str
    path: str
    target: Mapping[str, tuple[str, ...]]
    lines: bool = True  # whether a line is written for each request


HELLO = Served(
    "hello-world (an `async def` of FastAPI)",
    "/items/7",
    {UVICORN: ("--factory", "rounds:bare"), OURS: ("rounds:bare()",)},
)
QUIET = replace(HELLO, title="hello-world, no access lines", lines=False)
LIST = Served(
    "the demo's list of projects (SQLite)",
    "/projects",
    {
        UVICORN: ("shipworthy.demo.service:app",),
        OURS: ("shipworthy.demo.hardened:app",),
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one run of the load found."""

    per_second: float
    p99_seconds: float
    cpu_seconds: float  # of all processes of the server, for one request


class Server:
    """A server in a session of its own, so that its processes are known."""

    def __init__(self, kind: str, served: Served, workers: int, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as chosen:
            port = chosen.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}{served.path}"
        words = {
            UVICORN: ["uvicorn"] + ([] if served.lines else ["--no-access-log"]),
            OURS: ["shipworthy", "run", "--ops-port", "0"],
        }
        options = ["--port", str(port)] + (["--workers", str(workers)] if workers > 1 else [])
        paths = [str(HERE), os.environ.get("PYTHONPATH", "")]
        environ = {k: v for k, v in os.environ.items() if not k.startswith("SHIPWORTHY_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", *words[kind], *served.target[kind], *options],
            cwd=folder,
            env=environ
            | {
                "PYTHONPATH": os.pathsep.join(path for path in paths if path),
                "DATABASE_URL": f"sqlite:///{folder}/demo.sqlite3",
                "SHIPWORTHY_WEB__ACCESS_LOG": str(served.lines).lower(),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.pid = self._process.pid
        try:
            self._await_start(workers)
        except BaseException:
            self.kill()
            raise

    def _await_start(self, workers: int) -> None:
        give_up = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise SystemExit(f"{self._process.args!r} does not serve {self.url}")
            time.sleep(0.02)
        # Each worker is to serve, and the first answer came from one.
        if workers > 1:
            time.sleep(2.0)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url, timeout=5) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError as error:
            raise SystemExit(f"{self.url} answers {error.code}") from error
        except OSError:
            return False

    def load(self, seconds: int) -> Load:
        """Have wrk ask it for so long."""
        before = sum(self.cpu_seconds().values())
        wrk = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", self.url]
        told = subprocess.run(wrk, capture_output=True, text=True, check=True).stdout
        if "Non-2xx" in told or "Socket errors" in told:
            raise SystemExit(f"the load met errors, so it cannot be measured:\n{told}")
        requests = int(re.search(r"(\d+) requests in", told)[1])
        number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", told).groups()
        return Load(
            per_second=float(re.search(r"Requests/sec:\s+([\d.]+)", told)[1]),
            p99_seconds=float(number) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[unit],
            cpu_seconds=(sum(self.cpu_seconds().values()) - before) / requests,
        )

    def cpu_seconds(self) -> dict[int, float]:
        """Return the CPU time of each of its processes, by process id."""
        return {pid: _cpu_seconds(pid) for pid in self._pids()}

    def _pids(self) -> list[int]:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.getsid(int(entry.name)) == self.pid:
                    found.append(int(entry.name))
        return found

    def leave(self) -> float:
        """Send SIGTERM to its first process, and return the seconds to the end."""
        began = time.monotonic()
        self._process.terminate()
        self._process.wait(60)
        return time.monotonic() - began

    def kill(self) -> None:
        """End all that is left of it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(10)


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time of all threads that a process has now, to the nanosecond."""
    total = 0
    for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):
            total += int(thread.read_text().split()[0])
    return total / 1e9


def _mebibytes(pid: int, name: str) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)[1]) / 1024


@contextlib.contextmanager
def both(served: Served, workers: int, folder: Path) -> Iterator[dict[str, Server]]:
    """Serve the same by both, at once."""
    servers: dict[str, Server] = {}
    try:
        for kind in (UVICORN, OURS):
            servers[kind] = Server(kind, served, workers, folder)
        yield servers
    finally:
        for server in servers.values():
            server.kill()


# -- what is measured --

Loads = dict[tuple[str, int], dict[str, list[Load]]]


def throughput(rounds: int, seconds: int, workers: list[int], folder: Path) -> Loads:
    """Load both by turns; returns what was found by route and number of workers, by server."""
    found: Loads = {}
    for served in (HELLO, QUIET, LIST):
        for count in workers:
            arms = found[served.title, count] = {UVICORN: [], OURS: []}
            with both(served, count, folder) as servers:
                for server in servers.values():
                    server.load(1)
                turn = [UVICORN, OURS]
                for _ in range(rounds):
                    for kind in turn:
                        arms[kind].append(servers[kind].load(seconds))
                    turn.reverse()
    return found


def rows(found: Loads, name: str, scale: float, digits: int) -> str:
    """Return the rows of one measure."""
    lines = []
    for (title, workers), arms in found.items():
        bare, ours = ([getattr(load, name) for load in arms[kind]] for kind in (UVICORN, OURS))
        ratios = [two / one for one, two in zip(bare, ours, strict=True)]
        low, _, high = quantiles(ratios, n=4)
        lines.append(
            f"| {title} | {workers} | {median(bare) * scale:,.{digits}f} "
            f"| {median(ours) * scale:,.{digits}f} "
            f"| {median(ratios):.2f} ({low:.2f} to {high:.2f}) |"
        )
    return "\n".join(lines)


def exits(times: int, counts: list[int], folder: Path) -> str:
    """Start, ask once and end each of them, by turns; return rows."""
    lines = []
    for workers in counts:
        found: dict[str, list[float]] = {UVICORN: [], OURS: []}
        for _ in range(times):
            for kind, seconds in found.items():
                server = Server(kind, HELLO, workers, folder)
                try:
                    seconds.append(server.leave())
                finally:
                    server.kill()
        lines += [
            f"| {kind} | {workers} | {median(seconds) * 1e3:.0f} ms | {max(seconds) * 1e3:.0f} ms |"
            for kind, seconds in found.items()
        ]
    return "\n".join(lines)


def idle(seconds: float, workers: int, folder: Path) -> str:
    """Let both do nothing; return a row for each kind of process."""
    lines = []
    with both(HELLO, workers, folder) as servers:
        for server in servers.values():
            server.load(1)
        time.sleep(3.0)  # what a load leaves to be done is done
        before = {kind: server.cpu_seconds() for kind, server in servers.items()}
        time.sleep(seconds)
        for kind, server in servers.items():
            after = server.cpu_seconds()
            parts = {
                "first process": [server.pid],
                "a worker, on average": [pid for pid in after if _is_worker(pid, server.pid)],
            }
            for title, pids in parts.items():
                if not pids:
                    continue
                share = sum(after[p] - before[kind].get(p, 0.0) for p in pids) / len(pids) / seconds
                rss, pss = (
                    sum(_mebibytes(pid, name) for pid in pids) / len(pids)
                    for name in ("Rss", "Pss")
                )
                lines.append(f"| {kind} | {title} | {share:.2%} | {rss:.0f} MiB | {pss:.0f} MiB |")
    return "\n".join(lines)


def _is_worker(pid: int, first: int) -> bool:
    """Whether it is not the first process, and not what multiprocessing runs beside it."""
    command = Path(f"/proc/{pid}/cmdline").read_text()
    return pid != first and "resource_tracker" not in command


PAGE = """\
# What `shipworthy run` costs beside bare uvicorn

{date}, CPython {python}, {cpus} CPUs ({machine}), load {load:.1f} before, {commit}.

Made by `python benchmarks/serving.py`. The client (wrk, one thread, {connections} connections that
ask again at once) and the servers share the {cpus} cores, so compare ratios. As both do by default,
they write a line for each request (to the null device), except where it says that they do not. p99
is that of a server that has all it can do.

## Under load

{rounds} rounds of {seconds} s for each arm, by turns. A ratio is `run` to uvicorn within one round;
the median is shown with its quartiles.

{tables}
Budget: at least {budget} of uvicorn's throughput on the demo's list route.

## From SIGTERM to the end, nothing in flight

{exits_count} times each, by turns; hello-world, asked once before.

| server | workers | median | longest |
|---|--:|--:|--:|
{exits}

## Doing nothing

Workers: {idle_workers}; hello-world, {idle_seconds:g} s without a request. CPU is a share of one
core; a first process without others is its own worker.

| server | process | CPU | RSS | PSS |
|---|---|--:|--:|--:|
{idle}

Versions: {versions}.
"""


TABLE = """\
### {title}

| route | workers | uvicorn | `run` | ratio |
|---|--:|--:|--:|---|
{rows}
"""
# Which fact of a load, what to multiply it by, and how many digits it has then.
MEASURES = {
    "Requests a second": ("per_second", 1, 0),
    "p99 in milliseconds": ("p99_seconds", 1e3, 1),
    "CPU microseconds for a request": ("cpu_seconds", 1e6, 0),
}


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=9, help="how often each arm is loaded")
    parser.add_argument("--seconds", type=int, default=3, help="how long each load lasts")
    parser.add_argument("--exits", type=int, default=EXITS, help="how often each is ended")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="each of these")
    parser.add_argument("--try", dest="trial", action="store_true", help="print, and write nothing")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds: quartiles need at least 2")
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed; on Debian: apt-get install wrk")
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="ship-serving") as name:
        folder = Path(name)
        prepare(f"sqlite:///{folder}/demo.sqlite3", directory=folder)
        found = throughput(options.rounds, options.seconds, options.workers, folder)
        page = PAGE.format(
            date=f"{datetime.now(UTC):%Y-%m-%d}",
            python=platform.python_version(),
            cpus=os.cpu_count(),
            machine=platform.machine(),
            load=load,
            commit=commit(),
            connections=CONNECTIONS,
            rounds=options.rounds,
            seconds=options.seconds,
            budget=BUDGET_RATIO,
            exits_count=options.exits,
            idle_seconds=IDLE_SECONDS,
            tables="\n".join(
                TABLE.format(title=title, rows=rows(found, *how)) for title, how in MEASURES.items()
            ),
            exits=exits(options.exits, options.workers, folder),
            idle_workers=options.workers[-1],
            idle=idle(IDLE_SECONDS, options.workers[-1], folder),
            versions=", ".join(
                f"{each} {version(each)}" for each in ("uvicorn", "uvloop", "httptools", "fastapi")
            ),
        )
    print(page)
    if not options.trial:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
