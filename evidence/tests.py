"""The tests marked `evidence`.

Each takes too long for every change; what it shows is the sentence of its name.
"""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

COVERS = ("src/shipworthy", "tests")


def run(folder: Path) -> tuple[str, dict[str, str]]:
    """Run them all and return a table of their outcomes."""
    report = folder / "report.xml"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "evidence", "--timeout=0", f"--junitxml={report}"],
        cwd=Path(__file__).parents[1],
        check=False,
    )
    rows = [
        f"| {case.get('name', '').removeprefix('test_').replace('_', ' ')} | {_outcome(case)} "
        f"| {float(case.get('time', 0)):.1f} s |"
        for case in ET.parse(report).iter("testcase")
    ]
    return "\n".join(["| test | outcome | took |", "|---|---|---|", *rows]), {}


def _outcome(case: ET.Element) -> str:
    for tag in ("failure", "error", "skipped"):
        if (found := case.find(tag)) is not None:
            return f"{tag}: {(found.get('message') or '').splitlines()[0]}"
    return "passed"
