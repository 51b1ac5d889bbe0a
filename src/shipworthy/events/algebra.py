"""What a panel shows and an alert asks, as data: the same expression for Prometheus and for us.

Pure. `deploy` writes an expression as PromQL and `telemetry` evaluates it over what this process
has kept; a test holds both to the same value. What no value could ever come of (a rate of a gauge,
a label that is misspelt) raises `ValueError` where it is written.

Meaning, in PromQL's words: a selection is summed by `by` over all its other labels (a gauge is
folded as its metric says: sum, max or min). `over_seconds` is the window of a rate; None is the
one of whoever shows it (a panel's interval).
"""

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, final

from shipworthy.events.labels import OTHER
from shipworthy.events.metric import Fold, Kind, Metric

Calculation = Literal["+", "-", "*", "/"]
Comparison = Literal[">", ">=", "<", "<=", "==", "!="]

# What each fold, calculation and comparison does with two numbers. A division by 0 raises.
FOLDS: Final[Mapping[Fold, Callable[[float, float], float]]] = {
    "sum": operator.add,
    "max": max,
    "min": min,
}
CALCULATIONS: Final[Mapping[Calculation, Callable[[float, float], float]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
COMPARISONS: Final[Mapping[Comparison, Callable[[float, float], bool]]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}

# A value, or several of which any will do.
Wanted = str | tuple[str, ...]
Where = Mapping[str, Wanted]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Series of one metric: those whose labels have these values, kept apart by `by`.

    `unless` leaves out those that have.
    """

    metric: Metric
    by: tuple[str, ...] = ()
    where: Where = field(default_factory=dict)
    unless: Where = field(default_factory=dict)

    def __post_init__(self) -> None:
        labels = self.metric.labels
        for name in (*self.by, *self.where, *self.unless):
            if name not in labels:
                raise ValueError(
                    f"metric {self.metric.name} has no label {name!r}; it has {', '.join(labels)}"
                )
        for name, wanted in (*self.where.items(), *self.unless.items()):
            values = (wanted,) if isinstance(wanted, str) else wanted
            if not values:
                raise ValueError(f"{name} of {self.metric.name} is asked for no value at all")
            for value in values:
                if value != OTHER and not labels[name].holds(value):
                    raise ValueError(f"{name}={value!r} of {self.metric.name} can never be")


@final
@dataclass(frozen=True, slots=True)
class Rate:
    """How much a counter, or the count of a histogram, grew per second."""

    of: Selection
    over_seconds: float | None = None

    def __post_init__(self) -> None:
        _must_be(self, self.of, "counter", "histogram")
        _must_last(self.over_seconds)


@final
@dataclass(frozen=True, slots=True)
class Increase:
    """How much a counter, or the count of a histogram, grew in the window."""

    of: Selection
    over_seconds: float | None = None

    def __post_init__(self) -> None:
        _must_be(self, self.of, "counter", "histogram")
        _must_last(self.over_seconds)


@final
@dataclass(frozen=True, slots=True)
class Value:
    """A gauge as it is, or a counter's total."""

    of: Selection

    def __post_init__(self) -> None:
        _must_be(self, self.of, "gauge", "counter")


@final
@dataclass(frozen=True, slots=True)
class Quantile:
    """The value of a histogram that this share of observations does not pass, interpolated."""

    share_ratio: float
    of: Selection
    over_seconds: float | None = None

    def __post_init__(self) -> None:
        _must_be(self, self.of, "histogram")
        _must_last(self.over_seconds)
        if not 0 < self.share_ratio < 1:
            raise ValueError(f"a quantile lies between 0 and 1, this one is {self.share_ratio}")


@final
@dataclass(frozen=True, slots=True)
class Mean:
    """The sum of a histogram per observation, in the window."""

    of: Selection
    over_seconds: float | None = None

    def __post_init__(self) -> None:
        _must_be(self, self.of, "histogram")
        _must_last(self.over_seconds)


@final
@dataclass(frozen=True, slots=True)
class Within:
    """Observations per second of a histogram up to a bound, which is one of its buckets."""

    bound: float
    of: Selection
    over_seconds: float | None = None

    def __post_init__(self) -> None:
        _must_be(self, self.of, "histogram")
        _must_last(self.over_seconds)
        must_be_bucket(self.of.metric, self.bound)


@final
@dataclass(frozen=True, slots=True)
class Age:
    """Seconds since the time that a gauge gives in seconds since 1970."""

    of: Selection

    def __post_init__(self) -> None:
        _must_be(self, self.of, "gauge")


@final
@dataclass(frozen=True, slots=True)
class Combined:
    """Two expressions, label set by label set: `+ - * /`; a division by 0 gives no sample.

    Both sides are kept apart by the same labels, unless one is a number. With `absent_zero` a side
    that has no series counts as 0 where the other has one: no failure yet is a share of 0, not of
    nothing.
    """

    left: "Expression"
    operator: Calculation
    right: "Expression"
    absent_zero: bool = False

    def __post_init__(self) -> None:
        _must_match(self.left, self.right)


@final
@dataclass(frozen=True, slots=True)
class Number:
    """A number that is the same for every label set."""

    value: float


Expression = Rate | Increase | Value | Quantile | Mean | Within | Age | Combined | Number


@final
@dataclass(frozen=True, slots=True)
class Compared:
    """The label sets of an expression for which the comparison holds."""

    left: Expression
    operator: Comparison
    right: Expression

    def __post_init__(self) -> None:
        _must_match(self.left, self.right)
        if kept_apart_by(self.left) is None:
            raise ValueError("a number stands on the right of a comparison, if anywhere")


@final
@dataclass(frozen=True, slots=True)
class Both:
    """Where the first holds, for label sets for which the second holds too (`on`: only these)."""

    first: "Condition"
    second: "Condition"
    on: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _must_meet(self.first, self.second, self.on)


@final
@dataclass(frozen=True, slots=True)
class Unless:
    """Where the first holds and the second does not."""

    first: "Condition"
    second: "Condition"
    on: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _must_meet(self.first, self.second, self.on)


@final
@dataclass(frozen=True, slots=True)
class Absent:
    """Nothing of this is there at all, though the service is asked."""

    of: Selection


Condition = Compared | Both | Unless | Absent
# What is made of no other.
Part = Rate | Increase | Value | Quantile | Mean | Within | Age | Number | Absent


def ratio(part: Expression, whole: Expression) -> Combined:
    """Return the share that `part` is of `whole`: 0 where nothing of it has been seen."""
    return Combined(part, "/", whole, absent_zero=True)


def parts(of: Expression | Condition) -> Iterator[Part]:
    """Yield what an expression or a condition is made of, from left to right."""
    match of:
        case Combined() | Compared():
            yield from parts(of.left)
            yield from parts(of.right)
        case Both() | Unless():
            yield from parts(of.first)
            yield from parts(of.second)
        case _:
            yield of


def selections(of: Expression | Condition) -> Iterator[Selection]:
    """Yield every selection in an expression or a condition."""
    return (part.of for part in parts(of) if not isinstance(part, Number))


def kept_apart_by(of: Expression | Condition) -> tuple[str, ...] | None:
    """Return the labels of what comes out, in the order of their values; None of a number."""
    match of:
        case Number():
            return None
        case Absent():
            return ()
        case Combined() | Compared():
            left = kept_apart_by(of.left)
            return kept_apart_by(of.right) if left is None else left
        case Both() | Unless():
            return kept_apart_by(of.first)
        case _:
            return of.of.by


def counts(of: Expression | Condition) -> bool:
    """Return whether what comes out is how often something happened.

    That is estimated from samples, as Prometheus does it, so its fractions say nothing; those of
    seconds that were added up say something.
    """
    match of:
        case Increase():
            return of.of.metric.kind == "histogram" or not of.of.metric.unit
        case Combined(operator="*"):
            return counts(of.left) or counts(of.right)
        case Combined(operator="+" | "-"):
            return counts(of.left) and counts(of.right)
        case Compared():
            return counts(of.left)
        case Both() | Unless():
            return counts(of.first)
        case _:
            return False


def must_be_bucket(metric: Metric, bound: float) -> None:
    """Raise `ValueError` with the nearest bucket where `bound` is none."""
    if bound not in metric.buckets:
        nearest = min(metric.buckets, key=lambda bucket: abs(bucket - bound))
        raise ValueError(
            f"{metric.name} has no bucket that ends at {bound:g}, so what is below it is not "
            f"counted; the nearest is {nearest:g}"
        )


def _must_be(what: object, of: Selection, *kinds: Kind) -> None:
    if of.metric.kind not in kinds:
        raise ValueError(
            f"{type(what).__name__} is for a {' or a '.join(kinds)}, and {of.metric.name} is a "
            f"{of.metric.kind}"
        )


def _must_last(seconds: float | None) -> None:
    if seconds is not None and not seconds > 0:
        raise ValueError(f"a window is longer than nothing, this one {seconds:g} s")


def _must_match(left: Expression, right: Expression) -> None:
    ours, theirs = kept_apart_by(left), kept_apart_by(right)
    if None not in (ours, theirs) and ours != theirs:
        raise ValueError(f"one side is kept apart by {ours}, the other by {theirs}")


def _must_meet(first: Condition, second: Condition, on: tuple[str, ...] | None) -> None:
    ours, theirs = kept_apart_by(first), kept_apart_by(second)
    if on is None and ours != theirs:
        raise ValueError(f"one is kept apart by {ours}, the other by {theirs}: say `on` which")
    for name in on or ():
        if name not in (ours or ()) or name not in (theirs or ()):
            raise ValueError(f"{name!r} is not a label of both: {ours} and {theirs}")
