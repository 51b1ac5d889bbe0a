"""Clients that go on asking while a service is started anew, and count what became of each request.

They speak HTTP/1.1 themselves: a client library that tries again would hide what is lost.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

# A balancer that waits for a server that is gone must show up as a failure, not as a hang.
ANSWER_SECONDS = 10.0


@dataclass(slots=True)
class Tally:
    """What became of the requests of one group of clients; a failure is counted by its kind."""

    answered: int = 0
    connections: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def failed(self) -> int:
        """Everything that was no 200."""
        return sum(self.failures.values())


class Steady:
    """Keep-alive clients of each of `ports`, in a thread, until the block ends.

    Each client asks GET and POST in turn and rests `pause_seconds` between. Any answer but 200, a
    refused connection and a connection that ends before its answer are failures. With `settle` a
    client counts from its first answer on: what is in front may still be starting. `together`, all
    ask at the same instant.
    """

    def __init__(
        self,
        ports: Sequence[int],
        *,
        clients: int,
        pause_seconds: float,
        keep_alive: bool = True,
        settle: bool = False,
        together: bool = False,
    ) -> None:
        self.tallies = {port: Tally() for port in ports}
        self._clients = clients
        self._pause_seconds = pause_seconds
        self._keep_alive = keep_alive
        self._settle = settle
        self._together = together
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._ask_all()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(ANSWER_SECONDS + 5)

    def answered(self) -> int:
        """Count the answers to all of them so far."""
        return sum(tally.answered for tally in self.tallies.values())

    async def _ask_all(self) -> None:
        async with asyncio.TaskGroup() as group:
            for port, tally in self.tallies.items():
                for number in range(self._clients):
                    group.create_task(self._ask(port, tally, number))

    async def _ask(self, port: int, tally: Tally, number: int) -> None:
        if not self._together:
            await asyncio.sleep(self._pause_seconds * number / self._clients)
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        posts, settled = bool(number % 2), not self._settle
        while not self._stop.is_set():
            posts = not posts
            failure, last = "", False
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    if streams is None:
                        streams = await asyncio.open_connection("127.0.0.1", port)
                        tally.connections += 1
                    status, last = await _exchange(*streams, posts, self._keep_alive)
                failure = "" if status == 200 else f"status {status}"
            except ConnectionRefusedError:
                failure = "refused"
            except TimeoutError:
                failure = "no answer"
            except (OSError, asyncio.IncompleteReadError) as error:
                failure = f"ended before the answer ({type(error).__name__})"
            if not settled and failure:
                pass
            elif failure:
                tally.failures[failure] += 1
            else:
                tally.answered += 1
                settled = True
            if (failure or last) and streams is not None:
                streams[1].close()
                streams = None
            await asyncio.sleep(self._pause_seconds)
        if streams is not None:
            streams[1].close()


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, posts: bool, keep_alive: bool
) -> tuple[int, bool]:
    """Ask once; return the status, and whether the connection ends with this answer."""
    kept = "" if keep_alive else "connection: close\r\n"
    if posts:
        writer.write(
            f"POST /body HTTP/1.1\r\nhost: x\r\n{kept}content-length: 5\r\n\r\nhello".encode()
        )
    else:
        writer.write(f"GET / HTTP/1.1\r\nhost: x\r\n{kept}\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = next(
        int(line.partition(":")[2])
        for line in head.splitlines()
        if line.startswith("content-length:")
    )
    await reader.readexactly(length)
    return int(head.split(" ", 2)[1]), "\r\nconnection: close\r\n" in head
