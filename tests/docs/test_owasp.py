"""The table of OWASP's requirements names code and tests that exist, and each of them once."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "owasp.md").read_text()
ROW = re.compile(
    r"^\| (\d+\.\d+\.\d+) \| ([123]) \| ([^|]+) \| ([^|]+) \| ([^|]*)\|$", re.MULTILINE
)


def test_every_row_has_code_and_a_test_that_exist():
    """A requirement without a test that could fail is no requirement that is met."""
    rows = ROW.findall(PAGE)
    assert len(rows) > 30
    for requirement, _, code, tests, _ in rows:
        for name in re.findall(r"`([^`]+)`", code):
            assert (ROOT / "src" / "shipworthy" / name).exists(), (requirement, name)
        named = re.findall(r"`(tests/[^`]+)`", tests)
        assert named, requirement
        assert all((ROOT / name).exists() for name in named), (requirement, named)


def test_no_requirement_stands_there_twice():
    """In the order of ASVS, so that a reader finds what is missing."""
    numbers = [tuple(map(int, row[0].split("."))) for row in ROW.findall(PAGE)]
    assert numbers == sorted(set(numbers))
