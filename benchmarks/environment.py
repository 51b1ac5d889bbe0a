"""Processes that measure when told to, each in an environment of its own, ours or the peers'."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent

Rounds = dict[str, list[float]]


class Environment:
    """A process that runs `script` with the module of its arms, and answers lines with JSON.

    `told` is what it says first: the names of its arms, as a list or as the keys of a mapping.
    """

    def __init__(self, python: Path, script: str, arms: str) -> None:
        self._process = subprocess.Popen(
            [str(python), str(HERE / script), arms],
            cwd=HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.told = self._answer()
        self.seconds: Rounds = {name: [] for name in self.told}

    def round(self, count: int) -> None:
        """Have each arm measured once, over `count` calls or requests."""
        for name, seconds in self.ask(str(count)).items():
            self.seconds[name].append(seconds)

    def ask(self, line: str):
        """Send a line, and return what it answers."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def _answer(self):
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("an environment ended early; what it said is above")
        return json.loads(line)


def python_with(requirements: str, name: str) -> Path:
    """Return the interpreter of `.state/NAME`, made or renewed where `requirements` changed."""
    wanted, place = HERE / requirements, ROOT / ".state" / name
    stamp, python = place / "installed", place / "bin" / "python"
    digest = hashlib.sha256(wanted.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return python
    shutil.rmtree(place, ignore_errors=True)
    uv = shutil.which("uv") or next(map(str, (ROOT / ".uv").glob("bin/uv")), None)
    if uv:
        create = [uv, "venv", "-q", "--python", sys.executable, str(place)]
        install = [uv, "pip", "install", "-q", "--python", str(python), "-r", str(wanted)]
    else:
        create = [sys.executable, "-m", "venv", str(place)]
        install = [str(python), "-m", "pip", "install", "-q", "-r", str(wanted)]
    for command in (create, install):
        subprocess.run(command, check=True, stdout=sys.stderr)
    stamp.write_text(digest)
    return python


def commit() -> str:
    """Return the commit that is measured, and whether anything was changed on it."""
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run(
        [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    if head.returncode:
        return "no commit"
    changed = subprocess.run(
        [*git, "status", "--porcelain", "src"], capture_output=True, text=True, check=True
    )
    return f"commit {head.stdout.strip()}{' with changes' if changed.stdout else ''}"
