"""Values of MariaDB as cells, and back: SQL that no time zone or mode of a session changes.

Pure. A timestamp is written in UTC, a float as the double it is exactly, bytes as hexadecimal, a
geometry as `SRID;WKB`. Text whose character set has no exact twin in UTF-8 is written as its bytes.

Not here: which columns belong to an image (`mariadb_triggers`), values as Python has them
(`mariadb_values`).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from shipworthy.audit.model import CatalogColumn, Cell

# What `SET STATEMENT` gives the statements that make triggers, and what restores run under: a
# value that is too long must fail, a zero date or an id of 0 is a value like any other.
TRIGGER_MODE: Final = "STRICT_ALL_TABLES"
RESTORE_MODE: Final = "STRICT_ALL_TABLES,ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO"
LENIENT_MODE: Final = RESTORE_MODE.removeprefix("STRICT_ALL_TABLES,")

INTEGERS: Final = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint"})
_PLAIN: Final = INTEGERS | {"decimal", "year", "date", "time", "datetime"}
_FLOATS: Final = frozenset({"float", "double"})
_ADDRESSES: Final = frozenset({"uuid", "inet4", "inet6"})
_BYTES: Final = frozenset(
    {"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "vector"}
)
TEXTS: Final = frozenset(
    {"char", "varchar", "tinytext", "text", "mediumtext", "longtext", "json", "enum", "set"}
)
_SHAPES: Final = frozenset(
    {
        "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring",
        "multipolygon", "geometrycollection",
    }
)  # fmt: skip
_KNOWN: Final = (
    _PLAIN | _FLOATS | _ADDRESSES | _BYTES | TEXTS | _SHAPES | frozenset({"bit", "timestamp"})
)
# Every string of these is one string in utf8mb4 and comes back as the same bytes.
_EXACT_CHARSETS: Final = frozenset({"utf8mb4", "utf8mb3", "utf8", "latin1", "ascii"})
_HARMLESS: Final = re.compile(r"[ -~]*")
_LIKE_A_PARAMETER: Final = re.compile(r"[%\\]|:\w")
_EMPTY_MEMBER: Final = re.compile(r"[(,]''[,)]")
_CHARSET: Final = re.compile(r" character set (\w+)$")


def base_type(column_type: str) -> str:
    """Return the first word of a type: `decimal` of `decimal(10,2) unsigned`."""
    found = re.match(r"[a-z0-9]+", column_type)
    return found.group() if found else column_type


def charset(column_type: str) -> str:
    """Return the character set of a type of text, '' of another."""
    found = _CHARSET.search(column_type)
    return found.group(1) if found else ""


def is_known(column_type: str) -> bool:
    """Say whether values of this type can be written exactly."""
    return base_type(column_type) in _KNOWN


def is_hex(column_type: str) -> bool:
    kind = base_type(column_type)
    return kind in _BYTES or (kind in TEXTS and charset(column_type) not in _EXACT_CHARSETS)


def _is_text(column_type: str) -> bool:
    return base_type(column_type) in TEXTS and not is_hex(column_type)


def name(identifier: str) -> str:
    """Return a name quoted for MariaDB."""
    return "`" + identifier.replace("`", "``") + "`"


def literal(text: str) -> str:
    """Return a string for MariaDB that means the same in every `sql_mode` and character set.

    It has nothing that a driver or SQLAlchemy would take for a parameter.
    """
    if _HARMLESS.fullmatch(text) and not _LIKE_A_PARAMETER.search(text):
        return "'" + text.replace("'", "''") + "'"
    # Not an introducer: the catalog gives the text of a trigger back without it.
    return f"CONVERT(x'{text.encode().hex()}' USING utf8mb4)"


def cell(reference: str, column_type: str) -> str:
    """Return the SQL of the text that `reference` has in the log; NULL where it is NULL."""
    kind = base_type(column_type)
    if is_hex(column_type):
        return f"HEX({reference})"
    if kind == "timestamp":
        return _utc(reference, digits_after_point(column_type))
    return _WRITTEN.get(kind, _TEXT).format(reference)


_TEXT: Final = "CAST({0} AS CHAR CHARACTER SET utf8mb4)"
_WRITTEN: Final[Mapping[str, str]] = {
    **dict.fromkeys(TEXTS, "CONVERT({0} USING utf8mb4)"),
    # A float prints six digits; the double that it is prints all it takes.
    **dict.fromkeys(_FLOATS, _TEXT.format("CAST({0} AS DOUBLE)")),
    **dict.fromkeys(_SHAPES, "CONCAT(ST_SRID({0}),';',HEX(ST_AsWKB({0})))"),
    "bit": _TEXT.format("CAST({0} AS UNSIGNED)"),
}


def _utc(reference: str, digits: int) -> str:
    """Return the SQL of a timestamp in UTC, from the number it is stored as.

    So an hour that a time zone has twice stays two hours.
    """
    number = f"NULLIF(UNIX_TIMESTAMP({reference}),0)"
    moment = f"TIMESTAMP'1970-01-01 00:00:00.000000'+INTERVAL {number} SECOND"
    zero = "0000-00-00 00:00:00" + ("." + "0" * digits if digits else "")
    text = _TEXT.format(f"CAST({moment} AS DATETIME({digits}))")
    # Of the date of zeros the number is 0 in a table, and NULL in a trigger.
    return f"IFNULL({text},IF({reference} IS NULL,NULL,'{zero}'))"


def digits_after_point(column_type: str) -> int:
    """Return how many digits a type has after its point: 2 of `decimal(9,2)`, 6 of `time(6)`."""
    found = re.search(r"\((?:\d+,)?(\d+)\)", column_type)
    if found is None or (base_type(column_type) == "decimal" and "," not in found.group()):
        return 0
    return int(found.group(1))


def as_json(reference: str, column_type: str) -> str:
    """Return the SQL of the cell as JSON, `null` where it is NULL."""
    text = cell(reference, column_type)
    if _is_text(column_type) or base_type(column_type) in _PLAIN:
        # Of a number too: until its triggers are made anew, the column may have become one of text.
        return f"IFNULL(JSON_QUOTE({text}),'null')"
    return f"IFNULL(CONCAT('\"',{text},'\"'),'null')"


def as_key(
    columns: Sequence[CatalogColumn], row: str, replaced: Mapping[str, str] | None = None
) -> str:
    """Return the SQL of a row's key, letter for letter as `cells.write_key` writes it.

    `replaced` gives the SQL of columns that are to be taken from elsewhere.
    """
    elsewhere = replaced or {}
    parts = [
        _in_key(elsewhere.get(column.name, f"{row}.{name(column.name)}"), column.type)
        for column in columns
    ]
    return "CONCAT('['," + ",',',".join(parts) + ",']')"


def _in_key(reference: str, column_type: str) -> str:
    if not _is_text(column_type):
        return as_json(reference, column_type)
    # JSON_QUOTE writes \u001F where Python writes \u001f: the same value, another text. No regular
    # expression looks for it: they refuse half a surrogate pair, and the write would fail.
    text = cell(reference, column_type)
    slow = f"REPLACE(REPLACE({text},x'5C',x'5C5C'),x'22',x'5C22')"
    short = {8: "b", 9: "t", 10: "n", 12: "f", 13: "r"}
    for code in range(32):
        escape = "\\" + short.get(code, f"u{code:04x}")
        slow = f"REPLACE({slow},x'{code:02x}',x'{escape.encode().hex()}')"
    return (
        f"IF(INSTR(JSON_QUOTE({text}),'u00'),CONCAT('\"',CONVERT({slow} USING utf8mb4),'\"'),"
        f"IFNULL(JSON_QUOTE({text}),'null'))"
    )


def same(left: str, right: str, column_type: str) -> str:
    """Return the SQL that says whether two values are the same to the byte."""
    kind = base_type(column_type)
    if kind == "timestamp":
        return (
            f"(UNIX_TIMESTAMP({left})<=>UNIX_TIMESTAMP({right})"
            f" AND ({left} IS NULL)=({right} IS NULL))"
        )
    if kind in ("enum", "set"):
        return f"{left}+0<=>{right}+0"
    if kind in (TEXTS | _BYTES | _SHAPES):
        return f"{left}<=>CAST({right} AS BINARY)"
    return f"{left}<=>{right}"


def parsed(parameter: str, column_type: str) -> str:
    """Return the SQL that makes the stored value of a cell; `parameter` is text or NULL.

    For a session in `RESTORE_MODE` and in UTC. Numbers are typed, or a comparison with a text would
    be one of floats.
    """
    kind = base_type(column_type)
    if is_hex(column_type):
        form = "UNHEX({0})"
    elif kind == "decimal":
        form = f"CAST({{0}} AS DECIMAL{_precision(column_type)})"
    elif kind in INTEGERS:
        form = f"CAST({{0}} AS {'UNSIGNED' if 'unsigned' in column_type else 'SIGNED'})"
    else:
        form = _PARSED.get(kind, "{0}")
    return form.format(parameter)


_PARSED: Final[Mapping[str, str]] = {
    "bit": "CAST({0} AS UNSIGNED)",
    **dict.fromkeys(_FLOATS, "CAST({0} AS DOUBLE)"),
    **dict.fromkeys(
        _SHAPES,
        "ST_GeomFromWKB(UNHEX(SUBSTRING_INDEX({0},';',-1)),"
        "CAST(SUBSTRING_INDEX({0},';',1) AS UNSIGNED))",
    ),
}


def is_error(found: Cell, column_type: str) -> bool:
    """Say whether a cell is what an enum holds after a wrong value: no member of it, reading ''.

    A strict mode refuses to write that again.
    """
    return (
        found == "" and base_type(column_type) == "enum" and not _EMPTY_MEMBER.search(column_type)
    )


def _precision(column_type: str) -> str:
    found = re.search(r"\(\d+(,\d+)?\)", column_type)
    return found.group() if found else ""
