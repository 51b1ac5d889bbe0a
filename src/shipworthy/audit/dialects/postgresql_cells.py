"""Cells of PostgreSQL and the values that Python has for them. Pure."""

import json
import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

from shipworthy.audit.model import Cell

_INTEGERS: Final = frozenset({"smallint", "integer", "bigint", "oid"})
_FLOATS: Final = frozenset({"real", "double precision"})
_DOCUMENTS: Final = frozenset({"json", "jsonb"})


def cell_of(value: Any, column_type: str) -> Cell:
    """Return the cell that the triggers write for a value as a driver has it."""
    match value:
        case None:
            return None
        case bool():
            text = "true" if value else "false"
        case Decimal():
            text = format(value, "f")
        case float():
            text = _float(value)
        case datetime():
            text = _instant(value)
        case date():
            text = value.isoformat()
        case bytes() | bytearray() | memoryview():
            text = "\\x" + bytes(value).hex()
        case _:
            text = str(value)
    return text.rstrip(" ") if column_type.startswith("character(") else text


def value_of(cell: Cell, column_type: str) -> Any:
    """Return a cell as a value for people and JSON; what JSON has no word for stays text."""
    if not isinstance(cell, str):
        return cell
    if column_type in _INTEGERS:
        return int(cell)
    if column_type == "boolean":
        return cell == "true"
    if column_type in _FLOATS and math.isfinite(float(cell)):
        return float(cell)
    if column_type in _DOCUMENTS:
        return json.loads(cell)
    return cell


def _instant(value: datetime) -> str:
    zone = ""
    if value.tzinfo is not None:
        value, zone = value.astimezone(UTC).replace(tzinfo=None), "+00:00"
    text = value.isoformat()
    return (text.rstrip("0") if "." in text else text) + zone


def _float(value: float) -> str:
    """Return a float as PostgreSQL writes it: with an exponent from 15 digits on."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    mantissa, exponent = format(Decimal(repr(value)), "e").split("e")
    if -5 < int(exponent) < 15:
        text = format(Decimal(repr(value)), "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{mantissa}e{int(exponent):+03d}"
