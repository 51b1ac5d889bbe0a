"""From a behaviour that lets an alert fire to series that promtool plays. Pure.

The series are well, then as bad as the condition asks, then well again, each for long enough that
every window holds nothing else.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, inf
from typing import Final, final

from shipworthy.deploy.alarm import Scenario
from shipworthy.deploy.promql import bucket_texts, quoted
from shipworthy.deploy.steady import (
    Behaviours,
    SteadySeries,
    World,
    behaviours,
    held_labels,
    typical,
)
from shipworthy.deploy.windows import windows_seconds
from shipworthy.events import Age, Condition, Metric, Quantile, Within, parts

# Steps that a state lasts where no window makes it longer.
_STEPS: Final = 10
# Samples that the shortest window holds.
_SAMPLES_IN_WINDOW: Final = 6
# Samples of which a recorded sum is made.
_SAMPLES_IN_SUM: Final = 3
# Steps of well-being that are enough at first: nothing is counted for what was before.
_WELL_STEPS: Final = 300
# Below the five minutes after which Prometheus forgets a sample.
_SLOWEST_SECONDS: Final = 240.0
_USUAL_SECONDS: Final = 15.0

# A state of the service and for how many steps it lasts.
_Phase = tuple[int, World]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """What stands between a condition and its alert: how long it must hold, and is held on to."""

    for_seconds: float
    keep_seconds: float
    default_window_seconds: float
    # Set where windows are added up from recorded sums: rules are evaluated just so often.
    recorded_every_seconds: float = 0.0


def scenarios(
    when: Condition, waits: Waits, *, service: Mapping[str, str], apart: Sequence[str]
) -> tuple[Scenario, ...]:
    """Return what shows that an alert fires, recovers, and needs every part of its condition.

    `service` are the labels of the scraped instance, of which the alert keeps `apart`. Raises
    `Untestable` where no such behaviour is found.
    """
    found = behaviours(when, waits.default_window_seconds)
    windows = windows_seconds(when, waits.default_window_seconds)
    shortest = min(windows, default=inf)
    interval = min(_SLOWEST_SECONDS, shortest / _SAMPLES_IN_WINDOW)
    if shortest == inf:
        interval = min(_USUAL_SECONDS, waits.for_seconds / 4 or _USUAL_SECONDS)
    # Whole milliseconds, for Prometheus knows no less.
    interval = max(round(interval, 3), 0.001)
    if waits.recorded_every_seconds:
        interval = waits.recorded_every_seconds / _SAMPLES_IN_SUM
    stage = _Stage(
        interval=interval,
        evaluation_seconds=waits.recorded_every_seconds or interval,
        window_steps=ceil(max(windows, default=0.0) / interval),
        bounds=_bounds(when),
        ages=frozenset(part.of.metric for part in parts(when) if isinstance(part, Age)),
        service=service,
    )
    return tuple(_scenarios(when, waits, found, stage, apart))


def _scenarios(
    when: Condition, waits: Waits, found: Behaviours, stage: "_Stage", apart: Sequence[str]
) -> Iterator[Scenario]:
    calm, *others = found.silent
    hold = ceil(waits.for_seconds / stage.interval)
    well = min(stage.window_steps, _WELL_STEPS) + _STEPS
    # Twice it must be evaluated after it began to hold, and a wait ends with an evaluation.
    evaluations = 3 * ceil(stage.evaluation_seconds / stage.interval)
    bad = stage.window_steps + hold + _STEPS + evaluations
    again = stage.window_steps + ceil(waits.keep_seconds / stage.interval) + _STEPS + evaluations
    labels = held_labels(when, found.firing, waits.default_window_seconds)
    firing = {**{name: stage.service[name] for name in apart}, **labels}
    checks: list[tuple[int, tuple[Mapping[str, str], ...]]] = [(well - 1, ())]
    if hold > 1:
        checks.append((well + hold // 2, ()))
    checks += [(well + bad - 1, (firing,)), (well + bad + again - 1, ())]
    yield stage.played(
        "it fires, and recovers", [(well, calm), (bad, found.firing), (again, calm)], checks
    )
    for number, world in enumerate(others, 2):
        yield stage.played(
            f"it stays silent where part {number} of its condition does not hold",
            [(well + hold, world)],
            [(well + hold - 1, ())],
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    interval: float
    evaluation_seconds: float
    window_steps: int
    bounds: Mapping[Metric, tuple[float, ...]]
    ages: frozenset[Metric]
    service: Mapping[str, str]

    def played(
        self,
        about: str,
        phases: Sequence[_Phase],
        checks: Sequence[tuple[int, tuple[Mapping[str, str], ...]]],
    ) -> Scenario:
        steps = sum(count for count, _ in phases)
        return Scenario(
            about=about,
            interval_seconds=self.interval,
            evaluation_seconds=self.evaluation_seconds,
            series=((series_text("up", self.service), f"1+0x{steps}"), *self._series(phases)),
            # When rules have just been evaluated: what fires is seen for five minutes only.
            checks=tuple(
                (
                    floor(step * self.interval / self.evaluation_seconds + 1e-6)
                    * self.evaluation_seconds,
                    fired,
                )
                for step, fired in checks
            ),
        )

    def _series(self, phases: Sequence[_Phase]) -> Iterator[tuple[str, str]]:
        lines = {line: [(steps, world[line]) for steps, world in phases] for line in phases[0][1]}
        for line, levels in lines.items():
            labels = {**dict(line.labels), **self.service}
            metric = line.metric
            if metric.kind == "gauge":
                moves = self.interval if metric in self.ages else 0.0
                yield series_text(metric.name, labels), _levels(levels, moves)
            elif metric.kind == "counter":
                yield series_text(metric.name, labels), self._growing(levels)
            elif not line.slow:
                slow = lines[SteadySeries(metric, line.labels, slow=True)]
                yield from self._histogram(metric, labels, levels, slow, line)

    def _histogram(
        self,
        metric: Metric,
        labels: Mapping[str, str],
        fast: Sequence[tuple[int, float | None]],
        slow: Sequence[tuple[int, float | None]],
        line: SteadySeries,
    ) -> Iterator[tuple[str, str]]:
        slow_line = SteadySeries(metric, line.labels, slow=True)
        below: list[tuple[int, float | None]] = []
        every: list[tuple[int, float | None]] = []
        sums: list[tuple[int, float | None]] = []
        for (steps, one), (_, other) in zip(fast, slow, strict=True):
            there = one is not None or other is not None
            below.append((steps, (one or 0.0) if there else None))
            every.append((steps, (one or 0.0) + (other or 0.0) if there else None))
            total = (one or 0.0) * typical(line) + (other or 0.0) * typical(slow_line)
            sums.append((steps, total if there else None))
        for bound in self.bounds.get(metric, ()):
            le = {**labels, "le": bucket_texts(bound)[0]}
            yield series_text(f"{metric.name}_bucket", le), self._growing(below)
        yield series_text(f"{metric.name}_bucket", {**labels, "le": "+Inf"}), self._growing(every)
        yield series_text(f"{metric.name}_count", labels), self._growing(every)
        yield series_text(f"{metric.name}_sum", labels), self._growing(sums)

    def _growing(self, levels: Sequence[tuple[int, float | None]]) -> str:
        """Write a counter that grows by so much a second in each phase."""
        written, total, there = [], 0.0, False
        for steps, level in levels:
            if level is None:
                written.append(_missing(steps, was_there=there))
            else:
                step = level * self.interval
                written.append(f"{_number(total)}+{_number(step)}x{steps - 1}")
                total += step * steps
            there = level is not None
        return " ".join(written)


def _bounds(when: Condition) -> dict[Metric, tuple[float, ...]]:
    """Return the buckets of each histogram that a condition asks for, for the rest costs time."""
    found: dict[Metric, set[float]] = {}
    for part in parts(when):
        if isinstance(part, Quantile):
            found.setdefault(part.of.metric, set()).update(part.of.metric.buckets)
        elif isinstance(part, Within):
            found.setdefault(part.of.metric, set()).add(part.bound)
    return {metric: tuple(sorted(bounds)) for metric, bounds in found.items()}


def _levels(levels: Sequence[tuple[int, float | None]], moves: float) -> str:
    """Write a gauge; one that gives a time moves with it, so many seconds behind."""
    written, passed, there = [], 0, False
    for steps, level in levels:
        if level is None:
            written.append(_missing(steps, was_there=there))
        else:
            first = passed * moves - level if moves else level
            written.append(f"{_number(first)}+{_number(moves)}x{steps - 1}")
        passed += steps
        there = level is not None
    return " ".join(written)


def _missing(steps: int, *, was_there: bool) -> str:
    # Without a mark the last sample would count for five minutes more.
    return f"stale _x{steps - 1}" if was_there else f"_x{steps}"


def _number(value: float) -> str:
    # promtool's notation takes no exponent with a sign.
    return f"{value:.9f}".rstrip("0").rstrip(".") or "0"


def series_text(name: str, labels: Mapping[str, str]) -> str:
    """Write a series as PromQL selects it, its labels in order of their names."""
    inner = ",".join(f"{label}={quoted(labels[label])}" for label in sorted(labels))
    return f"{name}{{{inner}}}"
