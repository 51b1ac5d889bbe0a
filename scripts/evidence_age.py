"""List the recorded evidence that is older than the code it covers. A list, and no failure:

evidence takes hours, so it is renewed before a release and not with every change.
"""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = "docs/reference/evidence-*.md"


def facts(page: str) -> dict[str, str]:
    """Return the lines `- commit: ...`, `- covers: ...` at the head of an evidence page."""
    return dict(re.findall(r"^- (\w+): (.*)$", page, re.MULTILINE))


def changed_since(commit: str, covers: list[str]) -> int | None:
    """Count the commits since `commit` that touched what is covered; None when it is unknown."""
    done = subprocess.run(
        ["git", "rev-list", "--count", f"{commit}..HEAD", "--", *covers],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return int(done.stdout) if done.returncode == 0 else None


def main() -> None:
    """Print one line for each page whose code has changed."""
    for path in sorted(ROOT.glob(PAGES)):
        said = facts(path.read_text(encoding="utf-8"))
        count = changed_since(said["commit"].split()[0], said["covers"].split())
        if count != 0:
            since = "an unknown number of" if count is None else count
            print(f"old     {path.name}: {since} changes of {said['covers']} since {said['date']}")


if __name__ == "__main__":
    main()
