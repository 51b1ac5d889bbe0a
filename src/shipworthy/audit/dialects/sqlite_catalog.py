"""SQLite: the application's tables, read from the database itself."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from shipworthy.audit.dialects import TriggerState
from shipworthy.audit.dialects.sqlite_cells import literal, name as quoted
from shipworthy.audit.dialects.sqlite_sql import index_predicate, reference_clauses
from shipworthy.audit.model import (
    Catalog,
    CatalogColumn,
    CatalogForeignKey,
    CatalogTable,
    CatalogUnique,
    TableName,
)
from shipworthy.audit.tables import PREFIX

# What table_xinfo says of a column in `hidden`.
_GENERATED: Final = frozenset({2, 3})
_EXPRESSION: Final = -2
_ASCII_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_OURS: Final = PREFIX.replace("_", r"\_") + "%"
_TRAIL: Final = f"{PREFIX}audit_".replace("_", r"\_") + "%"

Rows = Sequence[Mapping[str, Any]]


def read_catalog(connection: sa.Connection) -> Catalog:
    """Return the tables of the main database: no views, no virtual tables, none of ours."""

    def rows(sql: str) -> Rows:
        return [dict(row) for row in connection.exec_driver_sql(sql).mappings()]

    listed = rows(
        "SELECT name, wr, strict FROM pragma_table_list WHERE schema='main' AND type='table' "
        rf"AND name NOT LIKE '{_OURS}' ESCAPE '\' AND name NOT LIKE 'sqlite\_%' ESCAPE '\' "
        "ORDER BY name"
    )
    # By the names as SQLite compares them: a reference may spell a table in another case.
    infos = {
        _folded(found["name"]): rows(
            f'SELECT {literal(str(found["name"]))} AS "of", info.* '
            f"FROM pragma_table_xinfo({literal(str(found['name']))}) AS info ORDER BY cid"
        )
        for found in listed
    }
    texts = {
        str(found["name"]): str(found["sql"])
        for found in rows(
            "SELECT name, sql FROM main.sqlite_schema "
            "WHERE sql IS NOT NULL AND type IN ('table','index')"
        )
    }
    triggers = rows(
        "SELECT name, tbl_name FROM main.sqlite_schema WHERE type='trigger' "
        rf"AND name NOT LIKE '{_OURS}' ESCAPE '\' ORDER BY rowid"
    )
    estimates = _estimates(rows)
    tables: dict[TableName, CatalogTable] = {}
    for found in listed:
        table, folded = str(found["name"]), _folded(found["name"])
        indexes = rows(f"SELECT * FROM pragma_index_list({literal(table)}) ORDER BY name")
        key = _key(infos[folded])
        traits = _traits(found, infos[folded], key, indexes)
        rowid = traits.get("rowid_column", "")
        tables[TableName(schema="", name=table)] = CatalogTable(
            name=TableName(schema="", name=table),
            columns=tuple(_column(info, rowid) for info in infos[folded]),
            primary_key=key,
            foreign_keys=_foreign_keys(rows, table, texts[table], infos),
            uniques=_uniques(rows, indexes, texts),
            triggers=tuple(
                str(trigger["name"])
                for trigger in triggers
                if _folded(trigger["tbl_name"]) == folded
            ),
            estimated_rows=estimates.get(folded, -1),
            traits=traits,
        )
    return Catalog(dialect="sqlite", tables=tables)


def read_triggers(connection: sa.Connection) -> list[TriggerState]:
    """Return the triggers of the trail as they stand.

    Of those on a table SQLite runs the newest first. Where one of the application is newer than
    ours and writes to the row, its change would be in the log before what it changed: the text says
    so, so that it differs from what was generated, and making ours again mends it.
    """
    found = connection.exec_driver_sql(
        "SELECT ours.name, ours.tbl_name, ours.sql, (SELECT group_concat(newer.name) "
        "FROM main.sqlite_schema AS newer WHERE newer.type='trigger' "
        "AND newer.tbl_name=ours.tbl_name COLLATE NOCASE AND newer.rowid>ours.rowid "
        rf"AND newer.name NOT LIKE '{_OURS}' ESCAPE '\') FROM main.sqlite_schema AS ours "
        rf"WHERE ours.type='trigger' AND ours.name LIKE '{_TRAIL}' ESCAPE '\' ORDER BY ours.rowid"
    )
    return [
        TriggerState(
            table=TableName(schema="", name=table),
            name=trigger,
            text=f"{text} -- after {newer}, which is newer" if newer else text,
            drop=f"DROP TRIGGER IF EXISTS {quoted(trigger)}",
        )
        for trigger, table, text, newer in found
    ]


def _column(info: Mapping[str, Any], rowid_column: str) -> CatalogColumn:
    return CatalogColumn(
        name=str(info["name"]),
        type=str(info["type"]),
        number=int(info["cid"]) + 1,
        nullable=not info["notnull"] and info["name"] != rowid_column,
        default=None if info["dflt_value"] is None else str(info["dflt_value"]),
        generated=info["hidden"] in _GENERATED,
        identity="default" if info["name"] == rowid_column else "",
    )


def _traits(
    listed: Mapping[str, Any], infos: Rows, key: Sequence[str], indexes: Rows
) -> dict[str, str]:
    strict = {"strict": "yes"} if listed["strict"] else {}
    if listed["wr"]:
        return {**strict, "without_rowid": "yes"}
    declared = {str(info["name"]): str(info["type"]).upper() for info in infos}
    # A key that is the rowid needs no index of its own; INTEGER PRIMARY KEY DESC has one, and is
    # not the rowid.
    of_key = any(index["origin"] == "pk" for index in indexes)
    if len(key) == 1 and declared[key[0]] == "INTEGER" and not of_key:
        return {**strict, "rowid_column": key[0]}
    return strict


def _foreign_keys(
    rows: Callable[[str], Rows], table: str, create: str, infos: Mapping[str, Rows]
) -> tuple[CatalogForeignKey, ...]:
    """Return the foreign keys in the order they were written in, which SQLite lists backwards."""
    parts: dict[int, list[Mapping[str, Any]]] = {}
    for part in rows(f"SELECT * FROM pragma_foreign_key_list({literal(table)}) ORDER BY id, seq"):
        parts.setdefault(int(part["id"]), []).append(part)
    clauses = reference_clauses(create)
    found: list[CatalogForeignKey] = []
    for clause, number in zip(clauses, sorted(parts, reverse=True), strict=True):
        key = parts[number]
        columns = tuple(str(one["from"]) for one in key)
        target, target_columns = _target(key, infos)
        found.append(
            CatalogForeignKey(
                name=clause.name or f"{','.join(columns)} -> {target}",
                columns=columns,
                target=TableName(schema="", name=target),
                target_columns=target_columns,
                on_delete=str(key[0]["on_delete"]).lower(),
                on_update=str(key[0]["on_update"]).lower(),
                deferrable=clause.deferrable,
                initially_deferred=clause.initially_deferred,
            )
        )
    return tuple(found)


def _target(
    part: Sequence[Mapping[str, Any]], infos: Mapping[str, Rows]
) -> tuple[str, tuple[str, ...]]:
    """Return what is referenced as its own table spells it, not as the reference does.

    Where the reference names no columns they are the primary key.
    """
    written = str(part[0]["table"])
    its = infos.get(_folded(written), ())
    spelled = {_folded(info["name"]): str(info["name"]) for info in its}
    key = _key(its)
    columns = tuple(
        spelled.get(_folded(one["to"]), str(one["to"])) if one["to"] is not None else key[place]
        for place, one in enumerate(part)
        if one["to"] is not None or place < len(key)
    )
    return (str(its[0]["of"]) if its else written), columns


def _uniques(
    rows: Callable[[str], Rows], indexes: Rows, texts: Mapping[str, str]
) -> tuple[CatalogUnique, ...]:
    found: list[CatalogUnique] = []
    for index in indexes:
        if not index["unique"] or index["origin"] == "pk":
            continue
        named = str(index["name"])
        parts = rows(
            f'SELECT * FROM pragma_index_xinfo({literal(named)}) WHERE "key" ORDER BY seqno'
        )
        over_expressions = any(part["cid"] == _EXPRESSION for part in parts)
        found.append(
            CatalogUnique(
                name=named,
                columns=() if over_expressions else tuple(str(part["name"]) for part in parts),
                predicate=index_predicate(texts[named]) if index["partial"] else "",
            )
        )
    return tuple(found)


def _estimates(rows: Callable[[str], Rows]) -> dict[str, int]:
    """Return the rows that ANALYZE counted, by folded name of the table."""
    if not rows("SELECT 1 FROM main.sqlite_schema WHERE name='sqlite_stat1'"):
        return {}
    return {
        _folded(found["tbl"]): int(str(found["stat"]).split(" ", 1)[0])
        for found in rows("SELECT tbl, stat FROM main.sqlite_stat1 WHERE stat IS NOT NULL")
    }


def _key(infos: Rows) -> tuple[str, ...]:
    parts = sorted((info for info in infos if info["pk"]), key=lambda info: int(info["pk"]))
    return tuple(str(info["name"]) for info in parts)


def _folded(identifier: Any) -> str:
    """Return a name so that names SQLite takes for one are one: it folds only ASCII."""
    return str(identifier).translate(_ASCII_LOWER)
