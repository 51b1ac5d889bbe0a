"""One log line out of its fields, for programs or for people."""

import json
import time
from collections.abc import Mapping
from typing import Any

import orjson

from shipworthy.redact import printable

# The last second and its text, which most lines share; one object, so threads see both or neither.
_last = (0, "1970-01-01T00:00:00")


def timestamp(wall: float) -> str:
    """Return the instant `wall` (Unix seconds) in UTC by RFC 3339, to the microsecond."""
    global _last  # noqa: PLW0603
    second = int(wall)
    known, text = _last
    if second != known:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        _last = second, text
    return f"{text}.{int((wall - second) * 1e6):06d}Z"


def line(fields: Mapping[str, Any], *, human: bool) -> bytes:
    """Return the line of `fields`, with its newline, and never more than one line for programs.

    `fields` has `ts`, `level`, `logger` and `message`, and whatever else is known. For people, the
    rows of a field `stack` stand on lines of their own, set in so that none can pass for a line of
    the log. All that is not printable is escaped: no text from outside steers a terminal.
    """
    if human:
        return _human(fields).encode("utf-8", "backslashreplace")
    try:
        return orjson.dumps(fields, default=str, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        # Numbers beyond 64 bit and text with lone surrogates: rare, and no reason to lose the line.
        return json.dumps(fields, default=str).encode() + b"\n"


def _human(fields: Mapping[str, Any]) -> str:
    shown = dict(fields)
    ts, level = shown.pop("ts"), shown.pop("level")
    logger, message = shown.pop("logger"), shown.pop("message")
    stack = shown.pop("stack", "")
    details = "".join(
        f" {printable(name)}={printable(str(value))}" for name, value in shown.items()
    )
    head = f"{ts[11:23]} {level.upper():7} {printable(message)}{details}  ({printable(logger)})\n"
    # Split at line feeds alone: what else ends a line for a terminal is escaped.
    rows = stack.rstrip().split("\n") if stack else ()
    return head + "".join(f"    {printable(row)}\n" for row in rows)
