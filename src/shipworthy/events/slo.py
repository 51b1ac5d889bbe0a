"""Objectives, and the alerts that follow from them: how fast the budget of failures is spent. Pure.

The numbers are those of Google's SRE workbook, chapter "Alerting on SLOs": an alert asks whether a
long window has spent a share of the budget of the whole period, and whether a short one still does,
so that it ends soon after its cause. What is added is for services with little traffic: one failure
in a quiet night is a large share of nearly nothing, so an alert wants a number of failures too; and
failures that go on below that are told as a number.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, final

from shipworthy.events.algebra import (
    Both,
    Combined,
    Compared,
    Expression,
    Increase,
    Number,
    Rate,
    Selection,
    Within,
    must_be_bucket,
    ratio,
)
from shipworthy.events.shown import Alert, Board, Panel, Urgency, refuse

_DAY_SECONDS: Final = 86_400.0
_MINUTE_SECONDS: Final = 60.0


@final
@dataclass(frozen=True, slots=True)
class BurnWindow:
    """Call when `budget_ratio` of the whole budget was spent in the long window.

    And is still being spent as fast in the short one.
    """

    budget_ratio: float
    long_seconds: float
    short_seconds: float
    urgency: Urgency

    @property
    def name(self) -> str:
        """Return the long window in the largest unit that has no rest, as `6h`."""
        return _length(self.long_seconds)

    def factor(self, period_days: float) -> float:
        """Return how many times as fast as evenly the budget is spent at that point."""
        return self.budget_ratio * period_days * _DAY_SECONDS / self.long_seconds


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BurnRules:
    """When somebody is called about an objective.

    `failures_least` have to be in the long window. Where fewer than `quiet_per_second` requests
    come, `sustained_failures` in `sustained_seconds` are told instead.
    """

    windows: tuple[BurnWindow, ...] = (
        BurnWindow(0.02, 3600.0, 300.0, Urgency.PAGE),
        BurnWindow(0.05, 6 * 3600.0, 1800.0, Urgency.PAGE),
        BurnWindow(0.10, _DAY_SECONDS, 7200.0, Urgency.TICKET),
        BurnWindow(0.10, 3 * _DAY_SECONDS, 6 * 3600.0, Urgency.TICKET),
    )
    failures_least: int = 10
    sustained_failures: int = 100
    sustained_seconds: float = 6 * 3600.0
    quiet_per_second: float = 0.5


BURN_RULES: Final = BurnRules()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """One objective: which share of what happens is to be good.

    `bad` is what of `total` is not good; with `within_seconds` the good are the observations of
    `total`, a histogram, up to that bound, which must be one of its buckets. `objective_ratio` is
    below 1: at 1 every failure is an alarm and no change can ever be made. What is in the catalogue
    has its alerts and panels beside it. `drill` says what misses it, to be done to the demo.
    """

    name: str
    help: str
    objective_ratio: float
    total: Selection
    bad: Selection | None = None
    within_seconds: float | None = None
    period_days: float = 30.0
    rules: BurnRules = BURN_RULES
    drill: str = "requests of which half are not good, as fast as they can be made"

    def __post_init__(self) -> None:
        refuse(f"objective {self.name!r}", self._problems())

    @property
    def budget_ratio(self) -> float:
        """Return the share that may be bad: of 0.999 it is 0.001."""
        return _plain(1.0 - self.objective_ratio)

    def _problems(self) -> Iterator[str]:
        if not re.fullmatch(r"[a-z][a-z0-9-]*", self.name):
            yield "a name is lower case letters, digits and hyphens"
        if not self.help.strip():
            yield "it has no sentence that says what is good"
        yield from burn_problems(self.objective_ratio, self.period_days, self.rules)
        if (self.bad is None) == (self.within_seconds is None):
            yield "what is bad is either selected or slower than a bound"
        if self.total.by or (self.bad is not None and self.bad.by):
            yield "it is one number, kept apart by nothing"
        if self.within_seconds is not None:
            try:
                must_be_bucket(self.total.metric, self.within_seconds)
            except ValueError as error:
                yield str(error)


def burn_problems(objective_ratio: float, period_days: float, rules: BurnRules) -> Iterator[str]:
    """Yield what cannot be of an objective: a sentence each, with what to write instead."""
    if not 0 < objective_ratio < 1:
        yield (
            f"an objective of {objective_ratio:.10g} leaves no room for a failure or none for a "
            "success: it lies between 0 and 1, as 0.999"
        )
        return
    if not period_days > 0:
        yield f"a period is longer than nothing, this one {period_days:g} days"
        return
    for window in rules.windows:
        if not 0 < window.short_seconds < window.long_seconds:
            yield (
                f"the short window of {_length(window.short_seconds)} is not shorter than the long "
                f"one of {window.name}: a twelfth of it is usual"
            )
        elif window.long_seconds > period_days * _DAY_SECONDS:
            yield f"a window of {window.name} is longer than the period of {period_days:g} days"
        else:
            share = window.factor(period_days) * (1 - objective_ratio)
            if share >= 1:
                yield (
                    f"the window of {window.name} can never fire: it asks for {share:.0%} of "
                    f"failures ({window.factor(period_days):.3g} x (1 - {objective_ratio:.10g})); "
                    f"with that objective let it ask for less than "
                    f"{window.budget_ratio / share:.2%} of the budget"
                )


def alerts_of(slo: Slo) -> tuple[Alert, ...]:
    """Return the alerts of an objective: of each window, of quiet times, and of a budget spent."""
    return (*(_burns(slo, window) for window in slo.rules.windows), _goes_on(slo), _spent(slo))


def panels_of(slo: Slo) -> tuple[Panel, ...]:
    """Return the panels of an objective: what is left of its budget, and how fast it goes."""
    rates = {
        seconds: None
        for window in slo.rules.windows
        for seconds in (window.short_seconds, window.long_seconds)
    }
    return (
        Panel(
            title=f"{_words(slo)}: budget left",
            help=f"{slo.help} {slo.objective_ratio:.10g} of them in {slo.period_days:g} days.",
            board=Board.SLO,
            shows=(("left", _left(slo)),),
            unit="ratio",
        ),
        Panel(
            title=f"{_words(slo)}: speed of its budget",
            help="At 1 the budget lasts exactly for the period; the alerts of each window are told "
            "at " + ", ".join(_speed_text(slo, window) for window in slo.rules.windows) + ".",
            board=Board.SLO,
            shows=tuple(
                (
                    _length(seconds),
                    Combined(_bad_share(slo, seconds), "/", Number(slo.budget_ratio)),
                )
                for seconds in sorted(rates)
            ),
            unit="count",
        ),
    )


def _burns(slo: Slo, window: BurnWindow) -> Alert:
    share = Number(_plain(window.factor(slo.period_days) * slo.budget_ratio))
    both = Both(
        Compared(_bad_share(slo, window.long_seconds), ">", share),
        Compared(_bad_share(slo, window.short_seconds), ">", share),
    )
    return Alert(
        name=f"{_camel(slo)}Burn{window.name}",
        when=Both(both, _failures_at_least(slo, slo.rules.failures_least, window.long_seconds)),
        for_seconds=0.0,
        urgency=window.urgency,
        summary=f"{{value}} of what {slo.name} counts was not good in {window.name}, which spends "
        f"its budget {window.factor(slo.period_days):.3g} times too fast",
        cause="A release, a dependency, or more traffic than the service can take.",
        look="The board 'slo' for how fast it goes; 'overview' for which routes. When did it "
        "begin, and what was changed then?",
        act="Undo that change first and understand it afterwards. Is it a dependency, see "
        "BreakerOpen.",
        drill=slo.drill,
    )


def _goes_on(slo: Slo) -> Alert:
    rules = slo.rules
    return Alert(
        name=f"{_camel(slo)}MissedQuietly",
        when=Both(
            _failures_at_least(slo, rules.sustained_failures, rules.sustained_seconds),
            Compared(Rate(slo.total, rules.sustained_seconds), "<", Number(rules.quiet_per_second)),
        ),
        for_seconds=3600.0,
        urgency=Urgency.TICKET,
        summary=f"{{value}} times {slo.name} was missed in {_length(rules.sustained_seconds)}, at "
        "little traffic",
        cause="At so little traffic a share says little, so it is told by the number: these "
        "failures go on.",
        look="The board 'overview' over a day: which route is it, always?",
        act="It will not end by itself, and can wait for the morning: mend that route.",
        drill=f"{rules.sustained_failures + 20} requests that are not good in "
        f"{_length(rules.sustained_seconds)}, evenly",
    )


def _spent(slo: Slo) -> Alert:
    """Return the alert of a whole budget: what burns too slowly for every window spends it, too."""
    seconds = slo.period_days * _DAY_SECONDS
    return Alert(
        name=f"{_camel(slo)}BudgetSpent",
        when=Both(
            Compared(_spent_share(slo), ">=", Number(1.0)),
            _failures_at_least(slo, slo.rules.failures_least, seconds),
        ),
        # The objective is missed by then: whether that is told an hour later helps nobody, and an
        # hour more is what keeps it from coming and going at the line.
        for_seconds=3600.0,
        urgency=Urgency.TICKET,
        summary=f"{{value}} times the budget of {slo.name} is spent in {_length(seconds)}: the "
        "objective is missed",
        cause="Failures that each were too few or too slow to call somebody, or one outage that "
        "was told when it came. Of a service that is younger, the time that is known counts.",
        look=f"The panel '{_words(slo)}: budget left' over the whole period: did it fall all the "
        "time, or at once, and when? The board 'overview' at those times says which routes.",
        act="Until it is earned back, changes wait that may cost more of it, and what has spent it "
        "is mended first. Is that too strict for what people notice, change the objective ([slo]), "
        "and say so to those it was promised to.",
        drill=slo.drill,
    )


def _failures_at_least(slo: Slo, number: int, seconds: float) -> Compared:
    return Compared(_failures(slo, seconds), ">=", Number(float(number)))


def _failures(slo: Slo, seconds: float) -> Expression:
    if slo.bad is not None:
        return Increase(slo.bad, seconds)
    # Not a rate times seconds: whoever shortens the windows (a drill) shortens no plain number.
    return Combined(Increase(slo.total, seconds), "*", _bad_share(slo, seconds))


def _bad_share(slo: Slo, seconds: float) -> Expression:
    if slo.bad is not None:
        return ratio(Rate(slo.bad, seconds), Rate(slo.total, seconds))
    good = Combined(_good(slo, seconds), "/", Rate(slo.total, seconds))
    return Combined(Number(1.0), "-", good)


def _good(slo: Slo, seconds: float) -> Within:
    assert slo.within_seconds is not None
    return Within(slo.within_seconds, slo.total, seconds)


def _left(slo: Slo) -> Expression:
    return Combined(Number(1.0), "-", _spent_share(slo))


def _spent_share(slo: Slo) -> Expression:
    share = _bad_share(slo, slo.period_days * _DAY_SECONDS)
    return Combined(share, "/", Number(slo.budget_ratio))


def _speed_text(slo: Slo, window: BurnWindow) -> str:
    return f"{window.factor(slo.period_days):.3g} ({window.name})"


def _camel(slo: Slo) -> str:
    return "".join(word.capitalize() for word in slo.name.split("-"))


def _plain(number: float) -> float:
    """Return a number without what binary fractions add to it: 0.001, no 0.0010000000000000009."""
    return float(f"{number:.12g}")


def _words(slo: Slo) -> str:
    return slo.name.replace("-", " ").capitalize()


def _length(seconds: float) -> str:
    for unit, size in (("d", _DAY_SECONDS), ("h", 3600.0), ("m", _MINUTE_SECONDS)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"
