"""What sealing costs writers, and how fast a log is sealed and verified.

    python benchmarks/ledger.py                    measure, print, write results/ledger.md
    python benchmarks/ledger.py --rounds 1 --try   a short look that writes nothing

Eight processes write, a row in a transaction, on PostgreSQL (TEST_POSTGRES_URL, else
127.0.0.1:5432) and MariaDB (TEST_MARIADB_URL, else 127.0.0.1:3306): in each round once with capture
alone and once with a sealer beside, which seals every second. A ratio is within one round. Before
that the log of one table is sealed and verified, by the clock and by the CPU of this process.
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from itertools import count as count_from
from pathlib import Path
from statistics import median
from typing import Any

import sqlalchemy as sa

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import services  # noqa: E402 - of the tests, as the trail is
from audit.ledger.trail import KEY, ORDERS, Trail  # noqa: E402
from shipworthy.audit.ledger.seal import Sealer  # noqa: E402
from shipworthy.audit.ledger.sealing import Sealing  # noqa: E402
from shipworthy.audit.ledger.verify import verify  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "ledger.md"
WRITERS = 8
WORK_SECONDS = 0.005  # what the application does inside its transaction


# No two rounds write the same keys; below those of `read_rates`.
_FIRST_KEYS = count_from(1_000_000, WRITERS * 1_000_000)


def write(url: str, key: int, seconds: float, work: float, count: Any, ready: Any) -> None:
    """Write rows from `key` on, for so long; how many goes into `count`."""
    engine = sa.create_engine(url)
    done = 0
    engine.connect().close()
    ready.wait()  # nobody is measured while others still start
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        with engine.begin() as connection:
            done += 1
            connection.execute(sa.insert(ORDERS).values(id=key + done, person_id=1, total=1.5))
            if work:
                time.sleep(work)
    with count.get_lock():
        count.value += done
    engine.dispose()


def seal(url: str, stop: Any, ready: Any) -> None:
    """Seal every second until told to end, as a worker of the service does."""
    sealing = Sealing(lambda: sa.create_engine(url), lambda engine: Sealer(engine, KEY))
    sealing.start()
    ready.wait()
    stop.wait()
    sealing.stop(seconds=10)


def throughput(trail: Trail, *, sealed: bool, seconds: float, work: float) -> float:
    """Return transactions a second of all writers."""
    context = multiprocessing.get_context("spawn")
    count, stop = context.Value("l", 0), context.Event()
    ready = context.Barrier(WRITERS + sealed)
    first = next(_FIRST_KEYS)
    others = [
        context.Process(
            target=write,
            args=(trail.url, first + number * 1_000_000, seconds, work, count, ready),
        )
        for number in range(WRITERS)
    ]
    sealer = context.Process(target=seal, args=(trail.url, stop, ready))
    if sealed:
        sealer.start()
    for process in others:
        process.start()
    for process in others:
        process.join()
    stop.set()
    if sealed:
        sealer.join()
    return count.value / seconds


@contextmanager
def trails() -> Iterator[list[tuple[str, Trail]]]:
    """Yield an installed trail on SQLite and on each server."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        urls = [("SQLite", f"sqlite:///{folder}/app.db")]
        for name, server in (("PostgreSQL", services.postgres), ("MariaDB", services.mariadb)):
            running = stack.enter_context(server())
            urls.append((name, stack.enter_context(running.database())))
        found = [(name, Trail(url)) for name, url in urls]
        for _, trail in found:
            stack.callback(trail.close)
            trail.install()
        yield found


def read_rates(trail: Trail, rows: int) -> list[str]:
    """Return rows a second of sealing and verifying, by the clock and by CPU."""
    with trail.engine.begin() as connection:
        for first in range(0, rows, 1000):
            connection.execute(
                sa.insert(ORDERS),
                [
                    {
                        "id": 900_000_000 + first + it,
                        "person_id": it,
                        "total": 1.5,
                        "note": "a note",
                    }
                    for it in range(1000)
                ],
            )
    found = []
    began, used = time.perf_counter(), time.process_time()
    sealed = sum(one.header.entries for one in trail.seal())
    found += [_rate(sealed, time.perf_counter() - began), _rate(sealed, time.process_time() - used)]
    began, used = time.perf_counter(), time.process_time()
    with trail.engine.connect() as connection:
        report = verify(connection, trusted=[KEY.public])
    assert report.ok, report.findings
    took = time.perf_counter() - began, time.process_time() - used
    return [*found, _rate(report.rows, took[0]), _rate(report.rows, took[1])]


def _rate(rows: int, seconds: float) -> str:
    return f"{rows / max(seconds, 1e-9):,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--only", default="", help="SQLite, PostgreSQL or MariaDB")
    parser.add_argument("--work", choices=("both", "yes", "none"), default="both")
    parser.add_argument("--try", action="store_true", dest="dry")
    chosen = parser.parse_args()
    lines = [
        "| database | 8 writers, 5 ms of work | capture alone /s | with sealing /s | ratio |",
        "|---|---|---|---|---|",
    ]
    rates = [
        "| database | sealed rows/s | of one core | verified rows/s | of one core |",
        "|---|---|---|---|---|",
    ]
    with trails() as found:
        for name, trail in found:
            if chosen.only not in ("", name):
                continue
            rates.append(f"| {name} | {' | '.join(read_rates(trail, chosen.rows))} |")
            print(rates[-1], flush=True)
            if name == "SQLite":  # one writer at a time there
                continue
            for work in (WORK_SECONDS, 0.0):
                if chosen.work not in ("both", "yes" if work else "none"):
                    continue
                alone, beside = [], []
                for turn in range(chosen.rounds):
                    for sealed in (False, True) if turn % 2 else (True, False):
                        rate = throughput(trail, sealed=sealed, seconds=chosen.seconds, work=work)
                        (beside if sealed else alone).append(rate)
                        print(name, work, sealed, f"{rate:,.0f}", file=sys.stderr, flush=True)
                ratio = median(b / a for a, b in zip(alone, beside, strict=True))
                lines.append(
                    f"| {name} | {'yes' if work else 'none'} | {median(alone):,.0f} | "
                    f"{median(beside):,.0f} | {ratio:.2f} |"
                )
    text = "\n".join([*lines, "", *rates])
    print(text)
    if not chosen.dry:
        day = datetime.now(UTC).date()
        RESULT.write_text(f"# What sealing costs\n\n{day}, `benchmarks/ledger.py`.\n\n{text}\n")


if __name__ == "__main__":
    main()
