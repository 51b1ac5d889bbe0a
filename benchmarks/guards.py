"""What the guards cost for each request, beside the bare application and beside the glued stack.

    python benchmarks/guards.py                    measure, print, write results/guards.md
    python benchmarks/guards.py --rounds 3 --try   a short look that writes nothing

Our arms and the peers' live in two processes, each in its own environment with its own bare
application, and take turns round by round, so what else the machine does meets all of them. Each
ratio is within one environment and one round; the median over the rounds is shown with quartiles.
The peers' environment is made under .state/bench-peers from benchmarks/peers.txt.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
import timeit
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles

from environment import Environment, Rounds, commit, python_with

from shipworthy.events import Event, emit, event

HERE = Path(__file__).parent
RESULT = HERE / "results" / "guards.md"
BARE = "bare FastAPI"
# DESIGN: the first guards and their access line over the bare route.
BUDGET_MICROSECONDS = 32
BUDGET_RATIO = 1.25


def measure(rounds: int, requests: int, *, peers: bool) -> dict[str, Rounds]:
    """Return the CPU seconds per request of each arm and round, by environment."""
    environments = {
        "ours": Environment(Path(sys.executable), "rounds.py", "hull_arms"),
        "threads": Environment(Path(sys.executable), "rounds.py", "hull_thread_arms"),
        "database": Environment(Path(sys.executable), "rounds.py", "hull_database_arms"),
    }
    if peers:
        environments["peers"] = Environment(
            python_with("peers.txt", "bench-peers"), "rounds.py", "glued_arms"
        )
    for done in range(rounds):
        for environment in environments.values():
            environment.round(requests)
        if sys.stderr.isatty():
            print(f"\rround {done + 1} of {rounds}", end="", file=sys.stderr, flush=True)
    for environment in environments.values():
        environment.close()
    return {name: environment.seconds for name, environment in environments.items()}


def emit_nanoseconds() -> float:
    """Return what stating an event costs when nobody listens, the loop's own cost taken off."""

    @event()
    class NobodyListens(Event):
        """Nobody listens to this."""

        number: int

    # Outside of `run` the hull gives every event to `logging`; this is about one that none takes.
    NobodyListens.listeners = ()

    times = 200_000
    loop = min(timeit.repeat("pass", number=times, repeat=7))
    names = {"emit": emit, "NobodyListens": NobodyListens}
    stated = min(
        timeit.repeat("emit(NobodyListens, number=1)", globals=names, number=times, repeat=7)
    )
    return (stated - loop) / times * 1e9


def import_milliseconds(rounds: int) -> float:
    """Return what `import shipworthy` adds to the start of an interpreter, as a median of pairs."""

    def start(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - began

    return median(start("import shipworthy") - start("pass") for _ in range(rounds)) * 1000


def rows_of(arms: Rounds) -> str:
    """Return the rows of one table: each arm beside the bare application above it."""
    rows, base = [], arms[BARE]
    for name, values in arms.items():
        if name.startswith(BARE):
            base = values
        rows.append(arm_row(name, values, base))
    return "\n".join(rows)


def arm_row(name: str, seconds: list[float], base: list[float]) -> str:
    """Return the row of one arm: its cost, and how it stands to its bare application."""
    own = f"{median(seconds) * 1e6:.1f}"
    if seconds is base:
        return f"| {name} | {own} | | |"
    over = [(one - two) * 1e6 for one, two in zip(seconds, base, strict=True)]
    ratios = [one / two for one, two in zip(seconds, base, strict=True)]
    low, _, high = quantiles(ratios, n=4)
    return (
        f"| {name} | {own} | {median(over):+.1f} | {median(ratios):.2f} ({low:.2f} to {high:.2f}) |"
    )


PAGE = """\
# What the guards cost

{date}, CPython {python}, {cpus} CPUs ({machine}), {commit}.
{rounds} rounds of {requests} requests for each arm, all arms in turn.

Made by `python benchmarks/guards.py`. CPU time of the process, all its threads, in microseconds
for each in-process ASGI request; log lines go to the null device. Compare ratios: the figures
depend on the machine and on what else it does.

{tables}
Budget of the guards: {budget_us} us and a ratio of {budget_ratio}. They are: ids and trace context,
access line and request metrics, drain gate, probes, problems. Of all guards: 50 us and 1.35.
The one client here is above its rate limit, which reports: each of its requests is told of, too.

*Same duties* is asgi-correlation-id, prometheus-fastapi-instrumentator and a structlog line;
*whole stack* adds slowapi, secure and starlette-csrf, in the place of our limits, headers and csrf.
Each is set up as its own manual shows.

## Beside the request

| what | measured | budget |
|---|--:|--:|
| `events.emit` with no listener | {emitted:.0f} ns | 300 ns |
| `import shipworthy` | {imported:.1f} ms | 30 ms |

Versions: {versions}. Peers: benchmarks/peers.txt.
"""

TABLE = """\
## {title}

| arm | CPU us | over bare, us | ratio (quartiles) |
|---|--:|--:|--:|
{rows}
"""


def report(seconds: dict[str, Rounds], *, requests: int, emitted: float, imported: float) -> str:
    """Return the page."""
    titles = {
        "ours": "Shipworthy over an `async def` route",
        "threads": "Shipworthy over a `def` route, which FastAPI runs in a thread",
        "database": "Shipworthy as under `run` with a database: door and replay stand in the line",
        "peers": "The glued stack over an `async def` route",
    }
    packages = ("fastapi", "starlette", "pydantic", "uvicorn", "orjson", "shipworthy")
    tables = [
        TABLE.format(
            title=titles[environment],
            rows=rows_of(arms),
        )
        for environment, arms in seconds.items()
    ]
    return PAGE.format(
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        python=platform.python_version(),
        cpus=os.cpu_count(),
        machine=platform.machine(),
        commit=commit(),
        rounds=len(seconds["ours"][BARE]),
        requests=requests,
        tables="\n".join(tables),
        budget_us=BUDGET_MICROSECONDS,
        budget_ratio=BUDGET_RATIO,
        emitted=emitted,
        imported=imported,
        versions=", ".join(f"{name} {version(name)}" for name in packages),
    )


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=41, help="how often each arm is measured")
    parser.add_argument("--requests", type=int, default=1000, help="requests of one round")
    parser.add_argument("--no-peers", action="store_true", help="leave the glued stack out")
    parser.add_argument("--try", dest="trial", action="store_true", help="print, and write nothing")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds: quartiles need at least 2")
    seconds = measure(options.rounds, options.requests, peers=not options.no_peers)
    page = report(
        seconds,
        requests=options.requests,
        emitted=emit_nanoseconds(),
        imported=import_milliseconds(min(options.rounds, 15)),
    )
    print(page)
    if not options.trial:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(page)


if __name__ == "__main__":
    main()
