"""Which constant behaviour of a service makes a condition hold, and which just does not. Pure.

A test of an alert needs input that lets it fire and input that must not. Both are found by trying
simple behaviours, simplest first: so much a second, such a level, observations fast or slow. What
cannot be found is no alert that could fire, or one that could not be silent: that is said.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice, product
from typing import Final, final

from shipworthy.deploy.windows import windows_seconds
from shipworthy.errors import ShipworthyError
from shipworthy.events import (
    CALCULATIONS,
    COMPARISONS,
    FOLDS,
    Absent,
    Both,
    Combined,
    Compared,
    Condition,
    Expression,
    Increase,
    Mean,
    Metric,
    Number,
    OneOf,
    Quantile,
    Selection,
    Unless,
    Within,
    parts,
    selections,
)

Atom = Compared | Absent
_LabelSet = frozenset[tuple[str, str]]
Samples = dict[_LabelSet, float]

# How many behaviours are tried before an alert counts as one that cannot be tested.
_TRIES: Final = 150_000
# After so many, what was found is taken.
_ENOUGH: Final = 1500
# A comparison must be this clear, because Prometheus extrapolates to the ends of a window.
_CLEAR_RATIO: Final = 0.05
_PLAIN: Final = (0.0, 1.0, 10.0, 100.0, 0.01)


class Untestable(ShipworthyError):
    """No behaviour was found for which an alert fires, or none for which it stays silent."""


@final
@dataclass(frozen=True, slots=True)
class SteadySeries:
    """One series of a metric. Of a histogram, its `slow` or its fast observations."""

    metric: Metric
    labels: tuple[tuple[str, str], ...]
    slow: bool = False

    def matches(self, selection: Selection) -> bool:
        """Say whether a selection takes this series in."""
        labels = dict(self.labels)
        return (
            selection.metric == self.metric
            and all(labels[name] in _texts(wanted) for name, wanted in selection.where.items())
            and not any(labels[name] in _texts(not_) for name, not_ in selection.unless.items())
        )


# What each series does all the time: a counter and a histogram grow by so much a second, a gauge
# is at a level, a gauge that gives a time is so many seconds old; None is not there.
World = Mapping[SteadySeries, float | None]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviours:
    """`firing` lets a condition hold; in each of `silent` one thing is missing for it to."""

    firing: World
    silent: tuple[World, ...]


def behaviours(when: Condition, default_window_seconds: float) -> Behaviours:
    """Return behaviours for which a condition holds and does not hold.

    Raises `Untestable` where it never holds, always holds, or asks more than is known here.
    """
    atoms = tuple(_atoms(when))
    lines = tuple(_lines(when))
    levels = [_levels(line, when, default_window_seconds) for line in lines]
    found: dict[tuple[bool, ...], World] = {}
    for tried, choice in enumerate(islice(_simplest_first(levels), _TRIES)):
        world = dict(zip(lines, choice, strict=True))
        truth = _truth(atoms, world, default_window_seconds)
        # Where something happens in every series, silence says more than where nothing does.
        if truth is not None and (truth not in found or _busy(world) > _busy(found[truth])):
            found[truth] = world
        if tried >= _ENOUGH and len({_holds(when, atoms, truth) for truth in found}) == 2:
            break
    held = [truth for truth in found if _holds(when, atoms, truth)]
    # With as much as possible of it true: each part is then seen to be needed.
    for firing in sorted(held, key=sum, reverse=True):
        silent = [
            found[flipped]
            for index in range(len(atoms))
            for flipped in [(*firing[:index], not firing[index], *firing[index + 1 :])]
            if flipped in found and not _holds(when, atoms, flipped)
        ]
        if silent:
            return Behaviours(firing=found[firing], silent=tuple(silent))
    what = "stays silent" if held else "it fires"
    raise Untestable(
        f"no behaviour of {', '.join(sorted({line.metric.name for line in lines}))} was found for "
        f"which {what}; {_TRIES} were tried at most"
    )


def held_labels(when: Condition, world: World, default_window_seconds: float) -> Mapping[str, str]:
    """Return the labels of the one label set for which a condition holds in a world."""
    first = next(_atoms(when))
    held = [] if isinstance(first, Absent) else _held(first, world, default_window_seconds)
    return dict(sorted(held[0])) if held else {}


def samples(  # noqa: PLR0911 - a line a kind
    of: Expression, world: World, default_window_seconds: float
) -> Samples:
    """Return what an expression is, label set by label set, when a world has long been so."""
    match of:
        case Number():
            return {frozenset(): of.value}
        case Combined():
            return _combined(of, world, default_window_seconds)
        case Quantile():
            return _quantiles(of, world)
        case Mean():
            count = _summed(of.of, world)
            total = _summed(of.of, world, weight=typical)
            return {key: total[key] / count[key] for key in count if count[key]}
        case Within():
            return _summed(of.of, world, weight=lambda line: float(typical(line) <= of.bound))
        case Increase():
            window = of.over_seconds or default_window_seconds
            return {key: value * window for key, value in _summed(of.of, world).items()}
        case _:
            return _summed(of.of, world)


def _summed(
    selection: Selection, world: World, weight: Callable[[SteadySeries], float] | None = None
) -> Samples:
    fold = FOLDS[selection.metric.fold]
    found: Samples = {}
    for line, level in world.items():
        if level is None or not line.matches(selection):
            continue
        value = level if weight is None else level * weight(line)
        labels = dict(line.labels)
        key = frozenset((name, labels[name]) for name in selection.by)
        found[key] = fold(found[key], value) if key in found else value
    return found


def typical(line: SteadySeries) -> float:
    """Return the value of each observation of a line: half the first bucket, or twice the last."""
    buckets = line.metric.buckets
    return buckets[-1] * 2 if line.slow else buckets[0] / 2


def _quantiles(of: Quantile, world: World) -> Samples:
    buckets = of.of.metric.buckets
    every = _summed(of.of, world)
    fast = _summed(of.of, world, weight=lambda line: float(not line.slow))
    return {
        # Prometheus interpolates in the first bucket from 0, and knows no value beyond the last.
        key: buckets[0] * of.share_ratio * count / fast[key]
        if of.share_ratio * count <= fast[key]
        else buckets[-1]
        for key, count in every.items()
        if count
    }


def _combined(of: Combined, world: World, window_seconds: float) -> Samples:
    left, right = samples(of.left, world, window_seconds), samples(of.right, world, window_seconds)
    if isinstance(of.left, Number):
        left = dict.fromkeys(right, of.left.value)
    elif isinstance(of.right, Number):
        right = dict.fromkeys(left, of.right.value)
    elif of.absent_zero:
        left = dict.fromkeys(right, 0.0) | left
        right = dict.fromkeys(left, 0.0) | right
    return {
        key: CALCULATIONS[of.operator](left[key], right[key])
        for key in left
        if key in right and not (of.operator == "/" and right[key] == 0)
    }


def _busy(world: World) -> int:
    return sum(1 for level in world.values() if level)


def _truth(atoms: Sequence[Atom], world: World, window_seconds: float) -> tuple[bool, ...] | None:
    """Return which of the parts hold; None where one is too near to the line to be relied on."""
    found = []
    for atom in atoms:
        held = _atom_holds(atom, world, window_seconds)
        if held is None:
            return None
        found.append(held)
    return tuple(found)


def _atom_holds(atom: Atom, world: World, window_seconds: float) -> bool | None:
    if isinstance(atom, Absent):
        return not any(level is not None and line.matches(atom.of) for line, level in world.items())
    held = _held(atom, world, window_seconds)
    # Of several alerts at once nobody knows which one a test is about.
    return None if held is None or len(held) > 1 else bool(held)


def _held(atom: Compared, world: World, window_seconds: float) -> list[_LabelSet] | None:
    """Return the label sets for which a comparison holds; None where that is not clear."""
    left = samples(atom.left, world, window_seconds)
    right = samples(atom.right, world, window_seconds)
    if isinstance(atom.right, Number):
        right = dict.fromkeys(left, atom.right.value)
    held = []
    for key in [key for key in left if key in right]:
        apart, size = left[key] - right[key], max(abs(left[key]), abs(right[key]))
        exact = not apart and atom.operator in ("==", "!=")
        if abs(apart) < size * _CLEAR_RATIO and not exact:
            return None
        if COMPARISONS[atom.operator](left[key], right[key]):
            held.append(key)
    return held


def _holds(when: Condition, atoms: Sequence[Atom], truth: tuple[bool, ...]) -> bool:
    match when:
        case Both():
            return _holds(when.first, atoms, truth) and _holds(when.second, atoms, truth)
        case Unless():
            return _holds(when.first, atoms, truth) and not _holds(when.second, atoms, truth)
        case _:
            return truth[next(n for n, atom in enumerate(atoms) if atom is when)]


def _atoms(when: Condition) -> Iterator[Atom]:
    match when:
        case Both() | Unless():
            yield from _atoms(when.first)
            yield from _atoms(when.second)
        case _:
            yield when


def _lines(when: Condition) -> Iterator[SteadySeries]:
    """Yield a series for each selection, outside of the others where it can be."""
    wanted = list(selections(when))
    seen: set[SteadySeries] = set()
    for selection in wanted:
        others = [
            other for other in wanted if other.metric == selection.metric and other != selection
        ]
        labels = tuple(
            (name, _value_for(name, selection, others)) for name in selection.metric.labels
        )
        kinds = (False, True) if selection.metric.kind == "histogram" else (False,)
        for line in (SteadySeries(selection.metric, labels, slow=slow) for slow in kinds):
            if line not in seen:
                seen.add(line)
                yield line


def _value_for(name: str, selection: Selection, others: Sequence[Selection]) -> str:
    domain = selection.metric.labels[name]
    not_ = set(_texts(selection.unless.get(name, ())))
    if name in selection.where:
        able: Sequence[str] = _texts(selection.where[name])
    elif isinstance(domain, OneOf):
        able = domain.values
    else:
        able = ("main", "other", "third")
    able = [value for value in able if value not in not_]
    if not able:
        raise Untestable(f"{name} of {selection.metric.name} has no value that is not left out")
    taken = {text for other in others for text in _texts(other.where.get(name, ()))}
    # A value that is not asked for elsewhere, unless it is to be the same on both sides.
    return next((value for value in able if value not in taken), able[0])


def _levels(
    line: SteadySeries, when: Condition, default_window_seconds: float
) -> list[float | None]:
    """Return the levels to try for a series, the simplest first."""
    if line.slow and not any(isinstance(part, Quantile | Mean | Within) for part in parts(when)):
        # Nobody asks how long things take, so slow ones would only make for more to try.
        return [None]
    numbers = {abs(part.value) for part in parts(when) if isinstance(part, Number)} - {0.0}
    windows = {default_window_seconds, *windows_seconds(when, default_window_seconds)}
    found: list[float | None] = list(_PLAIN)
    for number in sorted(numbers):
        found += [number * 2, number / 2, number]
        if line.metric.kind != "gauge":
            found += [number * 2 / window for window in sorted(windows)]
            found += [number / 2 / window for window in sorted(windows)]
            # Just enough, where more is too much for another part: a drill's windows are short.
            found += [number * 1.25 / window for window in sorted(windows)]
    if any(isinstance(atom, Absent) and line.matches(atom.of) for atom in _atoms(when)):
        found.insert(0, None)
    return list(dict.fromkeys(found))


def _simplest_first(levels: Sequence[Sequence[float | None]]) -> Iterator[tuple[float | None, ...]]:
    """Yield every choice of a level for each series, those with early levels first."""
    most = max(map(len, levels))
    for depth in range(1, most + 1):
        # Those that use level `depth` for the first time: some series do, the others less.
        for size in range(1, len(levels) + 1):
            for at in combinations(range(len(levels)), size):
                if any(len(levels[index]) < depth for index in at):
                    continue
                yield from product(
                    *(
                        [level[depth - 1]] if index in at else level[: depth - 1]
                        for index, level in enumerate(levels)
                    )
                )


def _texts(wanted: str | tuple[str, ...]) -> tuple[str, ...]:
    return (wanted,) if isinstance(wanted, str) else wanted
