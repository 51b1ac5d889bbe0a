"""What `protect` costs a SELECT 1: the same engine bare and under guard, in turns.

    python benchmarks/protect.py                    measure, print, write results/protect.md
    python benchmarks/protect.py --rounds 3 --try   a short look that writes nothing

Each round measures every arm once; a ratio is within one round, and the median over the rounds is
shown with quartiles. A call is: take a connection, SELECT 1, give it back. SQLite is a file;
PostgreSQL is the server that TEST_POSTGRES_URL names, else 127.0.0.1:5432.
"""

import argparse
import asyncio
import os
import platform
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles

from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from shipworthy.db import protect

RESULT = Path(__file__).parent / "results" / "protect.md"
POSTGRES = os.environ.get(
    "TEST_POSTGRES_URL", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"
)
ONE = text("SELECT 1")

Arm = Callable[[int], Awaitable[float]]


def sync_arm(url: str, *, guarded: bool) -> Arm:
    engine = create_engine(url)
    if guarded:
        protect(engine, name=url[:10])

    async def measure(calls: int) -> float:
        began = time.perf_counter()
        for _ in range(calls):
            with engine.connect() as connection:
                connection.scalar(ONE)
        return (time.perf_counter() - began) / calls

    return measure


def async_arm(url: str, *, guarded: bool) -> Arm:
    engine = create_async_engine(url)
    if guarded:
        protect(engine, name=url[:10])

    async def measure(calls: int) -> float:
        began = time.perf_counter()
        for _ in range(calls):
            async with engine.connect() as connection:
                await connection.scalar(ONE)
        return (time.perf_counter() - began) / calls

    return measure


async def measure(rounds: int, calls: int) -> dict[str, tuple[list[float], list[float]]]:
    with tempfile.TemporaryDirectory() as folder:
        urls = {
            "SQLite (sqlite3)": (sync_arm, f"sqlite:///{folder}/a.db"),
            "PostgreSQL (psycopg)": (sync_arm, POSTGRES),
            "PostgreSQL (asyncpg)": (async_arm, POSTGRES.replace("+psycopg", "+asyncpg")),
        }
        pairs = {
            name: (make(url, guarded=False), make(url, guarded=True))
            for name, (make, url) in urls.items()
        }
        found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in pairs}
        for bare, guarded in pairs.values():
            await bare(50)
            await guarded(50)
        for _ in range(rounds):
            for name, arms in pairs.items():
                for arm, seconds in zip(arms, found[name], strict=True):
                    seconds.append(await arm(calls))
    return found


def report(found: dict[str, tuple[list[float], list[float]]], rounds: int, calls: int) -> str:
    lines = [
        "# What protect costs a SELECT 1",
        "",
        (
            f"{datetime.now(UTC).date()}, Python {platform.python_version()}, SQLAlchemy "
            f"{version('sqlalchemy')}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; "
            f"{rounds} rounds of {calls} calls, by turns."
        ),
        "",
        "| database (driver) | bare us | guarded us | more us | ratio | quartiles of the ratio |",
        "|---|---|---|---|---|---|",
    ]
    for name, (bare, guarded) in found.items():
        ratios = [two / one for one, two in zip(bare, guarded, strict=True)]
        more = [two - one for one, two in zip(bare, guarded, strict=True)]
        low, _, high = quantiles(ratios, n=4)
        lines.append(
            f"| {name} | {median(bare) * 1e6:.1f} | {median(guarded) * 1e6:.1f} | "
            f"{median(more) * 1e6:.1f} | {median(ratios):.2f} | {low:.2f} to {high:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="What protect costs a SELECT 1.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--try", dest="only_try", action="store_true")
    given = parser.parse_args()
    page = report(asyncio.run(measure(given.rounds, given.calls)), given.rounds, given.calls)
    print(page)
    if not given.only_try:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
