"""SQLite: a value as a cell, in SQL and in Python; pure.

The first letter of a cell is the storage class: `i123`, `r2+5`, `ttext`, `b<hex>`. A column's
declared type forbids little in SQLite, so each value is written by what it is, not by its column.

A real is written as integers that make it again, because the digits that SQLite prints do not (of
random doubles, 3.51 prints one in ten so that another is read): `r2+N` is 2 and N times 2**-62, and
`rMpE`, for the very small and the very large, M times 2**E.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from shipworthy.audit.dialects.sqlite_text import ERRORS
from shipworthy.audit.model import CatalogColumn, CatalogTable, Cell

# Halves of halves: what the bits after the point of a double from _NEAR on are counted in.
_BITS: Final = 62
_NEAR: Final = 0.001
# Between these a double is an integer, and one that SQLite can hold.
_WHOLE: Final = 2**52
_MOST: Final = 2**63 - 1024
_STEP_BITS: Final = 11
_REAL: Final = re.compile(r"(-?[0-9]+)(\+|p)(-?[0-9]+)")
_LEAST: Final = "-9223372036854775808"
# The storage classes a column of an affinity may hold, the likely one first.
_CLASSES: Final = {
    "INTEGER": ("integer", "text", "real", "blob"),
    "NUMERIC": ("integer", "real", "text", "blob"),
    "REAL": ("real", "text", "blob"),
    "TEXT": ("text", "blob"),
    "BLOB": ("blob", "text", "integer", "real"),
}


def name(identifier: str) -> str:
    """Return an identifier quoted for SQL."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text quoted for SQL."""
    return "'" + text.replace("'", "''") + "'"


def affinity(declared_type: str) -> str:
    """Return what SQLite makes of a declared type, by its five rules."""
    declared = declared_type.upper()
    if "INT" in declared:
        return "INTEGER"
    if any(part in declared for part in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if not declared or "BLOB" in declared:
        return "BLOB"
    if any(part in declared for part in ("REAL", "FLOA", "DOUB")):
        return "REAL"
    return "NUMERIC"


def column_affinity(table: CatalogTable, column: CatalogColumn) -> str:
    """Return the affinity of a column; in a STRICT table ANY keeps what it is given."""
    if "strict" in table.traits and column.type.upper() == "ANY":
        return "BLOB"
    return affinity(column.type)


def is_rowid(table: CatalogTable, column: CatalogColumn) -> bool:
    """Return whether the column is another name of the rowid, and so always an integer."""
    return table.traits.get("rowid_column") == column.name


def cell_sql(table: CatalogTable, column: CatalogColumn, value: str) -> str:
    """Return the SQL that makes a cell of `value`, a reference to that column; NULL gives NULL."""
    if is_rowid(table, column):
        return f"'i'||{value}"
    return _by_class(
        table,
        column,
        value,
        {
            "integer": f"'i'||{value}",
            "real": _real_sql(value),
            "text": f"'t'||{value}",
            "blob": f"'b'||hex({value})",
        },
    )


def quoted_cell_sql(table: CatalogTable, column: CatalogColumn, value: str) -> str:
    """Return the SQL that makes the JSON of a cell; only a text needs more than quotes."""
    if is_rowid(table, column):
        return f"'\"i'||{value}||'\"'"
    return _by_class(
        table,
        column,
        value,
        {
            "integer": f"'\"i'||{value}||'\"'",
            "real": f"'\"'||{_real_sql(value)}||'\"'",
            "text": f"json_quote('t'||{value})",
            "blob": f"'\"b'||hex({value})||'\"'",
            "null": "'null'",
        },
    )


def _real_sql(value: str) -> str:
    """Return the SQL of a real's cell; each step is a multiplication by a power of 2, so exact."""
    return (
        f"CASE WHEN abs({value})<={_MOST} AND (abs({value})>={_NEAR} OR {value}=0) "
        f"THEN 'r'||CAST({value} AS INTEGER)||'+'"
        f"||CAST(({value}-CAST({value} AS INTEGER))*{1 << _BITS} AS INTEGER) "
        f"WHEN abs({value})=9e999 THEN iif({value}>0,'rInf','r-Inf') "
        f"ELSE (WITH step(m,e) AS (SELECT {value},0 UNION ALL "
        f"SELECT iif(abs({value})<1,m*{1 << _STEP_BITS},m/{1 << _STEP_BITS}),"
        f"iif(abs({value})<1,e-{_STEP_BITS},e+{_STEP_BITS}) "
        f"FROM step WHERE NOT abs(m) BETWEEN {_WHOLE} AND {_MOST}) "
        f"SELECT 'r'||CAST(m AS INTEGER)||'p'||e FROM step "
        f"WHERE abs(m) BETWEEN {_WHOLE} AND {_MOST}) END"
    )


def _by_class(
    table: CatalogTable, column: CatalogColumn, value: str, written: Mapping[str, str]
) -> str:
    classes = [*_CLASSES[column_affinity(table, column)], "null"]
    cases = " ".join(
        f"WHEN {literal(storage)} THEN {written[storage]}"
        for storage in classes
        if storage in written
    )
    return f"CASE typeof({value}) {cases} END"


def changed_sql(table: CatalogTable, column: CatalogColumn) -> str:
    """Return the SQL that is true where an update gave the column another value, or another class.

    The column's own collation must not think two texts alike, so bytes are compared.
    """
    old, new = f"OLD.{name(column.name)}", f"NEW.{name(column.name)}"
    different = f"{old} IS NOT {new} COLLATE BINARY"
    if is_rowid(table, column):
        return different
    # Where an integer and a real that are equal can both be stored: the class is a difference.
    match column_affinity(table, column):
        case "BLOB":
            return f"({different} OR typeof({old})<>typeof({new}))"
        case "INTEGER" | "NUMERIC":
            # Here SQLite makes an integer of every real that is one, but for this one.
            return f"({different} OR {old}={_LEAST} AND typeof({old})<>typeof({new}))"
        case _:
            return different


def encode(value: Any) -> Cell:
    """Return the cell of a value as the driver gives it: what the triggers would write."""
    if value is None:
        return None
    if isinstance(value, bool | int):
        return f"i{int(value)}"
    if isinstance(value, float):
        return f"r{_real(value)}"
    if isinstance(value, str):
        return f"t{value}"
    if isinstance(value, bytes | bytearray | memoryview):
        return f"b{bytes(value).hex().upper()}"
    raise TypeError(f"SQLite stores no {type(value).__name__}; give what the driver would be given")


def decode(cell: Cell) -> int | float | str | bytes | None:
    """Return the value that a cell stands for, to be bound; the inverse of the triggers."""
    if cell is None:
        return None
    if not isinstance(cell, str) or not cell:
        raise ValueError(f"a cell is a letter and a value, not {cell!r}: is it a personal one?")
    kind, text = cell[0], cell[1:]
    match kind:
        case "i":
            return int(text)
        case "r":
            return _read_real(text)
        case "t":
            return text
        case "b":
            return bytes.fromhex(text)
        case _:
            raise ValueError(f"no storage class is written {kind!r}; was the log changed?")


def readable(cell: Cell, column_type: str) -> Any:
    """Return a cell as people and JSON have it: booleans by name, blobs as X'...'."""
    if cell is None or isinstance(cell, bool):
        return cell
    found = decode(cell)
    if isinstance(found, bytes):
        return f"X'{found.hex().upper()}'"
    if isinstance(found, float) and not math.isfinite(found):
        return "Infinity" if found > 0 else "-Infinity"
    if isinstance(found, str):
        return found.encode("utf-8", ERRORS).decode("utf-8", "replace")
    if column_type.upper().startswith("BOOL") and found in {0, 1}:
        return bool(found)
    return found


def _real(value: float) -> str:
    """Return what `_real_sql` makes of it."""
    if math.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    if abs(value) <= _MOST and (abs(value) >= _NEAR or not value):
        whole = int(value)
        return f"{whole}+{int((value - whole) * (1 << _BITS))}"
    step = -_STEP_BITS if abs(value) < 1 else _STEP_BITS
    mantissa, exponent = value, 0
    while not _WHOLE <= abs(mantissa) <= _MOST:
        mantissa, exponent = math.ldexp(mantissa, -step), exponent + step
    return f"{int(mantissa)}p{exponent}"


def _read_real(text: str) -> float:
    if text in {"Inf", "-Inf"}:
        return float(text)
    found = _REAL.fullmatch(text)
    if found is None:
        raise ValueError(f"no real is written {text!r}; was the log changed?")
    first, last = int(found[1]), int(found[3])
    if found[2] == "p":
        return math.ldexp(first, last)
    return math.ldexp((first << _BITS) + last, -_BITS)
