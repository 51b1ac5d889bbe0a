"""What `shipworthy run` answers to requests that are open to two readings

Each request of `tests/serve/raw_requests.py` is sent on a connection of its own. The application
reads the body and answers 200. The script ends without a page if a bad one is served, or a good one
is not; it prints what stock uvicorn answers with each of its two parsers.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
COVERS = (
    "src/shipworthy/serve/protocol.py",
    "src/shipworthy/serve/heads.py",
    "tests/serve/raw_requests.py",
    "evidence/raw_requests.py",
)
PATIENCE_SECONDS = 3.0
APP = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    while (message := await receive()).get("more_body"):
        pass
    headers = [(b"content-length", b"1")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"1"})
"""
UVICORN = ["uvicorn", "read:app", "--no-access-log", "--log-level", "critical"]
SERVERS = {
    "shipworthy run": ["shipworthy", "run", "read:app", "--ops-port", "0"],
    "uvicorn, httptools": [*UVICORN, "--http", "httptools"],
    "uvicorn, h11": [*UVICORN, "--http", "h11"],
}


@contextlib.contextmanager
def running(words: list[str], folder: Path) -> Iterator[int]:
    """Start a server and wait until it answers; returns its port."""
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        port = chosen.getsockname()[1]
    paths = [str(folder), os.environ.get("PYTHONPATH", "")]
    process = subprocess.Popen(
        [sys.executable, "-m", *words, "--port", str(port)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        give_up = time.monotonic() + 30
        while not answer(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").startswith("200"):
            if process.poll() is not None or time.monotonic() > give_up:
                raise SystemExit(f"{words!r} does not serve")
            time.sleep(0.1)
        yield port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def answer(port: int, request: bytes) -> str:
    """Return the status, `closed` where there is none, `waits` where nothing comes in time."""
    told = b""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as client:
            with contextlib.suppress(ConnectionError):
                client.sendall(request)
            while b"\r\n\r\n" not in told.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b""):
                part = client.recv(65536)
                if not part:
                    break
                told += part
    except TimeoutError:
        return "waits"
    except OSError:
        if not told:
            return "closed"
    told = told.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    if not told:
        return "closed"
    return told.split()[1].decode()


def run(folder: Path) -> tuple[str, dict[str, str]]:
    """Send all of them; fail where `run` serves a bad one or refuses a good one."""
    sys.path[:0] = [str(ROOT / "tests" / "serve")]
    # Of the tests, and not this file, which has its name.
    from raw_requests import BAD, GOOD  # type: ignore[attr-defined]

    (folder / "read.py").write_text(APP)
    found: dict[str, dict[str, str]] = {}
    for name, words in SERVERS.items():
        with running(words, folder) as port, ThreadPoolExecutor(8) as pool:
            requests = {**BAD, **GOOD}
            answers = pool.map(partial(answer, port), requests.values())
            found[name] = dict(zip(requests, answers, strict=True))
    ours = found["shipworthy run"]
    wrong = [f"{title}: {ours[title]}" for title in BAD if not ours[title].startswith(("4", "5"))]
    wrong += [f"{title}: {ours[title]}" for title in GOOD if ours[title] != "200"]
    if wrong:
        raise SystemExit("not as promised: " + "; ".join(wrong))
    for title in (*BAD, *GOOD):
        print(f"  {title}: " + ", ".join(f"{name} {found[name][title]}" for name in SERVERS))
    parts = []
    for heading, which in (("Refused", BAD), ("Served", GOOD)):
        parts += [f"## {heading}: {len(which)} of {len(which)}", "", "| request | answer |"]
        parts += ["|---|---|", *(f"| {title} | {ours[title]} |" for title in which), ""]
    return "\n".join(parts), {name: version(name) for name in ("uvicorn", "httptools", "h11")}
