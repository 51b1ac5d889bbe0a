"""Snapshots of several processes as one Prometheus text, in either of its two formats. Pure."""

from collections import defaultdict
from collections.abc import Sequence
from enum import Enum
from itertools import accumulate
from typing import Final

from shipworthy.telemetry.snapshot import Exemplar, Series, Snapshot, folded


class Form(Enum):
    """A format of the text, by its media type."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    # It has exemplars and units, and says when it is whole.
    OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


EXPOSITION_TYPE: Final = Form.TEXT.value
# What a name may end in to have its unit said.
_UNITS: Final = ("seconds", "bytes", "ratio", "celsius", "cores")
# The kinds that the older format has no word for.
_OLDER: Final = {"unknown": "untyped"}


def negotiated(accept: str) -> Form:
    """Return the format that a scraper with this `Accept` header likes best, the older one if any.

    Nonsense counts as not said; a scraper that says nothing gets what every scraper reads.
    """
    best = dict.fromkeys(Form, 0.0)
    for one in accept.split(","):
        media, *parameters = (part.strip().lower() for part in one.split(";"))
        said = dict(part.split("=", 1) for part in parameters if "=" in part)
        try:
            weight = float(said.get("q", "1"))
        except ValueError:
            continue
        version = said.get("version", "")
        if media == "application/openmetrics-text" and version in ("", "1.0.0"):
            best[Form.OPEN_METRICS] = max(best[Form.OPEN_METRICS], weight)
        elif media in ("text/plain", "text/*", "*/*") and version in ("", "0.0.4"):
            best[Form.TEXT] = max(best[Form.TEXT], weight)
    liked = best[Form.OPEN_METRICS] > 0 and best[Form.OPEN_METRICS] >= best[Form.TEXT]
    return Form.OPEN_METRICS if liked else Form.TEXT


def exposition(snapshots: Sequence[Snapshot], form: Form = Form.TEXT) -> bytes:
    """Return the text of what these processes counted together, see `folded`.

    What was left out of it, because two processes declare it differently, is said in a comment
    where the format has comments.
    """
    remarks: list[str] = []
    together = folded(snapshots, remarks)
    opened = form is Form.OPEN_METRICS
    lines: list[str] = []
    if not opened:
        lines += [
            f"# {name} is declared differently by another process, which is left out"
            for name in remarks
        ]
    for name, series in sorted(together.items()):
        kind = series["kind"]
        family = name.removesuffix("_total") if opened and kind == "counter" else name
        lines.append(f"# HELP {family} {_help(series['help'], opened=opened)}")
        lines.append(f"# TYPE {family} {kind if opened else _OLDER.get(kind, kind)}")
        unit = family.rpartition("_")[2]
        if opened and unit in _UNITS:
            lines.append(f"# UNIT {family} {unit}")
        lines += _samples(name, series, opened=opened)
    lines += ["# EOF", ""] if opened else [""]
    return "\n".join(lines).encode("utf-8", "backslashreplace")


def _samples(name: str, series: Series, *, opened: bool) -> list[str]:
    kind = series["kind"]
    examples: dict[tuple[str, ...], dict[int, str]] = defaultdict(dict)
    for exemplar in series.get("exemplars", ()) if opened else ():
        examples[tuple(exemplar[0])][exemplar[1]] = _example(exemplar)
    rests = [f'le="{bound}"}} ' for bound in (*map(bound_text, series["buckets"]), "+Inf")]
    before_values = [f'{label}="' for label in series["labels"]]
    lines: list[str] = []
    for values, numbers in sorted(series["sets"]):
        pairs = ",".join(
            [
                f'{label}{_quoted(value)}"'
                for label, value in zip(before_values, values, strict=True)
            ]
        )
        after = f"{{{pairs}}}" if pairs else ""
        if kind == "histogram":
            *counts, total = numbers
            texts = [*map(_number, accumulate(counts))]
            if shown := examples.get(tuple(values)) if examples else None:
                rows = [f"{text}{shown.get(index, '')}" for index, text in enumerate(texts)]
            else:
                rows = texts
            start = f"{name}_bucket{{{pairs}," if pairs else f"{name}_bucket{{"
            lines += [f"{start}{rest}{row}" for rest, row in zip(rests, rows, strict=True)]
            lines += [f"{name}_sum{after} {_number(total)}", f"{name}_count{after} {texts[-1]}"]
        elif kind == "summary":
            texts = [*map(_number, numbers)]
            lines += [f"{name}_count{after} {texts[0]}", f"{name}_sum{after} {texts[1]}"]
        else:
            lines.append(f"{name}{after} {_number(numbers[0])}")
    return lines


def bound_text(bound: float) -> str:
    """Return the bound of a bucket as every client of Prometheus writes it: Go's way, `1e+06`."""
    text = repr(float(bound))
    whole, _, rest = text.partition(".")
    if len(whole) <= 6 or "e" in text or not whole.isdigit():
        return text
    digits = f"{whole}{'' if rest == '0' else rest}".rstrip("0")
    mantissa = f"{digits[0]}.{digits[1:]}" if digits[1:] else digits
    return f"{mantissa}e+{len(whole) - 1:02d}"


def _example(exemplar: Exemplar) -> str:
    _, _, trace_id, value, at = exemplar
    return f' # {{trace_id="{_quoted(trace_id)}"}} {_number(value)} {at:.3f}'


def _number(value: float) -> str:
    # Whole numbers without their ".0": most are counts, and people read this page.
    if value.is_integer() and -1e15 < value < 1e15:
        return str(int(value))
    text = repr(value)
    # NaN and the infinite ones come from metrics of the application only.
    return _SPECIAL.get(text, text)


_SPECIAL: Final = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}


def _help(text: str, *, opened: bool) -> str:
    # Only the newer format has a quoted help.
    return _quoted(text) if opened else _escaped(text)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _quoted(text: str) -> str:
    # Few have anything to escape, and there are thousands.
    if '"' in text or "\\" in text or "\n" in text:
        return _escaped(text).replace('"', r"\"")
    return text
