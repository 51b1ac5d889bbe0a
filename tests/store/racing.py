"""Eight processes that all want the same, and what they got: also a program, because it forks.

    python racing.py URL PROCESSES HITS TAG MODE     a line for each answer

Each request takes from three buckets at once, one of each kind; the smallest of them decides.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter

from shipworthy.store import Algorithm, Ask, BucketsUnavailable, Quota, open_buckets

# So long that nothing comes back while it lasts, and that no window of a sliding quota ends.
LONG_NS = 300 * 86_400 * 1_000_000_000
PATIENCE_SECONDS = 20.0
AGAIN_SECONDS = 0.1
KILL_AFTER_SECONDS = 0.03


def quota(algorithm: Algorithm, count: int, period_ns: int = LONG_NS) -> Quota:
    return Quota(algorithm=algorithm, count=count, period_ns=period_ns, burst=count)


GCRA, EXACT, SLIDING = Algorithm.GCRA, Algorithm.EXACT, Algorithm.SLIDING
# The exact one admits the fewest; what the others have left afterwards shows what was burnt.
SMALLEST = 60


def asks(tag: str = "race") -> tuple[Ask, ...]:
    return (
        Ask(f"{tag}-gcra", quota(GCRA, 100)),
        Ask(f"{tag}-exact", quota(EXACT, SMALLEST)),
        Ask(f"{tag}-sliding", quota(SLIDING, 80)),
    )


def _tell(what: str) -> None:
    """Say it at once: whoever is killed has said what it was given."""
    os.write(1, f"{what}\n".encode())


async def _hit(url: str, hits: int, at_once: int, wanted: tuple[Ask, ...]) -> None:
    buckets = open_buckets(url, bound_seconds=PATIENCE_SECONDS)

    async def ask() -> None:
        left = hits // at_once
        while left:
            try:
                answers = await buckets.take(wanted)
            except BucketsUnavailable:
                # On a loaded machine a lock may be held for longer than a server waits for it.
                _tell("unavailable")
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            left -= 1
            _tell("admitted" if all(one.allowed for one in answers) else "refused")

    await asyncio.gather(*(ask() for _ in range(at_once)))
    await buckets.close()


def race(
    url: str,
    *,
    processes: int = 8,
    hits: int = 12,
    tag: str = "race",
    mode: str = "calm",
    bound: float = 60.0,
) -> Counter[str]:
    """Have processes race, and return how often each thing was told, by all of them together."""
    done = subprocess.run(
        [sys.executable, __file__, url, str(processes), str(hits), tag, mode],
        capture_output=True,
        text=True,
        timeout=bound,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = Counter(done.stdout.split())
    answered = told["admitted"] + told["refused"]
    assert mode == "killed" or answered == processes * hits, done.stderr[-3000:]
    return told


def _set_clock(hours: int) -> None:
    """Have this process see another wall clock, as if somebody had set it."""
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + 3600 * hours
    time.time_ns = lambda: real_ns() + 3600 * hours * 10**9


def main(url: str, processes: int, hits: int, tag: str, mode: str) -> None:
    """Fork, and let all begin at once; `killed` ends every other one in the middle of it."""
    # What a store needs is imported once, and not by each process while the others wait for it.
    asyncio.run(open_buckets(url).close())
    gate, open_gate = os.pipe()
    children = []
    for number in range(processes):
        child = os.fork()
        if child == 0:
            os.close(open_gate)
            if mode == "clocks":
                _set_clock(number - processes // 2)
            os.read(gate, 1)
            # Every other one asks one after the other, the rest four at once.
            asyncio.run(_hit(url, hits, 1 if number % 2 else 4, asks(tag)))
            os._exit(0)
        children.append(child)
    os.close(gate)
    os.close(open_gate)
    if mode == "killed":
        for number, child in enumerate(children):
            if number % 2:
                time.sleep(KILL_AFTER_SECONDS)
                os.kill(child, signal.SIGKILL)
    failed = [child for child in children if os.waitpid(child, 0)[1] not in {0, signal.SIGKILL}]
    sys.exit(f"{len(failed)} processes failed" if failed else 0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5])
