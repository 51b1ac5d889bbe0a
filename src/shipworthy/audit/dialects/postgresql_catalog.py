"""What tables a PostgreSQL database has, read from its own catalog and in the same words for all.

Listed are the ordinary and partitioned tables of the default schema. Not listed: partitions on
their own (triggers on the partitioned table are cloned to them), views, foreign tables (their rows
are another database's), temporary tables and those of extensions.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa

from shipworthy.audit.dialects.postgresql_names import (
    PARTITIONED,
    PARTITIONS,
    SCHEMA,
    TRIGGERS,
)
from shipworthy.audit.dialects.postgresql_text import (
    OUTPUT,
    SETTINGS,
    STEADY,
    TEXTS,
    TextFact,
    dump_texts,
)
from shipworthy.audit.model import (
    Catalog,
    CatalogColumn,
    CatalogForeignKey,
    CatalogTable,
    CatalogUnique,
    TableName,
)
from shipworthy.audit.tables import PREFIX
from shipworthy.errors import Misuse

_ACTIONS: Final = {
    "a": "no action",
    "r": "restrict",
    "c": "cascade",
    "n": "set null",
    "d": "set default",
}
_IDENTITY: Final = {"a": "always", "d": "default"}

_TABLES: Final = r"""
SELECT c.oid, c.relname AS name, c.relkind = 'p' AS partitioned, c.relpersistence = 'u' AS unlogged,
  c.relkind = 'p' OR c.relhassubclass AS heirs, c.reltuples::bigint AS estimated
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = :schema AND c.relkind IN ('r', 'p') AND NOT c.relispartition
AND c.relpersistence <> 't' AND NOT starts_with(c.relname, :prefix)
AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
  AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY c.relname
"""
_COLUMNS: Final = """
SELECT a.attrelid AS relation, a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
  a.attnum AS number, NOT a.attnotnull AS nullable, pg_get_expr(d.adbin, d.adrelid) AS default,
  a.attgenerated <> '' AS generated, a.attidentity::text AS identity, a.atttypid AS type_oid,
  a.atttypmod AS modifier,
  a.attcollation <> 0 AND a.attcollation <> 'pg_catalog."default"'::regcollation AS collated
FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = ANY (CAST(CAST(:relations AS text) AS oid[]))
AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
"""
# The primary key, foreign keys, and the partitions of each that are not its own.
_CONSTRAINTS: Final = """
SELECT c.conrelid AS relation, c.conname AS name, c.contype::text AS kind,
  c.confdeltype::text AS on_delete, c.confupdtype::text AS on_update,
  c.condeferrable AS deferrable, c.condeferred AS deferred,
  tn.nspname AS target_schema, t.relname AS target,
  (SELECT array_agg(a.attname::text ORDER BY k.place)
    FROM unnest(c.conkey) WITH ORDINALITY k(number, place)
    JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.number) AS columns,
  (SELECT array_agg(a.attname::text ORDER BY k.place)
    FROM unnest(c.confkey) WITH ORDINALITY k(number, place)
    JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.number) AS target_columns
FROM pg_constraint c LEFT JOIN pg_class t ON t.oid = c.confrelid
LEFT JOIN pg_namespace tn ON tn.oid = t.relnamespace
WHERE c.conrelid = ANY (CAST(CAST(:relations AS text) AS oid[]))
AND c.contype IN ('p', 'f') AND c.conparentid = 0
ORDER BY c.conrelid, c.conname
"""
# `indnullsnotdistinct` came with version 15.
_UNIQUES: Final = """
SELECT i.indrelid AS relation, c.relname AS name,
  coalesce(pg_get_expr(i.indpred, i.indrelid), '') AS predicate,
  coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false) AS nulls_alike,
  CASE WHEN 0 = ANY (i.indkey[0:i.indnkeyatts - 1]) THEN '{}'::text[] ELSE
  (SELECT array_agg(a.attname::text ORDER BY k.place)
    FROM unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY k(number, place)
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number) END AS columns
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = ANY (CAST(CAST(:relations AS text) AS oid[]))
AND i.indisunique AND NOT i.indisprimary
ORDER BY i.indrelid, c.relname
"""
_TRIGGERS: Final = """
SELECT t.tgrelid AS relation, t.tgname AS name FROM pg_trigger t
WHERE t.tgrelid = ANY (CAST(CAST(:relations AS text) AS oid[]))
AND NOT t.tgisinternal
AND NOT starts_with(t.tgname, :ours)
ORDER BY t.tgrelid, t.tgname
"""
_LEAVES: Final = """
SELECT r.oid AS relation, n.nspname AS schema, c.relname AS name,
  c.reltuples::bigint AS estimated
FROM unnest(CAST(CAST(:relations AS text) AS oid[])) r(oid)
CROSS JOIN LATERAL pg_partition_tree(r.oid) p
JOIN pg_class c ON c.oid = p.relid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE p.isleaf AND c.relkind = 'r' ORDER BY r.oid, n.nspname, c.relname
"""
# Every type that a column's type is made of.
_TYPES: Final = """
WITH RECURSIVE part(whole, oid) AS (
  SELECT oid, typbasetype FROM pg_type WHERE typtype = 'd'
  UNION ALL SELECT oid, typelem FROM pg_type WHERE typcategory = 'A' AND typelem <> 0
  UNION ALL SELECT t.oid, a.atttypid FROM pg_type t JOIN pg_attribute a ON a.attrelid = t.typrelid
    WHERE t.typtype = 'c' AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL SELECT r.rngtypid, r.rngsubtype FROM pg_range r
  UNION ALL SELECT r.rngmultitypid, r.rngsubtype FROM pg_range r
), known(oid) AS (
  SELECT DISTINCT unnest(CAST(CAST(:types AS text) AS oid[]))
  UNION SELECT part.oid FROM known JOIN part ON part.whole = known.oid
)
SELECT t.oid, t.typname AS name, t.typtype::text AS kind, t.typcategory = 'A' AS is_array,
  t.typbasetype AS base, t.typtypmod AS modifier, n.nspname = 'pg_catalog' AS builtin,
  ARRAY(SELECT part.oid::bigint FROM part WHERE part.whole = t.oid) AS parts
FROM known JOIN pg_type t ON t.oid = known.oid JOIN pg_namespace n ON n.oid = t.typnamespace
"""

_Rows = Mapping[int, Sequence[Any]]


def read_catalog(connection: sa.Connection) -> Catalog:
    """Return the application's tables, with names of types the same whoever asks."""
    schema = default_schema(connection)
    with plain_names(connection):
        return _read(connection, schema)


def default_schema(connection: sa.Connection) -> str:
    """Return the schema in which new tables are made for this connection; `Misuse` for none."""
    found: str | None = connection.scalar(sa.text("SELECT current_schema()"))
    if found is None:
        raise Misuse(
            "no schema of the search_path exists, so there is no default schema to work in; "
            "set search_path for this role or in the URL"
        )
    return found


@contextmanager
def plain_names(connection: sa.Connection) -> Iterator[None]:
    """Search only pg_catalog, so that the catalog writes every other name with its schema."""
    before = connection.scalar(
        sa.text(
            "SELECT CASE WHEN set_config('search_path', 'pg_catalog', true) <> '' THEN kept END"
            " FROM (SELECT current_setting('search_path') AS kept OFFSET 0) AS before"
        )
    )
    yield
    # After an error there is nothing to put back: the setting goes with what is rolled back.
    connection.execute(sa.text("SELECT set_config('search_path', :kept, true)"), {"kept": before})


def _read(connection: sa.Connection, schema: str) -> Catalog:
    heads = connection.execute(sa.text(_TABLES), {"schema": schema, "prefix": PREFIX}).all()
    relations = [head.oid for head in heads]
    split = [head.oid for head in heads if head.partitioned]
    columns = _by_relation(connection, _COLUMNS, relations)
    types = _types(connection, {row.type_oid for rows in columns.values() for row in rows})
    constraints = _by_relation(connection, _CONSTRAINTS, relations)
    uniques = _by_relation(connection, _UNIQUES, relations)
    triggers = _by_relation(connection, _TRIGGERS, relations, ours=TRIGGERS)
    leaves = _by_relation(connection, _LEAVES, split) if split else {}
    tables = {}
    for head in heads:
        name = TableName(schema="", name=head.name)
        bound = constraints.get(head.oid, ())
        traits = {
            SCHEMA: schema,
            TEXTS: dump_texts({row.name: _text(row, types) for row in columns.get(head.oid, ())}),
        }
        estimated = head.estimated
        if head.partitioned:
            parts = leaves.get(head.oid, ())
            traits[PARTITIONED] = "yes"
            traits[PARTITIONS] = json.dumps([[part.schema, part.name] for part in parts])
            known = [part.estimated for part in parts]
            estimated = sum(known) if known and min(known) >= 0 else -1
        if head.unlogged:
            traits["unlogged"] = "yes"
        tables[name] = CatalogTable(
            name=name,
            columns=tuple(_column(row) for row in columns.get(head.oid, ())),
            primary_key=next((tuple(row.columns) for row in bound if row.kind == "p"), ()),
            foreign_keys=tuple(_foreign_key(row, schema) for row in bound if row.kind == "f"),
            uniques=tuple(
                CatalogUnique(
                    name=row.name,
                    columns=tuple(row.columns),
                    predicate=row.predicate,
                    nulls_distinct=not row.nulls_alike,
                )
                for row in uniques.get(head.oid, ())
            ),
            triggers=tuple(row.name for row in triggers.get(head.oid, ())),
            estimated_rows=estimated,
            traits=traits,
        )
    return Catalog(dialect="postgresql", tables=tables)


def _by_relation(
    connection: sa.Connection, query: str, relations: Sequence[int], **more: str
) -> _Rows:
    found = defaultdict(list)
    for row in connection.execute(sa.text(query), {"relations": _oids(relations), **more}):
        found[row.relation].append(row)
    return found


def _oids(numbers: Sequence[int] | set[int]) -> str:
    # As text, for every driver sends lists in its own way.
    return "{" + ",".join(str(number) for number in numbers) + "}"


def _column(row: Any) -> CatalogColumn:
    return CatalogColumn(
        name=row.name,
        type=row.type,
        number=row.number,
        nullable=row.nullable,
        default=None if row.generated else row.default,
        generated=row.generated,
        identity=_IDENTITY.get(row.identity, ""),
    )


def _foreign_key(row: Any, schema: str) -> CatalogForeignKey:
    return CatalogForeignKey(
        name=row.name,
        columns=tuple(row.columns),
        target=TableName(
            schema="" if row.target_schema == schema else row.target_schema, name=row.target
        ),
        target_columns=tuple(row.target_columns),
        on_delete=_ACTIONS[row.on_delete],
        on_update=_ACTIONS[row.on_update],
        deferrable=row.deferrable,
        initially_deferred=row.deferred,
    )


def _types(connection: sa.Connection, wanted: set[int]) -> dict[int, Any]:
    rows = connection.execute(sa.text(_TYPES), {"types": _oids(wanted)})
    return {row.oid: row for row in rows}


def _text(column: Any, types: Mapping[int, Any]) -> TextFact:
    found = types[column.type_oid]
    modifier = column.modifier
    while found.kind == "d":
        modifier = found.modifier
        found = types[found.base]
    needed = _settings(found.oid, types)
    return TextFact(
        base=_base(found),
        settings=tuple(name for name in SETTINGS if name in needed),
        loose=modifier < 0 or column.collated,
    )


def _base(found: Any) -> str:
    kinds = {"e": "enum", "c": "composite", "r": "range", "m": "range"}
    if found.is_array:
        return "array"
    if found.kind in kinds:
        return kinds[found.kind]
    return found.name if found.builtin else "other"


def _settings(oid: int, types: Mapping[int, Any]) -> set[str]:
    """Return what the output of a type depends on; a type of an extension, on all of it."""
    found = types[oid]
    if found.kind == "d":
        return _settings(found.base, types)
    needed: set[str] = set()
    for part in found.parts or ():
        needed |= _settings(part, types)
    if found.is_array or found.kind in "ecrm":
        return needed
    if not found.builtin:
        return needed if found.name in STEADY else set(SETTINGS)
    return needed | set(OUTPUT.get(found.name, ()))
