"""Run evidence scripts and write down what came out, with commit, date and versions.

An evidence script stands beside this file. It has a docstring (what it shows), `COVERS` (the paths
whose change makes it old) and `run(folder) -> tuple[str, dict[str, str]]`: the Markdown of its
outcome, and the versions of what took part. Every test marked `evidence` is run by `tests.py`.
"""

import datetime as dt
import importlib.util
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "evidence"


def scripts() -> list[str]:
    """Return the names of the evidence there is."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if path != Path(__file__))


def page(name: str, script: ModuleType, outcome: str, versions: dict[str, str]) -> str:
    """Return the page to commit; its head is what `scripts/evidence_age.py` reads."""
    title, _, about = (script.__doc__ or name).strip().partition("\n")
    day = dt.datetime.now(dt.UTC).date()
    taken = {"Python": platform.python_version(), platform.system(): platform.machine(), **versions}
    return (
        f"# Evidence: {title.rstrip('.')}\n\n"
        f"- commit: {_commit()}\n- date: {day}\n- covers: {' '.join(script.COVERS)}\n"
        f"- versions: {', '.join(f'{what} {version}' for what, version in taken.items())}\n"
        f"- run by: `scripts/evidence {name}`\n\n{about.strip()}\n\n{outcome.strip()}\n"
    ).replace("\n\n\n", "\n")


def _commit() -> str:
    """Return the commit that was run; what evidence itself has written is no change of it."""
    written = [":(exclude)evidence/results", ":(exclude)docs/reference/evidence-*"]
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *written)
    return _git("rev-parse", "--short=12", "HEAD") + (" with changes" if changed else "")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    if spec is None or spec.loader is None:
        raise ImportError(name)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def main(names: list[str]) -> int:
    """Run the named scripts, or all; 2 for a name that is not there."""
    unknown = set(names) - set(scripts())
    if unknown:
        print(f"no such evidence: {', '.join(unknown)}; there is {', '.join(scripts())}")
        return 2
    for name in names or scripts():
        script = _load(name)
        print(f"{name}: {(script.__doc__ or '').strip().splitlines()[0]}", flush=True)
        with tempfile.TemporaryDirectory(prefix="ship-evidence") as folder:
            outcome, versions = script.run(Path(folder))
        target = ROOT / "docs" / "reference" / f"evidence-{name.replace('_', '-')}.md"
        target.write_text(page(name, script, outcome, versions), encoding="utf-8")
        print(f"{name}: written to {target.relative_to(ROOT)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
