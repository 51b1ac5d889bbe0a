"""Panels and alerts: what nobody could read or be helped by is refused."""

from typing import Any

import pytest

from shipworthy.events import (
    Alert,
    Board,
    Compared,
    Increase,
    Metric,
    Number,
    OneOf,
    Panel,
    Rate,
    Selection,
    Urgency,
)

CALLS = Metric("calls_total", "counter", "Calls.", {"who": OneOf("a", "b")})
BY_WHO = Selection(metric=CALLS, by=("who",))
ALL = Selection(metric=CALLS)


def panel(**changes: Any) -> Panel:
    facts = {"title": "Calls", "help": "Calls by who.", "board": Board.BUSINESS}
    lines = (("{who}", Rate(BY_WHO)),)
    return Panel(**{**facts, "shows": lines, "unit": "per_second", **changes})


def alert(**changes: Any) -> Alert:
    facts: dict[str, Any] = {
        "name": "CallsMany",
        "when": Compared(Increase(BY_WHO, 60), ">", Number(1)),
        "for_seconds": 0.0,
        "urgency": Urgency.INFO,
        "summary": "{who} calls {value} times",
        **dict.fromkeys(("cause", "look", "act", "drill"), "Text."),
    }
    return Alert(**{**facts, **changes})


def test_what_is_whole_is_taken() -> None:
    """The names of lines and the summary may name the labels."""
    assert panel().shows[0][0] == "{who}"
    assert panel(shows=(("all", Rate(ALL)), ("twice", Number(2)))).shows[0][0] == "all"
    assert alert().summary == "{who} calls {value} times"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"title": " "}, "a title and a sentence"),
        ({"help": ""}, "a title and a sentence"),
        ({"shows": ()}, "shows nothing"),
        ({"shows": (("x", Rate(ALL)), ("x", Rate(ALL)))}, "two of its lines have one name: x, x"),
        ({"shows": (("{whom} {who}", Rate(BY_WHO)),)}, "names 'whom', not a label of it"),
        ({"shows": (("calls", Rate(BY_WHO)),)}, "'calls' does not tell 'who' apart"),
        ({"shows": (("{who!r}", Rate(BY_WHO)),)}, "says how 'who' is to be written"),
        ({"shows": (("{who:>9}", Rate(BY_WHO)),)}, "says how 'who' is to be written"),
    ],
)
def test_a_panel_that_cannot_be_read_is_refused(changes: dict[str, Any], problem: str) -> None:
    """Two lines of one name could not be told apart."""
    with pytest.raises(ValueError, match=problem):
        panel(**changes)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"name": "calls-many"}, "CamelCase"),
        ({"for_seconds": -1}, "no time is below 0"),
        ({"keep_seconds": -1}, "no time is below 0"),
        ({"summary": "{who} calls {value:.2f} times"}, "says how 'value' is to be written"),
        ({"summary": "{whom} calls"}, "names 'whom', and its condition has value, who"),
        *(({name: " "}, f"it has no {name}") for name in ("cause", "look", "act", "drill")),
    ],
)
def test_an_alert_that_helps_nobody_is_refused(changes: dict[str, Any], problem: str) -> None:
    """Each says why it may be, where to look, what to do, and how it was seen to fire."""
    with pytest.raises(ValueError, match=problem):
        alert(**changes)
