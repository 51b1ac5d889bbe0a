"""SQLite: the triggers that capture a table, and those that guard the log; pure.

A capture trigger runs in every client that writes, so it names only what SQLite itself has. It
writes the log as if the client were not ours; what ours adds is in `sqlite_context`.
"""

import json
from collections.abc import Sequence
from typing import Final

from shipworthy.audit.dialects import CaptureDdl, TriggerState
from shipworthy.audit.dialects.sqlite_cells import (
    cell_sql,
    changed_sql,
    is_rowid,
    literal,
    name,
    quoted_cell_sql,
)
from shipworthy.audit.model import CatalogColumn, CatalogTable, Shape

# Milliseconds are all that SQLite's clock has; the same for all rows of a statement.
NOW: Final = "CAST(round((julianday('now')-2440587.5)*86400000.0) AS INTEGER)"
# Asks for the name of the context. To any client this is SQLite's own function, of NULLs, and so
# NULL. To a connection of ours it is another one, because SQLite tells functions apart by the count
# of their arguments too, and prefers the exact one (`sqlite_context`).
ASKED_FUNCTION: Final = "julianday"
ASKED_ARGUMENTS: Final = 12
_GIVEN_TX: Final = f"{ASKED_FUNCTION}({','.join(['NULL'] * ASKED_ARGUMENTS)})"
# json_object takes a hundred arguments: names and values.
_PAIRS: Final = 48
_OPERATIONS: Final = ("insert", "update", "delete")
# While this name stands in the trail's own table of facts, rows of the log may go: it is put there
# and taken away in one transaction, so no other connection ever sees it.
RETENTION: Final = "retention"
_NOT_RETENTION: Final = (
    f"NOT EXISTS (SELECT 1 FROM shipworthy_audit_meta WHERE name={literal(RETENTION)})"
)
_REFUSAL: Final = "the audit log is only added to; retention is how rows leave it"
_LAST_STAYS: Final = (
    "the newest entry of the audit log stays: its number would be given to another one"
)


def capture(shape: Shape) -> CaptureDdl:
    """Return the triggers of a table."""
    texts = (_insert(shape), _update(shape), _delete(shape))
    drops = tuple(
        f"DROP TRIGGER IF EXISTS {trigger_name(shape, operation)}" for operation in _OPERATIONS
    )
    return CaptureDdl(
        create=(*drops, *texts),
        drop=drops,
        refused=_refused(shape),
        triggers=tuple(
            TriggerState(table=shape.table.name, name=trigger_name(shape, operation), text=text)
            for operation, text in zip(_OPERATIONS, texts, strict=True)
        ),
    )


def guards() -> tuple[str, ...]:
    """Return the triggers by which rows of the log stay as they were written."""
    made: list[str] = []
    for guard, text in _GUARDS.items():
        made += [f"DROP TRIGGER IF EXISTS {guard}", f"CREATE TRIGGER {guard} {text}"]
    return tuple(made)


def guards_drop() -> tuple[str, ...]:
    """Return what takes the guards away."""
    return tuple(f"DROP TRIGGER IF EXISTS {guard}" for guard in _GUARDS)


def _guard(when: str, table: str, condition: str, refusal: str = _REFUSAL) -> str:
    return (
        f"{when} ON shipworthy_audit_{table} WHEN {condition} "
        f"BEGIN SELECT RAISE(ABORT,{literal(refusal)}); END"
    )


_GUARDS: Final = {
    # A REPLACE would take the old row away without asking the guard of deletes.
    "shipworthy_audit_guard_replace": _guard(
        "BEFORE INSERT",
        "entries",
        "NEW.seq>0 AND EXISTS (SELECT 1 FROM shipworthy_audit_entries WHERE seq=NEW.seq)",
    ),
    # A new entry has the number after the last. AUTOINCREMENT would remember that of one that is
    # gone, but reads and writes a table of its own for each statement that writes to the log.
    "shipworthy_audit_guard_last": _guard(
        "BEFORE DELETE",
        "entries",
        "OLD.seq=(SELECT max(seq) FROM shipworthy_audit_entries)",
        _LAST_STAYS,
    ),
    "shipworthy_audit_guard_update": _guard("BEFORE UPDATE", "entries", _NOT_RETENTION),
    "shipworthy_audit_guard_delete": _guard("BEFORE DELETE", "entries", _NOT_RETENTION),
    "shipworthy_audit_guard_context_update": _guard("BEFORE UPDATE", "contexts", _NOT_RETENTION),
    "shipworthy_audit_guard_context_delete": _guard("BEFORE DELETE", "contexts", _NOT_RETENTION),
}


def trigger_name(shape: Shape, operation: str) -> str:
    """Return the name of a capture trigger: the same as long as the table is the same."""
    return f"shipworthy_audit_{shape.table_id}_{operation}"


def _insert(shape: Shape) -> str:
    return _trigger(
        shape,
        "insert",
        f"{_entry(shape, 'I', _key(shape, 'NEW'), 'NULL', _image(shape, 'NEW'))}"
        f"{_personal(shape, new=True)}",
    )


def _delete(shape: Shape) -> str:
    return _trigger(
        shape,
        "delete",
        f"{_entry(shape, 'D', _key(shape, 'OLD'), _image(shape, 'OLD'), 'NULL')}"
        f"{_personal(shape, old=True)}",
    )


def _update(shape: Shape) -> str:
    table = shape.table
    image = _difference if table.primary_key else _image
    return _trigger(
        shape,
        "update",
        f"{_entry(shape, 'U', _key(shape, 'OLD'), image(shape, 'OLD'), image(shape, 'NEW'))}"
        f"{_personal(shape, old=True, new=True)}",
        _joined(" OR ", [changed_sql(table, column) for column in table.columns]),
    )


def _trigger(shape: Shape, operation: str, body: str, when: str = "") -> str:
    condition = f" WHEN {when}" if when else ""
    return (
        f"CREATE TRIGGER {trigger_name(shape, operation)} AFTER {operation.upper()} "
        f"ON {name(shape.table.name.name)} FOR EACH ROW{condition} BEGIN {body} END"
    )


def _entry(shape: Shape, op: str, key: str, old: str, new: str) -> str:
    return (
        "INSERT INTO shipworthy_audit_entries"
        '(position,at_microseconds,tx,table_id,shape_id,op,"key",old,new) VALUES('
        f"0,{NOW}*1000,coalesce({_GIVEN_TX},'s'||{NOW}),"
        f"{shape.table_id},{shape.id},'{op}',{key},{old},{new});"
    )


def _key(shape: Shape, side: str) -> str:
    table = shape.table
    columns = [column for key in table.primary_key if (column := table.column(key)) is not None]
    if not columns:
        return "NULL"
    if is_rowid(table, columns[0]):
        # What most tables have, and what needs no quoting.
        return f"'[\"i'||{side}.{name(columns[0].name)}||'\"]'"
    cells = [cell_sql(table, column, f"{side}.{name(column.name)}") for column in columns]
    chunks = [
        f"json_array({','.join(cells[start : start + _PAIRS])})"
        for start in range(0, len(cells), _PAIRS)
    ]
    if len(chunks) == 1:
        return chunks[0]
    inner = _joined("||','||", [f"substr({chunk},2,length({chunk})-2)" for chunk in chunks])
    return f"'['||{inner}||']'"


def image_sql(table: CatalogTable, side: str) -> str:
    """Return the SQL of a row's whole image, no value kept beside it."""
    return _object(
        [
            f"{literal(column.name)},{cell_sql(table, column, f'{side}.{name(column.name)}')}"
            for column in table.columns
        ]
    )


def _image(shape: Shape, side: str) -> str:
    return _object(
        [f"{literal(column.name)},{_cell(shape, column, side)}" for column in shape.table.columns]
    )


def _object(pairs: Sequence[str]) -> str:
    chunks = [
        f"json_object({','.join(pairs[start : start + _PAIRS])})"
        for start in range(0, len(pairs), _PAIRS)
    ]
    if len(chunks) == 1:
        return chunks[0]
    # An object begins `{"` and ends with a quote or a letter before its brace: one goes each side.
    inner = _joined("||','||", [f"trim({chunk},'{{}}')" for chunk in chunks])
    return f"'{{'||{inner}||'}}'"


def _difference(shape: Shape, side: str) -> str:
    members = [
        f"CASE WHEN {changed_sql(shape.table, column)} THEN "
        f"{literal(f',{json.dumps(column.name, ensure_ascii=False)}:')}"
        f"||{_quoted(shape, column, side)} ELSE '' END"
        for column in shape.table.columns
    ]
    return f"'{{'||substr({_joined('||', members)},2)||'}}'"


def _cell(shape: Shape, column: CatalogColumn, side: str) -> str:
    value = f"{side}.{name(column.name)}"
    if column.name in _kept_beside(shape):
        return f"CASE WHEN {value} IS NOT NULL THEN json('true') END"
    return cell_sql(shape.table, column, value)


def _quoted(shape: Shape, column: CatalogColumn, side: str) -> str:
    value = f"{side}.{name(column.name)}"
    if column.name in _kept_beside(shape):
        return f"CASE WHEN {value} IS NULL THEN 'null' ELSE 'true' END"
    return quoted_cell_sql(shape.table, column, value)


def _kept_beside(shape: Shape) -> Sequence[str]:
    """Return the personal columns but those of the key, which the log cannot be without."""
    return [column for column in shape.personal if column not in shape.table.primary_key]


def _refused(shape: Shape) -> str:
    in_key = [column for column in shape.personal if column in shape.table.primary_key]
    if not in_key:
        return ""
    return (
        f"{', '.join(in_key)} of {shape.table.name} is personal and part of the primary key, by "
        "which entries are found: it stays in the log and cannot be erased; give the table a key "
        "that says nothing of a person"
    )


def _personal(shape: Shape, *, old: bool = False, new: bool = False) -> str:
    """Return the statement that puts personal values beside the entry that was just written."""
    sides = [("o", "OLD")] * old + [("n", "NEW")] * new
    only_changed = old and new and shape.table.primary_key
    rows: list[str] = []
    for letter, side in sides:
        for personal in _kept_beside(shape):
            column = shape.table.column(personal)
            if column is None:
                continue
            value = f"{side}.{name(personal)}"
            subject = f"{side}.{name(shape.personal[personal])}"
            condition = f"{value} IS NOT NULL"
            if only_changed:
                condition += f" AND {changed_sql(shape.table, column)}"
            rows.append(
                f"SELECT '{letter}' AS side,{literal(personal)} AS name,"
                f"coalesce(CAST({subject} AS TEXT),'') AS subject,"
                f"{cell_sql(shape.table, column, value)} AS value WHERE {condition}"
            )
    if not rows:
        return ""
    # One statement a value: what UNION ALL may join is limited.
    return "".join(
        "INSERT INTO shipworthy_audit_personal(seq,side,name,subject,salt,value) "
        "SELECT (SELECT max(seq) FROM shipworthy_audit_entries),side,name,subject,"
        f"lower(hex(randomblob(16))),value FROM ({row});"
        for row in rows
    )


def _joined(operator: str, parts: Sequence[str]) -> str:
    """Return the parts joined as a balanced tree: SQLite bounds the depth of an expression."""
    if len(parts) <= 100:
        return operator.join(parts)
    half = len(parts) // 2
    return f"({_joined(operator, parts[:half])}){operator}({_joined(operator, parts[half:])})"
