"""Expressions and conditions of the catalogue as PromQL. Pure.

What is easy to get wrong in PromQL is decided here, once:

- a counter is read by `rate` or `increase` before it is summed, so that a restart is no fall;
- what has not failed yet has no series of failures: with `absent_zero` that counts as 0;
- a division by 0, and a quantile of no observation, give no sample rather than NaN, which is
  unequal to every number;
- a quantile keeps `le` until the buckets of all processes are added up;
- gauges are folded over instances as their metric says, as the workers of one instance are;
- a window of days is added up from sums that are recorded, not read from every series;
- `by`, `and` and `unless` keep the labels that tell services and instances apart.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, final

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
    Selection,
    Unless,
    Value,
    Within,
    kept_apart_by,
)

_DURATIONS: Final = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class KeptSums:
    """Sums that Prometheus records, because a window of days over every series is too much to read.

    What was counted is recorded each `every_seconds`, for the series that `matching` selects and
    by the labels `apart`; windows of `from_seconds` and more add that up.
    """

    every_seconds: float
    from_seconds: float
    matching: str
    apart: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Whose series are meant: matchers for every selector, and labels that are kept apart.

    `matching` is PromQL between braces, as `job="shop"`. Without `sums`, each window is read from
    the series themselves.
    """

    matching: str = ""
    apart: tuple[str, ...] = ()
    sums: KeptSums | None = None


@final
@dataclass(frozen=True, slots=True, order=True)
class Recording:
    """A recording rule: how often, what name and label `selection` it has, and its expression."""

    every_seconds: float
    record: str
    selection: str
    expr: str


_ANYBODY: Final = Scope()


def promql(of: Expression | Condition, *, window: str = "", scope: Scope = _ANYBODY) -> str:
    """Return the PromQL of an expression or a condition.

    `window` is that of rates which name none. Raises `ValueError` where it is needed and not given,
    for a division by 0, and for the age of a gauge that is summed up.
    """
    return _Writer(window, scope, set()).text(of)


def recordings(
    of: Expression | Condition, *, window: str = "", scope: Scope = _ANYBODY
) -> tuple[Recording, ...]:
    """Return the recording rules that the PromQL of the same relies on; raises as `promql`."""
    writer = _Writer(window, scope, set())
    writer.text(of)
    return tuple(sorted(writer.recordings))


def bucket_texts(bound: float) -> tuple[str, ...]:
    """Return how the `le` of a bucket may be written: as we expose it, and as Prometheus keeps it.

    Since version 3 Prometheus writes bounds its own way, and a million is 1e+06 there.
    """
    ours = repr(float(bound))
    whole, _, rest = ours.partition(".")
    if "e" in ours or len(whole.lstrip("-")) <= 6:
        return (ours,)
    sign = "-" if bound < 0 else ""
    whole = whole.lstrip("-")
    digits = f"{whole}{rest}".rstrip("0")
    mantissa = f"{digits[0]}.{digits[1:]}" if len(digits) > 1 else digits
    return ours, f"{sign}{mantissa}e+{len(whole) - 1:02d}"


def quoted(text: str) -> str:
    """Write a text as PromQL does, in double quotes."""
    # Every escape of JSON means the same there; characters beyond ASCII stay as they are.
    return json.dumps(text, ensure_ascii=False)


def range_text(seconds: float) -> str:
    """Write a window or a wait in PromQL's units: 90 s is `90s`, an hour `1h`.

    Raises `ValueError` for less than a millisecond, which Prometheus does not know.
    """
    milliseconds = round(seconds * 1000)
    if milliseconds < 1:
        raise ValueError(f"{seconds:g} s is less than a millisecond")
    return next(
        f"{milliseconds // size}{unit}" for unit, size in _DURATIONS if milliseconds % size == 0
    )


def number_text(value: float) -> str:
    """Write a number so that PromQL reads the same number."""
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return repr(value)


@final
@dataclass(frozen=True, slots=True)
class _Writer:
    window: str
    scope: Scope
    # Filled while a text is written.
    recordings: set[Recording]

    def text(self, of: Expression | Condition) -> str:
        match of:
            case Compared() | Both() | Unless() | Absent():
                return self._condition(of)
            case Combined():
                return self._combined(of)
            case Number():
                return number_text(of.value)
            case Value():
                return self._value(of.of)
            case Age():
                return self._age(of.of)
            case _:
                return self._counted(of)

    def _counted(self, of: Rate | Increase | Quantile | Mean | Within) -> str:
        selection, seconds = of.of, of.over_seconds
        counter = selection.metric.kind == "counter"
        match of:
            case Rate() | Increase():
                kind = "rate" if isinstance(of, Rate) else "increase"
                return self._grown(selection, "" if counter else "_count", seconds, kind=kind)
            case Within():
                return self._grown(selection, "_bucket", seconds, extra=_le(of))
            case Mean():
                total = self._grown(selection, "_sum", seconds)
                return f"{total} / ({self._grown(selection, '_count', seconds)} > 0)"
            case _:
                buckets = self._grown(selection, "_bucket", seconds, also=("le",))
                return f"histogram_quantile({number_text(of.share_ratio)}, {buckets})"

    def _grown(
        self,
        selection: Selection,
        suffix: str,
        seconds: float | None,
        *,
        kind: str = "rate",
        also: tuple[str, ...] = (),
        extra: str = "",
    ) -> str:
        window = self.window if seconds is None else range_text(seconds)
        if not window:
            raise ValueError(f"the window of a {kind} of {selection.metric.name} is not given")
        sums = self.scope.sums
        if sums and seconds is not None and seconds >= sums.from_seconds and not also:
            total = self._added_up(selection, suffix, extra, sums, window)
            return total if kind == "increase" else f"({total} / {number_text(seconds)})"
        series = self._series(selection, suffix, extra)
        return f"{self._by('sum', selection, also)} ({kind}({series}[{window}]))"

    def _added_up(
        self, selection: Selection, suffix: str, extra: str, sums: KeptSums, window: str
    ) -> str:
        every = range_text(sums.every_seconds)
        asked = ", ".join([*_matchers(selection), *filter(None, [extra])])
        series = _braced(f"{selection.metric.name}{suffix}", sums.matching, asked)
        by = [*sums.apart, *selection.by]
        recording = Recording(
            every_seconds=sums.every_seconds,
            record=f"{'_'.join(by) or 'all'}:{selection.metric.name}{suffix}:increase{every}",
            selection=asked or "all",
            expr=f"{_grouped('sum', by)} (increase({series}[{every}]))",
        )
        self.recordings.add(recording)
        chosen = f"selection={quoted(recording.selection)}"
        kept = _braced(recording.record, sums.matching, chosen)
        return f"{self._by('sum', selection)} (sum_over_time({kept}[{window}]))"

    def _value(self, selection: Selection) -> str:
        return f"{self._by(selection.metric.fold, selection)} ({self._series(selection)})"

    def _age(self, selection: Selection) -> str:
        metric = selection.metric
        if metric.fold == "sum":
            raise ValueError(
                f"{metric.name} is summed up, and times are not: fold it by max or min"
            )
        return f"time() - {self._value(selection)}"

    def _combined(self, of: Combined) -> str:
        left, right = self._operand(of.left), self._operand(of.right)
        alone = None in (kept_apart_by(of.left), kept_apart_by(of.right))
        whole, part = right, left
        if of.absent_zero and not alone:
            part = f"({left} or {right} * 0)"
            if of.operator != "/":
                whole = f"({right} or {left} * 0)"
        if of.operator == "/":
            if isinstance(of.right, Number):
                if of.right.value == 0:
                    raise ValueError("a division by 0 gives no sample, ever")
            elif kept_apart_by(of.right) is not None:
                whole = f"({right} != 0)"
        return f"{part} {of.operator} {whole}"

    def _condition(self, of: Condition) -> str:
        match of:
            case Compared():
                return f"{self._operand(of.left)} {of.operator} {self._operand(of.right)}"
            case Absent():
                return self._absent(of.of)
            case _:
                word = "and" if isinstance(of, Both) else "unless"
                on = ""
                if of.on is not None:
                    on = f" on ({', '.join([*self.scope.apart, *of.on])})"
                return f"({self.text(of.first)}) {word}{on} ({self.text(of.second)})"

    def _absent(self, selection: Selection) -> str:
        suffix = "_count" if selection.metric.kind == "histogram" else ""
        series = self._series(selection, suffix)
        if not self.scope.apart:
            return f"absent({series})"
        # Not `absent`: it forgets which instance it was, and a service that is not there at all
        # is not one whose metric is missing.
        apart = ", ".join(self.scope.apart)
        matching = f"{{{self.scope.matching}}}" if self.scope.matching else ""
        return f"(max by ({apart}) (up{matching}) == 1) unless on ({apart}) {series}"

    def _operand(self, of: Expression) -> str:
        text = self.text(of)
        match of:
            case Quantile():
                # Of no observation it is NaN, which is compared and calculated with.
                return f"({text} >= -Inf)"
            case Number():
                return text if of.value >= 0 else f"({text})"
            case Mean() | Age() | Combined():
                return f"({text})"
            case _:
                return text

    def _by(self, fold: str, selection: Selection, also: tuple[str, ...] = ()) -> str:
        return _grouped(fold, [*also, *self.scope.apart, *selection.by])

    def _series(self, selection: Selection, suffix: str = "", extra: str = "") -> str:
        name = f"{selection.metric.name}{suffix}"
        return _braced(name, self.scope.matching, *_matchers(selection), extra)


def _grouped(fold: str, by: Sequence[str]) -> str:
    return f"{fold} by ({', '.join(by)})" if by else fold


def _braced(name: str, *matchers: str) -> str:
    inner = ", ".join(filter(None, matchers))
    return f"{name}{{{inner}}}" if inner else name


def _matchers(selection: Selection) -> Iterator[str]:
    for label, wanted in selection.where.items():
        yield _matcher(label, wanted, equal="=", alike="=~")
    for label, wanted in selection.unless.items():
        yield _matcher(label, wanted, equal="!=", alike="!~")


def _matcher(label: str, wanted: str | tuple[str, ...], *, equal: str, alike: str) -> str:
    if isinstance(wanted, str):
        return f"{label}{equal}{quoted(wanted)}"
    return f"{label}{alike}{quoted('|'.join(map(re.escape, wanted)))}"


def _le(of: Within) -> str:
    texts = bucket_texts(of.bound)
    return _matcher("le", texts if len(texts) > 1 else texts[0], equal="=", alike="=~")
