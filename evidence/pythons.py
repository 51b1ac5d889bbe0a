"""The fast tests on every CPython of this machine.

Each interpreter from 3.11 on that is on the PATH or with pyenv runs the tests that are not `slow`,
in an environment of its own under `.state/`, made from `uv.lock`.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).parents[1]
COVERS = ("src/shipworthy", "tests", "pyproject.toml", "uv.lock")
OLDEST = (3, 11)
NAMED = re.compile(r"python3\.\d+")
ASKED = "import sys; print(*sys.version_info[:3], sys.implementation.name)"


def run(folder: Path) -> tuple[str, dict[str, str]]:
    """Run them one after the other and return a table."""
    rows = ["| CPython | passed | skipped | failed | took |", "|---|---|---|---|---|"]
    failures: list[str] = []
    for version, python in sorted(interpreters().items()):
        name = ".".join(map(str, version))
        report = folder / f"{name}.xml"
        command = [
            environment(python, name),
            "-m",
            "pytest",
            "-q",
            "-m",
            "not slow and not evidence",
        ]
        subprocess.run([*command, f"--junitxml={report}"], cwd=ROOT, check=False)
        suite = ET.parse(report).getroot()[0]
        count = {
            kind: int(suite.get(kind, 0)) for kind in ("tests", "skipped", "failures", "errors")
        }
        failed = count["failures"] + count["errors"]
        passed = count["tests"] - failed - count["skipped"]
        rows.append(
            f"| {name} | {passed} | {count['skipped']} | {failed} "
            f"| {float(suite.get('time', 0)):.0f} s |"
        )
        failures += [f"- {name}: {text}" for text in failed_cases(suite)]
    return "\n".join([*rows, "", *failures]), {}


def interpreters() -> dict[tuple[int, ...], Path]:
    """Return the newest CPython of each minor version, by its version."""
    folders = [Path(place) for place in os.environ.get("PATH", "").split(os.pathsep)]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders += sorted(pyenv.glob("versions/*/bin"))
    found: dict[tuple[int, ...], Path] = {}
    for folder in folders:
        for python in sorted(folder.glob("python3.*")) if "shims" not in folder.parts else []:
            version = version_of(python) if NAMED.fullmatch(python.name) else ()
            if version >= OLDEST:
                found.setdefault(version, python)
    newest = {version[:2]: version for version in sorted(found)}
    return {version: found[version] for version in newest.values()}


def version_of(python: Path) -> tuple[int, ...]:
    """Ask an interpreter for its version; empty when it is no CPython or does not start."""
    asked = subprocess.run([python, "-c", ASKED], capture_output=True, text=True, check=False)
    *numbers, name = asked.stdout.split() or [""]
    return tuple(map(int, numbers)) if name == "cpython" else ()


def environment(python: Path, name: str) -> str:
    """Return the Python of an environment with everything the tests need."""
    place = ROOT / ".state" / f"python-{name}"
    uv = shutil.which("uv", path=f"{ROOT / '.uv' / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}")
    if uv is not None:
        wanted = {"UV_PROJECT_ENVIRONMENT": str(place), "UV_PYTHON": str(python)}
        sync = [uv, "sync", "--quiet", "--frozen", "--all-extras", "--group", "dev"]
        subprocess.run(sync, cwd=ROOT, env=os.environ | wanted, check=True)
    else:
        print("no uv here: the newest versions that fit, not the locked ones", file=sys.stderr)
        subprocess.run([python, "-m", "venv", place], check=True)
        pip = [str(place / "bin" / "python"), "-m", "pip", "install", "-q"]
        subprocess.run([*pip, "pip>=25.1"], check=True)
        extras = ".[demo,postgres,mariadb,sqlite-async]"
        subprocess.run([*pip, "-e", extras, "--group", "dev"], cwd=ROOT, check=True)
    return str(place / "bin" / "python")


def failed_cases(suite: ET.Element) -> list[str]:
    """Return each failed test with the first line of its reason."""
    return [
        f"`{case.get('classname')}.{case.get('name')}`: "
        f"{(bad.get('message') or '').splitlines()[0][:200]}"
        for case in suite.iter("testcase")
        if (bad := case.find("failure")) is not None or (bad := case.find("error")) is not None
    ]
