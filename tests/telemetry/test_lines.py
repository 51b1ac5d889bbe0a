"""One line per fact: JSON that always parses, text that nobody outside can forge."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, strategies as st

from shipworthy.telemetry import line, timestamp

CORE = {"ts": timestamp(0.0), "level": "info", "logger": "a.b", "message": "hello"}
TEXT = st.text(st.characters())  # lone surrogates too


@given(st.integers(0, 4_000_000_000), st.integers(0, 999_999))
def test_a_timestamp_is_the_instant_in_utc(second: int, micro: int) -> None:
    """RFC 3339 to the microsecond, also when seconds come in any order."""
    text = timestamp(second + micro / 1e6)

    read = datetime.fromisoformat(text)
    assert text.endswith("Z")
    assert read.tzinfo == UTC
    assert abs(read.timestamp() - (second + micro / 1e6)) < 2e-6


@given(
    st.dictionaries(
        TEXT, TEXT | st.integers() | st.floats(allow_nan=False) | st.none() | st.lists(TEXT)
    )
)
def test_any_fields_are_one_line_of_json(extras: dict[str, Any]) -> None:
    """Whatever the texts hold, it is one line, and a parser gives the same fields back."""
    text = line({**extras, **CORE}, human=False)

    assert text.count(b"\n") == 1
    read = json.loads(text)
    assert {name: read[name] for name in CORE} == CORE
    assert len(read) == len({**extras, **CORE})


def test_what_json_does_not_know_is_shown_as_text() -> None:
    """Objects, huge numbers and broken text lose no line."""
    read = json.loads(line({**CORE, "big": 2**80, "what": {1, 2}.__class__}, human=False))

    assert read["big"] == 2**80
    assert read["what"] == "<class 'set'>"


def test_a_line_for_people_begins_with_time_and_level() -> None:
    """The order in which people look: when, how bad, what, details, who."""
    text = line({**CORE, "ts": timestamp(3661.25), "port": 80}, human=True)

    assert text == b"01:01:01.250 INFO    hello port=80  (a.b)\n"


@pytest.mark.parametrize("field", ["message", "logger", "name"])
def test_no_text_forges_a_line_or_steers_the_terminal(field: str) -> None:
    """Line breaks and escape sequences are shown, not done."""
    text = line({**CORE, field: "a\r\nERROR fake\x1b[2J\u2028caf\u00e9"}, human=True).decode()

    assert text.count("\n") == 1
    assert r"a\r\nERROR fake\x1b[2J\u2028caf" + "\u00e9" in text


def test_a_stack_stands_on_lines_of_its_own_for_people() -> None:
    """A traceback is read as one, set in below its line."""
    text = line({**CORE, "stack": "Traceback:\n  here\n"}, human=True)

    assert text.endswith(b"(a.b)\n    Traceback:\n      here\n")


FORGED = "12:00:00.000 INFO    GET /admin 200  (shipworthy.access)"


@pytest.mark.parametrize(
    "end", ["\n", "\r", "\r\n", "\u2028", "\u2029", "\x85", "\x0b", "\x1b[2J\x1b[1;1H"]
)
def test_no_stack_forges_a_line_or_steers_the_terminal(end: str) -> None:
    """The text of an exception is in it, and so whatever a client has sent."""
    stack = f"ValueError: bad name: \x1b]0;pwned\x07{end}{FORGED}\u202e\u2066"

    text = line({**CORE, "stack": stack}, human=True).decode()

    head, *rows = text.removesuffix("\n").split("\n")
    assert head.endswith("(a.b)")
    assert all(row.startswith("    ") and row.isprintable() for row in rows)
    assert FORGED in text
    assert r"\x1b]0;pwned\x07" in text
    assert r"\u202e\u2066" in text


@given(TEXT, TEXT, TEXT)
def test_whatever_is_said_to_people_is_printable_rows(name: str, value: str, stack: str) -> None:
    """One line, and below it rows that are set in."""
    text = line({**CORE, f"x{name}": value, "stack": stack}, human=True).decode()

    head, *rows = text.removesuffix("\n").split("\n")
    assert head.isprintable()
    assert all(row.startswith("    ") and row.isprintable() for row in rows)
