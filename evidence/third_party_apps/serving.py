"""Serve an application bare, by the server its own documentation names, and under `run`."""

import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

START_SECONDS = 90.0
LEAVE_SECONDS = 40.0
_LOUD = re.compile(r"\b(ERROR|CRITICAL|Traceback)\b")


@dataclass(slots=True, kw_only=True)
class Served:
    """One served application; `operations` is the URL of its operations port, "" when bare."""

    process: subprocess.Popen[bytes]
    url: str
    operations: str
    log: Path
    complaints: Path
    exit_code: int | None = field(default=None)

    def leave(self) -> None:
        """Tell it to leave, and do not wait."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Wait until it has left, and return its exit code; kill it when it does not."""
        try:
            self.exit_code = self.process.wait(LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.exit_code = self.process.wait()
        return self.exit_code

    def lines(self) -> list[dict[str, Any]]:
        """Return the JSON lines of the log, without what the application printed beside them."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return [json.loads(line) for line in text.splitlines() if line.startswith('{"ts"')]

    def errors(self) -> list[str]:
        """Return what was logged as an error, in our lines and in anybody's words."""
        ours = [
            f"{line['logger']}: {line['message']}"
            for line in self.lines()
            if line["level"] in ("error", "critical")
        ]
        text = "\n".join(
            path.read_text(encoding="utf-8", errors="replace")
            for path in (self.log, self.complaints)
        )
        return ours + [
            line.strip("╭─╮ ")
            for line in text.splitlines()
            if _LOUD.search(line) and not line.startswith("{")
        ]


@contextmanager
def bare(command: Sequence[str], folder: Path, environ: dict[str, str]) -> Iterator[Served]:
    """Serve with the application's own server: `{port}` in `command` becomes a free one."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = str(one.getsockname()[1])
    served = _start([part.replace("{port}", port) for part in command], folder, environ)
    served.url = f"http://127.0.0.1:{port}"
    with _ended(served):
        _until(served, lambda: _listens(int(port)))
        yield served


@contextmanager
def hardened(
    commands: Path, target: str, folder: Path, environ: dict[str, str]
) -> Iterator[Served]:
    """Serve with `shipworthy run`, on whatever ports are free."""
    command = [str(commands / "shipworthy"), "run", target, "--port", "0", "--ops-port", "0"]
    served = _start(command, folder, environ)

    def told() -> bool:
        said = served.complaints.read_text(encoding="utf-8", errors="replace")
        places = re.findall(r"(?:answers at|port is at) (http://\S+)", said)
        if len(places) == 2:
            served.url, served.operations = places
        return len(places) == 2

    with _ended(served):
        _until(served, told)
        yield served


def _start(command: Sequence[str], folder: Path, environ: dict[str, str]) -> Served:
    log, complaints = folder / "out.log", folder / "err.log"
    with log.open("wb") as out, complaints.open("wb") as err:
        process = subprocess.Popen(command, cwd=folder, env=environ, stdout=out, stderr=err)
    return Served(process=process, url="", operations="", log=log, complaints=complaints)


@contextmanager
def _ended(served: Served) -> Iterator[None]:
    try:
        yield
    finally:
        if served.process.poll() is None:
            served.leave()
        served.wait()


def _until(served: Served, so: Any) -> None:
    end = time.monotonic() + START_SECONDS
    while not so():
        if served.process.poll() is not None or time.monotonic() > end:
            said = served.complaints.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise RuntimeError(f"{served.process.args!r} did not come up: {said}")
        time.sleep(0.1)


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def not_ready(served: Served) -> None:
    """Wait until the operations port says that the drain has begun."""
    _until(served, lambda: httpx.get(f"{served.operations}/readyz").status_code == 503)
