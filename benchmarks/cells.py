"""What counting costs beside prometheus_client: one call, and a scrape of 16 workers.

    python benchmarks/cells.py                    measure, print, write results/cells.md
    python benchmarks/cells.py --rounds 3 --try   a short look that writes nothing

Every way of counting has a process of its own, and they are measured in turns: a round has each of
them count so many times, or read the same page of 16 workers with 100 routes once. Their
multiprocess mode is what they offer for several workers; ours has no other mode.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from environment import commit

HERE = Path(__file__)
RESULT = HERE.parent / "results" / "cells.md"
WORKERS = 16
ROUTES = [f"/items/{number}/{{id}}" for number in range(100)]
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 7.5, 10.0)
BUDGET_MS = 8.0

OURS, THEIRS, THEIR_FILES = "ours", "prometheus_client", "prometheus_client, multiprocess mode"
CALLS = (
    "counter, its cell kept",
    "counter, looked up by labels",
    "histogram, its cell kept",
    "histogram, looked up by labels",
    "histogram, kept, with a trace id",
)


def our_calls(folder: str) -> dict[str, Callable[[int], None]]:
    from shipworthy.events import Declared, Metric, Routes
    from shipworthy.telemetry import Registry, Segment

    labels = {"method": Declared(), "route": Routes()}
    registry = Registry()
    registry.keep_in(Segment.begin(Path(folder), f"calls-{os.getpid()}"))
    counter = registry.counter(Metric("c_total", "counter", "C.", labels))
    histogram = registry.histogram(Metric("h_seconds", "histogram", "H.", labels, BUCKETS))
    add = counter.cell("GET", "/a").add
    cell = histogram.cell("GET", "/a")
    observe, traced = cell.observe, cell.observe_traced

    def kept(times: int) -> None:
        for _ in range(times):
            add()

    def looked_up(times: int) -> None:
        for _ in range(times):
            counter.cell("GET", "/a").add()

    def observed(times: int) -> None:
        for _ in range(times):
            observe(0.03)

    def observed_looked_up(times: int) -> None:
        for _ in range(times):
            histogram.cell("GET", "/a").observe(0.03)

    def observed_traced(times: int) -> None:
        for _ in range(times):
            traced(0.03, "0af7651916cd43dd8448eb211c80319c")

    return dict(
        zip(CALLS, (kept, looked_up, observed, observed_looked_up, observed_traced), strict=True)
    )


def their_calls() -> dict[str, Callable[[int], None]]:
    from prometheus_client import CollectorRegistry, Counter, Histogram

    registry = CollectorRegistry()
    labels = ["method", "route"]
    counter = Counter("c", "C.", labels, registry=registry)
    histogram = Histogram("h_seconds", "H.", labels, buckets=BUCKETS, registry=registry)
    inc = counter.labels("GET", "/a").inc
    observe = histogram.labels("GET", "/a").observe

    def kept(times: int) -> None:
        for _ in range(times):
            inc()

    def looked_up(times: int) -> None:
        for _ in range(times):
            counter.labels("GET", "/a").inc()

    def observed(times: int) -> None:
        for _ in range(times):
            observe(0.03)

    def observed_looked_up(times: int) -> None:
        for _ in range(times):
            histogram.labels("GET", "/a").observe(0.03)

    def observed_traced(times: int) -> None:
        for _ in range(times):
            observe(0.03, {"trace_id": "0af7651916cd43dd8448eb211c80319c"})

    arms = (kept, looked_up, observed, observed_looked_up, observed_traced)
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:  # it has no examples there
        arms = arms[:-1]
    return dict(zip(CALLS, arms, strict=False))


def our_worker(folder: str, number: int) -> Any:
    """Count what one worker would, in a segment of its own; living as long as what it returns."""
    from shipworthy.events import Declared, Metric, OneOf, Routes
    from shipworthy.telemetry import Registry, Segment

    labels = {"method": Declared(), "route": Routes(), "status": OneOf("200", "500")}
    registry = Registry()
    segment = Segment.begin(Path(folder), f"worker-{number}")
    registry.keep_in(segment)
    counter = registry.counter(Metric("requests_total", "counter", "C.", labels))
    histogram = registry.histogram(Metric("took_seconds", "histogram", "H.", labels, BUCKETS))
    for route in ROUTES:
        counter.cell("GET", route, "200").add()
        histogram.cell("GET", route, "200").observe(0.03)
    segment.say(registry.rest())
    return segment, registry


def their_worker() -> None:
    """The same with theirs, in this process, which is one of 16."""
    from prometheus_client import CollectorRegistry, Counter, Histogram

    registry = CollectorRegistry()
    labels = ["method", "route", "status"]
    counter = Counter("requests", "C.", labels, registry=registry)
    histogram = Histogram("took_seconds", "H.", labels, buckets=BUCKETS, registry=registry)
    for route in ROUTES:
        counter.labels("GET", route, "200").inc()
        histogram.labels("GET", route, "200").observe(0.03)


def our_scrape(folder: str) -> Callable[[], bytes]:
    from shipworthy.telemetry import SegmentDirectory, exposition

    directory = SegmentDirectory(Path(folder))
    return lambda: exposition(directory.told())


def their_scrape(folder: str) -> Callable[[], bytes]:
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    def scrape() -> bytes:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=folder)
        return generate_latest(registry)

    return scrape


def serve(arm: str, folder: str) -> None:
    """Measure one arm whenever a line `what times` is read, until there are no more."""
    kept: list[Any] = []
    if arm == OURS:
        calls, scrape = our_calls(folder), None
        place = f"{folder}/scrape"
        Path(place).mkdir()
        kept = [our_worker(place, number) for number in range(WORKERS)]
        scrape = our_scrape(place)
    else:
        calls = their_calls()
        scrape = their_scrape(folder) if arm == THEIR_FILES else None
    print(json.dumps([*calls, *(["scrape"] if scrape else [])]), flush=True)
    for line in sys.stdin:
        times = int(line)
        found = {}
        for name, call in calls.items():
            began = time.process_time()
            call(times)
            found[name] = (time.process_time() - began) / times
        if scrape:
            began = time.process_time()
            page = scrape()
            found["scrape"] = time.process_time() - began
            assert page.count(b"took_seconds_bucket") == len(ROUTES) * (len(BUCKETS) + 1)
            assert b'took_seconds_count{method="GET",route="/items/7/{id}",status="200"} 16' in page
        print(json.dumps(found), flush=True)
    del kept


def measure(rounds: int, times: int) -> dict[str, dict[str, list[float]]]:
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    found: dict[str, dict[str, list[float]]] = {}
    with (
        tempfile.TemporaryDirectory(dir=memory) as ours,
        tempfile.TemporaryDirectory(dir=memory) as theirs,
        tempfile.TemporaryDirectory(dir=memory) as call_files,
    ):
        files = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": theirs}
        for _ in range(WORKERS):
            subprocess.run([sys.executable, str(HERE), "--their-worker"], env=files, check=True)
        # What their one process for calls writes is not part of the page.
        folders = {OURS: ours, THEIRS: theirs, THEIR_FILES: theirs}
        arms = {}
        for arm, folder in folders.items():
            env = dict(os.environ)
            if arm == THEIR_FILES:
                env["PROMETHEUS_MULTIPROC_DIR"] = call_files
            arms[arm] = subprocess.Popen(
                [sys.executable, str(HERE), "--serve", arm, "--folder", folder],
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        for arm, process in arms.items():
            found[arm] = {name: [] for name in json.loads(process.stdout.readline())}
        for number in range(rounds + 1):
            for arm, process in arms.items():
                process.stdin.write(f"{times}\n")
                process.stdin.flush()
                for name, seconds in json.loads(process.stdout.readline()).items():
                    if number:  # the first is to get warm
                        found[arm][name].append(seconds)
        for process in arms.values():
            process.stdin.close()
            process.wait(30)
    return found


def report(found: dict[str, dict[str, list[float]]], rounds: int, times: int) -> str:
    arms = list(found)
    lines = [
        "# What counting costs",
        "",
        (
            f"{datetime.now(UTC).date()}, CPython {platform.python_version()}, prometheus_client "
            f"{version('prometheus_client')}, {os.cpu_count()} CPUs ({platform.machine()}), load "
            f"{os.getloadavg()[0]:.1f}, {commit()}. {rounds} rounds, in turns, of {times} calls "
            "and one scrape."
        ),
        "",
        "Made by `python benchmarks/cells.py`. CPU time of the process. Compare ratios: the",
        "figures depend on the machine and on what else it does. Ours counts in a mapped file, as",
        "the workers of `run` do.",
        "",
        "## One call, in microseconds",
        "",
        f"| call | {' | '.join(arms)} | ratio to {THEIRS} (quartiles) |",
        f"|---|{'--:|' * len(arms)}---|",
    ]
    for name in CALLS:
        row = [
            f"{median(found[arm][name]) * 1e6:.2f}" if name in found[arm] else "none"
            for arm in arms
        ]
        lines.append(
            f"| {name} | {' | '.join(row)} | {_ratio(found[OURS][name], found[THEIRS][name])} |"
        )
    ours, theirs = found[OURS]["scrape"], found[THEIR_FILES]["scrape"]
    lines += [
        "",
        f"## One scrape of {WORKERS} workers with {len(ROUTES)} routes, in milliseconds",
        "",
        "A counter and a histogram of 14 buckets for each route; both pages say the same.",
        "",
        "| whose | CPU ms | quartiles |",
        "|---|--:|---|",
    ]
    for name, seconds in ((OURS, ours), (THEIR_FILES, theirs)):
        low, _, high = quantiles(seconds, n=4)
        lines.append(
            f"| {name} | {median(seconds) * 1e3:.1f} | {low * 1e3:.1f} to {high * 1e3:.1f} |"
        )
    lines += [
        "",
        f"Ratio {_ratio(ours, theirs)}. Budget: {BUDGET_MS:g} ms.",
    ]
    return "\n".join(lines) + "\n"


def _ratio(ours: list[float], theirs: list[float]) -> str:
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    low, middle, high = quantiles(ratios, n=4)
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--try", dest="only_try", action="store_true")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    parser.add_argument("--their-worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.their_worker:
        their_worker()
        return
    if given.serve:
        serve(given.serve, given.folder)
        return
    page = report(measure(given.rounds, given.calls), given.rounds, given.calls)
    print(page)
    if not given.only_try:
        RESULT.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
