"""A million random traces admit no more than was said; a million made-up keys let nobody off

A trace is a quota and up to 16 requests for one key: gaps and costs drawn at random, often exactly
at an edge. Beside the judge of each trace runs a model that remembers everything: of an exact quota
the list of all admissions, of GCRA a bucket of tokens in whole parts of an interval. Compared are
each decision, the most that was admitted in any window of the period and of another length with the
worst that the quota names, and for each refusal that the same request is admitted at the instant
that was told and not a nanosecond before.

Then a million different keys are thrown at the buckets of one process, which keeps 200,000 apart;
each would count for six minutes. One client that has spent all asks again and again meanwhile.
Decisions are timed one by one, in CPU time, because the machine has other work; memory is what the
process gained.
"""

import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

from shipworthy.store.bucket import Algorithm, Ask, Quota, State, judge
from shipworthy.store.bucket_memory import MemoryBuckets

ROOT = Path(__file__).parents[1]
COVERS = (
    "src/shipworthy/store/bucket.py",
    "src/shipworthy/store/bucket_memory.py",
    "evidence/limits_exact.py",
)
TRACES: Final = 1_000_000
PROCESSES: Final = 2
KEYS: Final = 1_000_000
BOUND_MB: Final = 48.0
BOUND_MICROSECONDS: Final = 20.0


def run(folder: Path) -> tuple[str, dict[str, str]]:
    """Judge the traces and throw the keys; fail where anything is not as it was said."""
    del folder
    parts = [
        subprocess.Popen(
            [sys.executable, __file__, "traces", str(seed), str(TRACES // PROCESSES)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in range(PROCESSES)
    ]
    found: Counter[str] = Counter()
    for part in parts:
        said, _ = part.communicate()
        if part.returncode:
            raise SystemExit(f"a trace was not as it was said: {said}")
        found.update(json.loads(said))
    done = subprocess.run(
        [sys.executable, __file__, "keys"], capture_output=True, text=True, check=True
    )
    flood = json.loads(done.stdout)
    if flood["attacker_admitted"] or flood["gained_mb"] > BOUND_MB:
        raise SystemExit(f"the flood: {flood}")
    rows = [
        "## Traces",
        "",
        "| | gcra | exact | sliding |",
        "|---|--:|--:|--:|",
        *(
            f"| {name} | "
            + " | ".join(f"{found[f'{key} {one}']:,}" for one in ("gcra", "exact", "sliding"))
            + " |"
            for name, key in (
                ("traces", "traces"),
                ("requests", "requests"),
                ("refused, and admitted when it was told", "refused"),
                ("traces in which a window held exactly the worst", "worst"),
            )
        ),
        "",
        "Decisions unlike the model's, windows with more than the worst, untrue instants: 0.",
        "",
        "## A million keys",
        "",
        "| | |",
        "|---|--:|",
        f"| keys thrown | {KEYS:,} |",
        f"| kept apart | {flood['keys']:,} |",
        f"| decided in the sketch | {flood['sketched']:,} |",
        f"| memory gained, MB | {flood['gained_mb']:.1f} |",
        f"| requests of the client that had spent all | {flood['attacker_asked']:,} |",
        f"| of them admitted | {flood['attacker_admitted']:,} |",
        f"| CPU time of a decision, microseconds: half | {flood['half_us']:.1f} |",
        f"| 99 of 100 | {flood['p99_us']:.1f} |",
        f"| the longest, milliseconds | {flood['longest_ms']:.1f} |",
    ]
    return "\n".join(rows), {}


def _quota(draw: random.Random, algorithm: Algorithm) -> Quota:
    count = draw.randint(1, 12)
    burst = draw.randint(1, count) if algorithm is Algorithm.GCRA else count
    period = draw.choice((draw.randint(12_000, 30_000), 10**9, 60 * 10**9, 86_400 * 10**9))
    return Quota(algorithm=algorithm, count=count, period_ns=period, burst=burst)


def _traces(seed: int, number: int) -> Counter[str]:
    draw = random.Random(seed)
    found: Counter[str] = Counter()
    algorithms = tuple(Algorithm)
    for index in range(number):
        algorithm = algorithms[index % 3]
        _trace(draw, _quota(draw, algorithm), found)
        found[f"traces {algorithm}"] += 1
    return found


def _trace(draw: random.Random, quota: Quota, found: Counter[str]) -> None:
    name, period, interval = quota.algorithm, quota.period_ns, quota.interval_ns
    at = draw.randrange(10**18)
    state: State | None = None
    admitted: list[tuple[int, int]] = []
    # Of the model of GCRA: what there is, in parts of which an interval has `interval`.
    parts, last = quota.burst * interval, at
    for _ in range(draw.randint(4, 16)):
        at += draw.choice(
            (0, 1, interval, interval - 1, period - 1, period, draw.randrange(2 * period),
             draw.randrange(interval + 1))
        )  # fmt: skip
        cost = draw.choice((1, 1, draw.randint(1, quota.burst)))
        before = state
        state, taken = judge(state, quota, cost, at)
        found[f"requests {name}"] += 1
        expected = taken.allowed
        if name is Algorithm.EXACT:
            spent = sum(much for when, much in admitted if when > at - period)
            expected = spent + cost <= quota.count
        elif name is Algorithm.GCRA:
            parts, last = min(quota.burst * interval, parts + at - last), at
            expected = parts >= cost * interval
            parts -= cost * interval if expected else 0
        _must(taken.allowed == expected, quota, "the model decides otherwise")
        if taken.allowed:
            admitted.append((at, cost))
            continue
        found[f"refused {name}"] += 1
        _must(before is None or state is before, quota, "a refusal wrote something")
        told = at + taken.retry_after_ns
        _must(judge(state, quota, cost, told)[1].allowed, quota, "refused when it was told")
        _must(not judge(state, quota, cost, told - 1)[1].allowed, quota, "admitted before")
    for window in (period, draw.randint(1, 3 * period)):
        worst = quota.worst_in(window)
        most = max(
            (
                sum(cost for at, cost in admitted if start <= at < start + window)
                for start, _ in admitted
            ),
            default=0,
        )
        _must(most <= worst, quota, f"{most} in {window} ns, not {worst}")
        if window == period:
            found[f"worst {name}"] += most == worst


def _must(holds: object, quota: Quota, what: str) -> None:
    if not holds:
        print(f"{what}: {quota}")
        raise SystemExit(1)


def _keys() -> dict[str, Any]:
    """Throw the keys, and time each decision."""
    quota = Quota(algorithm=Algorithm.GCRA, count=10, period_ns=3600 * 10**9, burst=2)
    exact = Quota(algorithm=Algorithm.EXACT, count=5, period_ns=900 * 10**9, burst=5)
    times: list[int] = [0] * KEYS
    draw = random.Random(7)
    buckets = MemoryBuckets()
    attacker = (Ask("a" * 30, exact),)
    for _ in range(5):
        buckets.take_now(attacker)
    asked = let_in = 0
    before = _memory_mb()
    for number in range(KEYS):
        ask = (Ask(f"{draw.getrandbits(120):030x}", quota),)
        began = time.thread_time_ns()
        buckets.take_now(ask)
        times[number] = time.thread_time_ns() - began
        if number % 100 == 0:
            asked += 1
            let_in += buckets.take_now(attacker)[0].allowed
    gained = _memory_mb() - before
    # The times are numbers of this script, most of them above the small ones that are shared.
    gained -= sum(32 for one in times if one > 256) / 1e6
    times.sort()
    found = buckets.statistics()
    return {
        "keys": found.keys,
        "sketched": found.sketched_total,
        "gained_mb": gained,
        "attacker_asked": asked,
        "attacker_admitted": let_in,
        "half_us": times[KEYS // 2] / 1000,
        "p99_us": times[KEYS * 99 // 100] / 1000,
        "longest_ms": times[-1] / 1e6,
    }


def _memory_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024 / 1e6
    raise SystemExit("no memory of this process is told here")


if __name__ == "__main__":
    if sys.argv[1] == "traces":
        print(json.dumps(_traces(int(sys.argv[2]), int(sys.argv[3]))))
    else:
        print(json.dumps(_keys()))
