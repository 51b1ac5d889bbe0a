"""`harden(app)` under other servers.

The same application, bare and hardened, under each server with one worker and its defaults, in an
environment of its own (`.state/servers`, from `evidence/requirements-servers.txt`). First it is
asked while it serves. Then the server's first process gets SIGTERM with a request, a stream, a
background task or a websocket in flight. What is in flight is let go one second later, and the
seconds to the end count from there; with nothing to let go, from SIGTERM. `shipworthy run` stands
beside. *In this order* is what the application noted: `drain` is where ours began.
"""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

ROOT = Path(__file__).parents[1]
APP = ROOT / "evidence" / "servers_app"
WANTED = ROOT / "evidence" / "requirements-servers.txt"
RESULT = ROOT / "evidence" / "results" / "servers.json"
PLACE = ROOT / ".state" / "servers"
COVERS = (
    "src/shipworthy/assembly.py",
    "src/shipworthy/lifecycle",
    "src/shipworthy/web",
    "evidence/servers.py",
    "evidence/requirements-servers.txt",
    "evidence/servers_app",
)
PATIENCE_SECONDS = 20.0
HELD_SECONDS = 1.0
# Longer than any server's own bound for what is in flight, except those that have none.
LEAVING_SECONDS = 45.0

SERVERS = {
    "uvicorn": "uvicorn {app} --port {port}",
    "gunicorn, uvicorn-worker": (
        "gunicorn {app} -b 127.0.0.1:{port} -k uvicorn_worker.UvicornWorker --no-control-socket"
    ),
    "gunicorn, its own asgi": "gunicorn {app} -b 127.0.0.1:{port} -k asgi --no-control-socket",
    "granian": "granian {app} --port {port} --interface asgi",
    "hypercorn": "hypercorn {app} -b 127.0.0.1:{port}",
    "shipworthy run": "shipworthy run {app} --port {port} --ops-port 0",
}
PACKAGES = ("uvicorn", "gunicorn", "uvicorn-worker", "granian", "hypercorn", "starlette")
YES, NO = "yes", "no"


@dataclass
class Running:
    """A server that was started here, with the folder it works in."""

    process: subprocess.Popen[bytes]
    port: int
    folder: Path
    out: Path
    ended: int | None = None
    took_seconds: float = 0.0
    _asked_at: float = field(default=0.0, repr=False)

    def diary(self) -> list[str]:
        """What the application has noted."""
        path = self.folder / "diary.txt"
        return path.read_text().splitlines() if path.exists() else []

    def until(self, condition: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> bool:
        """Wait for a condition; False when it did not come in time."""
        give_up = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > give_up:
                return False
            time.sleep(0.01)
        return True

    def noted(self, line: str) -> bool:
        """Wait until the diary has a line."""
        return self.until(lambda: line in self.diary())

    def connection(self) -> http.client.HTTPConnection:
        """A connection of its own, kept alive between requests."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=LEAVING_SECONDS)

    def get(self, path: str) -> tuple[http.client.HTTPResponse, bytes]:
        """One request on a connection of its own."""
        connection = self.connection()
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer, answer.read()

    def terminate(self) -> None:
        """SIGTERM to the server's first process, as an orchestrator does."""
        self._asked_at = time.monotonic()
        self.process.send_signal(signal.SIGTERM)

    def release(self) -> None:
        """Let go what is held; the end is counted from here."""
        (self.folder / "released").touch()
        self._asked_at = time.monotonic()

    def wait(self) -> None:
        """Wait for the end; what does not end is left to the caller to kill."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.ended = self.process.wait(LEAVING_SECONDS)
            self.took_seconds = time.monotonic() - self._asked_at

    def end(self) -> dict[str, str]:
        """How it ended, and what the application noted on the way."""
        last = [line for line in self.diary() if not line.endswith(("start", "began"))]
        if self.ended is None:
            return {"ends": f"not within {LEAVING_SECONDS:g} s", "in this order": ", ".join(last)}
        by = "by the signal" if self.ended == -signal.SIGTERM else f"with {self.ended}"
        return {"ends": f"{by}, {self.took_seconds:.1f} s", "in this order": ", ".join(last)}


def said(fact: object) -> str:
    """Yes or no."""
    return YES if fact else NO


@contextlib.contextmanager
def running(command: str, app: str, folder: Path) -> Iterator[Running]:
    """Start a server in `folder` and wait until it answers; at the end nothing of it is left."""
    folder.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        port = chosen.getsockname()[1]
    out = folder / "output.txt"
    words = command.format(app=f"served:{app}", port=port).split()
    environ = {k: v for k, v in os.environ.items() if not k.startswith("SHIPWORTHY_")}
    with out.open("wb") as sink:
        process = subprocess.Popen(
            [str(PLACE / "bin" / words[0]), *words[1:]],
            cwd=folder,
            env=environ | {"PYTHONPATH": str(APP), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Running(process, port, folder, out)
    try:
        if not server.until(lambda: process.poll() is not None or answers(server)):
            raise RuntimeError(f"{words[0]} did not answer:\n{out.read_text()}")
        if process.poll() is not None:
            raise RuntimeError(f"{words[0]} ended with {process.poll()}:\n{out.read_text()}")
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            # A session of its own: the server, its workers and nobody else.
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def answers(server: Running) -> bool:
    """Does it serve yet?"""
    try:
        return server.get("/")[0].status == 200
    except (OSError, http.client.HTTPException):
        return False


def serving(server: Running) -> dict[str, str]:
    """What holds while it serves, and how it leaves when nothing is in flight."""
    fine, body = server.get("/items/7")
    missing, _ = server.get("/no/such/page")
    try:
        broken, problem = server.get("/boom")
        kind = f"{broken.status} {broken.headers['content-type']}"
        asked = [fine, missing, broken]
    except (OSError, http.client.HTTPException) as error:
        kind, problem, asked = f"no answer: {type(error).__name__}", b"", [fine, missing]
    ids = [answer.headers.get_all("x-request-id") or [] for answer in asked]
    facts = {
        "one request id on each answer": said(all(len(found) == 1 for found in ids)),
        "state of the lifespan in requests": said(body == b"from start-up"),
        "an unhandled exception": kind + (", says why" if b"s3cret" in problem else ""),
        "probes": " ".join(
            str(server.get(p)[0].status) for p in ("/livez", "/readyz", "/startupz")
        ),
        "a stream arrives part by part": said(streams(server)),
        "a websocket echoes": said(echoes(server)),
        "app and components started": " ".join(
            line for line in server.diary() if line.endswith("start")
        ),
    }
    if "component start" in server.diary():
        found = {
            tuple(labels): numbers[0] for labels, numbers in json.loads(server.get("/numbers")[1])
        }
        facts["requests are counted by route"] = said(
            found.get(("GET", "/items/{item}", "200")) == 1
            and found.get(("GET", "/boom", "500")) == 1
            and found.get(("GET", "_unmatched", "404")) == 1
        )
    server.terminate()
    server.wait()
    lines = server.out.read_text().splitlines()
    facts["an access line with the id"] = said(
        ids[0] and any(ids[0][0] in line and "/items/7" in line for line in lines)
    )
    return facts | server.end()


def streams(server: Running) -> bool:
    """Does the first part arrive before the second is made?"""
    with contextlib.closing(server.connection()) as connection:
        connection.request("GET", "/stream")
        answer = connection.getresponse()
        first = answer.read1(100)
        server.release()
        rest = answer.read()
    (server.folder / "released").unlink()
    return (first, rest) == (b"one\n", b"two\n")


def echoes(server: Running) -> bool:
    """Does a websocket get its own words back?"""
    with connect(f"ws://127.0.0.1:{server.port}/echo") as websocket:
        websocket.send("hello")
        return websocket.recv(5) == "hello"


def request_in_flight(server: Running) -> dict[str, str]:
    """SIGTERM with a request in flight, another on an idle connection, and a new client."""
    idle = server.connection()
    idle.request("GET", "/")
    idle.getresponse().read()
    busy = server.connection()
    busy.request("GET", "/held")
    server.noted("request began")
    server.terminate()
    time.sleep(HELD_SECONDS / 2)
    facts = {
        "asked again on an idle connection": outcome(idle, "/"),
        "a new client": outcome(server.connection(), "/readyz"),
    }
    time.sleep(HELD_SECONDS / 2)
    server.release()
    facts["the request in flight"] = answered(busy, b"whole")
    server.wait()
    return facts | server.end()


def stream_in_flight(server: Running) -> dict[str, str]:
    """SIGTERM in the middle of an answer."""
    busy = server.connection()
    busy.request("GET", "/stream")
    server.noted("stream began")
    server.terminate()
    time.sleep(HELD_SECONDS)
    server.release()
    facts = {"the stream in flight": answered(busy, b"one\ntwo\n")}
    server.wait()
    return facts | server.end()


def background_in_flight(server: Running) -> dict[str, str]:
    """SIGTERM when the answer is given and its background task is not done."""
    server.get("/background")
    server.noted("background began")
    server.terminate()
    time.sleep(HELD_SECONDS)
    server.release()
    server.wait()
    noted = server.diary()
    facts = {"the background task": "ended" if "background ended" in noted else "was lost"}
    if "background ended" in noted and "app stop" in noted:
        early = noted.index("background ended") < noted.index("app stop")
        facts["the background task"] += " before" if early else " after"
        facts["the background task"] += " the app's shutdown"
    return facts | server.end()


def websocket_in_flight(server: Running) -> dict[str, str]:
    """SIGTERM with an open websocket whose client only listens."""
    with connect(f"ws://127.0.0.1:{server.port}/echo", close_timeout=1) as websocket:
        server.noted("websocket began")
        server.terminate()
        try:
            websocket.recv(LEAVING_SECONDS)
            heard = "a message"
        except ConnectionClosed as closed:
            heard = f"closed with {closed.rcvd.code}" if closed.rcvd else "cut without a word"
        except TimeoutError:
            heard = "nothing within 45 s"
    server.wait()
    facts = {
        "the websocket": heard,
        "the app heard of it": said("websocket ended" in server.diary()),
    }
    return facts | server.end()


def outcome(connection: http.client.HTTPConnection, path: str) -> str:
    """What a client that asks while the server leaves gets to hear."""
    try:
        with contextlib.closing(connection):
            connection.timeout = 2.0
            if connection.sock is not None:
                connection.sock.settimeout(2.0)
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
    except ConnectionRefusedError:
        return "is refused"
    except TimeoutError:
        return "waits"
    except (OSError, http.client.HTTPException):
        return "is cut"
    closing = answer.headers.get("connection") == "close"
    return f"{answer.status}" + (", Connection: close" if closing else "")


def answered(connection: http.client.HTTPConnection, whole: bytes) -> str:
    """What became of a request that was in flight."""
    try:
        with contextlib.closing(connection):
            answer = connection.getresponse()
            body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        return f"lost ({type(error).__name__})"
    if body != whole:
        return f"cut after {body!r}"
    closing = answer.headers.get("connection") == "close"
    return "whole" + (", Connection: close" if closing else "")


SCENES = {
    "serving": serving,
    "request": request_in_flight,
    "stream": stream_in_flight,
    "background": background_in_flight,
    "websocket": websocket_in_flight,
}
Facts = dict[str, dict[str, dict[str, dict[str, str]]]]


def observe(folder: Path, names: list[str]) -> Facts:
    """Return what was seen, by server, by `bare` and `hardened`, by scene."""
    found: Facts = {}
    for name in names:
        for app in ("bare", "hardened"):
            for scene, play in SCENES.items():
                place = folder / re.sub(r"\W+", "-", f"{name} {app} {scene}")
                with running(SERVERS[name], app, place) as server:
                    found.setdefault(name, {}).setdefault(app, {})[scene] = play(server)
            print(f"  {name}, {app}", flush=True)
    return found


def tables(found: Facts) -> str:
    """One table for each scene: a row for each thing seen, a column for each server."""
    names = list(found)
    parts = []
    for scene, play in SCENES.items():
        parts += [f"## {(play.__doc__ or '').strip().rstrip('.')}", ""]
        parts += ["| | | " + " | ".join(names) + " |", "|---|---|" + "---|" * len(names)]
        rows = dict.fromkeys(
            row for name in names for app in found[name].values() for row in app[scene]
        )
        for row in rows:
            cells = {
                app: " | ".join(found[name][app][scene].get(row, "") for name in names)
                for app in ("bare", "hardened")
            }
            if cells["bare"] == cells["hardened"]:
                cells = {"both": cells["bare"]}
            parts += [
                f"| {row} | {app} | {line} |" for app, line in cells.items() if line.strip(" |")
            ]
        parts.append("")
    return "\n".join(parts)


def environment() -> Path:
    """Return the Python of an environment with the servers, made when what is wanted changed."""
    python = PLACE / "bin" / "python"
    stamp = PLACE / "made-from.txt"
    wanted = f"{sys.version}\n{WANTED.read_text()}"
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(PLACE)], check=True)
    pip = [str(python), "-m", "pip", "install", "-q", "-r", str(WANTED), "-e", str(ROOT)]
    subprocess.run(pip, check=True)
    stamp.write_text(wanted)
    return python


def versions(python: Path) -> dict[str, str]:
    """Return the versions of what took part."""
    script = "import sys, importlib.metadata as m; [print(n, m.version(n)) for n in sys.argv[1:]]"
    told = subprocess.run(
        [python, "-c", script, *PACKAGES], capture_output=True, text=True, check=True
    )
    return dict(line.split() for line in told.stdout.splitlines())


def run(folder: Path) -> tuple[str, dict[str, str]]:
    """Play every scene with every server and return the tables."""
    taken = versions(environment())
    found = observe(folder, list(SERVERS))
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"versions": taken, "seen": found}, indent=1) + "\n")
    return tables(found), taken
