"""SIGTERM at random times while a service commits to PostgreSQL

`shipworthy run` of a service with three ways to write a row: a session of asyncpg, a session of
psycopg in a worker thread, and `run_transaction_async`. Each start is a process of its own, with
two clients for each way that write one row after the other, and gets one SIGTERM, 0.1 to 0.7 s
after the first request. The drain is 50 ms, so that what is in flight then is cancelled. What
PostgreSQL answers is late by 1 to 31 ms, drawn for each connection. Two proxies stand between:
`CommitTap` (of the tests) notes each COMMIT, its answer, and whether the service closed the
connection or had the statement cancelled in between: that is *interrupted*, unless the answer took
longer than the 2 s of `lifecycle.cancel`. Then each row is compared with what its client was told:
*unexplained* is one whose client was not told 2xx and of which no event says that its COMMIT was
lost; *missing* one that was acknowledged and is not there. *Spared* requests were answered 2xx
although all in flight were being cancelled.

Not every COMMIT that the tap sees is a request's: a new connection commits what the guard tells it.
"""

import json
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "evidence" / "results" / "sigterm_commits.json"
COVERS = (
    "src/shipworthy/lifecycle/fence.py",
    "src/shipworthy/lifecycle/cancel.py",
    "src/shipworthy/db/guard.py",
    "src/shipworthy/db/transaction.py",
    "src/shipworthy/web/drain.py",
    "tests/flows/sigterm_commits.py",
    "tests/flows/apps/sigterm_commits.py",
    "evidence/sigterm_commits.py",
)
NUMBER = 500
PACKAGES = ("sqlalchemy", "psycopg", "asyncpg", "starlette", "uvicorn")


def run(folder: Path) -> tuple[str, dict[str, str]]:
    """Send all the signals, write the numbers, and return the table; fail on any that is wrong."""
    sys.path[:0] = [str(ROOT / "tests")]
    import services  # type: ignore[import-not-found]
    from flows import sigterm_commits  # type: ignore[import-not-found]

    with services.postgres() as server, server.database() as url:
        told = sigterm_commits.signalled(url, folder, NUMBER)
    print(f"  {told}", flush=True)
    if not told.exact or told.signals != NUMBER or not told.spared:
        raise SystemExit(f"not exact: {told}")
    taken = {name: version(name) for name in PACKAGES}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"versions": taken, "told": asdict(told)}, indent=1) + "\n")
    return _table(asdict(told)), taken


def _table(told: dict[str, Any]) -> str:
    codes = ", ".join(f"{count} x {code}" for code, count in sorted(told["codes"].items()))
    rows = (
        ("SIGTERMs, each to a service of its own", told["signals"]),
        ("exit codes", codes),
        ("longest time from the signal to the end", f"{told['worst_seconds']:.2f} s"),
        ("requests", told["requests"]),
        ("acknowledged (2xx)", told["acknowledged"]),
        ("of these spared while the others were cancelled", told["spared"]),
        ("broken off or refused (503)", told["broken_off"]),
        ("without an answer", told["unanswered"]),
        ("COMMITs seen by the tap", told["commits"]),
        ("answered", told["answered"]),
        ("interrupted", told["interrupted"]),
        ("unanswered for longer than 2 s, and then closed", told["late"]),
        ("rows in the table", told["rows"]),
        ("rows flagged as lost COMMITs", told["flagged"]),
        ("rows unexplained", told["unexplained"]),
        ("rows missing", told["missing"]),
    )
    return "\n".join(
        ["| what | number |", "|---|---|", *(f"| {what} | {number} |" for what, number in rows)]
    )
