"""What the capture of writes costs, beside the library that keeps versions in Python.

    python benchmarks/capture.py                    measure, print, write results/capture.md
    python benchmarks/capture.py --rounds 3 --try   a short look that writes nothing

An object of eight columns is inserted, changed in two of them, and deleted, a hundred in each unit
of work of the ORM. Two processes, each in its own environment with its own plain writes, take turns
round by round. Each ratio is within one environment and one round. Of a server the CPU of its own
process is counted too. The peer's environment is made under .state/bench-capture.
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
RESULT = HERE / "results" / "capture.md"
OPERATIONS = ("insert", "update", "delete")
BUDGETS = {"SQLite": 1.3, "PostgreSQL": 1.8, "MariaDB": 1.7}
# The peer takes so much longer that it gets through a round with a part of the objects.
PEERS_PART = 10

PAGE = """\
# What capture costs

{date}, CPython {python}, {cpus} CPUs ({machine}), load {load:.1f} before, {commit}.
{rounds} rounds of {objects} objects for each arm and operation, all arms in turn.

Made by `python benchmarks/capture.py`. CPU time in microseconds for each object, with that of the
database's server where there is one: {batch} objects in each unit of work of the ORM, of eight
columns, two of which an update changes. Compare ratios: the figures depend on the machine and on
what else it does. *all* is an object inserted, changed and deleted.

| database | operation | plain us | captured us | more us | ratio (quartiles) | budget |
|---|---|--:|--:|--:|---|--:|
{ours}
{peer}"""

PEER = """
## SQLAlchemy-Continuum

In its own environment, with its own plain writes. *times* is its cost over ours.

| database | operation | plain us | Continuum us | more us | ratio (quartiles) | times |
|---|---|--:|--:|--:|---|--:|
{rows}

Versions: benchmarks/capture_peers.txt.
"""


def of(environment: Environment, arm: str, operation: str) -> list[float]:
    """Return the seconds of an arm by round."""
    if operation != "all":
        return environment.seconds[f"{arm}: {operation}"]
    each = (of(environment, arm, one) for one in OPERATIONS)
    return [sum(parts) for parts in zip(*each, strict=True)]


def row(environment: Environment, database: str, arm: str, operation: str) -> tuple[str, float]:
    """Return the cells that both tables have, and what an object costs more."""
    plain = of(environment, f"{database}, plain", operation)
    with_it = of(environment, f"{database}, {arm}", operation)
    ratios = [two / one for one, two in zip(plain, with_it, strict=True)]
    more = median(two - one for one, two in zip(plain, with_it, strict=True))
    low, middle, high = quantiles(ratios, n=4)
    return (
        f"| {database} | {operation} | {median(plain) * 1e6:.0f} | {median(with_it) * 1e6:.0f} "
        f"| {more * 1e6:.0f} | {middle:.2f} ({low:.2f} to {high:.2f})"
    ), more


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=21, help="how often each arm is measured")
    parser.add_argument("--objects", type=int, default=2000, help="objects of one round")
    parser.add_argument("--databases", default="SQLite", help=f"of {', '.join(BUDGETS)}")
    parser.add_argument("--no-peer", action="store_true", help="leave Continuum out")
    parser.add_argument("--try", dest="trial", action="store_true", help="print, and write nothing")
    options = parser.parse_args()
    databases = options.databases.split(",")
    if options.rounds < 2 or not set(databases) <= set(BUDGETS):
        parser.error(f"quartiles need 2 rounds, and databases are {', '.join(BUDGETS)}")
    os.environ["CAPTURE_DATABASES"] = options.databases
    load = os.getloadavg()[0]
    ours = Environment(Path(sys.executable), "capture_work.py", "capture_ours")
    environments = [(ours, options.objects)]
    if not options.no_peer:
        python = python_with("capture_peers.txt", "bench-capture")
        peer = Environment(python, "capture_work.py", "capture_continuum")
        environments.append((peer, max(100, options.objects // PEERS_PART)))
    for _ in range(options.rounds):
        for environment, objects in environments:
            environment.round(objects)
    for environment, _ in environments:
        environment.close()
    our_rows, peer_rows = [], []
    for database in databases:
        for operation in (*OPERATIONS, "all"):
            cells, more = row(ours, database, "captured", operation)
            our_rows.append(f"{cells} | {BUDGETS[database]} |")
            if not options.no_peer:
                cells, peers_more = row(peer, database, "Continuum", operation)
                peer_rows.append(f"{cells} | {peers_more / more:.0f} |")
    page = PAGE.format(
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        python=platform.python_version(),
        cpus=os.cpu_count(),
        machine=platform.machine(),
        load=load,
        commit=commit(),
        rounds=options.rounds,
        objects=options.objects,
        batch=100,
        ours="\n".join(our_rows),
        peer=PEER.format(rows="\n".join(peer_rows)) if peer_rows else "",
    )
    print(page)
    if not options.trial:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
