"""Eight processes that all want the same, and what they got: also a program, because it forks.

    python racing.py URL PROCESSES HITS TAG     one line of JSON for what each process got

Each request takes from three buckets at once, one of each kind; the smallest of them decides.
"""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from shipworthy.store import Algorithm, Ask, BucketsUnavailable, Quota, open_buckets

# So long that nothing comes back while it lasts, and that no window of a sliding quota ends.
LONG_NS = 300 * 86_400 * 1_000_000_000
PATIENCE_SECONDS = 10.0


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


async def _hit(url: str, hits: int, at_once: int, wanted: tuple[Ask, ...]) -> dict[str, int]:
    buckets = open_buckets(url, bound_seconds=PATIENCE_SECONDS)
    got = {"admitted": 0, "refused": 0, "unavailable": 0}

    async def ask() -> None:
        for _ in range(hits // at_once):
            try:
                answers = await buckets.take(wanted)
            except BucketsUnavailable:
                got["unavailable"] += 1
                continue
            got["admitted" if all(one.allowed for one in answers) else "refused"] += 1

    await asyncio.gather(*(ask() for _ in range(at_once)))
    await buckets.close()
    return got


def race(
    url: str, *, processes: int = 8, hits: int = 12, tag: str = "race", bound: float = 60.0
) -> dict[str, Any]:
    """Have processes race, and return what they got together."""
    done = subprocess.run(
        [sys.executable, __file__, url, str(processes), str(hits), tag],
        capture_output=True,
        text=True,
        timeout=bound,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == processes, done.stderr[-3000:]
    return {name: sum(row[name] for row in rows) for name in rows[0]}


def main(url: str, processes: int, hits: int, tag: str) -> None:
    """Fork, let all begin at once, and have each print one line."""
    # What a store needs is imported once, and not by each process while the others wait for it.
    asyncio.run(open_buckets(url).close())
    gate, open_gate = os.pipe()
    children = []
    for number in range(processes):
        child = os.fork()
        if child == 0:
            os.close(open_gate)
            os.read(gate, 1)
            # Every other one asks one after the other, the rest four at once.
            got = asyncio.run(_hit(url, hits, 1 if number % 2 else 4, asks(tag)))
            os.write(1, (json.dumps(got) + "\n").encode())
            os._exit(0)
        children.append(child)
    os.close(gate)
    os.close(open_gate)
    failed = [child for child in children if os.waitpid(child, 0)[1]]
    sys.exit(f"{len(failed)} processes failed" if failed else 0)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
