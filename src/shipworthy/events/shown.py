"""What people are shown and woken for: panels and alerts, declared beside the room.

Pure. What nobody could read or be helped by raises `ValueError` where it is written.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from string import Formatter
from typing import Literal, final

from shipworthy.events.algebra import Condition, Expression, kept_apart_by

Shows = Literal["seconds", "bytes", "ratio", "per_second", "count", "timestamp"]


class Board(StrEnum):
    """The dashboards, each a page of panels."""

    OVERVIEW = "overview"
    SLO = "slo"
    DATABASE = "database"
    RESILIENCE = "resilience"
    SECURITY = "security"
    LIFECYCLE = "lifecycle"
    RECORDS = "records"  # flags, audit, trash
    BUSINESS = "business"
    TELEMETRY = "telemetry"  # what the instruments say of themselves


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One picture: a title, a sentence, and what it shows by label set.

    Each of `shows` has a name, which may name `{label}` of its expression: a line's name is made
    of it. `unit` is that of the value.
    """

    title: str
    help: str
    board: Board
    shows: tuple[tuple[str, Expression], ...]
    unit: Shows

    def __post_init__(self) -> None:
        refuse(f"panel {self.title!r}", self._problems())

    def _problems(self) -> Iterator[str]:
        if not self.title.strip() or not self.help.strip():
            yield "it has a title and a sentence that says what is seen"
        if not self.shows:
            yield "it shows nothing"
        names = [name for name, _ in self.shows]
        if len(set(names)) != len(names):
            yield f"two of its lines have one name: {', '.join(names)}"
        for name, of in self.shows:
            labels = kept_apart_by(of) or ()
            named = _named(name)
            yield from (f"{name!r} names {one!r}, not a label of it" for one in named - {*labels})
            yield from (f"{name!r} does not tell {one!r} apart" for one in {*labels} - named)


def value_text(value: float, *, whole: bool = False) -> str:
    """Write the value of an alert for a sentence: whole from 10 on, else with three digits.

    A number of times (`counts`) is always `whole`: 3.41 failures are 3.
    """
    return f"{value:.0f}" if whole or value >= 10 else f"{value:.3g}"


class Urgency(StrEnum):
    """Who hears of an alert, and when."""

    PAGE = "page"  # wakes somebody
    TICKET = "ticket"  # is looked at in working hours
    INFO = "info"  # is only shown


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One reason to call somebody: when, how long, how urgent, and what to do then.

    `name` is CamelCase; `summary` is one sentence that may name `{label}` of the condition and
    `{value}`; `cause`, `look` and `act` make the runbook. `drill` says what provokes it, to be done
    to the demo; an alert that has none cannot be declared.
    """

    name: str
    when: Condition
    for_seconds: float
    urgency: Urgency
    summary: str
    cause: str
    look: str
    act: str
    drill: str
    # It goes on for so long after it held last, so that what comes and goes is one alarm.
    keep_seconds: float = 0.0

    def __post_init__(self) -> None:
        refuse(f"alert {self.name!r}", self._problems())

    def _problems(self) -> Iterator[str]:
        if not _CAMEL.match(self.name):
            yield "a name is CamelCase, without anything else"
        for part in ("summary", "cause", "look", "act", "drill"):
            if not getattr(self, part).strip():
                yield f"it has no {part}"
        if self.for_seconds < 0 or self.keep_seconds < 0:
            yield "no time is below 0"
        labels = {*(kept_apart_by(self.when) or ()), "value"}
        for one in sorted(_named(self.summary) - labels):
            yield f"its summary names {one!r}, and its condition has {', '.join(sorted(labels))}"


_CAMEL = re.compile(r"([A-Z][a-z0-9]*)+\Z")


def _named(text: str) -> set[str]:
    """Return what a text names in braces. Raises `ValueError` where it says how to write it, too.

    Prometheus and Grafana fill it in as well, and know nothing of Python's formats.
    """
    named = set()
    for _, name, how, conversion in Formatter().parse(text):
        if name is not None:
            if how or conversion:
                raise ValueError(
                    f"{text!r} says how {name!r} is to be written; write {{{name}}} alone"
                )
            named.add(name)
    return named


def refuse(what: str, problems: Iterator[str]) -> None:
    """Raise `ValueError` with all problems of what was declared, if there are any."""
    found = list(problems)
    if found:
        raise ValueError(f"{what}: {'; '.join(found)}")
