"""Behind HAProxy and nginx: what a restart costs, by setting

Two services behind three fronts at the same time: HAProxy `mode tcp` (L4), HAProxy `mode http` (L7)
and nginx (L7), each with 20 keep-alive clients that ask GET and POST in turn. Each service is told
to leave by SIGTERM and started again, one after the other. A cell is failed of all requests; any
answer but 200, a refused connection and one that ends before its answer have failed. HAProxy asks
`/readyz` (bare uvicorn: `/`) every 200 ms and believes two failures, or one success; nginx asks
nobody. Times are shorter than the defaults of production, and in the same order.
"""

import json
import re
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "evidence" / "results" / "balancers.json"
COVERS = (
    "src/shipworthy/serve",
    "src/shipworthy/lifecycle",
    "tests/flows/balancers.py",
    "tests/flows/steady.py",
    "evidence/balancers.py",
)
RESTING = "clients rest 1.5 s between two requests"


def run(folder: Path) -> tuple[str, dict[str, str]]:
    """Run each case, write the numbers, and return the table; fail where 0 is promised."""
    sys.path[:0] = [str(ROOT / "tests")]
    import services  # type: ignore[import-not-found]
    from flows import balancers  # type: ignore[import-not-found]
    from serve.launch import brisk  # type: ignore[import-not-found]

    def find(name: str, package: str) -> str:
        return str(services.program(name, package=package))

    usual = balancers.Case(rounds=5)
    resting = replace(usual, pause_seconds=1.5, requests=60)
    # The services are 10 ms away, and a connection rests for just as long as it is kept.
    expiring = replace(
        usual, rounds=1, pause_seconds=0.985, requests=600, away_seconds=0.01, together=True
    )
    short = "\n[serve]\nkeep_alive = '1s'\n"
    cases: list[tuple[str, Any, bool]] = [
        ("bare uvicorn", replace(usual, bare=True), False),
        ("lame duck 0.8 s, idle grace 0.5 s", usual, True),
        (
            "no lame duck",
            replace(usual, settings=brisk(lame_duck="0s", idle_grace="500ms", drain="3s")),
            False,
        ),
        (f"{RESTING}, idle grace 0.5 s", resting, False),
        (
            f"{RESTING}, idle grace 2 s",
            replace(resting, settings=brisk(lame_duck="800ms", idle_grace="2s", drain="3s")),
            True,
        ),
        (
            "connections expire as they are used: keep-alive 1 s",
            replace(expiring, settings=balancers.SETTINGS + short),
            False,
        ),
        ("the same clients, keep-alive 75 s", expiring, False),
    ]
    rows = []
    for number, (name, case, promised) in enumerate(cases):
        place = folder / str(number)
        place.mkdir()
        tallies = balancers.restarted(find, place, case)
        row: dict[str, Any] = {"case": name, "restarts": 2 * case.rounds}
        for front, tally in tallies.items():
            row[front] = {
                "answered": tally.answered,
                "failed": tally.failed,
                "failures": dict(tally.failures),
                "connections": tally.connections,
            }
        print(f"  {row}", flush=True)
        rows.append(row)
        if promised and any(tally.failed for tally in tallies.values()):
            raise SystemExit(f"{name}: 0 are promised: {row}")
    taken = {
        "uvicorn": version("uvicorn"),
        "HAProxy": _version(find("haproxy", "haproxy"), "-v"),
        "nginx": _version(find("nginx", "nginx"), "-v"),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"versions": taken, "rows": rows}, indent=1) + "\n")
    return _table(rows, balancers.FRONTS), taken


def _version(program: str, option: str) -> str:
    done = subprocess.run([program, option], capture_output=True, text=True, check=True)
    found = re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr)
    return found[0] if found else "unknown"


def _table(rows: list[dict[str, Any]], fronts: tuple[str, ...]) -> str:
    lines = [
        "| | restarts | HAProxy, L4 | HAProxy, L7 | nginx, L7 |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            f"{row[front]['failed']} of {row[front]['failed'] + row[front]['answered']:,}"
            for front in fronts
        ]
        lines.append(f"| {row['case']} | {row['restarts']} | {' | '.join(cells)} |")
    kinds = sorted({kind for row in rows for front in fronts for kind in row[front]["failures"]})
    lines += ["", f"What failed was: {', '.join(kinds)}."]
    return "\n".join(lines)
