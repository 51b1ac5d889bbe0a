"""Rolling replacements of two workers under load, beside other servers

The same application (`tests/flows/apps/rolled.py`), load (`tests/flows/rolling.py`) and machine,
one server after the other. SIGHUP has the workers replaced, and the next one is sent when both
workers are new and the old ones gone: 20 times for `shipworthy run`, 10 times for the others.
hypercorn has no such signal. It got more than its users have: a listening socket of ours, a second
hypercorn started on it, and SIGTERM for the first when both workers of the second serve.

40 clients keep their connections and think up to 50 ms between requests, ten requests a second come
on new connections, ten clients read streams of a second, ten follow event streams without end, ten
talk through websockets; each comes again when what it had has ended. Every server is told to give
two seconds to what is in flight. Under uvicorn-worker gunicorn cannot be told: there the worker is
killed when its heartbeat has been missing for five seconds. Access lines are off everywhere.

It is no failure when an idle connection is closed before a request, when an answer says
`Connection: close`, when an event stream ends with its terminator after a whole event, and when a
websocket is closed with 1012 or 1001.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import servers

ROOT = Path(__file__).parents[1]
APPS = ROOT / "tests" / "flows" / "apps"
RESULT = ROOT / "evidence" / "results" / "rolling.json"
COVERS = (
    "src/shipworthy/serve",
    "src/shipworthy/lifecycle",
    "tests/flows/rolling.py",
    "tests/flows/apps/rolled.py",
    "evidence/rolling.py",
    "evidence/requirements-servers.txt",
)
OURS = "shipworthy run"
WORKERS = 2
REPLACEMENTS, PEERS_REPLACEMENTS = 20, 10
# Longer than any server's own bound for a start and for what is in flight.
REPLACED_SECONDS = 30.0
PAUSE_SECONDS = 0.3
SETTINGS = """
[lifecycle]
grace = "10s"
drain = "2s"
idle_grace = "500ms"

[web]
access_log = false
"""
# hypercorn gets the number of an inherited socket in place of an address.
SERVERS = {
    "uvicorn": (
        "uvicorn rolled:app --port {port} --workers 2 --timeout-graceful-shutdown 2 --no-access-log"
    ),
    "gunicorn, uvicorn-worker": (
        "gunicorn rolled:app -b 127.0.0.1:{port} -w 2 -k uvicorn_worker.UvicornWorker "
        "--graceful-timeout 2 --timeout 5 --no-control-socket"
    ),
    "gunicorn, its own asgi": (
        "gunicorn rolled:app -b 127.0.0.1:{port} -w 2 -k asgi --graceful-timeout 2 "
        "--no-control-socket"
    ),
    "granian": (
        "granian rolled:app --port {port} --interface asgi --workers 2 --workers-kill-timeout 2"
    ),
    "hypercorn": "hypercorn rolled:app -b fd://{fd} --workers 2 --graceful-timeout 2",
    OURS: "shipworthy run rolled:app --port {port} --ops-port 0 --workers 2",
}
WHAT = {
    "kept": "kept connections",
    "new": "new connections",
    "stream": "streams",
    "events": "event streams",
    "websocket": "websockets",
}


@dataclass
class Served:
    """The application under one server, in a folder of its own."""

    name: str
    folder: Path
    listening: socket.socket | None = None
    port: int = 0
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        """Start the server's first process."""
        fd = self.listening.fileno() if self.listening else -1
        words = SERVERS[self.name].format(port=self.port, fd=fd).split()
        environ = {k: v for k, v in os.environ.items() if not k.startswith("SHIPWORTHY_")}
        with (self.folder / "output.txt").open("ab") as sink:
            process = subprocess.Popen(
                [str(servers.PLACE / "bin" / words[0]), *words[1:]],
                cwd=self.folder,
                env=environ | {"PYTHONPATH": str(APPS), "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[fd] if self.listening else [],
            )
        self.processes.append(process)

    def serving(self) -> set[int]:
        """Return the process ids of the workers that have started the application and live."""
        return {
            int(path.name) for path in (self.folder / "served-by").glob("*") if lives(path.name)
        }

    def replace(self) -> float | None:
        """Have all workers replaced; return the seconds it took, or None for one that stayed."""
        before, began = self.serving(), time.monotonic()
        if self.listening is None:
            self.processes[0].send_signal(signal.SIGHUP)
        else:
            self.start()
            until(lambda: len(self.serving() - before) == WORKERS, REPLACED_SECONDS)
            self.processes[-2].send_signal(signal.SIGTERM)
        done = until(
            lambda: len(now := self.serving()) == WORKERS and not now & before, REPLACED_SECONDS
        )
        return time.monotonic() - began if done else None

    def said(self) -> str:
        """Return the end of what the server has written."""
        return (self.folder / "output.txt").read_text(errors="replace")[-2000:]


def lives(pid: str) -> bool:
    """Tell whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(condition: Callable[[], Any], seconds: float) -> bool:
    """Wait for a condition; False when it did not come in time."""
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.02)
    return True


@contextlib.contextmanager
def served(name: str, folder: Path) -> Iterator[Served]:
    """Start a server and wait for both its workers; at the end nothing of it is left."""
    folder.mkdir(parents=True)
    (folder / "shipworthy.toml").write_text(SETTINGS)
    chosen = socket.create_server(("127.0.0.1", 0), backlog=2048)
    port = chosen.getsockname()[1]
    if "{fd}" in SERVERS[name]:
        server = Served(name, folder, chosen, port)
    else:
        chosen.close()
        server = Served(name, folder, None, port)
    try:
        server.start()
        if not until(lambda: len(server.serving()) == WORKERS and takes(port), REPLACED_SECONDS):
            raise RuntimeError(f"{name} did not start:\n{server.said()}")
        yield server
    finally:
        for process in server.processes:
            with contextlib.suppress(ProcessLookupError):
                # A session of its own: the server, its workers and nobody else.
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        chosen.close()


def takes(port: int) -> bool:
    """Tell whether somebody listens."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


def observe(folder: Path, replacements: dict[str, int]) -> dict[str, dict[str, Any]]:
    """Return what the clients met under each server, and how long the replacements took."""
    sys.path[:0] = [str(ROOT / "tests")]
    from flows.rolling import Load  # type: ignore[import-not-found]

    seen: dict[str, dict[str, Any]] = {}
    for number, (name, times) in enumerate(replacements.items()):
        with (
            served(name, folder / f"server-{number}") as server,
            Load("127.0.0.1", server.port) as load,
        ):
            took = []
            for _ in range(times):
                took.append(server.replace())
                time.sleep(PAUSE_SECONDS)
            tally = load.end()
        seen[name] = tally.to_dict() | {"took_seconds": took}
        print(f"  {name}: {tally.failures} of {tally.attempts} failed", flush=True)
        for line in tally.shown[:3]:
            print(f"    {line}", flush=True)
    return seen


def tables(seen: dict[str, dict[str, Any]]) -> str:
    """Write what failed of how much, then of what and how."""
    from flows.rolling import FAILURES, Tally, upper_bound

    tallies = {
        name: Tally.of({k: v for k, v in found.items() if k != "took_seconds"})
        for name, found in seen.items()
    }
    parts = [
        "## How many",
        "",
        (
            "| server | workers replaced | took, median | attempted | failed "
            "| rate is below, with 95 % confidence | longest wait for an answer |"
        ),
        "|---|---|---|---|---|---|---|",
    ]
    for name, tally in tallies.items():
        took = [seconds for seconds in seen[name]["took_seconds"] if seconds is not None]
        times = f"{len(took)} of {len(seen[name]['took_seconds'])} times"
        middle = f"{median(took):.1f} s" if took else ""
        bound = upper_bound(tally.failures, tally.attempts)
        longest = max(tally.longest_seconds.get(what, 0.0) for what in ("kept", "new"))
        parts.append(
            f"| {name} | {times} | {middle} | {tally.attempts:,} | {tally.failures:,} "
            f"| {bound:.1e} | {longest:.2f} s |"
        )
    late = max(tally.lateness_seconds for tally in tallies.values())
    parts += [
        "",
        (
            f"One in ten of the requests takes 0.3 s by itself; the load's own loop was late by "
            f"{late:.2f} s at worst."
        ),
        "",
        "## Of what, and how",
        "",
        "| server | " + " | ".join(WHAT.values()) + " |",
        "|---|" + "---|" * len(WHAT),
    ]
    for name, tally in tallies.items():
        cells = []
        for what in WHAT:
            kinds = tally.failed.get(what, {})
            how = ", ".join(f"{kind} {count:,}" for kind, count in kinds.items())
            count = sum(kinds.values())
            cells.append(f"{count:,} of {tally.attempted[what]:,}" + (f": {how}" if how else ""))
        parts.append(f"| {name} | " + " | ".join(cells) + " |")
    parts += ["", *(f"- *{kind}*: {meaning}" for kind, meaning in FAILURES.items())]
    return "\n".join(parts)


def run(folder: Path) -> tuple[str, dict[str, str]]:
    """Replace the workers of each server, write the numbers, and return the tables.

    Fails when a client of `shipworthy run` met a failure, or a worker of it was not replaced.
    """
    taken = servers.versions(servers.environment())
    seen = observe(
        folder, {name: REPLACEMENTS if name == OURS else PEERS_REPLACEMENTS for name in SERVERS}
    )
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"versions": taken, "seen": seen}, indent=1) + "\n")
    told = tables(seen)
    ours = seen[OURS]
    if any(ours["failed"].values()) or None in ours["took_seconds"]:
        raise SystemExit(f"not without a failure:\n{told}")
    return told, taken
