"""What a decision about a rate costs beside limits, throttled-py and pyrate-limiter.

    python benchmarks/rate_limits.py                    measure, print, write results/rate_limits.md
    python benchmarks/rate_limits.py --rounds 3 --try   a short look that writes nothing

Each decides in the memory of one process about 10,000 keys in turn: some of them all allowed, some
all refused. The peers have an environment of their own (limits_peers.txt). A round measures every
arm once; ratios are within a round.
"""

import argparse
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles

from environment import HERE, Environment, Rounds, commit, python_with

RESULT = HERE / "results" / "rate_limits.md"
OURS = {"allowed": "ours, gcra", "refused": "ours, gcra, refused"}
GOAL = 5.0


def measure(rounds: int, calls: int) -> tuple[Rounds, dict[str, str]]:
    environments = [
        Environment(Path(sys.executable), "limits_keys.py", "limits_ours"),
        Environment(
            python_with("limits_peers.txt", "limits-peers"), "limits_keys.py", "limits_peers"
        ),
    ]
    for number in range(rounds):
        for environment in environments if number % 2 else environments[::-1]:
            environment.round(calls)
    found: Rounds = {}
    kinds: dict[str, str] = {}
    for environment in environments:
        environment.close()
        for name, seconds in environment.seconds.items():
            found[name] = seconds
            kinds[name] = "refused" if name.endswith("refused") else "allowed"
    return found, kinds


def report(found: Rounds, kinds: dict[str, str], rounds: int, calls: int) -> str:
    peers = ", ".join(
        line for line in (HERE / "limits_peers.txt").read_text().splitlines() if line[0] != "#"
    )
    lines = [
        "# What a decision about a rate costs",
        "",
        (
            f"{datetime.now(UTC).date()}, CPython {platform.python_version()}, {peers}, "
            f"{os.cpu_count()} CPUs ({platform.machine()}), load {os.getloadavg()[0]:.1f}, "
            f"{commit()}. {rounds} rounds, in turns, of {calls} decisions about each of "
            "10,000 keys."
        ),
        "",
        "Made by `python benchmarks/rate_limits.py`. CPU time of the process. Compare ratios: the",
        "figures depend on the machine and on what else it does. The ratio is of rates: ours with",
        "gcra to the arm's, within a round.",
    ]
    for kind, own in OURS.items():
        lines += ["", f"## {kind.capitalize()}", ""]
        lines += ["| arm | microseconds | thousand a second | ours is so many times as fast |"]
        lines += ["|---|--:|--:|---|"]
        best = 0.0
        for name, seconds in found.items():
            if kinds[name] != kind:
                continue
            ratios = [one / ours for one, ours in zip(seconds, found[own], strict=True)]
            low, middle, high = quantiles(ratios, n=4)
            told = "" if name == own else f"{middle:.1f} ({low:.1f} to {high:.1f})"
            if not name.startswith("ours"):
                best = min(best or middle, middle)
            each = median(seconds)
            lines.append(f"| {name} | {each * 1e6:.2f} | {1e-3 / each:,.0f} | {told} |")
        lines += ["", f"The fastest of the others: {best:.1f} times. Goal: {GOAL:g}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--calls", type=int, default=2)
    parser.add_argument("--try", dest="only_try", action="store_true")
    given = parser.parse_args()
    page = report(*measure(given.rounds, given.calls), given.rounds, given.calls)
    print(page)
    if not given.only_try:
        RESULT.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
