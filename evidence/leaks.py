"""Deleted rows that are seen: shapes of queries by the way to delete

Each shape is a query, a load, a write or a look at what a session has already, in a database where
a client, an order, a tag, an association, half a tree of categories and a book were deleted. It
*leaks* where it shows a deleted row; it *loses* where a live row is missing. Five ways to delete
are tried: the trash of Shipworthy, its flag mode, the same with its views on PostgreSQL, the recipe
that SQLAlchemy's documentation describes (criteria for SELECT, written here from the description),
and the package sqlalchemy-easy-softdelete (its requirements allow no SQLAlchemy after 2.0); on
SQLAlchemy 2.0 and 2.1, each in an environment of its own, on three databases. What flag mode leaks
is held by name in `tests/records/flag/test_mode.py`.
"""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final

ROOT = Path(__file__).parents[1]
PLACE = ROOT / ".state" / "leaks"
RESULT = ROOT / "evidence" / "results" / "leaks.json"
COVERS = (
    "src/shipworthy/records/flag",
    "tests/records/leak_models.py",
    "tests/records/leak_shapes.py",
    "tests/records/leak_ways.py",
    "evidence/leaks.py",
)
# Newest last.
LINES: Final = {"2.0": "sqlalchemy[asyncio]>=2.0.36,<2.1", "2.1": "sqlalchemy[asyncio]>=2.1,<2.2"}
WAYS: Final = ("trash", "flag", "flag and views", "recipe", "easy-softdelete")
# Elsewhere no view can stand in the place of its table.
VIEWS: Final = "flag and views"
# Its own requirements do not allow a newer one.
PEER: Final = ("2.0", "easy-softdelete")
PEER_PACKAGE: Final = "sqlalchemy-easy-softdelete"
PACKAGES: Final = ("sqlalchemy", "psycopg", "pymysql")
LIMIT_SECONDS: Final = 300.0

Verdicts = dict[str, str]
Case = tuple[str, str, str]  # line, way, database


def run(folder: Path) -> tuple[str, dict[str, str]]:
    """Judge every shape in every case, keep the verdicts, and return the tables."""
    sys.path[:0] = [str(ROOT / "tests")]
    import services  # type: ignore[import-not-found]

    found: dict[Case, Verdicts] = {}
    taken: dict[str, str] = {}
    with services.postgres() as postgres, services.mariadb() as mariadb:
        for line in LINES:
            python = _environment(line)
            versions = _versions(python, *([PEER_PACKAGE] if line == PEER[0] else []))
            taken |= {**versions, f"SQLAlchemy {line}": versions["sqlalchemy"]}
            for way in WAYS:
                if way == PEER[1] and line != PEER[0]:
                    continue
                for kind, server in (("PostgreSQL", postgres), ("MariaDB", mariadb)):
                    if way == VIEWS and kind != "PostgreSQL":
                        continue
                    with server.database() as url:
                        found[line, way, kind] = _judged(python, way, str(url))
                if way != VIEWS:
                    file = folder / f"{line}-{way}.db"
                    found[line, way, "SQLite"] = _judged(python, way, f"sqlite:///{file}")
                print(f"  SQLAlchemy {line}: {way}", flush=True)
    taken.pop("sqlalchemy")
    RESULT.parent.mkdir(exist_ok=True)
    kept = [
        {"line": line, "way": way, "database": kind, "verdicts": verdicts}
        for (line, way, kind), verdicts in found.items()
    ]
    RESULT.write_text(json.dumps({"versions": taken, "found": kept}, indent=1) + "\n")
    return tables(found), taken


def tables(found: dict[Case, Verdicts]) -> str:
    """Return the counts of each case, and the shapes by name where any of them is not as it was."""
    shapes = len(next(iter(found.values())))
    parts = [f"{shapes} shapes.", ""]
    parts += [
        "| way | SQLAlchemy | database | right | leak | lose | fail |",
        "|---|---|---|---|---|---|---|",
    ]
    in_order = sorted(found.items(), key=lambda one: (WAYS.index(one[0][1]), one[0]))
    for (line, way, kind), verdicts in in_order:
        counts = Counter(verdict.partition(":")[0] for verdict in verdicts.values())
        numbers = " | ".join(str(counts[it]) for it in ("ok", "leak", "lost", "error"))
        parts.append(f"| {way} | {line} | {kind} | {numbers} |")
    cases = list(dict.fromkeys((line, way) for (line, way, _), _ in in_order if way != "trash"))
    parts += ["", "## By name", "", "Shapes that are right everywhere are left out. A word stands"]
    parts += ["for every database that was tried, unless it names one.", ""]
    parts += ["| shape | " + " | ".join(f"{way} {line}" for line, way in cases) + " |"]
    parts += ["|---|" + "---|" * len(cases)]
    for name in next(iter(found.values())):
        cells = [_cell(found, line, way, name) for line, way in cases]
        if any(cells):
            parts.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(parts)


def _cell(found: dict[Case, Verdicts], line: str, way: str, name: str) -> str:
    by_kind = {
        kind: verdicts[name].partition(":")[0]
        for (one, other, kind), verdicts in found.items()
        if (one, other) == (line, way)
    }
    words = {"ok": "", "leak": "leaks", "lost": "loses", "error": "fails"}
    if len(set(by_kind.values())) == 1:
        return words[next(iter(by_kind.values()))]
    return ", ".join(f"{words[it]} ({kind})" for kind, it in by_kind.items() if it != "ok")


def _environment(line: str) -> Path:
    """Return the Python of an environment with one line of SQLAlchemy, made when not there."""
    place = PLACE / line
    python = place / "bin" / "python"
    stamp = place / "made-from.txt"
    needs = [PEER_PACKAGE] if line == PEER[0] else []
    wanted = "\n".join([sys.version, LINES[line], *needs])
    if not (stamp.exists() and stamp.read_text() == wanted):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        ours = f"{ROOT}[postgres,mariadb]"
        pip = [str(python), "-m", "pip", "install", "-q", LINES[line], *needs, "-e", ours]
        subprocess.run(pip, check=True)
        stamp.write_text(wanted)
    return python


def _versions(python: Path, *others: str) -> dict[str, str]:
    script = "import sys, importlib.metadata as m; [print(n, m.version(n)) for n in sys.argv[1:]]"
    told = subprocess.run(
        [python, "-c", script, *PACKAGES, *others], capture_output=True, text=True, check=True
    )
    return dict(line.split() for line in told.stdout.splitlines())


def _judged(python: Path, way: str, url: str) -> Verdicts:
    done = subprocess.run(
        [python, "-m", "records.leak_ways", way, url],
        cwd=ROOT / "tests",
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{way} came to no end:\n{done.stderr[-3000:]}")
    verdicts: Verdicts = json.loads(done.stdout.splitlines()[-1])
    return verdicts
