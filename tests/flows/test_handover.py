"""`shipworthy run` under a service manager: sockets handed over, and what the manager is told."""

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import httpx
import pytest

import services
from flows.steady import Steady
from serve.launch import BRISK, TOKEN, TRIALS, During, Service, brisk, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

# What a service manager does between fork and exec: the sockets from 3 on, and whom they are for.
HANDS = """
import os, sys
fds = [int(text) for text in sys.argv[1].split(",")]
high = [os.dup(fd) if fd < 3 + len(fds) else fd for fd in fds]
for place, fd in enumerate(high, 3):
    os.dup2(fd, place)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(fds))}
os.execv(sys.argv[2], sys.argv[2:])
"""
SHOWS_ENVIRONMENT = """
import json, os
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = json.dumps(dict(os.environ)).encode()
    head = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": body})
"""


def handing(
    fds: Sequence[int],
    directory: Path,
    *,
    names: str = "",
    settings: str = BRISK,
    target: str = TRIALS,
    **environ: str,
) -> AbstractContextManager[Service]:
    """Start the service as a service manager does that hands these descriptors over."""
    directory.mkdir(exist_ok=True)
    return started(
        target,
        directory=directory,
        settings=settings,
        environ=environ | ({"LISTEN_FDNAMES": names} if names else {}),
        before=[sys.executable, "-c", HANDS, ",".join(map(str, fds))],
        pass_fds=fds,
    )


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as sock:
        yield sock


class Manager:
    """The end of `NOTIFY_SOCKET` that systemd holds."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "notify")
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(0)

    def has_heard(self, message: str) -> bool:
        """Read what has come, and say whether a message that begins like this was ever there."""
        while True:
            try:
                self.heard.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return any(heard.startswith(message) for heard in self.heard)

    def count(self, message: str) -> int:
        """Read what has come, and count this message."""
        self.has_heard(message)
        return self.heard.count(message)

    def close(self) -> None:
        self._socket.close()


def test_a_service_on_a_socket_handed_over_tells_the_manager_its_life(
    listener: socket.socket, tmp_path: Path
) -> None:
    """Ready, replaced, stopping, and where; the variables end with us, the socket does not."""
    port = listener.getsockname()[1]
    (tmp_path / "shows.py").write_text(SHOWS_ENVIRONMENT)
    with ExitStack() as stack:
        manager = Manager(tmp_path)
        stack.callback(manager.close)
        service = stack.enter_context(
            handing(
                [listener.fileno()],
                tmp_path,
                names="shop",
                target="shows:app",
                NOTIFY_SOCKET=manager.path,
                WATCHDOG_USEC="1000000",
            )
        ).until_ready()
        service.until(lambda: manager.has_heard("READY=1"))
        seen = json.loads(service.get("/").text)
        notes = httpx.get(
            f"{service.operations}/health", headers={"Authorization": f"Bearer {TOKEN}"}
        ).json()["notes"]
        service.until(lambda: manager.count("WATCHDOG=1") >= 2)
        service.signal(signal.SIGHUP)
        service.until(lambda: manager.has_heard("RELOADING=1\nMONOTONIC_USEC="))
        service.until(lambda: manager.count("READY=1") == 2)
        service.signal()
        code = service.ended()
        manager.has_heard("")
        waiting = socket.create_connection(("127.0.0.1", port), timeout=5)
        waiting.close()

    assert code == 0
    assert service.url == f"http://127.0.0.1:{port}"
    assert f"{service.url} (handed over as 'shop'; serve.host, serve.port" in service.err
    assert any(note.startswith(f"listens at {service.url} (handed over") for note in notes)
    left = [name for name in seen if name.startswith(("LISTEN_", "NOTIFY_", "WATCHDOG_"))]
    assert left == []
    words = [heard.partition("=")[0] for heard in manager.heard]
    assert words.index("READY") < words.index("RELOADING") < words.index("STOPPING")
    assert "READY" not in words[words.index("STOPPING") :]
    assert any(heard.startswith("STATUS=ready: 1 of 1") for heard in manager.heard)


def test_the_watchdog_is_not_fed_while_no_worker_moves(
    tmp_path: Path, listener: socket.socket
) -> None:
    """A blocked loop is what systemd's watchdog is for; when it moves again, so do we."""
    with ExitStack() as stack:
        manager = Manager(tmp_path)
        stack.callback(manager.close)
        service = stack.enter_context(
            handing(
                [listener.fileno()], tmp_path, NOTIFY_SOCKET=manager.path, WATCHDOG_USEC="200000"
            )
        ).until_ready()
        service.until(lambda: manager.count("WATCHDOG=1") > 0)
        blocked = During(service, "/block?seconds=4")
        # Looking empties the queue, which is short.
        service.until(
            lambda: (
                manager.has_heard("READY=1")
                and httpx.get(f"{service.operations}/readyz").status_code == 503
            )
        )
        fed = manager.count("WATCHDOG=1")
        stood_at = time.monotonic()
        blocked.result()
        again = manager.count("WATCHDOG=1")
        stood_seconds = time.monotonic() - stood_at
        service.until(lambda: manager.count("WATCHDOG=1") > again + 2)
        service.signal()
        code = service.ended()

    # Ten times a second otherwise; one or two may have come between its answer and our look.
    assert again - fed <= 2, (again, fed, stood_seconds)
    assert stood_seconds > 0.5
    assert code == 0


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [("file", "is a file"), ("connected", "does not listen"), ("closed", "is not open")],
)
def test_what_is_handed_over_and_cannot_serve_ends_the_start_with_78(
    tmp_path: Path, kind: str, sentence: str
) -> None:
    """One sentence with the number and what it is; starting again would not help."""
    with ExitStack() as stack:
        one, other = socket.socketpair()
        stack.enter_context(one)
        stack.enter_context(other)
        file = stack.enter_context((tmp_path / "data").open("w"))
        fd = {"file": file.fileno(), "connected": one.fileno(), "closed": file.fileno()}[kind]
        environ = {"LISTEN_FDS": "1"}
        hands = HANDS.replace("os.dup2(fd, place)", "place") if kind == "closed" else HANDS
        service = stack.enter_context(
            started(
                TRIALS,
                directory=tmp_path,
                settings=BRISK,
                environ=environ,
                before=[sys.executable, "-c", hands, str(fd)],
                pass_fds=[fd],
            )
        )
        code = service.ended()

    assert code == 78
    (line,) = service.err.strip().splitlines()
    assert line.startswith("shipworthy: file descriptor 3, handed over by LISTEN_FDS, ")
    assert sentence in line


def test_a_broken_notify_socket_is_one_event_and_the_service_serves(
    tmp_path: Path, listener: socket.socket
) -> None:
    """Whoever supervises us wrongly must not take us down."""
    with handing([listener.fileno()], tmp_path, NOTIFY_SOCKET="/no/such/socket") as service:
        answer = service.until_ready().get("/")
        service.signal()
        code = service.ended()

    events = [line for line in service.lines() if line.get("event") == "serve.systemd_unheard"]
    assert (answer.status_code, code) == (200, 0)
    assert len(events) == 1, service.out
    assert "/no/such/socket" in events[0]["because"]


def test_systemd_socket_activate_starts_it_with_a_socket_for_each_port(
    tmp_path: Path, debian: Callable[[str, str], str]
) -> None:
    """The real tool: it listens, starts us at the first connection, and names the sockets."""
    tool = debian("systemd-socket-activate", "systemd")
    app, operations = services.free_port(), services.free_port()
    before = [tool, f"--listen=127.0.0.1:{app}", f"--listen=127.0.0.1:{operations}"]
    before += ["--fdname=shop:operations", f"--setenv=PATH={os.environ['PATH']}"]
    before += [f"--setenv={name}={value}" for name, value in os.environ.items() if "PY" in name]
    before += [f"--setenv=SHIPWORTHY_OPERATIONS__TOKEN={TOKEN}"]
    with started(TRIALS, directory=tmp_path, settings=BRISK, before=before) as service:
        service.until(lambda: "Listening on" in service.err)
        # The connection that starts it waits in the queue, and is answered.
        with socket.create_connection(("127.0.0.1", app), timeout=30) as first:
            first.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            answer = first.makefile("rb").read()
        service.until_ready()
        ready = httpx.get(f"http://127.0.0.1:{operations}/readyz")
        service.signal()
        code = service.ended()

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert ready.status_code == 200
    assert service.operations == f"http://127.0.0.1:{operations}"
    assert code == 0


def test_the_whole_service_is_started_anew_on_the_same_socket_without_a_failed_request(
    tmp_path: Path, listener: socket.socket
) -> None:
    """The next one starts before the last one drains, and then only after it has gone."""
    port = listener.getsockname()[1]
    settings = brisk(lame_duck="0s", idle_grace="500ms")
    with ExitStack() as stack:
        service = stack.enter_context(
            handing([listener.fileno()], tmp_path / "0", settings=settings)
        ).until_ready()
        keeping = stack.enter_context(Steady([port], clients=10, pause_seconds=0.02))
        coming = stack.enter_context(
            Steady([port], clients=5, pause_seconds=0.02, keep_alive=False)
        )
        successor = stack.enter_context(
            handing([listener.fileno()], tmp_path / "1", settings=settings)
        ).until_ready()
        service.signal()
        codes = [service.ended()]
        # And once with nobody there in between: what comes waits in the queue.
        successor.signal()
        codes.append(successor.ended())
        before = keeping.answered() + coming.answered()
        stack.enter_context(
            handing([listener.fileno()], tmp_path / "2", settings=settings)
        ).until_ready()
        successor.until(lambda: keeping.answered() + coming.answered() > before + 100)
        keeping.__exit__()
        coming.__exit__()

    assert codes == [0, 0]
    for load in (keeping, coming):
        assert load.tallies[port].failures == {}, load.tallies
        assert load.tallies[port].answered > 100
