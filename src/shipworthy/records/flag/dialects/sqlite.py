"""SQLite: partial indexes, and guards that need no lock, for there is one writer at a time."""

from collections.abc import Sequence
from typing import Final, final

from shipworthy.audit import CatalogForeignKey, CatalogTable, CatalogUnique
from shipworthy.records.flag.dialects import (
    FlaggedCatalogTable,
    FlagStatement,
    own_name,
    refusal,
)
from shipworthy.records.flag.marks import ID_CHARACTERS, ID_COLUMN


@final
class SqliteFlags:
    """The statements of SQLite."""

    upserts_name_the_index = True
    new_id = "lower(hex(randomblob(16)))"

    def add_columns(
        self, table: CatalogTable, columns: Sequence[str], column: str
    ) -> list[FlagStatement]:
        kinds = {column: "DATETIME", ID_COLUMN: f"VARCHAR({ID_CHARACTERS})"}
        return [
            FlagStatement(
                sql=f"ALTER TABLE {_quote(table.name.name)} ADD COLUMN {_quote(it)} {kinds[it]}"
            )
            for it in columns
        ]

    def index_ids(self, table: CatalogTable) -> list[FlagStatement]:
        only = f"({_quote(ID_COLUMN)}) WHERE {_quote(ID_COLUMN)} IS NOT NULL"
        return [_index("", own_name("id", table.name.name), table, only)]

    def pair(self, flagged: FlaggedCatalogTable) -> list[FlagStatement]:
        # A CHECK comes only with a new table.
        return []

    def prove_pair(self, flagged: FlaggedCatalogTable) -> list[FlagStatement]:
        return []

    def live_unique(
        self, flagged: FlaggedCatalogTable, unique: CatalogUnique, *, constraint: bool
    ) -> list[FlagStatement]:
        table, old = flagged.table, _quote(unique.name)
        columns = ", ".join(_quote(it) for it in unique.columns)
        only = f"({columns}) WHERE {_quote(flagged.column)} IS NULL"
        return [
            _index("UNIQUE ", own_name("live", table.name.name, unique.name), table, only),
            FlagStatement(
                sql=f"DROP INDEX {old}",
                undo=f"CREATE UNIQUE INDEX {old} ON {_quote(table.name.name)} ({columns})",
            ),
        ]

    def guard(
        self, child: CatalogTable, key: CatalogForeignKey, parent: FlaggedCatalogTable
    ) -> list[FlagStatement]:
        same = " AND ".join(
            f"p.{_quote(far)} = NEW.{_quote(near)}"
            for near, far in zip(key.columns, key.target_columns, strict=True)
        )
        columns = ", ".join(_quote(it) for it in key.columns)
        text = refusal(child.name.name, parent.name.name)
        found = []
        for event in ("INSERT", f"UPDATE OF {columns}"):
            name = _quote(own_name(f"guard_{event[0].lower()}", child.name.name, *key.columns))
            found.append(
                FlagStatement(
                    sql=f"CREATE TRIGGER IF NOT EXISTS {name} BEFORE {event} ON "
                    f"{_quote(child.name.name)} WHEN EXISTS (SELECT 1 FROM "
                    f"{_quote(parent.name.name)} p WHERE {same} AND p.{_quote(parent.column)} "
                    f"IS NOT NULL) BEGIN SELECT RAISE(ABORT, '{text}'); END",
                    undo=f"DROP TRIGGER IF EXISTS {name}",
                )
            )
        return found

    def shadow(
        self,
        flagged: FlaggedCatalogTable,
        along: Sequence[tuple[FlaggedCatalogTable, CatalogForeignKey]],
    ) -> list[FlagStatement]:
        # A view in place of the table has no RETURNING; before it there is no place for one.
        return []

    def shadow_role(self, role: str) -> list[FlagStatement]:
        return []


def _index(kind: str, name: str, table: CatalogTable, what: str) -> FlagStatement:
    return FlagStatement(
        sql=f"CREATE {kind}INDEX IF NOT EXISTS {_quote(name)} ON {_quote(table.name.name)} {what}",
        undo=f"DROP INDEX IF EXISTS {_quote(name)}",
    )


def _quote(name: str) -> str:
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


SQLITE_FLAGS: Final = SqliteFlags()
