"""How much counts grew in a window, and where in a histogram a share of them lies.

Pure. As Prometheus has it: the growth between the samples is extrapolated to the ends of the
window, unless the samples end well before them; a count that fell began anew.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from shipworthy.telemetry.history import History, Kept

# A gap between the samples and an end of the window that is longer than this many intervals is one
# in which there was nothing.
_GAP_INTERVALS: Final = 1.1


def quantile(share_ratio: float, bounds: Sequence[float], cumulated: Sequence[float]) -> float:
    """Return the value that `share_ratio` of the observations do not pass, linear in its bucket.

    `cumulated` has a count for each of the ascending `bounds` and one, which is not 0, for all.
    What is beyond the last bound is taken for that bound.
    """
    # Counts that were extrapolated one by one need not ascend.
    counts = list(accumulate(cumulated, max))
    rank = share_ratio * counts[-1]
    index = next((i for i, count in enumerate(counts[:-1]) if count >= rank), len(bounds))
    if index == len(bounds):
        return bounds[-1]
    if index == 0:
        start, below = 0.0, 0.0
        if bounds[0] <= 0:
            return bounds[0]
    else:
        start, below = bounds[index - 1], counts[index - 1]
    return start + (bounds[index] - start) * (rank - below) / (counts[index] - below)


def grown(
    kept: Kept,
    history: History,
    start: float,
    end: float,
    *,
    buckets: bool,
    only: Sequence[int] | None = None,
) -> list[float]:
    """Return by how much each number of a label set grew in the window; empty where unknown.

    With `buckets` the counts are cumulated over them, and the sum of the observations comes last.
    `only` are the places of the numbers that are wanted.
    """
    first, last = history.between(start, end)
    if first >= last:
        return []
    if kept.is_smooth(first, last):
        samples = last - first + 1
        began = _picked(kept.row(first) or (), only, buckets=buckets)
        ended = _picked(kept.row(last) or (), only, buckets=buckets)
        differences = [now - then for now, then in zip(ended, began, strict=True)]
    else:
        samples, began, differences, first, last = _walked(
            kept, history, first, last, only, buckets=buckets
        )
    if samples < 2:
        return []
    at_first, at_last = history.time(first), history.time(last)
    sampled = at_last - at_first
    interval = sampled / (samples - 1)
    before, after = at_first - start, end - at_last
    after = after if after < interval * _GAP_INTERVALS else interval / 2
    return [
        difference
        and difference
        * (sampled + _reach(before, interval, sampled, value, difference) + after)
        / sampled
        for value, difference in zip(began, differences, strict=True)
    ]


def _reach(before: float, interval: float, sampled: float, value: float, grew: float) -> float:
    """Return how far a count is extrapolated before its first sample: not to below 0."""
    if grew > 0 and value >= 0:
        before = min(before, sampled * value / grew)
    return before if before < interval * _GAP_INTERVALS else interval / 2


def _walked(
    kept: Kept,
    history: History,
    first: int,
    last: int,
    only: Sequence[int] | None,
    *,
    buckets: bool,
) -> tuple[int, list[float], list[float], int, int]:
    """Add up the growth piece by piece, over falls and gaps."""
    samples = 0
    began: list[float] = []
    before: list[float] = []
    differences: list[float] = []
    for since, until, raw in kept.rows(first, last):
        if raw is None:
            continue
        row = _picked(raw, only, buckets=buckets)
        if not samples:
            began, differences, first = row, [0.0] * len(row), since
        else:
            anew = history.began_anew(last, since)
            differences = [
                grew + (now if anew or now < then else now - then)
                for grew, now, then in zip(differences, row, before, strict=True)
            ]
        samples += until - since + 1
        before, last = row, until
    return samples, began, differences, first, last


def _picked(raw: Sequence[float], only: Sequence[int] | None, *, buckets: bool) -> list[float]:
    row = [*accumulate(raw[:-1]), raw[-1]] if buckets else [*raw]
    return row if only is None else [row[place] for place in only]
