"""What a line of the log costs, beside structlog, loguru and python-json-logger.

    python benchmarks/loglines.py                    measure, print, write results/loglines.md
    python benchmarks/loglines.py --rounds 3 --try   a short look that writes nothing

CPU time of all threads for a line with five fields to the null device. The others run in an
environment of their own; each side has the text formatter of `logging` as its yardstick, and a
ratio is to the one of the same process in the same round. Ours is redacted and cut, and theirs are
not.
"""

import argparse
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles

from environment import HERE, Environment, commit, python_with

LINES = 3000
RESULT = HERE / "results" / "loglines.md"


def main() -> None:
    """Measure in turns and say what came out."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--try", action="store_true", dest="only_try", help="write nothing")
    options = parser.parse_args()
    peers = Environment(
        python_with("loglines_peers.txt", "loglines-peers"), "loglines_arms.py", "peers"
    )
    ours = Environment(Path(sys.executable), "loglines_arms.py", "ours")
    for number in range(options.rounds):
        for side in (ours, peers) if number % 2 else (peers, ours):
            side.round(LINES)
    rows = [
        row("ours", name, ours) if side is ours else row("theirs", name, peers)
        for side in (ours, peers)
        for name in side.told
    ]
    for side in (ours, peers):
        side.close()
    where = (
        f"{datetime.now(UTC):%Y-%m-%d}, {commit()}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {options.rounds} rounds of "
        f"{LINES} lines, by turns. CPU of all threads; the ratio is to text of the same round."
    )
    page = "\n".join(
        (
            "# What a line of the log costs",
            "",
            where,
            "",
            "| arm | us a line | ratio to text | quartiles of the ratio |",
            "|---|---|---|---|",
            *rows,
            "",
        )
    )
    print(page)
    if not options.only_try:
        RESULT.write_text(page)


def row(whose: str, name: str, side: Environment) -> str:
    """Return the row of an arm."""
    seconds, text = side.seconds[name], side.seconds["text"]
    ratios = [one / other for one, other in zip(seconds, text, strict=True)]
    low, _, high = quantiles(ratios, n=4)
    label = f"`logging`, text ({whose})" if name == "text" else name
    costs = f"{median(seconds) * 1e6:.1f} | {median(ratios):.2f} | {low:.2f} to {high:.2f}"
    return f"| {label} | {costs} |"


if __name__ == "__main__":
    main()
