"""SQLAlchemy's own pool and reconnect tests, without the guard and with it

`test/engine/test_pool.py` and `test_reconnect.py` of each line's source distribution, run bare and
with every pool under guard from its birth. Every test must end the same way. Once more as the guard
is by default, where it refuses a nested checkout at once that the stock pool lets wait in vain.
"""

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

COVERS = (
    "src/shipworthy/db/guard.py",
    "src/shipworthy/db/pool.py",
    "src/shipworthy/db/permits.py",
    "src/shipworthy/db/watchdog.py",
)
VERSIONS = ("2.0.58", "2.1.9")
ROOT = Path(__file__).parents[1]
TESTS = ("test/engine/test_pool.py", "test/engine/test_reconnect.py")
# The one test whose outcome the guard means to change, and what it is about.
MEANT = {"QueuePoolTest::test_timeout": "waits in vain in one thread; refused at once"}
SECONDS = 600
_ENDED = re.compile(r"^(\S+::\S.*?) (PASSED|FAILED|SKIPPED|ERROR|XFAIL)", re.MULTILINE)


def run(folder: Path) -> tuple[str, dict[str, str]]:
    """Run each line bare, guarded, and guarded as by default; fail on a difference not meant."""
    rows, notes = [], []
    for version in VERSIONS:
        place = folder / version
        python, source = _environment(place, version)
        bare = _ends(python, source, "")
        waits = _ends(python, source, "wait")
        default = _ends(python, source, "refuse")
        others = _differences(bare, waits)
        changed = _differences(bare, default)
        if others or {_short(name) for name in changed} - set(MEANT):
            raise SystemExit(f"SQLAlchemy {version} ends differently: {others or changed}")
        rows.append(
            f"| {version} | {_count(bare)} | {_count(waits)} | {len(others)} | {len(changed)} |"
        )
        notes += [f"- {version}: `{_short(name)}`: {MEANT[_short(name)]}" for name in changed]
    table = (
        "| SQLAlchemy | bare | guarded | differ | differ by default |\n|---|---|---|---|---|\n"
        + "\n".join(rows)
    )
    meant = "\n".join(notes) or "- none"
    return f"{table}\n\nDifferences by default, all meant:\n\n{meant}", {
        "SQLAlchemy": " and ".join(VERSIONS)
    }


def _environment(place: Path, version: str) -> tuple[Path, Path]:
    place.mkdir()
    subprocess.run([sys.executable, "-m", "venv", place / "venv"], check=True)
    python = place / "venv" / "bin" / "python"
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run(
        [*pip, "install", f"sqlalchemy[asyncio]=={version}", "pytest<9", "pytest-xdist",
         "aiosqlite", "typing-extensions", "setuptools>=77", "wheel", "cython"],
        check=True,
    )  # fmt: skip
    subprocess.run(
        [*pip, "download", "--no-deps", "--no-binary", ":all:", "--no-build-isolation",
         "-d", str(place), f"sqlalchemy=={version}"],
        check=True,
    )  # fmt: skip
    with tarfile.open(next(place.glob("*.tar.gz"))) as archive:
        archive.extractall(place, filter="data")
    return python, next(path for path in place.iterdir() if path.name.startswith("sqlalchemy-")
                        and path.is_dir())  # fmt: skip


def _ends(python: Path, source: Path, deadlocks: str) -> dict[str, str]:
    command = [str(python), "-m", "pytest", "-p", "no:cacheprovider", *TESTS]
    environ = dict(os.environ)
    if deadlocks:
        command[3:3] = ["-p", "sqlalchemy_guarded"]
        environ["DEADLOCKS"] = deadlocks
        paths = (ROOT / "src", ROOT / "evidence" / "sqlalchemy_guard")
        environ["PYTHONPATH"] = os.pathsep.join(map(str, paths))
    done = subprocess.run(
        command, cwd=source, env=environ, capture_output=True, text=True, timeout=SECONDS,
        check=False,
    )  # fmt: skip
    if deadlocks and "pools under guard: 0" in done.stdout:
        raise SystemExit("the plugin guarded nothing")
    ends = dict(_ENDED.findall(done.stdout))
    if not ends:
        raise SystemExit(f"no test ran:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return ends


def _differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return sorted(name for name in one | other if one.get(name) != other.get(name))


def _count(ends: dict[str, str]) -> str:
    passed = sum(end == "PASSED" for end in ends.values())
    skipped = sum(end == "SKIPPED" for end in ends.values())
    return f"{passed} passed, {skipped} skipped, {len(ends) - passed - skipped} other"


def _short(name: str) -> str:
    return name.partition("::")[2].partition("[")[0].replace("_sqlite+pysqlite", "")


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as made:
        print(run(Path(made))[0])
