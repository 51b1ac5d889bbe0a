"""MariaDB's own catalog, read whole in five statements.

Not here: what is made of it (`mariadb_triggers`, `mariadb_cascades`).
"""

from collections import defaultdict
from typing import Any, Final

import sqlalchemy as sa

from shipworthy.audit.dialects import TriggerState
from shipworthy.audit.dialects.mariadb_cells import name as quoted
from shipworthy.audit.dialects.mariadb_triggers import trigger_statement
from shipworthy.audit.model import (
    Catalog,
    CatalogColumn,
    CatalogForeignKey,
    CatalogTable,
    CatalogUnique,
    TableName,
)
from shipworthy.audit.tables import PREFIX

_TABLES: Final = """
SELECT TABLE_NAME AS name, ENGINE AS engine, TABLE_TYPE AS type, TABLE_ROWS AS estimate,
       CREATE_OPTIONS AS options
FROM information_schema.TABLES
WHERE TABLE_SCHEMA = DATABASE() AND TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')
ORDER BY TABLE_NAME
"""
_COLUMNS: Final = """
SELECT c.TABLE_NAME AS `table`, c.COLUMN_NAME AS name, c.COLUMN_TYPE AS type,
       c.CHARACTER_SET_NAME AS charset, c.ORDINAL_POSITION AS number, c.IS_NULLABLE AS nullable,
       c.COLUMN_DEFAULT AS standard, c.EXTRA AS extra, c.IS_GENERATED AS generated,
       EXISTS (SELECT 1 FROM information_schema.CHECK_CONSTRAINTS k
               WHERE k.CONSTRAINT_SCHEMA = DATABASE() AND k.TABLE_NAME = c.TABLE_NAME
                 AND k.CONSTRAINT_NAME = c.COLUMN_NAME
                 AND k.CHECK_CLAUSE = CONCAT('json_valid(`', c.COLUMN_NAME, '`)')) AS json
FROM information_schema.COLUMNS c
WHERE c.TABLE_SCHEMA = DATABASE()
ORDER BY c.TABLE_NAME, c.ORDINAL_POSITION
"""
_INDEXES: Final = """
SELECT TABLE_NAME AS `table`, INDEX_NAME AS name, COLUMN_NAME AS `column`, SUB_PART AS part
FROM information_schema.STATISTICS
WHERE TABLE_SCHEMA = DATABASE() AND NON_UNIQUE = 0
ORDER BY TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX
"""
_FOREIGN_KEYS: Final = """
SELECT r.TABLE_NAME AS `table`, r.CONSTRAINT_NAME AS name, r.DELETE_RULE AS on_delete,
       r.UPDATE_RULE AS on_update, k.COLUMN_NAME AS `column`, k.REFERENCED_TABLE_NAME AS target,
       k.REFERENCED_COLUMN_NAME AS target_column,
       IF(k.REFERENCED_TABLE_SCHEMA = DATABASE(), '', k.REFERENCED_TABLE_SCHEMA) AS target_schema
FROM information_schema.REFERENTIAL_CONSTRAINTS r
JOIN information_schema.KEY_COLUMN_USAGE k
  ON k.CONSTRAINT_SCHEMA = r.CONSTRAINT_SCHEMA AND k.CONSTRAINT_NAME = r.CONSTRAINT_NAME
 AND k.TABLE_NAME = r.TABLE_NAME AND k.TABLE_SCHEMA = DATABASE()
WHERE r.CONSTRAINT_SCHEMA = DATABASE()
ORDER BY r.TABLE_NAME, r.CONSTRAINT_NAME, k.ORDINAL_POSITION
"""
_TRIGGERS: Final = """
SELECT EVENT_OBJECT_TABLE AS `table`, TRIGGER_NAME AS name
FROM information_schema.TRIGGERS
WHERE TRIGGER_SCHEMA = DATABASE()
ORDER BY EVENT_OBJECT_TABLE, TRIGGER_NAME
"""
_OUR_TRIGGERS: Final = """
SELECT TRIGGER_NAME AS name, EVENT_OBJECT_TABLE AS `table`, ACTION_TIMING AS timing,
       EVENT_MANIPULATION AS event, SQL_MODE AS mode, ACTION_STATEMENT AS body
FROM information_schema.TRIGGERS
WHERE TRIGGER_SCHEMA = DATABASE()
ORDER BY TRIGGER_NAME
"""
# The version in which RANDOM_BYTES came.
_RANDOM_BYTES: Final = (10, 10)


def read_catalog(connection: sa.Connection) -> Catalog:
    """Return the application's tables: those of the connection's database, without ours."""
    columns = _grouped(connection, _COLUMNS)
    indexes = _grouped(connection, _INDEXES)
    foreign_keys = _grouped(connection, _FOREIGN_KEYS)
    triggers = _grouped(connection, _TRIGGERS)
    salted = (connection.dialect.server_version_info or ())[:2] >= _RANDOM_BYTES
    tables = {}
    for row in _rows(connection, _TABLES):
        if str(row["name"]).startswith(PREFIX):
            continue
        name = TableName(schema="", name=row["name"])
        uniques = _uniques(indexes[name.name])
        tables[name] = CatalogTable(
            name=name,
            columns=tuple(_column(found) for found in columns[name.name]),
            primary_key=next((u.columns for u in uniques if u.name == "PRIMARY"), ()),
            foreign_keys=_foreign_keys(foreign_keys[name.name]),
            uniques=tuple(unique for unique in uniques if unique.name != "PRIMARY"),
            triggers=tuple(
                found["name"]
                for found in triggers[name.name]
                if not str(found["name"]).startswith(PREFIX)
            ),
            estimated_rows=-1 if row["estimate"] is None else int(row["estimate"]),
            traits=_traits(row, indexes[name.name], salted=salted),
        )
    return Catalog(dialect="mariadb", tables=tables)


def _rows(connection: sa.Connection, statement: str) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(sa.text(statement)).mappings()]


def _grouped(connection: sa.Connection, statement: str) -> defaultdict[str, list[dict[str, Any]]]:
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in _rows(connection, statement):
        found[row["table"]].append(row)
    return found


def _column(row: dict[str, Any]) -> CatalogColumn:
    kind = "json" if row["json"] else str(row["type"])
    extra = str(row["extra"]).lower()
    return CatalogColumn(
        name=row["name"],
        type=f"{kind} character set {row['charset']}" if row["charset"] else kind,
        number=int(row["number"]),
        nullable=row["nullable"] == "YES",
        default=row["standard"],
        # The period columns of a table with system versioning are written by the engine alone.
        generated=row["generated"] == "ALWAYS" or "generated" in extra,
        identity="default" if "auto_increment" in extra else "",
    )


def _uniques(rows: list[dict[str, Any]]) -> list[CatalogUnique]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["name"], []).append(row)
    return [
        CatalogUnique(
            name=index,
            columns=tuple(row["column"] for row in parts),
            # An index over the first letters of a column forbids more than its columns say.
            predicate=", ".join(
                f"first {row['part']} of {row['column']}" for row in parts if row["part"]
            ),
        )
        for index, parts in found.items()
    ]


def _foreign_keys(rows: list[dict[str, Any]]) -> tuple[CatalogForeignKey, ...]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["name"], []).append(row)
    return tuple(
        CatalogForeignKey(
            name=name,
            columns=tuple(row["column"] for row in parts),
            target=TableName(schema=parts[0]["target_schema"], name=parts[0]["target"]),
            target_columns=tuple(row["target_column"] for row in parts),
            on_delete=str(parts[0]["on_delete"]).lower(),
            on_update=str(parts[0]["on_update"]).lower(),
        )
        for name, parts in found.items()
    )


def _traits(row: dict[str, Any], indexes: list[dict[str, Any]], *, salted: bool) -> dict[str, str]:
    traits = {"engine": str(row["engine"])}
    if row["type"] == "SYSTEM VERSIONED":
        traits["system_versioned"] = "yes"
    if "partitioned" in str(row["options"]):
        traits["partitioned"] = "yes"
    if not salted:
        traits["no_random_bytes"] = "yes"
    parts = [f"{part['name']}.{part['column']}={part['part']}" for part in indexes if part["part"]]
    if parts:
        traits["prefix_indexes"] = ", ".join(parts)
    return traits


def read_triggers(connection: sa.Connection) -> list[TriggerState]:
    """Return our triggers as the statements that would make them."""
    return [
        TriggerState(
            table=TableName(schema="", name=row["table"]),
            name=row["name"],
            text=trigger_statement(
                row["name"],
                timing=row["timing"],
                event=row["event"],
                table=row["table"],
                mode=row["mode"],
                body=row["body"],
            ),
            drop=f"DROP TRIGGER IF EXISTS {quoted(row['name'])}",
        )
        for row in _rows(connection, _OUR_TRIGGERS)
        if str(row["name"]).startswith(PREFIX)
    ]
