"""The 10,000 keys of rate_limits.py, the same in every environment; and how its arms are measured.

`python limits_keys.py limits_ours` imports that module and answers each line `N` on standard input
with one line of JSON: the CPU seconds of one decision of each arm, over N decisions about each key.
Needs nothing but Python.
"""

import gc
import importlib
import json
import sys
import time
from collections.abc import Callable

KEYS = [f"{number * 2654435761 % 2**32:030x}" for number in range(10_000)]

# Decides so many times about every key, and returns how often it was allowed.
Arm = Callable[[int], int]


def measured(name: str, arm: Arm, times: int) -> float:
    """Return the CPU seconds of one decision; ends where they are not what the arm is about."""
    gc.collect()
    began = time.process_time()
    allowed = arm(times)
    seconds = time.process_time() - began
    if allowed != (0 if name.endswith("refused") else times * len(KEYS)):
        raise SystemExit(f"{name}: {allowed} of {times * len(KEYS)} decisions were to allow")
    return seconds / (times * len(KEYS))


def serve(arms: dict[str, Arm]) -> None:
    """Answer each line, the order of the arms turned round each time."""
    for arm in arms.values():
        arm(1)
    turn = list(arms)
    print(json.dumps(turn), flush=True)
    for line in sys.stdin:
        found = {name: measured(name, arms[name], int(line)) for name in turn}
        print(json.dumps(found), flush=True)
        turn.reverse()


if __name__ == "__main__":
    serve(importlib.import_module(sys.argv[1]).arms())
