"""An event loop in a time of its own, and clients at its sockets: an overload without a machine.

Time passes only where somebody computes or where all wait. What comes while a handler computes is
seen at the loop's next look at its sockets, as with real ones, so a loop that is behind is behind
here too; and each run is the same.
"""

import asyncio
import heapq
import selectors
from collections import Counter, defaultdict
from dataclasses import dataclass, field


class _Sockets(selectors.DefaultSelector):
    """What has come by now, at each look; a look that may wait lets time pass instead."""

    loop: "SimulatedLoop"

    def select(self, timeout=None):
        ready = super().select(0)
        loop = self.loop
        due = loop.arrivals[0][0] if loop.arrivals else None
        if not ready and timeout != 0 and not (due is not None and due <= loop.now):
            until = [at for at in (due, None if timeout is None else loop.now + timeout) if at]
            if not until:
                raise RuntimeError("nothing will ever happen in this loop any more")
            loop.now = max(loop.now, min(until))
        while loop.arrivals and loop.arrivals[0][0] <= loop.now:
            _, _, come = heapq.heappop(loop.arrivals)
            loop.call_soon(come)
        return ready


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Runs real coroutines; its time is a number."""

    def __init__(self):
        self.now = 1000.0
        self.arrivals = []
        self._count = 0
        sockets = _Sockets()
        sockets.loop = self
        super().__init__(sockets)

    def time(self):
        return self.now

    def arrive(self, at, come):
        """Let something come to the sockets at an instant."""
        self._count += 1
        heapq.heappush(self.arrivals, (at, self._count, come))

    def compute(self, seconds):
        """Let the loop's thread compute."""
        self.now += seconds


@dataclass
class Outcome:
    """What became of the requests of one path."""

    good: int = 0
    shed: int = 0
    late: int = 0
    took: list = field(default_factory=list)
    by_second: Counter = field(default_factory=Counter)

    @property
    def all(self):
        return self.good + self.shed + self.late


class Service:
    """One worker: its loop, its guards' line, and clients that give up after a time."""

    def __init__(self, loop, line, *, deadline_seconds=1.0, rounds=2, round_cost_seconds=50e-6):
        self.loop = loop
        self.line = line
        self.deadline_seconds = deadline_seconds
        self.rounds = rounds
        self.round_cost_seconds = round_cost_seconds
        self.outcomes = defaultdict(Outcome)
        self.began = loop.now
        self._open = set()

    def offer(self, path, rate, *, since, seconds, together=1):
        """Let requests come `rate` a second, `together` of them at the same instant."""
        for number in range(int(rate * seconds / together)):
            at = self.began + since + number * together / rate
            for _ in range(together):
                self.loop.arrive(at, lambda at=at: self._come(path, at, self.rounds))

    def _come(self, path, at, rounds):
        """Accept, read, and make a task: a round of the loop each, as servers need them."""
        self.loop.compute(self.round_cost_seconds)
        if rounds > 1:
            self.loop.call_soon(self._come, path, at, rounds - 1)
            return
        task = self.loop.create_task(self._serve(path, at))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _serve(self, path, at):
        status = []

        async def send(message):
            if message["type"] == "http.response.start":
                status.append(message["status"])

        async def receive():
            return {"type": "http.request"}

        scope = {
            "type": "http", "method": "GET", "path": path, "headers": [], "http_version": "1.1",
            "client": ("192.0.2.1", 1), "scheme": "http", "query_string": b"", "root_path": "",
        }  # fmt: skip
        await self.line(scope, receive, send)
        took = self.loop.now - at
        outcome = self.outcomes[path]
        if took > self.deadline_seconds:
            outcome.late += 1
        elif status == [200]:
            outcome.good += 1
            outcome.took.append(took)
            outcome.by_second[int(at - self.began)] += 1
        else:
            outcome.shed += 1

    def run(self, seconds):
        """Live for so long."""

        async def live():
            await asyncio.sleep(self.began + seconds - self.loop.now)
            for task in self._open.copy():
                task.cancel()
            await asyncio.gather(*self._open, return_exceptions=True)

        self.loop.run_until_complete(live())


async def answer(send, status=200):
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


class Handlers:
    """An application: /work computes, /rest waits, /pool waits for one of a few places."""

    def __init__(self, loop, *, cost_seconds=0.025, rest_seconds=1.0, places=5, own_seconds=0.0002):
        self.loop = loop
        self.cost_seconds = cost_seconds
        self.rest_seconds = rest_seconds
        self.own_seconds = own_seconds
        self.places = asyncio.Semaphore(places)
        self.most = 0
        self.inside = 0
        self.queue = []

    async def __call__(self, scope, receive, send):
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            self.loop.compute(self.own_seconds)
            await self.work(scope["path"])
            await answer(send)
        finally:
            self.inside -= 1

    async def work(self, path):
        if path.startswith(("/work", "/critical")):
            self.loop.compute(self.cost_seconds)
        elif path.startswith("/rest"):
            await asyncio.sleep(self.rest_seconds)
        elif path.startswith("/pool"):
            mark = self.loop.now
            self.queue.append(mark)
            async with self.places:
                self.queue.remove(mark)
                await asyncio.sleep(0.1)

    def waits_since(self):
        return min(self.queue, default=float("inf"))
