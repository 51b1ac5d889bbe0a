"""MariaDB: no partial index, so a generated column says which rows are live."""

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

_ONLINE: Final = "ALGORITHM=INPLACE, LOCK=NONE"


@final
class MariadbFlags:
    """The statements of MariaDB."""

    # ON DUPLICATE KEY UPDATE takes whichever unique index it runs into.
    upserts_name_the_index = False
    new_id = "md5(concat(uuid(), rand()))"

    def add_columns(
        self, table: CatalogTable, columns: Sequence[str], column: str
    ) -> list[FlagStatement]:
        kinds = {column: "datetime(6)", ID_COLUMN: f"varchar({ID_CHARACTERS})"}
        return [
            FlagStatement(
                sql=f"ALTER TABLE {_quote(table.name.name)} ADD COLUMN {_quote(it)} {kinds[it]} "
                "NULL, ALGORITHM=INSTANT"
            )
            for it in columns
        ]

    def index_ids(self, table: CatalogTable) -> list[FlagStatement]:
        return [_index("", own_name("id", table.name.name), table, _quote(ID_COLUMN))]

    def pair(self, flagged: FlaggedCatalogTable) -> list[FlagStatement]:
        # A CHECK is proven at once, by a copy of the table.
        return []

    def prove_pair(self, flagged: FlaggedCatalogTable) -> list[FlagStatement]:
        return []

    def live_unique(
        self, flagged: FlaggedCatalogTable, unique: CatalogUnique, *, constraint: bool
    ) -> list[FlagStatement]:
        table = flagged.table
        name, old = _quote(table.name.name), _quote(unique.name)
        columns = ", ".join(_quote(it) for it in unique.columns)
        new = own_name("live", table.name.name, unique.name)
        return [
            FlagStatement(
                sql=f"ALTER TABLE {name} ADD COLUMN IF NOT EXISTS {_quote(new)} tinyint AS "
                f"(IF({_quote(flagged.column)} IS NULL, 1, NULL)) VIRTUAL",
                undo=f"ALTER TABLE {name} DROP COLUMN IF EXISTS {_quote(new)}",
            ),
            _index("UNIQUE ", new, table, f"{columns}, {_quote(new)}"),
            FlagStatement(
                sql=f"ALTER TABLE {name} DROP INDEX {old}, {_ONLINE}",
                undo=f"ALTER TABLE {name} ADD UNIQUE INDEX {old} ({columns}), {_ONLINE}",
            ),
        ]

    def guard(
        self, child: CatalogTable, key: CatalogForeignKey, parent: FlaggedCatalogTable
    ) -> list[FlagStatement]:
        same = " AND ".join(
            f"p.{_quote(far)} = NEW.{_quote(near)}"
            for near, far in zip(key.columns, key.target_columns, strict=True)
        )
        moved = " OR ".join(f"NOT (NEW.{_quote(it)} <=> OLD.{_quote(it)})" for it in key.columns)
        text = refusal(child.name.name, parent.name.name)
        found = []
        for event, when in (("INSERT", "TRUE"), ("UPDATE", moved)):
            name = _quote(own_name(f"guard_{event[0].lower()}", child.name.name, key.name))
            body = (
                f"BEGIN\n  DECLARE gone datetime(6);\n  IF {when} THEN\n"
                f"    SET gone = (SELECT p.{_quote(parent.column)} FROM "
                f"{_quote(parent.name.name)} p WHERE {same} LIMIT 1 LOCK IN SHARE MODE);\n"
                "    IF gone IS NOT NULL THEN\n"
                f"      SIGNAL SQLSTATE '23000' SET MYSQL_ERRNO = 1452, MESSAGE_TEXT = '{text}';\n"
                "    END IF;\n  END IF;\nEND"
            )
            found.append(
                FlagStatement(
                    sql=f"CREATE OR REPLACE TRIGGER {name} BEFORE {event} ON "
                    f"{_quote(child.name.name)} FOR EACH ROW {body}",
                    undo=f"DROP TRIGGER IF EXISTS {name}",
                )
            )
        return found

    def shadow(
        self,
        flagged: FlaggedCatalogTable,
        along: Sequence[tuple[FlaggedCatalogTable, CatalogForeignKey]],
    ) -> list[FlagStatement]:
        # There is no path of schemas in which a view could stand before its table.
        return []

    def shadow_role(self, role: str) -> list[FlagStatement]:
        return []


def _index(kind: str, name: str, table: CatalogTable, columns: str) -> FlagStatement:
    return FlagStatement(
        sql=f"CREATE {kind}INDEX IF NOT EXISTS {_quote(name)} ON {_quote(table.name.name)} "
        f"({columns}) ALGORITHM=INPLACE LOCK=NONE",
        undo=f"DROP INDEX IF EXISTS {_quote(name)} ON {_quote(table.name.name)}",
    )


def _quote(name: str) -> str:
    escaped = name.replace("`", "``")
    return f"`{escaped}`"


MARIADB_FLAGS: Final = MariadbFlags()
