"""Write the tables of docs/reference/classify.md, which say what the tables in the code say."""

from collections.abc import Iterable
from pathlib import Path

from shipworthy.db import Outcome
from shipworthy.db.classify import TYPES
from shipworthy.db.dialects import mariadb, postgresql, sqlite

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "classify.md"
BEGIN = (
    "<!-- Written by scripts/classify_tables.py from here; run it after a change of the code. -->"
)
END = "<!-- To here. -->"
PLANS_AND_STRANGERS = (
    f"A plan that no longer fits its result (`0A000`, by the function that found it out) is "
    f"*{Outcome.STALE_PLAN}*. A SQLSTATE of a class that the standard leaves to applications "
    f"(first character 5 to 9 or I to Z, and not above) is *{Outcome.PERMANENT}*, any other "
    f"*{Outcome.UNKNOWN}*."
)
OPTION_PREVENTS = (
    f"{mariadb.OPTION_PREVENTS} is *{Outcome.READ_ONLY}* where its text names the option "
    f"`read-only`, else *{Outcome.PERMANENT}*."
)


def tables() -> str:
    """Return every table: a row for each meaning, with the codes that have it."""
    parts = ["### PostgreSQL", ""]
    parts += ["A code in the table wins over its class; `xx…` is every other code of a class.", ""]
    states = [
        *((f"`{state}`", rule) for state, rule in postgresql.CODES.items()),
        *((f"`{kind}…`", rule) for kind, rule in postgresql.CLASSES.items()),
    ]
    parts += _by_outcome("SQLSTATE", states)
    parts += [
        PLANS_AND_STRANGERS,
        "",
        "### MariaDB",
        "",
        "A number in the table wins over its range.",
        "",
    ]
    numbers = [(_listed(held), (outcome, text)) for outcome, text, held in mariadb.NUMBERS]
    ranges = [
        (f"other {held.start} to {held.stop - 1}", (outcome, text))
        for held, outcome, text in mariadb.RANGES
    ]
    parts += _by_outcome("number", [*numbers, *ranges])
    parts += [
        OPTION_PREVENTS,
        "",
        "### SQLite",
        "",
        "An extended code in the table wins over its primary code, its last eight bits.",
        "",
    ]
    codes = [
        *((str(code), rule) for code, rule in sqlite.EXTENDED.items()),
        *((f"{code}, extended", rule) for code, rule in sqlite.PRIMARY.items() if code < 100),
    ]
    parts += _by_outcome("code", codes)
    parts += ["### Without a code", ""]
    kinds: list[tuple[str, postgresql.Rule]] = [
        (f"`{name}`", (verdict.outcome, verdict.because)) for name, verdict in TYPES.items()
    ]
    kinds += [(f"`{name}`", rule) for name, rule in postgresql.TYPES.items()]
    kinds += [(f"`pymysql.err.{name}`, asyncmy's", rule) for name, rule in mariadb.TYPES.items()]
    kinds += [(f"`{name}`", rule) for name, rule in sqlite.TYPES.items()]
    return "\n".join([*parts, *_by_outcome("class", kinds)])


def page(text: str) -> str:
    """Return the page with its tables made new."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


def _by_outcome(what: str, rows: Iterable[tuple[str, postgresql.Rule]]) -> list[str]:
    order = list(Outcome)
    listed = sorted(rows, key=lambda row: order.index(row[1][0]))
    lines = [f"| class | {what} | because |", "|---|---|---|"]
    return [*lines, *(f"| {rule[0]} | {codes} | {rule[1]} |" for codes, rule in listed), ""]


def _listed(numbers: Iterable[int]) -> str:
    """Write numbers, and runs of them as a run."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(
        f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs
    )


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
