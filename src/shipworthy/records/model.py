"""What the trash speaks about: a deletion, its rows and relinks, and where it stands.

Plain facts, and pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, final

from shipworthy.audit import Cell


class DeletionState(StrEnum):
    """Where a deletion stands."""

    DELETED = "deleted"
    RESTORED = "restored"
    PARTLY_RESTORED = "partly restored"
    PURGED = "purged"


# Some of its rows are still gone, and may come back.
OPEN_STATES: Final = (DeletionState.DELETED, DeletionState.PARTLY_RESTORED)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class DeletedRow:
    """A row that a transaction removed for good; its image is the entry `seq` of the log."""

    seq: int
    table_id: int
    shape_id: int
    key: str | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Relink:
    """A row that stayed and lost its link to a removed one; per column, what was and what became.

    `seq` is the entry of that update. `key` finds the row.
    """

    seq: int
    table_id: int
    shape_id: int
    key: str
    columns: Mapping[str, tuple[Cell, Cell]]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rows that one transaction removed together, as they are connected by foreign keys.

    `rows` are in the order of the log. `roots` are those that no other row of it took along.
    `unlinked` are columns that were emptied just before their own row was removed, by its `seq`:
    they come back as they were, and `unlinked_by` are the entries that emptied them. `replaced` are
    rows that the transaction put back itself.
    """

    rows: tuple[DeletedRow, ...]
    relinks: tuple[Relink, ...]
    roots: tuple[int, ...]
    unlinked: Mapping[int, Mapping[str, Cell]] = field(default_factory=dict)
    unlinked_by: tuple[int, ...] = ()
    replaced: tuple[DeletedRow, ...] = ()

    @property
    def id(self) -> int:
        """The number of the deletion: the first entry that removed a row of it."""
        return self.rows[0].seq

    @property
    def entries(self) -> tuple[int, ...]:
        """The entries that it can be read from again."""
        rows = (row.seq for row in self.rows)
        relinks = (relink.seq for relink in self.relinks)
        return tuple(sorted((*rows, *relinks, *self.unlinked_by)))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """A deletion as the trash lists it. `tables` counts its rows by table.

    `roots` are the first of the rows that nothing else of it took along, each as table and key.
    `whole` says that it is all that its transaction removed. `hold` says why it is not purged.
    """

    id: int
    tx: str
    at_microseconds: int
    actor: str
    actor_kind: str
    title: str
    tables: Mapping[str, int]
    rows: int
    relinks: int
    roots: tuple[tuple[str, str], ...]
    state: DeletionState
    whole: bool
    hold: str = ""

    @property
    def at(self) -> datetime:
        """When it happened, in UTC."""
        return datetime.fromtimestamp(self.at_microseconds / 1_000_000, UTC)

    def facts(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "id": self.id,
            "at": self.at.isoformat(),
            "actor": self.actor,
            "actor_kind": self.actor_kind,
            "title": self.title,
            "tables": dict(self.tables),
            "rows": self.rows,
            "relinks": self.relinks,
            "roots": [{"table": table, "key": key} for table, key in self.roots],
            "state": self.state.value,
            "hold": self.hold,
        }
