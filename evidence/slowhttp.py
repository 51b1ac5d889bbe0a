"""slowhttptest against `shipworthy run` and bare uvicorn

slowhttptest (Debian) opens more connections than the server has file descriptors, and holds them:
with headers that do not end (-H), bodies that do not end (-B), answers it does not read (-X), and
heads that ask for many ranges (-R). Beside it a client asks for a small page once a second, each
time on a connection of its own with five seconds' patience. Available is the share of its requests
that were answered 200. What slowhttptest itself says of its probe connection stands beside it: how
many of its reports, one every five seconds, said that the service was not available.

Both servers serve the same application with one worker and the same limit of descriptors; `run`
has its defaults. The last rows put bare uvicorn behind nginx with the snippet of the protocol
guard's page, nginx with as many descriptors as it has connections.
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
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "evidence" / "results" / "slowhttp.json"
COVERS = (
    "src/shipworthy/serve/protocol.py",
    "src/shipworthy/serve/pace.py",
    "src/shipworthy/serve/engine.py",
    "evidence/slowhttp.py",
)
DESCRIPTORS = 400
CONNECTIONS = 500
SECONDS = 30
PATIENCE_SECONDS = 5.0
PATH_LARGE = "/large"
APP = """
SMALL, LARGE = b"fine", b"x" * (1024 * 1024)


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    while (await receive()).get("more_body"):
        pass
    body = LARGE if scope["path"] == "/large" else SMALL
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""
ATTACKS = {
    "-H, slow headers": ["-H", "-i", "3", "-x", "24"],
    "-B, slow bodies": ["-B", "-i", "3", "-s", "8192", "-x", "10"],
    "-R, ranges": ["-R", "-t", "GET", "-a", "10", "-b", "3000"],
    "-X, slow reading": ["-X", "-w", "512", "-y", "1024", "-n", "5", "-z", "32"],
}
# Around the snippet of docs/reference/protocol.md.
NGINX = """
pid {folder}/pid;
error_log stderr crit;
worker_rlimit_nofile 4096;
events {{ worker_connections 2000; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
{snippet}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{behind};
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
    }}
  }}
}}
"""


@dataclass
class Asking:
    """A client that asks once a second, until it is told to stop."""

    port: int
    answered: int = 0
    asked: int = 0
    slowest_seconds: float = 0.0
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._over.wait(1.0):
            began = time.monotonic()
            self.asked += 1
            self.answered += answers(self.port)
            self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)


def answers(port: int) -> bool:
    """Whether a new client is answered 200 within its patience."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        return int(chosen.getsockname()[1])


@contextlib.contextmanager
def running(words: list[str], port: int, folder: Path, *, few: bool = True) -> Iterator[None]:
    """Start a program in `folder` and wait until it answers; at the end nothing of it is left."""
    paths = [str(folder), os.environ.get("PYTHONPATH", "")]
    limited = ["prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}", *words]
    process = subprocess.Popen(
        limited if few else words,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=(folder / "stderr.txt").open("ab"),
        start_new_session=True,
    )
    try:
        give_up = time.monotonic() + 30
        while not answers(port):
            if process.poll() is not None or time.monotonic() > give_up:
                raise SystemExit(
                    f"{words!r} does not serve:\n{(folder / 'stderr.txt').read_text()}"
                )
            time.sleep(0.1)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def uvicorn_of(port: int) -> list[str]:
    """Return the words for bare uvicorn."""
    return [sys.executable, "-m", "uvicorn", "held:app", "--port", str(port), "--no-access-log"]


def shipworthy_of(port: int) -> list[str]:
    """Return the words for `shipworthy run`."""
    run = [sys.executable, "-m", "shipworthy", "run", "held:app"]
    return [*run, "--port", str(port), "--ops-port", "0"]


@contextlib.contextmanager
def served(name: str, folder: Path) -> Iterator[int]:
    """Serve the application by the server of this name, and return where clients ask."""
    port = free_port()
    if name == "bare uvicorn":
        with running(uvicorn_of(port), port, folder):
            yield port
    elif name == "shipworthy run":
        with running(shipworthy_of(port), port, folder):
            yield port
    else:
        behind = free_port()
        configuration = folder / "nginx.conf"
        configuration.write_text(
            NGINX.format(folder=folder, port=port, behind=behind, snippet=snippet())
        )
        nginx = ["nginx", "-p", str(folder), "-c", str(configuration), "-g", "daemon off;"]
        with (
            running(uvicorn_of(behind), behind, folder),
            running(nginx, port, folder, few=False),
        ):
            yield port


def snippet() -> str:
    """Return what the documentation says to put into nginx."""
    text = (ROOT / "docs" / "reference" / "protocol.md").read_text()
    found = re.search(r"```nginx\n(.*?)```", text, re.DOTALL)
    if found is None:
        raise SystemExit("docs/reference/protocol.md has no snippet for nginx")
    return found[1]


def attack(options: list[str], port: int) -> tuple[int, int]:
    """Attack for a while; return how many reports there were, and how many said not available."""
    path = PATH_LARGE if "-X" in options else "/"
    words = [
        *("slowhttptest", *options, "-c", str(CONNECTIONS), "-r", "30", "-l", str(SECONDS)),
        *("-p", f"{PATIENCE_SECONDS:.0f}", "-u", f"http://127.0.0.1:{port}{path}"),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS * 3, check=False)
    said = re.findall(
        r"service available:\S*\s*\S*?(YES|NO)", re.sub(r"\x1b\[[\d;]*m", "", done.stdout)
    )
    return len(said), said.count("NO")


def run(folder: Path) -> tuple[str, dict[str, str]]:
    """Attack each of them in each way; fail where `run` was not available in every sample."""
    found: list[dict[str, Any]] = []
    for server in ("bare uvicorn", "shipworthy run", "uvicorn behind nginx"):
        for title, options in ATTACKS.items():
            place = folder / re.sub(r"\W+", "-", f"{server} {title}")
            place.mkdir()
            (place / "held.py").write_text(APP)
            with served(server, place) as port, Asking(port) as asking:
                reports, unavailable = attack(options, port)
            row = {
                "server": server,
                "attack": title,
                "asked": asking.asked,
                "answered": asking.answered,
                "slowest_seconds": round(asking.slowest_seconds, 2),
                "reports": reports,
                "unavailable": unavailable,
            }
            found.append(row)
            print(f"  {row}", flush=True)
            if server == "shipworthy run" and (asking.answered < asking.asked or unavailable):
                raise SystemExit(f"not available in every sample: {row}")
            if not reports:
                raise SystemExit(f"slowhttptest reported nothing, so nothing was shown: {row}")
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    lines = [
        f"{CONNECTIONS} connections, {DESCRIPTORS} descriptors, {SECONDS} s each.",
        "",
        "| server | attack | answered of asked | slowest | reports of not available |",
        "|---|---|--:|--:|--:|",
        *(
            f"| {row['server']} | {row['attack']} | {row['answered']} of {row['asked']} "
            f"| {row['slowest_seconds']:.2f} s | {row['unavailable']} of {row['reports']} |"
            for row in found
        ),
    ]
    taken = {name: version(name) for name in ("uvicorn", "httptools", "uvloop")}
    for program, package in (("slowhttptest", "slowhttptest"), ("nginx", "nginx")):
        told = subprocess.run(
            ["dpkg-query", "-W", "-f", "${Version}", package],
            capture_output=True,
            text=True,
            check=False,
        )
        taken[program] = told.stdout.strip() or "unknown"
    return "\n".join(lines), taken
