"""What telling of a request costs, beside what else instruments FastAPI, with 1 and 100 routes.

    python benchmarks/telemetry.py                    measure, print, write results/telemetry.md
    python benchmarks/telemetry.py --rounds 3 --try   a short look that writes nothing

As in guards.py: our arms and the peers' live in two processes, each in its own environment with its
own bare application, and take turns round by round. The peers' environment is made under
.state/bench-telemetry from benchmarks/telemetry_peers.txt.
"""

import argparse
import asyncio
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

from environment import Environment, Rounds, commit, python_with
from guards import arm_row
from hull_arms import hardened
from instructions import counted
from rounds import ask, bare_of, living, take_stdout

HERE = Path(__file__).parent
RESULT = HERE / "results" / "telemetry.md"
TITLES = {"ours": "Shipworthy", "peers": "The others"}

PAGE = """\
# What telling of a request costs

{date}, CPython {python}, {cpus} CPUs ({machine}), {commit}.
{rounds} rounds of {requests} requests for each arm, all arms in turn; load {load:.0f} at the end.

Made by `python benchmarks/telemetry.py`. CPU time of the process, all its threads, in microseconds
for each in-process ASGI request; log lines go to the null device, numbers and spans stay in memory.
Compare ratios: the figures depend on the machine and on what else it does.

{tables}
*A line without guards* is the ASGI class around everything; *counting* is the metrics of requests
alone (duration, active requests, sizes, first byte, exceptions, clients that left, websockets);
*counting, ids and access line* is all that is told of a request by default. Telemetry's share of
the hull is what that costs over the line without guards: {share_one} us with one route, and
{share_many} with 100. `harden(app)` has the other guards too.

*No trace kept* and *each trace kept* are the same with a collector in another process: what most
requests of a traced service cost, and one whose span is made, encoded and posted.

FastAPI looks through its routes one by one, so the bare application gets slower with their number,
and so does whoever looks again. Ours does not: `harden(app)` executes {steps_one} instructions of
its own for a request with one route, and {steps_many} with 500.

The others count, and where it says so trace; none of these arms writes an access line or makes ids
for the log.

Versions: {versions}. Peers: benchmarks/telemetry_peers.txt.
"""

TABLE = """\
## {title}

| arm | CPU us | over bare, us | ratio (quartiles) |
|---|--:|--:|--:|
{rows}
"""


def rows_of(arms: Rounds) -> str:
    """Return the rows of one table: each arm beside the bare application above it."""
    rows: list[str] = []
    base: list[float] = []
    for name, seconds in arms.items():
        if name.startswith("bare"):
            base = seconds
        rows.append(arm_row(name, seconds, base))
    return "\n".join(rows)


def share(arms: Rounds, routes: str) -> str:
    """Return what ids, counting and the access line cost over the line alone, in microseconds."""
    told, alone = (
        arms[f"{name}, {routes}"]
        for name in ("counting, ids and access line", "a line without guards")
    )
    return f"{median((one - two) * 1e6 for one, two in zip(told, alone, strict=True)):+.1f}"


async def steps(routes: int) -> int:
    """Return the instructions of ours that a request costs in an application of so many routes."""
    app = hardened(bare_of(routes))
    async with living(app):
        return await counted(lambda: ask(app))


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=15, help="how often each arm is measured")
    parser.add_argument("--requests", type=int, default=200, help="requests of one round")
    parser.add_argument("--try", dest="trial", action="store_true", help="print, and write nothing")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds: quartiles need at least 2")
    environments = {
        "ours": Environment(Path(sys.executable), "rounds.py", "telemetry_ours"),
        "peers": Environment(
            python_with("telemetry_peers.txt", "bench-telemetry"), "rounds.py", "telemetry_peers"
        ),
    }
    for _ in range(options.rounds):
        for environment in environments.values():
            environment.round(options.requests)
    seconds = {name: environment.seconds for name, environment in environments.items()}
    for environment in environments.values():
        environment.close()
    out = take_stdout()
    page = PAGE.format(
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        python=platform.python_version(),
        cpus=os.cpu_count(),
        machine=platform.machine(),
        commit=commit(),
        rounds=options.rounds,
        load=os.getloadavg()[0],
        requests=options.requests,
        tables="\n".join(
            TABLE.format(title=TITLES[name], rows=rows_of(arms)) for name, arms in seconds.items()
        ),
        share_one=share(seconds["ours"], "1 route"),
        share_many=share(seconds["ours"], "100 routes"),
        steps_one=asyncio.run(steps(1)),
        steps_many=asyncio.run(steps(500)),
        versions=", ".join(f"{name} {version(name)}" for name in ("fastapi", "starlette")),
    )
    print(page, file=out)
    if not options.trial:
        RESULT.write_text(page)


if __name__ == "__main__":
    main()
