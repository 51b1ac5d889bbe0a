"""Our triggers in a PostgreSQL database as they are now, those of the log itself among them."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa

from shipworthy.audit.dialects import TriggerState
from shipworthy.audit.dialects.postgresql_base import GUARDED
from shipworthy.audit.dialects.postgresql_catalog import default_schema, plain_names
from shipworthy.audit.dialects.postgresql_names import ENTER, GUARD, TRIGGERS, quoted
from shipworthy.audit.dialects.postgresql_triggers import TriggerFacts, known_as
from shipworthy.audit.model import TableName
from shipworthy.audit.tables import CONTEXTS

# A trigger that was put on a partition by cloning counts with the one it was cloned from: it is on
# when all of them are. One of TRUNCATE stands on each partition, under the table's name.
_TRIGGERS: Final = r"""
SELECT n.nspname AS schema, coalesce(root.relname, c.relname) AS table, c.relname AS relation,
  t.tgname AS name, t.tgtype AS kind,
  coalesce(substring(pg_get_triggerdef(t.oid) FROM ' WHEN (.*) EXECUTE FUNCTION '), '') AS said,
  pn.nspname AS function_schema, p.proname AS function, p.prosecdef AS definer,
  coalesce(array_to_string(p.proconfig, ', '), '') AS settings, p.prosrc AS body,
  (WITH RECURSIVE clones(oid, enabled) AS (
    SELECT t.oid, t.tgenabled = 'A'
    UNION ALL
    SELECT k.oid, k.tgenabled = 'A' FROM pg_trigger k JOIN clones ON k.tgparentid = clones.oid
  ) SELECT bool_and(enabled) FROM clones) AS enabled
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace pn ON pn.oid = p.pronamespace
LEFT JOIN pg_class root ON c.relispartition AND root.oid = pg_partition_root(c.oid)
WHERE t.tgparentid = 0 AND starts_with(t.tgname, :ours)
ORDER BY 2, 3, 4
"""
# Also where it is missing, as off: nothing else would miss it.
_GUARDS: Final = """
SELECT c.relname AS table, coalesce(p.prosrc, '') AS body,
  coalesce(t.tgenabled = 'A' AND t.tgtype = 58, false) AS enabled
FROM pg_class c LEFT JOIN pg_trigger t ON t.tgrelid = c.oid AND t.tgname = :guard
LEFT JOIN pg_proc p ON p.oid = t.tgfoid
WHERE c.relnamespace = to_regnamespace(quote_ident(:schema)) AND c.relkind = 'r'
AND c.relname = ANY (CAST(CAST(:tables AS text) AS text[]))
ORDER BY 1
"""
# With the schema left out, as `postgresql_base` has it.
_ENTER: Final = """
SELECT replace(p.prosrc, quote_ident(:schema) || '.', '@schema.') AS body,
  p.prosecdef AS enabled FROM pg_proc p
WHERE p.pronamespace = to_regnamespace(quote_ident(:schema)) AND p.proname = :enter
"""


def read_triggers(connection: sa.Connection) -> list[TriggerState]:
    """Return our triggers, their texts written as `postgresql_triggers` predicts them."""
    schema = default_schema(connection)
    with plain_names(connection):
        rows = connection.execute(sa.text(_TRIGGERS), {"ours": TRIGGERS}).all()
        guards = connection.execute(
            sa.text(_GUARDS),
            {"guard": GUARD, "schema": schema, "tables": f"{{{','.join(GUARDED)}}}"},
        ).all()
        entering = connection.execute(sa.text(_ENTER), {"enter": ENTER, "schema": schema}).all()
    found = [_state(row, schema) for row in rows]
    if guards:
        found += _of_the_log(guards, entering)
    return found


def _state(row: Any, schema: str) -> TriggerState:
    facts = TriggerFacts(
        kind=row.kind,
        when=row.said,
        function=f"{quoted(row.function_schema)}.{row.function}()",
        definer=row.definer,
        settings=row.settings,
        body=row.body,
    )
    return TriggerState(
        table=TableName(schema="" if row.schema == schema else row.schema, name=row.table),
        name=known_as(row.name, row.relation, row.table),
        text=facts.text(),
        enabled=row.enabled,
        drop=f"DROP TRIGGER IF EXISTS {quoted(row.name)} "
        f"ON {quoted(row.schema)}.{quoted(row.relation)}",
    )


def _of_the_log(guards: Sequence[Any], entering: Sequence[Any]) -> Iterator[TriggerState]:
    """What guards the log, and the function that writes who a transaction was for."""
    for row in guards:
        name = TableName(schema="", name=row.table)
        yield TriggerState(table=name, name=GUARD, text=row.body, enabled=row.enabled)
    yield TriggerState(
        table=TableName(schema="", name=CONTEXTS.name),
        name=ENTER,
        text=entering[0].body if entering else "",
        enabled=bool(entering) and entering[0].enabled,
    )
