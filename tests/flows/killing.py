"""One of two workers is killed under load: who lost what, and when both served again.

The load is a process of its own: clients that keep their connection, think up to 50 ms, and come
again on a new connection after thirty requests, so that a new worker gets its share.
"""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from serve.launch import Service

CLIENTS = 40
THINK_SECONDS_MAX = 0.05
REQUESTS_OF_A_CONNECTION = 30
PATIENCE_SECONDS = 20.0
# From the answer of the last worker to the end of the load.
AFTER_SECONDS = 1.0


@dataclass(slots=True)
class Tally:
    """What the clients met; times are monotonic seconds, workers process ids.

    `lost` has for each request without a good answer the worker of its connection (0 when that is
    not known), when it was sent and when it was lost, and what the client saw.
    """

    answered: int = 0
    first_answers: dict[str, float] = field(default_factory=dict)
    lost: list[tuple[int, float, float, str]] = field(default_factory=list)


async def _client(address: tuple[str, int], path: str, tally: Tally, over: asyncio.Event) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: killed.example\r\n\r\n".encode()
    while not over.is_set():
        worker, sent = 0, time.monotonic()
        try:
            reader, writer = await asyncio.open_connection(*address)
        except OSError as error:
            tally.lost.append((0, sent, time.monotonic(), f"no connection: {error}"))
            continue
        try:
            for _ in range(REQUESTS_OF_A_CONNECTION):
                await asyncio.sleep(random.random() * THINK_SECONDS_MAX)
                if reader.at_eof() or over.is_set():
                    break  # it was closed while nothing was asked, and nothing is lost
                sent = time.monotonic()
                writer.write(request)
                async with asyncio.timeout(PATIENCE_SECONDS):
                    status, worker, length, closes = _head(await reader.readuntil(b"\r\n\r\n"))
                    await reader.readexactly(length)
                if status != 200:
                    tally.lost.append((worker, sent, time.monotonic(), f"status {status}"))
                    continue
                tally.answered += 1
                tally.first_answers.setdefault(str(worker), time.monotonic())
                if closes:
                    break
        except (OSError, EOFError, TimeoutError) as error:
            tally.lost.append((worker, sent, time.monotonic(), type(error).__name__))
        writer.close()


def _head(head: bytes) -> tuple[int, int, int, bool]:
    """Return status, worker, length of the body, and whether the connection ends with it."""
    first, *rows = head.decode("latin-1").split("\r\n")
    fields = {n.lower(): v.strip() for n, _, v in (row.partition(":") for row in rows if row)}
    return (
        int(first.split()[1]),
        int(fields.get("x-worker", 0)),
        int(fields["content-length"]),
        fields.get("connection", "").lower() == "close",
    )


def main(host: str, port: str, path: str, clients: str) -> None:
    """Be the load until standard input ends; the tally goes to standard output."""

    async def run() -> None:
        over, tally = asyncio.Event(), Tally()
        loop = asyncio.get_running_loop()

        def listen() -> None:
            sys.stdin.read()
            loop.call_soon_threadsafe(over.set)

        threading.Thread(target=listen, daemon=True).start()
        address = host, int(port)
        await asyncio.gather(*(_client(address, path, tally, over) for _ in range(int(clients))))
        print(json.dumps(asdict(tally)), flush=True)

    asyncio.run(run())


class Load:
    """The load on a service, while the block runs; `tally` is there afterwards."""

    def __init__(self, service: "Service", *, path: str = "/", clients: int = CLIENTS) -> None:
        host, port = service.url.removeprefix("http://").split(":")
        self._command = [sys.executable, "-I", __file__, host, port, path, str(clients)]
        self.clients = clients
        self.tally = Tally()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        try:
            told, _ = self._process.communicate(timeout=2 * PATIENCE_SECONDS)
        finally:
            self._process.kill()
        self.tally = Tally(**json.loads(told))


@dataclass(frozen=True, slots=True, kw_only=True)
class Killed:
    """How the end of one worker went."""

    victim: int
    successor: int
    killed_at: float
    # Until the supervisor said that one was lost, and until both served, as seen from outside; and
    # the successor's own account of its start.
    noticed_seconds: float
    back_seconds: float
    started: Mapping[str, Any]


def both_serve(service: "Service") -> bool:
    """Say whether two workers have said that they are ready, of all that were started."""
    return service.out.count('"serve.worker_ready"') >= 2


def kill_one(service: "Service") -> Killed:
    """Kill the older of two workers and wait until two serve again; its log is at level info."""
    victim = service.serving()[0]
    before = len(service.events("serve.worker_ready"))
    lost = service.out.count('"serve.worker_lost"')
    killed_at = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    service.until(lambda: service.out.count('"serve.worker_lost"') > lost)
    noticed_seconds = time.monotonic() - killed_at
    service.until(lambda: service.out.count('"serve.worker_ready"') > before)
    back_seconds = time.monotonic() - killed_at
    started = service.events("serve.worker_ready")[before]
    return Killed(
        victim=victim,
        successor=started["worker_pid"],
        killed_at=killed_at,
        noticed_seconds=noticed_seconds,
        back_seconds=back_seconds,
        started=started,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
