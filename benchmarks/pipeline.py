"""What a pipeline costs around a call, beside the libraries that do parts of it.

    python benchmarks/pipeline.py                    measure, print, write results/pipeline.md
    python benchmarks/pipeline.py --rounds 3 --try   a short look that writes nothing

Two processes, each in its own environment with its own bare call, take turns round by round, so
what else the machine does meets all of them. Each ratio is within one environment and one round.
The peers' environment is made under .state/bench-pipeline from benchmarks/pipeline_peers.txt.
"""

import argparse
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles

from environment import Environment, commit, python_with

HERE = Path(__file__).parent
RESULT = HERE / "results" / "pipeline.md"
BARE = {"sync": "bare call", "async": "bare coroutine"}
TITLES = {"sync": "Sync", "async": "Async", "rejected": "Rejected"}
# One of the peers keeps some 1.5 KB for each rejection, and each takes longer than the one before.
PEERS_REJECTIONS = 5_000


def rows(kind: str, environments: list[Environment]) -> str:
    """Return the rows of one table; a rejection has no bare call to be compared with."""
    found = []
    for environment in environments:
        for name, seconds in environment.seconds.items():
            if environment.told[name] != kind:
                continue
            own = f"{median(seconds) * 1e6:.2f}"
            if kind == "rejected":
                found.append(f"| {name} | {own} | |")
                continue
            base = environment.seconds[BARE[kind]]
            ratios = [one / two for one, two in zip(seconds, base, strict=True)]
            low, _, high = quantiles(ratios, n=4)
            found.append(f"| {name} | {own} | {median(ratios):.0f} ({low:.0f} to {high:.0f}) |")
    return "\n".join(found)


PAGE = """\
# What a pipeline costs

{date}, CPython {python}, {cpus} CPUs ({machine}), {commit}.
{rounds} rounds of {calls} calls for each arm, all arms in turn.

Made by `python benchmarks/pipeline.py`. CPU time of the process in microseconds for each call of a
function that does nothing. Compare ratios: the figures depend on the machine and on what else it
does. Two bare calls stand in each table, one of each environment.

{tables}
Budget of the whole pipeline: 1.5 us sync, 3 us async.

## Memory that rejections leave

| arm | rejections | KiB left |
|---|--:|--:|
{memory}

Peers: benchmarks/pipeline_peers.txt.
"""

TABLE = """\
## {title}

| arm | CPU us | ratio to the bare call (quartiles) |
|---|--:|--:|
{rows}
"""


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=41, help="how often each arm is measured")
    parser.add_argument("--calls", type=int, default=5000, help="calls of one round")
    parser.add_argument("--rejections", type=int, default=1_000_000, help="for the memory table")
    parser.add_argument("--no-peers", action="store_true", help="leave the libraries out")
    parser.add_argument("--try", dest="trial", action="store_true", help="print, and write nothing")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds: quartiles need at least 2")
    environments = [Environment(Path(sys.executable), "calls.py", "calls_ours")]
    rejections = [options.rejections]
    if not options.no_peers:
        environments.append(
            Environment(
                python_with("pipeline_peers.txt", "bench-pipeline"), "calls.py", "calls_peers"
            )
        )
        rejections.append(PEERS_REJECTIONS)
    for done in range(options.rounds):
        for environment in environments:
            environment.round(options.calls)
        if sys.stderr.isatty():
            print(f"\rround {done + 1} of {options.rounds}", end="", file=sys.stderr, flush=True)
    memory = "\n".join(
        f"| {name} | {times:,} | {left / 1024:.0f} |"
        for environment, times in zip(environments, rejections, strict=True)
        for name, left in environment.ask(f"memory {times}").items()
    )
    for environment in environments:
        environment.close()
    page = PAGE.format(
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        python=platform.python_version(),
        cpus=os.cpu_count(),
        machine=platform.machine(),
        commit=commit(),
        rounds=options.rounds,
        calls=options.calls,
        tables="\n".join(
            TABLE.format(title=title, rows=rows(kind, environments))
            for kind, title in TITLES.items()
        ),
        memory=memory,
    )
    print(page)
    if not options.trial:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(page)


if __name__ == "__main__":
    main()
