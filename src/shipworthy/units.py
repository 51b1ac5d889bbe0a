"""Quantities with their units, as people write them: "5s", "2MiB", "10/minute", and back.

A number without a unit is refused, because "30" is half a minute to one reader and 30 ms to the
next; 0 alone needs none. What `format_*` writes, `parse_*` reads back to exactly the same value.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import final

from shipworthy.errors import UnitInvalid

_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_BYTES = {
    "B": 1,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
}  # fmt: skip
_PERIODS = {"second": 1.0, "minute": 60.0, "hour": 3_600.0, "day": 86_400.0}

# Bounded, because Python takes quadratic time to read a number with many digits.
_QUANTITY = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,340}))? ?([A-Za-z]*)")
_LIMIT = 1e15


@final
@dataclass(frozen=True, slots=True)
class Frequency:
    """So many in so long: `Frequency(10, 60.0)` is ten a minute."""

    count: int
    per_seconds: float


def parse_duration(text: str) -> float:
    """Return the seconds that "250ms", "5s", "1.5h" or "0" mean; raises `UnitInvalid`."""
    whole, fraction, unit = _split(text, tuple(_MS), "length of time", "30s")
    # Division of integers is rounded once, so "0.1s" and "100ms" are both the float 0.1.
    shift: int = 10 ** len(fraction)
    return int(whole + fraction) * _MS[unit] / (1000 * shift)


def format_duration(seconds: float) -> str:
    """Write a length of time in the largest unit that keeps it whole: 90.0 is "90s", 0.25 "250ms".

    Raises `ValueError` for a negative one, and from 1e15 seconds on.
    """
    if not 0 <= seconds < _LIMIT:
        raise ValueError(f"no length of time: {seconds!r} seconds")
    if seconds == 0:
        return "0s"
    if seconds < 1:
        return f"{_plain(Decimal(repr(seconds)) * 1000)}ms"
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(seconds, _MS[unit] // 1000)
        if rest == 0:
            return f"{int(count)}{unit}"
    return f"{seconds!r}s"


def parse_size(text: str) -> int:
    """Return the bytes that "512B", "64KiB" or "10MB" mean; raises `UnitInvalid`."""
    whole, fraction, unit = _split(text, tuple(_BYTES), "size", "8MiB")
    shift: int = 10 ** len(fraction)
    size, rest = divmod(int(whole + fraction) * _BYTES[unit], shift)
    if rest:
        raise UnitInvalid(f"{text.strip()!r} is no whole number of bytes")
    return size


def format_size(size: int) -> str:
    """Write a number of bytes in the largest unit that keeps it whole: 2048 is "2KiB"."""
    for unit in ("TiB", "GiB", "MiB", "KiB", "TB", "GB", "MB", "KB"):
        count, rest = divmod(size, _BYTES[unit])
        if count > 0 and rest == 0:
            return f"{count}{unit}"
    return f"{size}B"


def parse_rate(text: str) -> Frequency:
    """Return what "10/minute" or "100/30s" means; raises `UnitInvalid`."""
    count, slash, period = (part.strip() for part in text.partition("/"))
    if not slash or not re.fullmatch("[0-9]{1,15}", count) or int(count) == 0:
        raise UnitInvalid(
            f"{_shown(text)} is no rate: write how many (at least 1) in how long, "
            f"as in 10/minute or 100/30s"
        )
    seconds = _PERIODS.get(period)
    if seconds is None:
        try:
            seconds = parse_duration(period)
        except UnitInvalid:
            seconds = 0.0
    if seconds == 0:
        raise UnitInvalid(
            f"{_shown(text)} has no known period: write {count}/second, {count}/minute, "
            f"{count}/hour, {count}/day, or a length of time as in {count}/30s"
        )
    return Frequency(int(count), seconds)


def format_rate(rate: Frequency) -> str:
    """Write a rate as "10/minute", or as "100/30s" where no word fits."""
    for word, seconds in _PERIODS.items():
        if rate.per_seconds == seconds:
            return f"{rate.count}/{word}"
    return f"{rate.count}/{format_duration(rate.per_seconds)}"


def _split(text: str, units: tuple[str, ...], noun: str, example: str) -> tuple[str, str, str]:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise UnitInvalid(
            f"{_shown(text)} is no {noun}: write a number and its unit, as in {example}"
        )
    whole, fraction, unit = match[1], match[2] or "", match[3]
    if not unit and not int(whole + fraction):
        return whole, fraction, units[0]
    if unit not in units:
        number = f"{whole}.{fraction}" if fraction else whole
        *most, last = (f"{number}{known}" for known in units)
        wrong = f"has an unknown unit {unit!r}" if unit else "has no unit"
        raise UnitInvalid(f"{_shown(text)} {wrong}: write {', '.join(most)} or {last}")
    return whole, fraction, unit


def _shown(text: str) -> str:
    text = text.strip()
    return repr(text if len(text) <= 40 else f"{text[:40]}...")


def _plain(number: Decimal) -> str:
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
