"""Start `shipworthy run` as a user would, talk to it over real sockets, and read what it said."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Self

import httpx

# Met only when something is wrong, or a machine has ten times its work.
PATIENCE_SECONDS = 40.0
TRIALS = f"{Path(__file__).parent / 'apps' / 'trials.py'}:app"
TOKEN = "a-token-for-the-tests-of-32-chars"


def brisk(**lifecycle: str) -> str:
    """Return settings with short bounds, these values of `[lifecycle]` in place of ours.

    Short is what most tests wait out. What is met only when something is wrong is long: a loaded
    machine must not be taken for it.
    """
    values = {
        "grace": "10s",
        "drain": "2s",
        "idle_grace": "200ms",
        "cancel": "500ms",
        "stop": "1s",
        "start": "30s",
        **lifecycle,
    }
    rows = [f'{name} = "{text}"' for name, text in values.items()]
    return "\n".join(["[lifecycle]", *rows, ""])


BRISK = brisk()
Diary = Callable[[], list[str]]
Run = Callable[..., AbstractContextManager["Service"]]


class Service:
    """A running `shipworthy run`; `err` and `out` are what it has written so far."""

    def __init__(self, process: subprocess.Popen[str], directory: Path) -> None:
        self.process = process
        self.directory = directory
        self.out = ""
        self.err = ""
        self.url = ""
        self.operations = ""
        self._readers = [
            threading.Thread(target=self._read, args=(process.stdout, "out"), daemon=True),
            threading.Thread(target=self._read, args=(process.stderr, "err"), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Any, name: str) -> None:
        for text in stream or ():
            setattr(self, name, getattr(self, name) + text)

    def until_ready(self) -> "Service":
        """Wait for the two lines that say where it is."""
        self.until(lambda: self._find() or self.process.poll() is not None)
        assert self._find(), f"it ended with {self.process.poll()}:\n{self.err}\n{self.out}"
        return self

    def _find(self) -> bool:
        app = re.search(r"the app answers at (\S+)", self.err)
        operations = re.search(r"operations port is at (\S+)", self.err)
        if app is None or operations is None:
            return False
        self.url, self.operations = app[1], operations[1]
        return True

    def until(self, condition: Any, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait for a condition, bounded."""
        give_up = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < give_up, f"not within {seconds} s:\n{self.err}\n{self.out}"
            time.sleep(0.005)

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send the supervisor a signal."""
        self.process.send_signal(number)

    def ended(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Wait for the end and return the exit code; all output has been read then."""
        code = self.process.wait(seconds)
        for reader in self._readers:
            reader.join(5)
        return code

    def status(self) -> dict[str, Any]:
        """Ask the operations port what runs."""
        answer = httpx.get(
            f"{self.operations}/api/status",
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=PATIENCE_SECONDS,  # how soon it answers is for other tests
        )
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()["service"]
        return found

    def worker_pid(self) -> int:
        """Return the process id of the newest worker."""
        return int(self.status()["workers"][-1]["pid"])

    def serving(self) -> list[int]:
        """Return the process ids of the workers that are ready."""
        return [worker["pid"] for worker in self.status()["workers"] if worker["phase"] == "ready"]

    def metrics(self) -> str:
        """Scrape the operations port."""
        return httpx.get(f"{self.operations}/metrics", timeout=PATIENCE_SECONDS).text

    def command(self, name: str) -> httpx.Response:
        """Give a command to the operations port."""
        return httpx.post(
            f"{self.operations}/api/{name}",
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=PATIENCE_SECONDS,
        )

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the events of this name in its log."""
        return [line for line in self.lines() if line.get("event") == name]

    def get(self, path: str = "/", **options: Any) -> httpx.Response:
        """GET from the app on a connection of its own."""
        return httpx.get(self.url + path, timeout=PATIENCE_SECONDS, **options)

    def raw(self) -> socket.socket:
        """Connect to the app, byte by byte."""
        host, port = self.url.removeprefix("http://").split(":")
        return socket.create_connection((host, int(port)), timeout=PATIENCE_SECONDS)

    def diary(self) -> list[str]:
        """Return what the app of the trials has seen."""
        path = self.directory / "diary.txt"
        return path.read_text().splitlines() if path.exists() else []

    def lines(self) -> list[dict[str, Any]]:
        """Return the JSON lines of its log."""
        return [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]


@contextmanager
def started(
    target: str | None,
    *arguments: str,
    directory: Path,
    settings: str = "",
    environ: Mapping[str, str] | None = None,
    flags: Sequence[str] = (),
    before: Sequence[str] = (),
    pass_fds: Sequence[int] = (),
    stdout: int = subprocess.PIPE,
    spare: bool = False,
) -> Iterator[Service]:
    """Run `shipworthy run TARGET` in `directory`; what is still running at the end is killed.

    Without a spare process, unlike the default: its start takes CPU from what is tested.
    `flags` are Python's, `before` is a command that runs the command, `pass_fds` stay open in it.
    With a `stdout` of the test's own, the service has no `out`.
    """
    if settings:
        (directory / "shipworthy.toml").write_text(settings)
    command = [*before, sys.executable, *flags, "-m", "shipworthy", "run"]
    command += [target] if target else []
    command += ["--port", "0", "--ops-port", "0", *arguments]
    process = subprocess.Popen(
        command,
        cwd=directory,
        env={
            **os.environ,
            "SHIPWORTHY_OPERATIONS__TOKEN": TOKEN,
            "SHIPWORTHY_SERVE__SPARE": str(spare).lower(),
            **(environ or {}),
        },
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        pass_fds=pass_fds,
    )
    service = Service(process, directory)
    try:
        yield service
    finally:
        if process.poll() is None:
            # Its own session, so the group is the supervisor and its workers and nobody else.
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        for reader in service._readers:
            reader.join(5)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


class During:
    """A request made in a thread, so that the test can do something meanwhile."""

    def __init__(self, service: Service, path: str, **options: Any) -> None:
        self.answer: httpx.Response | Exception | None = None
        self._thread = threading.Thread(target=self._ask, args=(service, path, options))
        self._thread.start()

    def _ask(self, service: Service, path: str, options: dict[str, Any]) -> None:
        try:
            self.answer = service.get(path, **options)
        except httpx.HTTPError as error:
            self.answer = error

    def result(self) -> httpx.Response:
        """Wait for the answer; raises what the client met instead."""
        self._thread.join(PATIENCE_SECONDS)
        if isinstance(self.answer, Exception):
            raise self.answer
        assert self.answer is not None, "no answer in time"
        return self.answer


class Load:
    """Clients that keep their connection and ask without a pause, while the block runs."""

    def __init__(self, service: Service, clients: int = 6) -> None:
        self.answered = 0
        self.failures: list[str] = []
        self._service = service
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self._service.until(lambda: self.answered > len(self._threads))
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)

    def _ask(self) -> None:
        with httpx.Client(base_url=self._service.url, timeout=PATIENCE_SECONDS) as client:
            while not self._over.is_set():
                try:
                    answer = client.get("/")
                except httpx.HTTPError as error:
                    self.failures.append(f"{type(error).__name__}: {error}")
                    continue
                if answer.text != "hello":
                    self.failures.append(f"{answer.status_code}: {answer.text}")
                self.answered += 1
                time.sleep(0.005)


def counted(text: str) -> float:
    """Sum the counts of requests in an exposition."""
    name = "http_server_request_duration_seconds_count"
    lines = [line for line in text.splitlines() if line.startswith(name)]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def alive(pid: int) -> bool:
    """Does this process still run? One that ended and waits to be buried does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"  # an orphan is buried by the first process of the machine, or never
