"""A million entries sealed and verified while others write, and every way to tamper on each engine

On SQLite, PostgreSQL and MariaDB each way to tamper of `tests/audit/ledger/tampering.py` is done in
a transaction of its own, verified, and rolled back: one that is not found is listed. Then eight
writers (one on SQLite, where there is one at a time) insert, change and delete; a third of their
transactions is rolled back, and each tenth stays open for a second, while a sealer seals and
verification runs all the time. Whatever that finds is a false alarm.
"""

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import sqlalchemy as sa

ROOT = Path(__file__).parents[1]
COVERS = (
    "src/shipworthy/audit/ledger",
    "src/shipworthy/audit/dialects",
    "src/shipworthy/store",
    "tests/audit/ledger/tampering.py",
    "tests/audit/ledger/trail.py",
    "evidence/ledger.py",
)
ENTRIES_WANTED = int(os.environ.get("ENTRIES_WANTED", "1000000"))
WRITERS = 8
ROWS_IN_A_TRANSACTION = 200


def run(folder: Path) -> tuple[str, dict[str, str]]:
    """Return the table, and the versions of what took part."""
    sys.path.insert(0, str(ROOT / "tests"))
    import services  # type: ignore[import-not-found]
    from audit.ledger.trail import Trail  # type: ignore[import-not-found]

    lines = [
        "| database | entries | written in | false alarms | verified/s | ways to tamper | missed |",
        "|---|---|---|---|---|---|---|",
    ]
    with ExitStack() as stack:
        urls = [("SQLite", f"sqlite:///{folder}/app.db")]
        for name, server in (("PostgreSQL", services.postgres), ("MariaDB", services.mariadb)):
            running = stack.enter_context(server())
            urls.append((name, stack.enter_context(running.database())))
        for name, url in urls:
            alone = name == "SQLite"
            trail = Trail(
                url, **({"connect_args": {"timeout": 120}} if alone else {"pool_size": 20})
            )
            stack.callback(trail.close)
            trail.install()
            # The ways to tamper first: they are for a small log.
            ways, missed = _tampered(trail)
            written = _line(trail, 1 if alone else WRITERS)
            lines.append(f"| {name} | {written} | {ways} | {', '.join(missed) or 'none'} |")
            print(lines[-1], flush=True)
    return "\n".join(lines), {"SQLAlchemy": sa.__version__}


def _line(trail: Any, writers: int) -> str:
    from audit.ledger.trail import KEY
    from shipworthy.audit.ledger.verify import verify

    began = time.monotonic()
    alarms = _written(trail, writers)
    took = time.monotonic() - began
    trail.seal()
    began = time.monotonic()
    with trail.engine.connect() as connection:
        report = verify(connection, trusted=[KEY.public])
    rate = report.rows / (time.monotonic() - began)
    alarms += report.findings
    return f"{report.rows:,} | {took:,.0f} s | {len(alarms)} | {rate:,.0f}"


def _tampered(trail: Any) -> tuple[int, list[str]]:
    """Return how many ways there are, and those that were not found."""
    from audit.ledger.tampering import CONTEXT_WAYS, WAYS  # type: ignore[import-not-found]
    from audit.ledger.trail import KEY
    from shipworthy.audit.ledger.verify import verify
    from shipworthy.audit.tables import CONTEXTS

    trail.write(5)
    trail.seal(entries=4)
    trail.unguarded()
    with trail.engine.connect() as connection:
        contexts = connection.scalar(sa.select(sa.func.count()).select_from(CONTEXTS))
    ways = WAYS | (CONTEXT_WAYS if contexts else {})
    missed = []
    for name, (tamper, expected) in ways.items():
        with trail.engine.connect() as connection:
            tamper(connection)
            report = verify(connection, trusted=[KEY.public])
            connection.rollback()
        if not expected & set(report.found):
            missed.append(name)
    trail.guarded()
    return len(ways), missed


def _written(trail: Any, writers: int) -> list[Any]:
    """Write all of it while it is sealed and verified; return what was found meanwhile."""
    from audit.ledger.trail import KEY, ORDERS
    from shipworthy.audit.ledger.verify import verify

    done, alarms = threading.Event(), list[Any]()
    each = ENTRIES_WANTED // writers

    def write(number: int) -> None:
        key, entries, turn = number * 10_000_000, 0, 0
        while entries < each:
            turn += 1
            rows = [
                {"id": key + it, "person_id": number, "total": it, "note": "a note"}
                for it in range(1, ROWS_IN_A_TRANSACTION + 1)
            ]
            with trail.engine.connect() as connection:
                connection.execute(sa.insert(ORDERS), rows)
                ours = ORDERS.c.id.between(key + 1, key + ROWS_IN_A_TRANSACTION)
                connection.execute(sa.update(ORDERS).where(ours).values(note="another"))
                if turn % 10 == 0:
                    time.sleep(1)
                if turn % 3 == 0:
                    connection.rollback()
                    continue
                if turn % 7 == 0:
                    connection.execute(sa.delete(ORDERS).where(ours))
                connection.commit()
            key += ROWS_IN_A_TRANSACTION
            entries += ROWS_IN_A_TRANSACTION * (3 if turn % 7 == 0 else 2)

    def seal() -> None:
        while not done.wait(1):
            trail.seal(wait=False)

    def look() -> None:
        while not done.wait(5):
            with trail.engine.connect() as connection:
                alarms.extend(verify(connection, trusted=[KEY.public]).findings)

    with ThreadPoolExecutor(writers + 2) as pool:
        beside = [pool.submit(seal), pool.submit(look)]
        try:
            for writing in [pool.submit(write, number) for number in range(1, writers + 1)]:
                writing.result()
        finally:
            done.set()
        for one in beside:
            one.result()
    return alarms
