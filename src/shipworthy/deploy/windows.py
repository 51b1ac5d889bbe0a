"""How far back a condition looks, and the same condition for a drill that cannot wait. Pure."""

from collections.abc import Iterator
from dataclasses import replace

from shipworthy.events import (
    Absent,
    Age,
    Both,
    Combined,
    Compared,
    Condition,
    Expression,
    Increase,
    Mean,
    Number,
    Quantile,
    Rate,
    Unless,
    Value,
    Within,
)

# What looks back at all; the rest asks of the moment.
_LOOKING_BACK = Rate | Increase | Quantile | Mean | Within


def windows_seconds(of: Expression | Condition, default_seconds: float) -> list[float]:
    """Return each window that is looked back for; those without one have the default."""
    return [
        default_seconds if part.over_seconds is None else part.over_seconds
        for part in parts(of)
        if isinstance(part, _LOOKING_BACK)
    ]


def parts(of: Expression | Condition) -> Iterator[Expression | Absent]:
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


def shortened(of: Expression, by: float) -> Expression:
    """Return the expression with every window divided by so much."""
    match of:
        case Combined():
            return replace(of, left=shortened(of.left, by), right=shortened(of.right, by))
        case Number() | Value() | Age():
            return of
        case _:
            seconds = of.over_seconds
            return of if seconds is None else replace(of, over_seconds=seconds / by)


def shortened_condition(of: Condition, by: float) -> Condition:
    """Return the condition with every window divided by so much."""
    match of:
        case Compared():
            return replace(of, left=shortened(of.left, by), right=shortened(of.right, by))
        case Both() | Unless():
            first, second = shortened_condition(of.first, by), shortened_condition(of.second, by)
            return replace(of, first=first, second=second)
        case _:
            return of
