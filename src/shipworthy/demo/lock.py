"""Hold the write lock of a SQLite file for a while, as a stray migration or a shell would.

A process of its own (`python -m shipworthy.demo.lock FILE --seconds 20 --parent PID`), because the
locks of SQLite are between processes. It writes nothing, and ends when its time is over, when it
is killed, or when `PID` is gone.
"""

import argparse
import os
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

# Longer than the writers of the demo take, one after the other.
WAIT_SECONDS = 5.0
_LOOK_SECONDS = 0.1


def main(arguments: list[str]) -> int:
    """Hold the lock to the end; returns 1 when it could not be had."""
    parser = argparse.ArgumentParser(prog="python -m shipworthy.demo.lock", description=__doc__)
    parser.add_argument("file", type=Path, help="the database")
    parser.add_argument("--seconds", type=float, required=True, help="how long")
    parser.add_argument("--parent", type=int, default=os.getppid(), help="end when it is gone")
    options = parser.parse_args(arguments)

    address = f"{options.file.absolute().as_uri()}?mode=rw"
    ends_at = time.monotonic() + options.seconds
    try:
        with closing(
            sqlite3.connect(address, uri=True, timeout=WAIT_SECONDS, isolation_level=None)
        ) as connection:
            connection.execute("BEGIN IMMEDIATE")
            while time.monotonic() < ends_at and os.getppid() == options.parent:
                time.sleep(_LOOK_SECONDS)
    except sqlite3.OperationalError as error:
        sys.stderr.write(f"{options.file}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
