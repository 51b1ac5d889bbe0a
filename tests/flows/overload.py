"""Clients that come at their own pace, whatever the service does: an open loop.

A client that waits for its answer before it asks again is slowed down by what it measures. Here a
request leaves when it is due, gives up at its deadline and closes its connection then, as people
do. Run as a program in a process of its own, so that the service has a CPU for itself:
`overload.py PORT PLAN`, where the plan is JSON and what became of the requests is printed.
"""

import asyncio
import gc
import json
import sys
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from typing import Any

# What became of a request: 200 in time, 503 in time, any other answer, none in time, no connection.
OUTCOMES = ("good", "shed", "other", "late", "refused")


class Wire(asyncio.Protocol):
    """One keep-alive connection; at most one request is on it."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[int] | None = None
        self.read = b""
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.read += data
        head, found, body = self.read.partition(b"\r\n\r\n")
        if not found or self.answer is None:
            return
        for line in head.lower().split(b"\r\n")[1:]:
            if line.startswith(b"content-length:") and len(body) >= int(line[15:]):
                self.read = b""
                if not self.answer.done():
                    self.answer.set_result(int(head[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(exc or ConnectionResetError())


class Clients:
    """Ask one service as planned, and keep what became of each request."""

    def __init__(self, port: int, deadline_seconds: float) -> None:
        self.port = port
        self.deadline_seconds = deadline_seconds
        self.idle: deque[Wire] = deque()
        self.results: list[tuple[float, str, str, float]] = []
        self.most_behind = 0.0

    async def ask(self, path: str, due: float, began: float) -> None:
        """Ask once, and note when it was due, its path, what became of it and how long it took."""
        outcome, wire = "refused", None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(due + self.deadline_seconds):
                while self.idle:
                    wire = self.idle.pop()
                    if not wire.transport.is_closing():
                        break
                    wire = None
                if wire is None:
                    _, wire = await loop.create_connection(Wire, "127.0.0.1", self.port)
                wire.answer = loop.create_future()
                wire.transport.write(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % path.encode())
                status = await wire.answer
            outcome = {200: "good", 503: "shed"}.get(status, "other")
            self.idle.append(wire)
        except TimeoutError:
            outcome = "late"
        except OSError:
            pass
        if outcome in ("late", "refused") and wire is not None:
            wire.answer = None
            wire.transport.close()
        self.results.append((due - began, path, outcome, loop.time() - due))

    async def run(self, phases: list[dict[str, Any]]) -> None:
        """Ask in phases, each with its `seconds` and the `rates` of its paths."""
        loop = asyncio.get_running_loop()
        began = loop.time() + 0.1
        tasks = set()
        for due, path in schedule(phases):
            wait = began + due - loop.time()
            if wait > 0:
                await asyncio.sleep(wait)
            else:
                self.most_behind = max(self.most_behind, -wait)
            task = loop.create_task(self.ask(path, began + due, began))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)


def schedule(phases: list[dict[str, Any]]) -> Iterator[tuple[float, str]]:
    """Yield when a request of which path is due; `together` of one are, at the same instant."""
    offset = 0.0
    for phase in phases:
        found = []
        for path, rate in phase["rates"].items():
            together = phase.get("together", 1)
            steps = int(rate * phase["seconds"] / together)
            found += [(step * together / rate, path) for step in range(steps)] * together
        yield from ((offset + due, path) for due, path in sorted(found))
        offset += phase["seconds"]


def closed(port: int, path: str, *, clients: int, seconds: float) -> float:
    """Return how many requests a second are answered to clients that ask again when answered."""
    asking = Clients(port, 30.0)

    async def ask_again() -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while loop.time() < until:
            await asking.ask(path, loop.time(), 0.0)

    async def ask_all_again() -> None:
        await asyncio.gather(*[ask_again() for _ in range(clients)])

    asyncio.run(ask_all_again())
    return sum(r[2] == "good" for r in asking.results) / seconds


def ask_all(port: int, phases: list[dict[str, Any]], deadline_seconds: float) -> dict[str, Any]:
    """Run the phases, and return for each phase and path what became of its requests."""
    clients = Clients(port, deadline_seconds)
    gc.disable()
    asyncio.run(clients.run(phases))
    gc.enable()
    rows = []
    start = 0.0
    for phase in phases:
        end = start + phase["seconds"]
        found: dict[str, Any] = {}
        for path in phase["rates"]:
            mine = [r for r in clients.results if start <= r[0] < end and r[1] == path]
            counts = {name: sum(r[2] == name for r in mine) for name in OUTCOMES}
            took = sorted(r[3] for r in mine if r[2] == "good")
            shed = sorted(r[3] for r in mine if r[2] == "shed")
            found[path] = {
                **counts,
                "p50": took[len(took) // 2] if took else None,
                "p99": took[int(len(took) * 0.99)] if took else None,
                "shed_p50": shed[len(shed) // 2] if shed else None,
            }
        # From when on, after its start, every request of the phase was good.
        bad = [r[0] - start for r in clients.results if start <= r[0] < end and r[2] != "good"]
        seconds: dict[int, int] = defaultdict(int)
        for r in clients.results:
            if start <= r[0] < end and r[2] == "good":
                seconds[int(r[0] - start)] += 1
        rows.append(
            {
                "paths": found,
                "well_after_seconds": max(bad, default=0.0),
                "good_by_second": [seconds[s] for s in range(int(phase["seconds"]))],
            }
        )
        start = end
    return {"phases": rows, "most_behind_seconds": clients.most_behind}


def main() -> None:
    """Do what the plan says and print the outcome."""
    plan = json.loads(sys.argv[2])
    if "closed" in plan:
        print(json.dumps(closed(int(sys.argv[1]), **plan["closed"])))
        return
    began = time.process_time()
    told = ask_all(int(sys.argv[1]), plan["phases"], plan["deadline_seconds"])
    told["cpu_seconds"] = time.process_time() - began
    print(json.dumps(told))


if __name__ == "__main__":
    main()
