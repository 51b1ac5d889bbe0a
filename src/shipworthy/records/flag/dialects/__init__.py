"""What differs between databases when a table comes under flag mode: its statements, as texts.

Names are quoted by the dialects; nothing is executed here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from typing import Final, Protocol, final

from shipworthy.audit import CatalogForeignKey, CatalogTable, CatalogUnique, TableName


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FlagStatement:
    """One statement and what takes it back; `alone` where it builds beside the traffic."""

    sql: str
    undo: str = ""
    alone: bool = False


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FlaggedCatalogTable:
    """A table as the catalog has it, and which of its columns flags."""

    table: CatalogTable
    column: str

    @property
    def name(self) -> TableName:
        """The name of the table."""
        return self.table.name


class FlagDialect(Protocol):
    """One kind of database, as `adopt` speaks with it."""

    @property
    def upserts_name_the_index(self) -> bool:
        """Whether an upsert names the columns of a whole unique index, and fails without."""
        ...

    @property
    def new_id(self) -> str:
        """An expression that gives each row an id of its own."""
        ...

    def add_columns(
        self, table: CatalogTable, columns: Sequence[str], column: str
    ) -> list[FlagStatement]:
        """Add those of our two columns that are named; `column` has the time."""
        ...

    def index_ids(self, table: CatalogTable) -> list[FlagStatement]:
        """Make the index that finds the rows of a deletion."""
        ...

    def pair(self, flagged: FlaggedCatalogTable) -> list[FlagStatement]:
        """Have the database refuse a time without an id; none where that would copy the table."""
        ...

    def prove_pair(self, flagged: FlaggedCatalogTable) -> list[FlagStatement]:
        """Have it look at the rows there are, once all have an id."""
        ...

    def live_unique(
        self, flagged: FlaggedCatalogTable, unique: CatalogUnique, *, constraint: bool
    ) -> list[FlagStatement]:
        """Make `unique` count among live rows only."""
        ...

    def guard(
        self, child: CatalogTable, key: CatalogForeignKey, parent: FlaggedCatalogTable
    ) -> list[FlagStatement]:
        """Refuse a row that comes under a flagged parent, also under one that is being flagged."""
        ...

    def shadow(
        self,
        flagged: FlaggedCatalogTable,
        along: Sequence[tuple[FlaggedCatalogTable, CatalogForeignKey]],
    ) -> list[FlagStatement]:
        """Make the view that raw SQL reads in place of the table; none where there is no way.

        `along` are the flagged tables whose rows go with a deleted row: here the database itself
        flags them, for who reads views cannot find the row that they go with.
        """
        ...

    def shadow_role(self, role: str) -> list[FlagStatement]:
        """Have a role read the views first."""
        ...


_MODULES: Final[Mapping[str, tuple[str, str]]] = {
    "sqlite": ("shipworthy.records.flag.dialects.sqlite", "SQLITE_FLAGS"),
    "postgresql": ("shipworthy.records.flag.dialects.postgresql", "POSTGRESQL_FLAGS"),
    "mysql": ("shipworthy.records.flag.dialects.mariadb", "MARIADB_FLAGS"),
    "mariadb": ("shipworthy.records.flag.dialects.mariadb", "MARIADB_FLAGS"),
}


def flag_dialect(name: str) -> FlagDialect:
    """Return the dialect that SQLAlchemy calls `name`; `KeyError` for one that has none."""
    module, attribute = _MODULES[name]
    dialect: FlagDialect = getattr(import_module(module), attribute)
    return dialect


def own_name(kind: str, *parts: str) -> str:
    """Return a name of ours for something that belongs to `parts`, short enough everywhere."""
    plain = "_".join(parts)
    if len(plain) > 38:
        plain = f"{plain[:29]}_{sha256(plain.encode()).hexdigest()[:8]}"
    return f"shipworthy_flag_{kind}_{plain}"


def refusal(child: str, parent: str) -> str:
    """Return what the guard says, as a text of SQL without its quotes."""
    return f"a row of {child} refers to a row of {parent} that is deleted".replace("'", "''")
