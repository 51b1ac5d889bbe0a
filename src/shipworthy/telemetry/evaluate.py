"""What an expression is worth at a time, from what this process has kept: as Prometheus shows it.

Pure. A sample is the present one for five minutes, unless a later snapshot has none. A window is
open at its start, as in Prometheus 3. What grew in it is in `growth`.

A value that is no number (0 of 0) is no sample here: nobody can draw it, and no comparison but
`!=` is true of it.
"""

import operator
from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import isfinite
from typing import Final, assert_never

from shipworthy.events import (
    CALCULATIONS,
    COMPARISONS,
    FOLDS,
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
    Selection,
    Unless,
    Value,
    Within,
    kept_apart_by,
)
from shipworthy.telemetry.growth import grown, quantile
from shipworthy.telemetry.history import History, Kept, Labels, Remembered

WINDOW_SECONDS: Final = 300.0

Values = dict[Labels, float]
Grown = dict[Labels, list[float]]


def evaluate(
    of: Expression, past: Remembered, at: float, window_seconds: float = WINDOW_SECONDS
) -> Values:
    """Return the value of each label set, by label values in the order of `kept_apart_by`.

    `window_seconds` is that of the rates which name none.
    """
    match of:
        case Number():
            return {(): of.value}
        case Value():
            return _present(of.of, past, at)
        case Age():
            wall = at + past.reaching(0.0).offset_seconds
            return {labels: wall - then for labels, then in _present(of.of, past, at).items()}
        case Combined():
            return _combined(of, past, at, window_seconds)
        case _:
            seconds = of.over_seconds or window_seconds
            return dict(_over(of, seconds, _grown(of.of, past, at, seconds, _wanted(of))))


def _over(
    of: Rate | Increase | Mean | Within | Quantile, seconds: float, growth: Grown
) -> Iterator[tuple[Labels, float]]:
    """Yield what is made of the growth in a window, by label set."""
    for labels, numbers in growth.items():
        match of:
            case Rate() | Within():
                yield labels, numbers[0] / seconds
            case Increase():
                yield labels, numbers[0]
            case Mean() if numbers[0]:
                yield labels, numbers[1] / numbers[0]
            case Quantile() if numbers[-2] > 0:
                yield labels, quantile(of.share_ratio, of.of.metric.buckets, numbers[:-1])


def _wanted(of: Rate | Increase | Mean | Within | Quantile) -> tuple[int, ...] | None:
    """Return which numbers of a label set are needed, None for all; the rest costs time."""
    match of:
        case Rate() | Increase():
            return (-2,) if of.of.metric.kind == "histogram" else (0,)
        case Within():
            return (of.of.metric.buckets.index(of.bound),)
        case Mean():
            return (-2, -1)
        case _:
            return None


def holds(
    condition: Condition, past: Remembered, at: float, window_seconds: float = WINDOW_SECONDS
) -> Values:
    """Return the label sets for which `condition` holds, each with the value that was compared."""
    match condition:
        case Compared():
            return _compared(condition, past, at, window_seconds)
        case Absent():
            asked = past.reaching(0.0).present(at) is not None
            return {(): 1.0} if asked and not _present(condition.of, past, at) else {}
        case Both() | Unless():
            first = holds(condition.first, past, at, window_seconds)
            second = holds(condition.second, past, at, window_seconds)
            ours, theirs = (
                kept_apart_by(condition.first) or (),
                kept_apart_by(condition.second) or (),
            )
            on = theirs if condition.on is None else condition.on
            matching = {_picked(theirs, labels, on) for labels in second}
            wanted = isinstance(condition, Both)
            return {
                labels: value
                for labels, value in first.items()
                if (_picked(ours, labels, on) in matching) is wanted
            }
        case _:
            assert_never(condition)


def widened(of: Expression, least_seconds: float) -> Expression:
    """Return the expression with no window below that, for a history of points that far apart.

    An increase stays one of its own window: as much as grew in that time on the average.
    """
    match of:
        case Combined():
            left, right = widened(of.left, least_seconds), widened(of.right, least_seconds)
            return replace(of, left=left, right=right)
        case Increase() if of.over_seconds and of.over_seconds < least_seconds:
            return Combined(Rate(of.of, least_seconds), "*", Number(of.over_seconds))
        case Rate() | Mean() | Within() | Quantile():
            short = bool(of.over_seconds and of.over_seconds < least_seconds)
            return replace(of, over_seconds=least_seconds) if short else of
        case _:
            return of


def _grown(
    of: Selection,
    past: Remembered,
    at: float,
    seconds: float,
    only: tuple[int, ...] | None,
) -> Grown:
    """Return the growth in the window by label set, summed over the other labels."""
    history = past.reaching(seconds)
    buckets = of.metric.kind == "histogram"
    found: Grown = {}
    for labels, kept in _selected(of, history):
        numbers = grown(kept, history, at - seconds, at, buckets=buckets, only=only)
        if numbers:
            known = found.get(labels)
            if known is not None:
                numbers = list(map(operator.add, known, numbers))
            found[labels] = numbers
    return found


def _present(of: Selection, past: Remembered, at: float) -> Values:
    history = past.reaching(0.0)
    snapshot = history.present(at)
    if snapshot is None:
        return {}
    fold = FOLDS[of.metric.fold]
    found: Values = {}
    for labels, kept in _selected(of, history):
        row = kept.row(snapshot)
        if row is not None:
            found[labels] = fold(found[labels], row[0]) if labels in found else row[0]
    return found


def _selected(of: Selection, history: History) -> Iterator[tuple[Labels, Kept]]:
    """Yield the label sets that are meant, by the labels that keep them apart."""
    names = tuple(of.metric.labels)
    if history.shape(of.metric.name) != (of.metric.kind, names, of.metric.buckets):
        return  # never seen, or a service of another version counts something else by this name
    by = [names.index(name) for name in of.by]
    where = [(names.index(name), _texts(wanted)) for name, wanted in of.where.items()]
    unless = [(names.index(name), _texts(wanted)) for name, wanted in of.unless.items()]
    for labels, kept in history.kept(of.metric.name).items():
        if all(labels[i] in wanted for i, wanted in where) and not any(
            labels[i] in unwanted for i, unwanted in unless
        ):
            yield tuple(labels[i] for i in by), kept


def _texts(wanted: str | tuple[str, ...]) -> tuple[str, ...]:
    return (wanted,) if isinstance(wanted, str) else wanted


def _combined(of: Combined, past: Remembered, at: float, window_seconds: float) -> Values:
    pairs = _paired(of.left, of.right, past, at, window_seconds, absent_zero=of.absent_zero)
    work = CALCULATIONS[of.operator]
    found = {
        labels: work(left, right) for labels, left, right in pairs if of.operator != "/" or right
    }
    return {labels: value for labels, value in found.items() if isfinite(value)}


def _compared(of: Compared, past: Remembered, at: float, window_seconds: float) -> Values:
    pairs = _paired(of.left, of.right, past, at, window_seconds, absent_zero=False)
    is_so = COMPARISONS[of.operator]
    return {labels: left for labels, left, right in pairs if is_so(left, right)}


def _paired(
    left: Expression,
    right: Expression,
    past: Remembered,
    at: float,
    window_seconds: float,
    *,
    absent_zero: bool,
) -> Iterable[tuple[Labels, float, float]]:
    """Yield both sides of each label set that both have, or one where absence counts as 0."""
    ours = evaluate(left, past, at, window_seconds)
    theirs = evaluate(right, past, at, window_seconds)
    if (fixed := _scalar(right)) is not None:
        return ((labels, value, fixed) for labels, value in ours.items())
    if (fixed := _scalar(left)) is not None:
        return ((labels, fixed, value) for labels, value in theirs.items())
    if absent_zero:
        every = dict.fromkeys((*ours, *theirs))
        return ((labels, ours.get(labels, 0.0), theirs.get(labels, 0.0)) for labels in every)
    return ((labels, ours[labels], theirs[labels]) for labels in ours if labels in theirs)


def _picked(names: Labels, labels: Labels, wanted: Labels) -> Labels:
    return tuple(labels[names.index(name)] for name in wanted)


def _scalar(of: Expression) -> float | None:
    """Return what is the same for every label set, if `of` is such a value."""
    match of:
        case Number():
            return of.value
        case Combined():
            left, right = _scalar(of.left), _scalar(of.right)
            if left is None or right is None or (of.operator == "/" and not right):
                return None
            return CALCULATIONS[of.operator](left, right)
        case _:
            return None
