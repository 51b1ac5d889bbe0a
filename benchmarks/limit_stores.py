"""How many decisions a second each store of buckets makes, in one process and in four.

    python benchmarks/limit_stores.py                    measure, print, write results/
    python benchmarks/limit_stores.py --rounds 1 --try   a short look that writes nothing

Each measurement has processes of its own, which begin together and each ask for 10,000 keys in
turn, by GCRA with a quota that nobody meets: one after the other, or 32 at once in an event loop.
They are measured in turns, and the middle of the rounds is shown. Real servers: those that
`tests/services.py` finds or starts. Beside ours stands the Redis storage of limits, with its
cheapest way to count, which blocks and so is asked one after the other.
"""

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from environment import commit, python_with

HERE = Path(__file__)
ROOT = HERE.parents[1]
RESULT = HERE.parent / "results" / "limit_stores.md"
KEYS = 10_000
# Long enough that a machine which does other things is no reason to be told nothing.
BOUND_SECONDS = 10.0
COUNTS = {"memory": 40_000, "SQLite file": 4_000, "PostgreSQL": 80, "MariaDB": 60,
          "Redis": 800, "Redis, limits": 800}  # fmt: skip
WAYS = ((1, 1), (4, 1), (1, 32), (4, 32))


async def _ours(url: str, count: int, at_once: int) -> None:
    from shipworthy.store import Algorithm, Ask, Quota, open_buckets

    quota = Quota(algorithm=Algorithm.GCRA, count=10**6, period_ns=10**9, burst=10**6)
    asks = [[Ask(f"bench-{number:08x}", quota)] for number in range(KEYS)]
    buckets = open_buckets(url, bound_seconds=BOUND_SECONDS)
    await buckets.take(asks[0])

    async def ask(first: int) -> None:
        for number in range(first, count, at_once):
            await buckets.take(asks[number % KEYS])

    _begin()
    await asyncio.gather(*(ask(first) for first in range(at_once)))
    _end()
    await buckets.close()


def _theirs(url: str, count: int) -> None:
    from limits import RateLimitItemPerSecond
    from limits.storage import RedisStorage
    from limits.strategies import FixedWindowRateLimiter

    limiter = FixedWindowRateLimiter(RedisStorage(url))
    item = RateLimitItemPerSecond(10**6)
    limiter.hit(item, "bench")
    _begin()
    for number in range(count):
        limiter.hit(item, f"bench-{number % KEYS:08x}")
    _end()


_times: list[float] = []
_ready: list[int] = []


def _begin() -> None:
    os.write(_ready[0], b"r")
    sys.stdin.buffer.raw.read(1)
    _times[:] = [time.monotonic(), time.process_time()]


def _end() -> None:
    said = {"began": _times[0], "ended": time.monotonic(), "cpu": time.process_time() - _times[1]}
    os.write(1, (json.dumps(said) + "\n").encode())


def arm(name: str, url: str, count: int, processes: int, at_once: int) -> None:
    """Be the processes of one measurement: fork, and begin when told to on standard input."""
    gate, open_gate = os.pipe()
    ready, say_ready = os.pipe()
    _ready[:] = [say_ready]
    children = []
    for _ in range(processes):
        child = os.fork()
        if child == 0:
            os.close(open_gate)
            os.dup2(gate, 0)
            if name.endswith("limits"):
                _theirs(url, count)
            else:
                asyncio.run(_ours(url, count, at_once))
            os._exit(0)
        children.append(child)
    # Imports and connections take longer than what is measured.
    for _ in children:
        os.read(ready, 1)
    os.close(gate)
    os.write(open_gate, b"x" * processes)
    if any(os.waitpid(child, 0)[1] for child in children):
        raise SystemExit("a process failed")


def measure(python: Path, name: str, url: str, processes: int, at_once: int) -> tuple[float, float]:
    """Return decisions a second of all together, and CPU microseconds of a process for each."""
    count = COUNTS[name] // processes * (4 if at_once > 1 and name != "memory" else 1)
    command = [python, HERE, "--arm", name, url, str(count), str(processes), str(at_once)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, env=environ
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    seconds = max(row["ended"] for row in rows) - min(row["began"] for row in rows)
    return count * processes / seconds, sum(row["cpu"] for row in rows) / processes / count * 1e6


Found = dict[str, dict[tuple[int, int], list[tuple[float, float]]]]


def measured(rounds: int) -> Iterator[Found]:
    """Yield what was found so far after each round."""
    sys.path.insert(0, str(ROOT / "tests"))
    import sqlalchemy as sa

    import services
    from shipworthy.store import BUCKETS

    peers = python_with("limit_stores_peers.txt", "limit-stores-peers")
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ship"))
        places = {"memory": "memory:", "SQLite file": f"sqlite:///{folder}/buckets.db"}
        for name, server in (("PostgreSQL", services.postgres), ("MariaDB", services.mariadb)):
            url = stack.enter_context(stack.enter_context(server()).database())
            engine = sa.create_engine(url)
            BUCKETS.create(engine)
            engine.dispose()
            places[name] = url
        port = stack.enter_context(services.own_redis(Path(folder)))
        places["Redis"] = places["Redis, limits"] = f"redis://127.0.0.1:{port}/0"
        found: Found = {}
        for number in range(rounds):
            for processes, at_once in WAYS:
                for name, url in places.items():
                    theirs = name.endswith("limits")
                    if (theirs and at_once > 1) or (name == "memory" and processes > 1):
                        continue
                    python = peers if theirs else Path(sys.executable)
                    ways = found.setdefault(name, {})
                    ways.setdefault((processes, at_once), []).append(
                        measure(python, name, url, processes, at_once)
                    )
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            yield found


def page(found: dict[str, Any], rounds: int, load: str) -> str:
    ways_shown = (
        "one process, one after the other | CPU us | one process, 32 at once | CPU us "
        "| four processes, one after the other | four processes, 32 at once"
    )
    machine = f"{os.cpu_count()} CPUs ({platform.machine()}), load {load}, {commit()}"
    about = (
        "Made by `python benchmarks/limit_stores.py`, with the servers on the same machine and its "
        "other work beside them: compare ratios. *CPU* is what one decision costs the process that "
        "asks; the rate also waits for the server, and for the machine."
    )
    day, python = datetime.now(UTC).date(), platform.python_version()
    lines = [
        "# What a decision costs in each store of buckets",
        "",
        f"{day}, CPython {python}, {machine}. The middle of {rounds} rounds, in turns.",
        "",
        about,
        "",
        f"| store | {ways_shown} |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, ways in found.items():

        def rate(way: tuple[int, int], ways: Any = ways) -> str:
            return f"{median(one[0] for one in ways[way]):,.0f}/s" if way in ways else ""

        def cpu(way: tuple[int, int], ways: Any = ways) -> str:
            return f"{median(one[1] for one in ways[way]):.0f}" if way in ways else ""

        lines.append(
            f"| {name} | {rate((1, 1))} | {cpu((1, 1))} | {rate((1, 32))} | {cpu((1, 32))} "
            f"| {rate((4, 1))} | {rate((4, 32))} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--try", dest="look", action="store_true")
    parser.add_argument("--arm", nargs=5)
    options = parser.parse_args()
    if options.arm:
        name, url, *numbers = options.arm
        arm(name, url, *map(int, numbers))
        return
    before = f"{os.getloadavg()[0]:.1f}"
    for number, found in enumerate(measured(options.rounds), 1):
        text = page(found, number, before)
        print(text, flush=True)
        # Each round anew: a loaded machine may take long for the next.
        if not options.look:
            RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
