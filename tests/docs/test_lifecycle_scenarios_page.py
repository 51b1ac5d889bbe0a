"""The table of scenarios is true: each is there once, and its tests are there and carry its id."""

import ast
import re
from collections.abc import Callable

import pytest

from docs.documents import ROOT

PAGE = ROOT / "docs" / "reference" / "lifecycle-scenarios.md"
IDS = [f"L{number:02}" for number in range(1, 35)]


def untrue(page: str, docstring: Callable[[str, str], str | None]) -> list[str]:
    """Say what is wrong with the table; `docstring` is that of a test, or None if there is none.

    A row without a test says in its last cell why none can be; its first word is "none".
    """
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in page.splitlines()
        if re.match(r"\| L\d", line)
    ]
    named = [row[0] for row in rows]
    found = [f"{each} has {named.count(each)} rows" for each in IDS if named.count(each) != 1]
    found += [f"{each} is no scenario" for each in sorted(set(named) - set(IDS))]
    for scenario, *_, shown in rows:
        tests = re.findall(r"`([^`]+)::([^`]+)`", shown)
        if not tests and not re.match(r"none\W+\w", shown):
            found.append(f"{scenario}: names no test, and no reason why")
        for file, name in tests:
            said = docstring(file, name)
            if said is None:
                found.append(f"{scenario}: there is no {name} in tests/{file}")
            elif not re.search(rf"\b{scenario}\b", said):
                found.append(f"{scenario}: the docstring of {name} does not carry the identifier")
    return found


def in_tests(file: str, name: str) -> str | None:
    """Return the docstring of a test, '' if it has none, None if there is no such test."""
    path = ROOT / "tests" / file
    if not path.exists():
        return None
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            return ast.get_docstring(node) or ""
    return None


def test_every_scenario_is_shown_or_the_reason_is_said():
    """Whoever renames a test, or takes one away, changes the table."""
    found = untrue(PAGE.read_text(encoding="utf-8"), in_tests)

    assert not found, "\n".join(["", *found])


ROW = "| {} | what is done | what holds | {} |\n"
SHOWN = "`a.py::test_shown`"
GOOD = {**dict.fromkeys(IDS, SHOWN), "L07": "none: nobody can", "L09": f"{SHOWN}, {SHOWN}"}


@pytest.mark.parametrize(
    ("changed", "more", "says"),
    [
        ({}, "", None),
        ({"L03": None}, "", "L03 has 0 rows"),
        ({}, ROW.format("L03", SHOWN), "L03 has 2 rows"),
        ({}, ROW.format("L35", "none: it is new"), "L35 is no scenario"),
        ({"L03": ""}, "", "L03: names no test, and no reason why"),
        ({"L03": "none"}, "", "L03: names no test, and no reason why"),
        ({"L03": "`a.py::test_gone`"}, "", "L03: there is no test_gone in tests/a.py"),
        (
            {"L03": f"{SHOWN}, `a.py::test_other`"},
            "",
            "L03: the docstring of test_other does not carry the identifier",
        ),
    ],
)
def test_what_is_not_true_is_reported(changed, more, says):
    """One sentence for the one thing that is wrong; a table without a mistake has none."""
    docstrings = {"test_shown": f"{' '.join(IDS)}, L35.", "test_other": "L04, L030."}
    rows = {**GOOD, **changed}
    page = "".join(ROW.format(each, shown) for each, shown in rows.items() if shown is not None)

    found = untrue(page + more, lambda file, name: docstrings.get(name))

    assert found == ([] if says is None else [says])


def test_tests_are_looked_for_where_they_are_said_to_be():
    """A function of this file is found with its docstring, others are not."""
    here = "docs/test_lifecycle_scenarios_page.py"

    assert "are not." in in_tests(here, "test_tests_are_looked_for_where_they_are_said_to_be")
    assert in_tests(here, "ROW") is None
    assert in_tests("docs/no_such_file.py", "test_x") is None
