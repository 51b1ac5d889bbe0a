"""What the history and alerts of `run` cost without a server: a round, the memory, the file.

    python benchmarks/remembering.py          measure, print, write results/remembering.md
    python benchmarks/remembering.py --short  the same of a part of the history
    python benchmarks/remembering.py --try    a short look that writes nothing

300 label sets: some of every metric that is declared, and routes; a third change with every
snapshot. CPU time of this process; the alerts are all that are declared.
"""

import argparse
import os
import platform
import random
import tempfile
import time
import tracemalloc
from bisect import bisect_left
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import islice, product
from pathlib import Path
from statistics import median

from environment import HERE, commit

from shipworthy.clock import ManualClock
from shipworthy.events import Metric, OneOf
from shipworthy.serve.shown import service_catalogue
from shipworthy.settings import load
from shipworthy.telemetry import Memory, Registry, Snapshot
from shipworthy.telemetry.buckets import Buckets
from shipworthy.telemetry.keeping import FIVE_MINUTES, HOUR, MINUTE
from shipworthy.telemetry.rollups import Rollups, Tier
from shipworthy.web.request_metrics import DURATION

RESULT = HERE / "results" / "remembering.md"
SETS = 300
WIDTH = len(DURATION.buckets) + 2
SNAPSHOTS = 6 * 360


class Service:
    """Counts what is declared, in 300 label sets; a third of them are busy."""

    def __init__(self) -> None:
        self.draw = random.Random(1)
        catalogue = service_catalogue(load(directory=HERE, environ={}))
        metrics = [*catalogue.metrics.values()]
        self.alerts = len(catalogue.alerts)
        # As many of each metric as there are, and the rest are routes.
        self.sets = {metric: [*_sets(metric, 4)] for metric in metrics}
        lacking = SETS - sum(map(len, self.sets.values()))
        self.sets[DURATION] += [
            ([f"/route/{number}"] * len(DURATION.labels), [0.0] * WIDTH)
            for number in range(lacking)
        ]
        self.names = {metric: list(metric.labels) for metric in self.sets}

    def snapshot(self) -> Snapshot:
        """Count for ten seconds, and return what there is then."""
        for metric, sets in self.sets.items():
            for _, numbers in sets[::3]:
                self._count(metric, numbers)
        return {
            metric.name: {
                "kind": metric.kind,
                "help": metric.help,
                "labels": self.names[metric],
                "buckets": list(metric.buckets),
                "fold": metric.fold,
                "sets": [(values, [*numbers]) for values, numbers in sets],
            }
            for metric, sets in self.sets.items()
        }

    def _count(self, metric: Metric, numbers: list[float]) -> None:
        draw = self.draw
        match metric.kind:
            case "counter":
                numbers[0] += draw.randint(1, 50)
            case "gauge":
                numbers[0] = float(draw.randint(0, 20))
            case "histogram":
                for _ in range(20):
                    value = draw.expovariate(20.0)
                    numbers[bisect_left(metric.buckets, value)] += 1.0
                    numbers[-1] += value


def _sets(metric: Metric, most: int) -> Iterator[tuple[list[str], list[float]]]:
    width = len(metric.buckets) + 2 if metric.kind == "histogram" else 1
    values = [
        domain.values if isinstance(domain, OneOf) else ("/a", "/b", "/c")
        for domain in metric.labels.values()
    ]
    for labels in islice(product(*values), most):
        yield list(labels), [0.0] * width


def main() -> None:
    """Measure one after the other and say what came out."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--short", action="store_true", help="a part of the history only")
    parser.add_argument("--try", action="store_true", dest="only_try", help="write nothing")
    options = parser.parse_args()
    short = options.short or options.only_try
    rows = [*rounds(600 if short else SNAPSHOTS)]
    rows += files(1 / 20 if short else 1.0)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:{width}}  {value}")
    if not options.only_try:
        RESULT.write_text(page(rows))


def rounds(snapshots: int) -> Iterator[tuple[str, str]]:
    """Yield what rounds cost when the history is full."""
    with tempfile.TemporaryDirectory() as folder:
        clock, service = ManualClock(), Service()
        settings = load(directory=Path(folder), environ={}, overrides={"history.file": "false"})
        memory = Memory(
            settings, Registry(), Path(folder), service_catalogue(settings), clock=clock
        )
        kept = [service.snapshot() for _ in range(snapshots)]
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        for snapshot in kept[:-50]:
            clock.advance(10.0)
            memory.remember([snapshot])
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        remembering, judging = [], []
        for snapshot in kept[-50:]:
            clock.advance(10.0)
            remembering.append(_spent(partial(memory.remember, [snapshot])))
            judging.append(_spent(memory.judge))
        yield f"remember a snapshot of {SETS} label sets", f"{median(remembering) * 1e3:.2f} ms"
        yield f"evaluate {len(memory.alerts)} alerts", f"{median(judging) * 1e3:.2f} ms"
        share = median(remembering) / 10 + median(judging) / 15
        yield "both, of one CPU", f"{share:.4%}"
        yield f"memory after {snapshots} snapshots", f"{(after - before) / 2**20:.1f} MiB"
        says = memory.keeping.past.all[0].size_bytes
        yield "of that the last hours, as they say themselves", f"{says / 2**20:.1f} MiB"


def files(share: float) -> Iterator[tuple[str, str]]:
    """Yield how large the file is when it is full, width by width."""
    total = 0
    for width, days in ((MINUTE, 2), (FIVE_MINUTES, 14), (HOUR, 400)):
        count = max(10, int(days * 86400 / width * share))
        with tempfile.TemporaryDirectory() as folder:
            rollups = Rollups(
                Path(folder) / "history.sqlite", (Tier(width, 1e12),), bytes_max=2**32
            )
            service, buckets = Service(), Buckets(width)
            spent = []
            for number in range(count + 1):
                at = float(number * width)
                over = buckets.add(service.snapshot(), at=at, wall=at)
                if over is not None:
                    spent.append(_spent(partial(rollups.put, *over)))
            size = rollups.size_bytes
            rollups.close()
        total += size
        yield (
            f"file: {count} buckets of {width} s",
            f"{size / 2**20:.1f} MiB, {median(spent) * 1e3:.2f} ms to write one",
        )
    yield "file in all", f"{total / 2**20:.1f} MiB"


def _spent(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def page(rows: list[tuple[str, str]]) -> str:
    """Return the page of the result."""
    made = f"{datetime.now(UTC):%Y-%m-%d}, CPython {platform.python_version()}, "
    made += f"{os.cpu_count()} CPUs ({platform.machine()}), load {os.getloadavg()[0]:.1f}, "
    made += f"{commit()}. CPU time of the process."
    lines = [
        "# What remembering and watching cost",
        "",
        "Made by `benchmarks/remembering.py`; how and of what, it says itself.",
        "",
        made,
        "",
        "| what | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
