"""What capture speaks about: a database's catalog, the shape of a table, an entry, its context.

Plain facts, and pure. The meaning of each is in docs/explanation/audit-format.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, final

from typing_extensions import override

# One value as the log has it: the engine's own text for it, None for NULL, True where it is
# personal and lies beside the log (`shipworthy_audit_personal`), so that it can be erased.
# False: the value was too long for the engine to write it down, and is not kept.
Cell = str | bool | None
Image = Mapping[str, Cell]

OPERATIONS: Final[Mapping[str, str]] = {
    "I": "insert",
    "U": "update",
    "D": "delete",
    "T": "truncate",
    # Of no table: what was done with the trail itself (`deeds`).
    "A": "access",
    "H": "hold",
    "P": "prune",
    "X": "erase",
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TableName:
    """A table of the application; `schema` is '' where the engine has none or it is the default."""

    schema: str
    name: str

    @override
    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogColumn:
    """A column as the database's own catalog has it; `type` is the engine's text, with lengths.

    `identity` is '', 'always' or 'default'; `number` is stable across renames where the engine has
    such a number, else the place in the table.
    """

    name: str
    type: str
    number: int
    nullable: bool = True
    default: str | None = None
    generated: bool = False
    identity: str = ""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogForeignKey:
    """A reference from this table; the actions are in lower case: 'cascade', 'set null', ..."""

    name: str
    columns: tuple[str, ...]
    target: TableName
    target_columns: tuple[str, ...]
    on_delete: str = "no action"
    on_update: str = "no action"
    deferrable: bool = False
    initially_deferred: bool = False


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogUnique:
    """A unique constraint or index; `columns` is empty for one over expressions.

    `predicate` is the engine's text of a partial one, '' for a whole one.
    """

    name: str
    columns: tuple[str, ...]
    predicate: str = ""
    nulls_distinct: bool = True


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogTable:
    """A table as the database's own catalog has it."""

    name: TableName
    columns: tuple[CatalogColumn, ...]
    primary_key: tuple[str, ...]
    foreign_keys: tuple[CatalogForeignKey, ...] = ()
    uniques: tuple[CatalogUnique, ...] = ()
    # Triggers of the application, by name: not ours.
    triggers: tuple[str, ...] = ()
    # Rows by the engine's own estimate, -1 where it has none.
    estimated_rows: int = -1
    # Other facts the dialect needs of it: engine, without rowid, partitioned, ...
    traits: Mapping[str, str] = field(default_factory=dict)

    def column(self, name: str) -> CatalogColumn | None:
        """Return its column of that name, None where there is none."""
        return next((column for column in self.columns if column.name == name), None)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """The tables of a database, ours left out, by name.

    `personal` is not the database's: what is personal in which table, put there by who chose it,
    for an engine where the trigger of one table must write what a cascade does to others.
    """

    dialect: str
    tables: Mapping[TableName, CatalogTable]
    personal: Mapping[TableName, Mapping[str, str]] = field(default_factory=dict)

    def references_to(self, name: TableName) -> list[tuple[CatalogTable, CatalogForeignKey]]:
        """Return every foreign key that points to the table, with the table that has it."""
        return [
            (table, key)
            for table in self.tables.values()
            for key in table.foreign_keys
            if key.target == name
        ]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A table as it was when its triggers were generated; an entry names the shape it was made in.

    `table_id` stays the same through renames and changes of the table. `personal` maps a column to
    the column of the same table that names the person it is about. `blocks_truncate`: a TRUNCATE is
    to be refused, where the engine can, in place of being captured.
    """

    id: int
    table_id: int
    table: CatalogTable
    personal: Mapping[str, str] = field(default_factory=dict)
    blocks_truncate: bool = False


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of the log: what happened to one row of the application.

    `key` are the cells of the primary key, in its order, before the change; None for a table
    without one. Of an update `old` and `new` have the columns that changed (all of them where
    there is no primary key). `position` orders entries for sealing; `tx` names the context.
    """

    seq: int
    position: int
    at_microseconds: int
    tx: str
    table_id: int
    shape_id: int
    op: str
    key: str | None
    old: str | None
    new: str | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Who and what a transaction was for. `continues` names the first context of the transaction
    where the actor changed within it, '' elsewhere.
    """

    tx: str
    at_microseconds: int
    actor: str = ""
    actor_kind: str = "unknown"
    on_behalf_of: str = ""
    correlation_id: str = ""
    trace_id: str = ""
    route: str = ""
    address: str = ""
    db_user: str = ""
    application: str = ""
    note: str = ""
    continues: str = ""

    @property
    def transaction(self) -> str:
        """The name of the whole transaction."""
        return self.continues or self.tx
