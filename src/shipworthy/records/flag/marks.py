"""Which tables are under flag mode, as settings name them, and what their columns are. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, final

import sqlalchemy as sa

from shipworthy.errors import Misuse

ID_COLUMN: Final = "deletion_id"
"""The column beside the time: 32 hexadecimal characters, the same for all that went together."""
ID_CHARACTERS: Final = 32


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FlaggedTable:
    """A table whose rows are flagged in place of deleted; `column` has the time, NULL lives."""

    table: str
    column: str

    def time(self, table: sa.Table) -> sa.Column[Any]:
        """Return the column with the time; raises `Misuse` where the model does not have it."""
        return self._column(table, self.column, "DateTime(timezone=True)")

    def id(self, table: sa.Table) -> sa.Column[Any]:
        """Return the column with the id of the deletion; raises `Misuse` where there is none."""
        return self._column(table, ID_COLUMN, f"String({ID_CHARACTERS})")

    def values(self, table: sa.Table, *, at: float, id: str) -> dict[sa.Column[Any], Any]:  # noqa: A002
        """Return what a deletion at the Unix time `at` sets."""
        column = self.time(table)
        when = datetime.fromtimestamp(at, UTC)
        if not getattr(column.type, "timezone", False):
            when = when.replace(tzinfo=None)
        return {column: when, self.id(table): id}

    def is_ready(self, table: sa.Table) -> bool:
        """Return whether the model of the table has both columns."""
        return self.column in table.c and ID_COLUMN in table.c

    def _column(self, table: sa.Table, name: str, kind: str) -> sa.Column[Any]:
        found = table.c.get(name)
        if found is None:
            raise Misuse(
                f"table {self.table} is to be under flag mode, and its model has no column {name}; "
                f"declare it as a nullable {kind}, and run `shipworthy trash adopt {self.table}`"
            )
        return found


def flagged_tables(names: Iterable[str]) -> dict[str, FlaggedTable]:
    """Return the tables that `trash.flag` names, by their name; each entry is TABLE.COLUMN.

    Raises `Misuse` for an entry that is not, and for a table named twice.
    """
    found: dict[str, FlaggedTable] = {}
    for entry in names:
        table, _, column = entry.strip().rpartition(".")
        if not table or not column:
            raise Misuse(
                f"trash.flag names {entry!r}; write the table and the column that has the time of "
                "its deletion, as in 'orders.deleted_at'"
            )
        if table in found:
            raise Misuse(f"trash.flag names table {table} twice: {found[table].column}, {column}")
        found[table] = FlaggedTable(table=table, column=column)
    return found


def cascades(
    table: sa.Table, flagged: Mapping[str, FlaggedTable]
) -> tuple[sa.ForeignKeyConstraint, ...]:
    """Return the foreign keys of flagged tables over which a DELETE in `table` would cascade."""
    return tuple(
        key
        for other in table.metadata.tables.values()
        if other.fullname in flagged and flagged[other.fullname].is_ready(other)
        for key in sorted(other.foreign_key_constraints, key=lambda key: tuple(key.column_keys))
        if key.referred_table is table and (key.ondelete or "").upper() == "CASCADE"
    )
