"""MariaDB: values so long that the log cannot have them, and the write goes on without; pure.

HEX and CONCAT give no text longer than the server's `max_allowed_packet`, and in a trigger that is
an error of the application's statement. So the columns of long types share what an image may take,
and of a value beyond its share the image says `false`.
"""

from collections.abc import Iterator
from typing import Final

from shipworthy.audit.dialects.mariadb_cells import base_type, cell, is_hex
from shipworthy.audit.model import CatalogTable

# An eighth is left for all other columns: a row without these types has 64 KiB at most.
_EIGHTHS: Final = 7
_PACKET_OCTETS: Final = 16_777_216  # as a server has it whose settings do not say
# Of types of 64 KiB, and of those that have no such bound.
_WEIGHTS: Final = {
    **dict.fromkeys(("text", "blob"), 1),
    **dict.fromkeys(("mediumtext", "longtext", "json", "mediumblob", "longblob"), 8),
    **dict.fromkeys(
        (
            "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring",
            "multipolygon", "geometrycollection",
        ),
        8,
    ),
}  # fmt: skip
# A letter of one octet may be written as \u0001.
_ESCAPED_OCTETS: Final = 6


def limits_of(table: CatalogTable) -> dict[str, str]:
    """Return, for each column of a long type, the SQL of the octets that its cell may take."""
    return {
        column: f"@@max_allowed_packet DIV {8 * whole}*{_EIGHTHS * weight}"
        for column, weight, whole in _shares(table)
    }


def too_long(reference: str, column_type: str, limit: str) -> str:
    """Return the SQL condition that a value takes more than `limit`; not true of NULL."""
    if is_hex(column_type) or not _is_text(column_type):
        return f"OCTET_LENGTH({reference})*2>{limit}"
    written = f"OCTET_LENGTH(JSON_QUOTE({cell(reference, column_type)}))"
    # JSON_QUOTE has no bound, and costs; most values are far from it.
    return f"(OCTET_LENGTH({reference})*{_ESCAPED_OCTETS}>{limit} AND {written}>{limit})"


def long_silent(table: CatalogTable) -> Iterator[str]:
    """Say which columns may have values that are not kept, and from how many octets on."""
    found = [
        f"'{column}' {_PACKET_OCTETS // (8 * whole) * _EIGHTHS * weight}"
        for column, weight, whole in _shares(table)
        if weight > 1
    ]
    if found:
        yield (
            f"a longer value than its share of max_allowed_packet is not kept, only that there was "
            f"one, and its row cannot be put back: {', '.join(found)} octets as the log has it, "
            f"where bytes take two each and the server has {_PACKET_OCTETS}"
        )


def _shares(table: CatalogTable) -> Iterator[tuple[str, int, int]]:
    weights = {
        column.name: weight
        for column in table.columns
        if (weight := _WEIGHTS.get(base_type(column.type)))
    }
    for column, weight in weights.items():
        yield column, weight, sum(weights.values())


def _is_text(column_type: str) -> bool:
    return base_type(column_type) in {"text", "mediumtext", "longtext", "json"}
