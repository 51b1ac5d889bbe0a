"""The fields and rules that the page of the log names are those that there are."""

import re

from docs.documents import ROOT
from shipworthy.redact import REDACTIONS

PAGE = ROOT / "docs" / "reference" / "logs.md"


def first_cells(heading: str) -> set[str]:
    """Return the names in the first column of the table below a heading."""
    text = PAGE.read_text(encoding="utf-8").partition(f"{heading}\n")[2]
    table = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert table is not None
    return set(re.findall(r"^\| `(\w+)`", table[0], re.MULTILINE))


def test_the_page_names_every_rule() -> None:
    """One row for each, and no other."""
    assert first_cells("## Secrets") == set(REDACTIONS)
