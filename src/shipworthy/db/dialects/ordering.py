"""How each database orders and compares, where they differ.

What is not listed here is taken to be as the standard leaves it, and slow rather than wrong.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordering:
    """What keyset pages must know of a database.

    `nulls_low`: NULL sorts below every value. `nulls_syntax`: it knows NULLS FIRST and NULLS LAST.
    `row_values`: its planner turns `(a, b) > (1, 2)` into the start of an index scan.
    `raw_values`: what a driver reads must be sent back untouched, because the database has no types
    that would make two spellings of one value equal. `enums_as_text`: a native enum is sorted by
    its position and compared by its text.
    """

    nulls_low: bool = True
    nulls_syntax: bool = False
    row_values: bool = False
    raw_values: bool = False
    enums_as_text: bool = False


_STANDARD = Ordering()
_MARIADB = Ordering(enums_as_text=True)
_ORDERINGS = {
    "sqlite": Ordering(nulls_syntax=True, row_values=True, raw_values=True),
    "postgresql": Ordering(nulls_low=False, nulls_syntax=True, row_values=True),
    "mariadb": _MARIADB,
    "mysql": _MARIADB,
}


def ordering_of(dialect: Any) -> Ordering:
    """Return how the database behind an SQLAlchemy dialect orders."""
    return _ORDERINGS.get(dialect.name, _STANDARD)
