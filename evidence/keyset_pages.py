"""Keyset pages beside sqlakeyset.

Both read the same lists to their end, through SQLite in memory, in an environment of its own with
the newest sqlakeyset (`.state/keyset`). The lists are random, with ties, in each order that both
can express; every second is read with its columns declared NULL and a third of the values missing.
Cost is the median of 2,000 first pages of 20 rows, read in turns; its last line is a page by OFFSET
far into a list of 200,000 rows against the same page by its key.
"""

import json
import random
import sqlite3
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PLACE = ROOT / ".state" / "keyset"
COVERS = ("src/shipworthy/db/keyset.py", "src/shipworthy/db/page_token.py")
LISTS = 200
TURNS = 2000


def run(folder: Path) -> tuple[str, dict[str, str]]:
    """Make the environment, compare there, and return the table."""
    del folder
    venv.create(PLACE, with_pip=True, clear=True)
    python = str(PLACE / "bin" / "python")
    wanted = ["sqlakeyset", "sqlalchemy[asyncio]", str(ROOT)]
    subprocess.run([python, "-m", "pip", "install", "-q", *wanted], check=True)
    done = subprocess.run([python, __file__], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    lines = ["| | ours | sqlakeyset |", "|---|---|---|"]
    lines += [f"| {what} | {ours} | {theirs} |" for what, ours, theirs in found["rows"]]
    return "\n".join(lines), found["versions"]


def compare() -> dict[str, Any]:
    """Read the lists with both, and say what came."""
    import sqlakeyset  # type: ignore[import-not-found]
    import sqlalchemy as sa

    from shipworthy.db.keyset import Keyset
    from shipworthy.db.page_token import PageKeys, PageTokenInvalid

    engine = sa.create_engine("sqlite://")
    keyset = Keyset("rows", PageKeys.random(), most=1000)
    draw = random.Random(1)
    equal = {False: [0, 0], True: [0, 0]}
    lost = {False: [0, 0], True: [0, 0]}

    def ours(connection: Any, statement: Any, order: list[Any], size: int) -> list[Any]:
        seen: list[Any] = []
        token = None
        while True:
            page = keyset.read(connection, statement, order=order, size=size, token=token)
            seen += page.items
            token = page.next
            if token is None:
                return seen

    def theirs(connection: Any, statement: Any, order: list[Any], size: int) -> list[Any]:
        seen: list[Any] = []
        marker = None
        ordered = statement.order_by(*order)
        while True:
            page = sqlakeyset.select_page(connection, ordered, per_page=size, page=marker)
            seen += [row[0] for row in page]
            marker = page.paging.bookmark_next
            if not page.paging.has_next:
                return seen

    def table_of(*, missing: bool) -> sa.Table:
        return sa.Table(
            "rows",
            sa.MetaData(),
            sa.Column("id", sa.Integer, primary_key=True),
            *(sa.Column(name, sa.Integer, nullable=missing) for name in "ab"),
        )

    with engine.connect() as connection:
        for number in range(LISTS):
            missing = bool(number % 2)
            table = table_of(missing=missing)
            table.drop(connection, checkfirst=True)
            table.create(connection)

            values = [0, 1, 2, 3, None, None] if missing else [0, 1, 2, 3]
            count = draw.randint(1, 40)
            rows = [
                {"id": n, "a": draw.choice(values), "b": draw.choice(values)} for n in range(count)
            ]
            connection.execute(table.insert(), rows)
            order = [draw.choice([c, c.desc()]) for c in (table.c.a, table.c.b, table.c.id)]
            statement, size = sa.select(table.c.id), draw.randint(1, 5)
            right = list(connection.scalars(statement.order_by(*order)))
            for side, read in enumerate((ours, theirs)):
                seen = read(connection, statement, order, size)
                equal[missing][side] += seen == right
                lost[missing][side] += count - len(set(seen))

        table = table_of(missing=True)
        table.drop(connection)
        table.create(connection)
        connection.execute(table.insert(), [{"id": n, "a": n % 50, "b": n} for n in range(200_000)])
        sa.Index("ix", table.c.b).create(connection)
        statement, order = sa.select(table.c.id), [table.c.b, table.c.id]
        ordered = statement.order_by(*order)

        def far(token: str) -> Any:
            return keyset.read(connection, statement, order=order, size=20, token=token)

        token = keyset.read(connection, statement, order=order).last
        times = _in_turns(
            TURNS,
            lambda: keyset.read(connection, statement, order=order, size=20),
            lambda: sqlakeyset.select_page(connection, ordered, per_page=20),
            lambda: connection.execute(ordered.limit(20)).all(),
        )
        token = far(token).previous or ""
        by_key, by_offset = _in_turns(
            20,
            lambda: far(token),
            lambda: connection.execute(ordered.limit(20).offset(199_960)).all(),
        )
        forged = 0
        for at in range(len(token)):
            try:
                far(token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :])
            except PageTokenInvalid:
                forged += 1
        page = sqlakeyset.select_page(connection, ordered, per_page=2)
        theirs_taken = sqlakeyset.select_page(
            connection, ordered, per_page=2, page=page.paging.bookmark_next.replace("1", "7")
        )

    half = LISTS // 2
    return {
        "rows": [
            [f"lists without NULL read rightly, of {half}", *equal[False]],
            [f"lists with NULL read rightly, of {half}", *equal[True]],
            ["rows lost in them", *lost[True]],
            [
                "a changed token",
                f"{forged} of {len(token)} changes refused",
                "taken" if len(theirs_taken) else "taken, empty",
            ],
            ["first page of 20", *(f"{one * 1e6:.0f} us" for one in times[:2])],
            ["the statement alone", f"{times[2] * 1e6:.0f} us", ""],
            [
                "page 9,998 by key, and by OFFSET",
                f"{by_key * 1e3:.1f} ms, {by_offset * 1e3:.1f} ms",
                "",
            ],
        ],
        "versions": {
            "SQLAlchemy": sa.__version__,
            "sqlakeyset": version("sqlakeyset"),
            "SQLite": sqlite3.sqlite_version,
        },
    }


def _in_turns(turns: int, *calls: Callable[[], Any]) -> list[float]:
    taken: list[list[float]] = [[] for _ in calls]
    for _ in range(turns):
        for call, times in zip(calls, taken, strict=True):
            began = time.perf_counter()
            call()
            times.append(time.perf_counter() - began)
    return [statistics.median(times) for times in taken]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(compare()))
