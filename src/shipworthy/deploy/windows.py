"""How far back a condition looks, and the same condition for a drill that cannot wait. Pure."""

from dataclasses import replace

from shipworthy.events import (
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
    parts,
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
    """Return the condition with every window, and every age it waits for, divided by so much."""
    match of:
        case Compared(right=Number() as limit) if _is_age(of.left):
            return replace(of, right=Number(limit.value / by))
        case Compared():
            return replace(of, left=shortened(of.left, by), right=shortened(of.right, by))
        case Both() | Unless():
            first, second = shortened_condition(of.first, by), shortened_condition(of.second, by)
            return replace(of, first=first, second=second)
        case _:
            return of


def _is_age(of: Expression) -> bool:
    """Say whether it grows with the clock: an age, or a gauge that has one."""
    match of:
        case Age():
            return True
        case Value():
            metric = of.of.metric
            return metric.kind == "gauge" and metric.unit == "seconds"
        case _:
            return False
