"""From what was written to the value of a setting, and back to what is shown. Pure."""

import math
import re
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from shipworthy.redact import redact
from shipworthy.settings.declare import Kind, Option, Secret
from shipworthy.units import format_duration, format_size, parse_duration, parse_size

_SWITCHES = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False}
_SWITCHES |= {"1": True, "0": False}
_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?")
_LARGEST = sys.float_info.max
_WHOLE = re.compile(r"[+-]?[0-9]{1,30}")


def from_toml(option: Option, raw: object) -> Any:  # noqa: PLR0911 - a line a kind
    """Return the value that a TOML value means; raises `ValueError` with what was expected."""
    match option.kind, raw:
        case ((Kind.DURATION | Kind.SIZE), int() | float()) if not isinstance(raw, bool):
            return from_text(option, str(raw))
        case ((Kind.DURATION | Kind.SIZE | Kind.CHOICE), str()):
            return from_text(option, raw)
        case (Kind.TEXT, str()) | (Kind.SWITCH, bool()):
            return raw
        case Kind.SECRET, str():
            return Secret(raw)
        case Kind.WHOLE, int() if not isinstance(raw, bool):
            return _bounded(option, raw)
        # Python's whole numbers have no end, a float does; NaN is not below it either.
        case Kind.NUMBER, int() | float() if not isinstance(raw, bool) and abs(raw) <= _LARGEST:
            return _bounded(option, float(raw))
        case Kind.TEXTS, list() if all(isinstance(one, str) for one in raw):
            return tuple(raw)
    raise _unexpected(option, raw)


def from_text(option: Option, text: str) -> Any:  # noqa: PLR0911 - a line a kind
    """Return the value that the text of a variable or of a flag means; raises `ValueError`."""
    match option.kind:
        case Kind.TEXT:
            return text
        case Kind.SECRET:
            return Secret(text)
        case Kind.DURATION:
            return _bounded(option, parse_duration(text))
        case Kind.SIZE:
            return _bounded(option, parse_size(text))
        case Kind.TEXTS:
            return tuple(one.strip() for one in text.split(",") if one.strip())
        case Kind.CHOICE if text in option.choices:
            return text
        case Kind.SWITCH if (switch := _SWITCHES.get(text.strip().lower())) is not None:
            return switch
        case Kind.WHOLE if _WHOLE.fullmatch(text.strip()):
            return _bounded(option, int(text))
        case Kind.NUMBER if _NUMBER.fullmatch(text.strip()):
            return _bounded(option, float(text))
    raise _unexpected(option, text)


def shown(option: Option, value: Any) -> str:
    """Write a value as it would be set in the environment; a secret only as whether it is set."""
    match option.kind:
        case Kind.DURATION:
            return format_duration(value)
        case Kind.SIZE:
            return format_size(value)
        case Kind.SWITCH:
            return "true" if value else "false"
        case Kind.TEXTS:
            return redact(", ".join(value))
        case _:
            return redact(str(value))


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` with the known name most like `word`, or nothing.

    The same last part in another section counts for more than letters in common.
    """
    names = {name.lower(): name for name in sorted(known)}
    word = word.lower()
    last = word.rpartition(".")[2]
    alike = (
        get_close_matches(word, names, n=1, cutoff=0.8)
        or [name for name in names if "." in name and name.rpartition(".")[2] == last][:3]
        or get_close_matches(word, names, n=1, cutoff=0.6)
        or [name for name in names if len(word) > 2 and name.startswith(word)][:1]
    )
    return f" (did you mean {' or '.join(repr(names[name]) for name in alike)}?)" if alike else ""


def _bounded(option: Option, value: Any) -> Any:
    low, high = option.minimum, option.maximum
    if not (-math.inf if low is None else low) <= value <= (math.inf if high is None else high):
        raise ValueError(f"expected {_expected(option)}, got {shown(option, value)}")
    return value


def _expected(option: Option) -> str:
    if option.kind is Kind.CHOICE:
        return f"one of {', '.join(option.choices)}"
    kind: str = option.kind.value
    low, high = (bound and shown(option, bound) for bound in (option.minimum, option.maximum))
    if low is not None and high is not None:
        return f"{kind} from {low} to {high}"
    if high is not None:
        return f"{kind} of at most {high}"
    return f"{kind} of at least {low}" if low else kind


def _unexpected(option: Option, raw: object) -> ValueError:
    hint = nearest(raw, option.choices) if isinstance(raw, str) else ""
    return ValueError(f"expected {_expected(option)}, got {_got(option, raw)}{hint}")


def _got(option: Option, raw: object) -> str:
    if option.kind is Kind.SECRET:
        # Even a secret of the wrong type is one.
        return f"a value of type {type(raw).__name__}"
    match raw:
        case bool():
            text = "true" if raw else "false"
        case str():
            text = repr(raw)
        case _:
            text = str(raw)
    text = redact(text)
    return text if len(text) <= 60 else f"{text[:60]}..."
