"""Combine what the tests measured, and hold two gates: pure modules whole, everything to 95 %.

The pure modules are those of the import-linter contract "Decisions are pure": one list for both.
"""

import sys
import tempfile
import tomllib
from pathlib import Path

from coverage import Coverage
from coverage.exceptions import NoDataError

ROOT = Path(__file__).parents[1]
WHOLE_PERCENT = 95.0


def pure_modules(project: Path = ROOT / "pyproject.toml") -> list[str]:
    """Return the modules whose every branch must be tested."""
    settings = tomllib.loads(project.read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (pure,) = (one for one in contracts if one["name"] == "Decisions are pure")
    return list(pure["source_modules"])


def shortfalls(report: dict[str, object], pure: list[str]) -> list[str]:
    """Return a sentence for each gate that does not hold; `report` is coverage's JSON."""
    files: dict[str, dict[str, object]] = report["files"]  # type: ignore[assignment]
    percents = {_module(path): facts["summary"]["percent_covered"] for path, facts in files.items()}  # type: ignore[index]
    found = [
        f"{name} is pure and covered to {percents[name]:.1f} %; every branch of it needs a test"
        if name in percents
        else f"{name} is pure and was never imported by a test"
        for name in pure
        if percents.get(name, 0.0) < 100
    ]
    total = report["totals"]["percent_covered"]  # type: ignore[index]
    if total < WHOLE_PERCENT:
        found.append(
            f"the whole is covered to {total:.1f} %, and {WHOLE_PERCENT:.0f} % are asked for"
        )
    return found


def _module(path: str) -> str:
    return path.partition("src/")[2].removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def main() -> int:
    """Print the table of what is not covered and the gates that do not hold; 0 when all do."""
    import json

    measured = Coverage(config_file=str(ROOT / "pyproject.toml"))
    try:
        if list(ROOT.glob(".coverage.*")):
            measured.combine([str(ROOT)])
        measured.load()
        measured.report()
        with tempfile.TemporaryDirectory() as folder:
            measured.json_report(outfile=f"{folder}/report.json")
            report = json.loads(Path(folder, "report.json").read_text(encoding="utf-8"))
    except NoDataError:
        print("nothing was measured: run scripts/test without arguments first")
        return 1
    found = shortfalls(report, pure_modules())
    print("\n".join(found) or "every gate holds")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
