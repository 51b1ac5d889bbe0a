"""Values of MariaDB between cells and Python: for keys that people give, and for people to read.

Pure. Nothing that is restored goes this way.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from shipworthy.audit.dialects.mariadb_cells import (
    INTEGERS,
    TEXTS,
    base_type,
    charset,
    digits_after_point,
    is_hex,
)
from shipworthy.audit.dialects.mariadb_text import shown_text
from shipworthy.audit.model import Cell

_CODECS: Final = {
    "ucs2": "utf-16-be",
    "utf16": "utf-16-be",
    "utf16le": "utf-16-le",
    "utf32": "utf-32-be",
    "koi8r": "koi8-r",
    "koi8u": "koi8-u",
    "sjis": "shift-jis",
    "ujis": "euc-jp",
    "eucjpms": "euc-jp",
    "latin5": "iso8859-9",
    "latin7": "iso8859-13",
    "greek": "iso8859-7",
    "hebrew": "iso8859-8",
}


def encode(given: Any, column_type: str) -> Cell:
    """Return the cell that the triggers write for a value as the driver has it.

    A timestamp is taken as UTC where it has no zone.
    """
    if given is None:
        return None
    for kinds, written in _WRITTEN.items():
        if isinstance(given, kinds):
            return written(given, column_type)
    return str(given)


def value(found: Cell, column_type: str) -> Any:
    """Return a cell as a value for people and JSON; text where there is nothing better."""
    if not isinstance(found, str):
        return found
    try:
        read = _READ.get(base_type(column_type))
        if read is not None:
            return read(found)
        if base_type(column_type) in TEXTS and is_hex(column_type):
            return bytes.fromhex(found).decode(_codec(column_type))
    except (LookupError, ValueError):  # not what its type says: as it stands in the log, then
        pass
    return shown_text(found)


def _codec(column_type: str) -> str:
    name = charset(column_type)
    return _CODECS.get(name, name)


def _octets(given: bytes | bytearray | memoryview, column_type: str) -> str:
    octets = bytes(given)
    if base_type(column_type) == "bit":
        return str(int.from_bytes(octets, "big"))
    return octets.hex().upper()


def _text(given: str, column_type: str) -> str:
    if base_type(column_type) in TEXTS and is_hex(column_type):
        return given.encode(_codec(column_type)).hex().upper()
    return _number(given, column_type) if base_type(column_type) == "decimal" else given


def _number(given: Decimal | int | str, column_type: str) -> str:
    if base_type(column_type) != "decimal":
        return str(int(given))
    return f"{Decimal(given):.{digits_after_point(column_type)}f}"


def _moment(given: datetime, column_type: str) -> str:
    moment = given.astimezone(UTC) if given.tzinfo else given
    return _cut(f"{moment:%Y-%m-%d %H:%M:%S}", moment.microsecond, column_type)


def _time(given: timedelta, column_type: str) -> str:
    seconds, rest = divmod(abs(given) // timedelta(microseconds=1), 1_000_000)
    sign = "-" if given < timedelta() else ""
    clock = f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return _cut(clock, rest, column_type)


def _cut(text: str, microseconds: int, column_type: str) -> str:
    digits = digits_after_point(column_type)
    return f"{text}.{microseconds:06}"[: len(text) + 1 + digits] if digits else text


_WRITTEN: Final[Mapping[Any, Callable[[Any, str], str]]] = {
    (bytes, bytearray, memoryview): _octets,
    str: _text,
    (int, Decimal): _number,
    datetime: _moment,
    timedelta: _time,
    (set, frozenset): lambda given, _: ",".join(sorted(map(str, given))),
}
_READ: Final[Mapping[str, Callable[[str], Any]]] = {
    **dict.fromkeys((*INTEGERS, "bit", "year"), int),
    "float": float,
    "double": float,
    "datetime": lambda found: found.replace(" ", "T"),
    "timestamp": lambda found: found.replace(" ", "T") + "Z",
    "json": json.loads,
}
