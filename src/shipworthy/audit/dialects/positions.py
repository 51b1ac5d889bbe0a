"""Which databases give an entry a position of its own; elsewhere its `seq` is the position."""

from typing import Any


def has_positions(*_given: Any, dialect: Any, **_more: Any) -> bool:
    """Is `position` more than 0 there, so that an index of it is of use? As `ddl_if` asks."""
    return str(dialect.name) == "postgresql"
