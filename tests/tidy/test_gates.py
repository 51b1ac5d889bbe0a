"""The gates close: too little coverage and old evidence are said, each in a sentence."""

import coverage_gate
import evidence_age


def report(total: float, **percents: float) -> dict[str, object]:
    """Return what coverage's JSON report says, as far as the gate reads it."""
    return {
        "files": {
            f"src/shipworthy/{name.replace('__', '/')}.py": {
                "summary": {"percent_covered": percent}
            }
            for name, percent in percents.items()
        },
        "totals": {"percent_covered": total},
    }


def test_full_coverage_opens_the_gate():
    """Pure modules whole, and the whole at its bound."""
    seen = report(95.0, units=100.0, lifecycle__drain=100.0, cli=80.0)

    assert coverage_gate.shortfalls(seen, ["shipworthy.units", "shipworthy.lifecycle.drain"]) == []


def test_a_branch_of_a_pure_module_without_a_test_closes_it():
    """Also a pure module that no test imported, and a whole below its bound."""
    seen = report(94.9, units=99.5)

    assert coverage_gate.shortfalls(seen, ["shipworthy.units", "shipworthy.redact"]) == [
        "shipworthy.units is pure and covered to 99.5 %; every branch of it needs a test",
        "shipworthy.redact is pure and was never imported by a test",
        "the whole is covered to 94.9 %, and 95 % are asked for",
    ]


def test_the_pure_modules_are_those_of_the_contract():
    """One list, in pyproject.toml, says what is pure and what is covered whole."""
    assert "shipworthy.lifecycle.drain" in coverage_gate.pure_modules()


def test_the_head_of_an_evidence_page_says_what_it_covers():
    """Commit, date and paths are lines that a program reads back."""
    page = "# Evidence\n\n- commit: 1234abcd\n- date: 2026-11-25\n- covers: src/a src/b\n\ntext\n"

    assert evidence_age.facts(page) == {
        "commit": "1234abcd",
        "date": "2026-11-25",
        "covers": "src/a src/b",
    }


def test_evidence_of_an_unknown_commit_is_said_to_be_unknown():
    """A rewritten history is not taken for a fresh one."""
    assert evidence_age.changed_since("0" * 40, ["src"]) is None
