"""SIGKILL of one of two workers: how soon both serve again, with a spare and without

A service with two workers is started, and one of them is killed once both serve and, where there is
to be one, the spare process waits. Until both serve again is measured from outside, by the log of
the supervisor; the steps are what it states of the successor's start. Each kill has a service of
its own, because after a second loss within a minute a successor is started later. *Small* is
FastAPI on SQLAlchemy with one table (`tests/flows/apps/killed.py`), *demo* the service of
`shipworthy demo`, both on SQLite. Under load 40 clients in one process of their own keep their
connections, think up to 50 ms between requests and ask for a list; that is more than two such
workers can answer on two CPUs. Bytecode was written before, as where an application is installed.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "evidence" / "results" / "killed.json"
COVERS = (
    "src/shipworthy/serve",
    "tests/flows/killing.py",
    "tests/flows/apps/killed.py",
    "evidence/killed.py",
)
KILLS = 20
KILLS_FROM_NOTHING = 5
PROMISED_SECONDS = 1.5
SMALL = f"{ROOT}/tests/flows/apps/killed.py:app"
DEMO = "shipworthy.demo.hardened:app"
STEPS = ("noticed", "process", "configure", "import", "start")


def run(folder: Path) -> tuple[str, dict[str, str]]:
    """Kill, write the numbers, and return the tables; fail if others lost a request."""
    sys.path[:0] = [str(ROOT / "tests")]
    from shipworthy.demo.prepare import prepare

    database = prepare(None, directory=folder).url
    common = {
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
        "DATABASE_URL": database,
    }
    rows: list[dict[str, Any]] = []
    for app, target, path in (("small", SMALL, "/"), ("demo", DEMO, "/clients")):
        _kill(folder, target, path, common, spare=False, loaded=False)  # writes the bytecode
        for spare, kills in ((False, KILLS_FROM_NOTHING), (True, KILLS)):
            for loaded in (False, True):
                told = [
                    _kill(folder, target, path, common, spare=spare, loaded=loaded)
                    for _ in range(kills)
                ]
                rows.append({"app": app, "spare": spare, "loaded": loaded, "kills": told})
                print(f"  {_row(rows[-1])}", flush=True)
    taken = {name: version(name) for name in ("uvicorn", "fastapi", "SQLAlchemy")}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"versions": taken, "rows": rows}, indent=1) + "\n")
    foreign = sum(one["foreign"] for row in rows for one in row["kills"])
    if foreign:
        raise SystemExit(f"{foreign} requests were lost on connections of other workers")
    return _tables(rows), taken


def _kill(
    folder: Path, target: str, path: str, environ: Mapping[str, str], *, spare: bool, loaded: bool
) -> dict[str, Any]:
    from flows.killing import (  # type: ignore[import-not-found]
        Load,
        both_serve,
        kill_one,
    )
    from serve.launch import brisk, started  # type: ignore[import-not-found]

    with ExitStack() as stack:
        here = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        two = ("--workers", "2")
        service = stack.enter_context(
            started(target, *two, directory=here, settings=brisk(), environ=environ, spare=spare)
        )
        service.until_ready()
        service.until(lambda: both_serve(service))
        load = Load(service, path=path) if loaded else None
        with load or ExitStack():
            if spare:
                service.until(lambda: service.status()["spare"] == "warm")
            time.sleep(1.0)
            killed = kill_one(service)
            time.sleep(0.5)
        lost = load.tally.lost if load else []
        return {
            "back": killed.back_seconds,
            "noticed": killed.noticed_seconds,
            **{step: killed.started[f"{step}_seconds"] for step in STEPS[1:]},
            "spare": killed.started["spare"],
            "answered": load.tally.answered if load else 0,
            "lost": len(lost),
            "foreign": sum(worker not in (0, killed.victim) for worker, *_ in lost),
            "load": round(os.getloadavg()[0], 1),
        }


ABOUT = """
*Back* is until both serve again; *lost* are requests, median and most; the *queue* is the machine's
load average of a minute, median: it has two CPUs. No request on a
connection of another worker was lost.

## Where the time goes

Medians, in milliseconds: until the supervisor says that the worker is lost; until the successor's
own code runs, which includes Python and our imports, or until the spare has heard that it is
needed; reading the settings and guarding libraries; importing the application and what it imports;
its start and the listening.
"""


def _tables(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "| application | | successor | kills | back, median | worst | in 1.5 s | lost | queue |",
        "|---|---|---|---|---|---|---|---|---|",
        *map(_row, rows),
        ABOUT,
        "| application | | successor | noticed | process | settings | import | start |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [f"{1000 * median(one[step] for one in row['kills']):.0f}" for step in STEPS]
        lines.append(f"{_head(row)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _head(row: Mapping[str, Any]) -> str:
    return (
        f"| {row['app']} | {'under load' if row['loaded'] else 'no requests'} "
        f"| {'the spare' if row['spare'] else 'from nothing'}"
    )


def _row(row: Mapping[str, Any]) -> str:
    kills = row["kills"]
    back = [one["back"] for one in kills]
    lost = [one["lost"] for one in kills]
    within = sum(seconds <= PROMISED_SECONDS for seconds in back)
    return (
        f"{_head(row)} | {len(kills)} | {median(back):.2f} s | {max(back):.2f} s "
        f"| {within} of {len(kills)} "
        f"| {f'{median(lost):.0f}, {max(lost)}' if row['loaded'] else '-'} "
        f"| {median(one['load'] for one in kills):.0f} |"
    )
