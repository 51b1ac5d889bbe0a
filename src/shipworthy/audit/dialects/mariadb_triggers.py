"""MariaDB: the triggers that capture a table, and those that guard the log; pure.

Every text here means the same under every `sql_mode` and character set of whoever creates it, and
runs under the mode that `SET STATEMENT` gives it, whatever the writing session has set.

Not here: what MariaDB does to other tables without any trigger (`mariadb_cascades`).
"""

from collections.abc import Iterator, Mapping
from typing import Final

from shipworthy.audit.dialects import CaptureDdl, TriggerState
from shipworthy.audit.dialects.mariadb_cascades import (
    cascades_refused,
    cascades_silent,
    delete_walk,
    update_walk,
)
from shipworthy.audit.dialects.mariadb_cells import (
    TRIGGER_MODE,
    as_key,
    base_type,
    is_known,
    name,
    same,
)
from shipworthy.audit.dialects.mariadb_entries import (
    DECLARE_GATHERED,
    DECLARE_TX,
    GATHERED_NEW,
    GATHERED_OLD,
    UNTOLD,
    EntrySql,
    PersonalSql,
    closed,
    context_sql,
    entry_sql,
    full_image,
    gather_sql,
    personal_sql,
    subject,
    value_beside,
    value_json,
)
from shipworthy.audit.dialects.mariadb_long import limits_of, long_silent
from shipworthy.audit.model import Catalog, CatalogTable, Shape

# What `key` of the log has room for; see `tables.ENTRIES`.
_KEY_CHARACTERS: Final = 700
RETENTION: Final = "@shipworthy_retention"
_TRUNCATE: Final = (
    "a TRUNCATE fires no trigger here: keep the right to DROP from the application's user, or let "
    "`shipworthy audit reconcile` find it"
)
_REFUSAL: Final = "the audit log is only added to; retention is how rows leave it"
_REFUSE: Final = f"SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT='{_REFUSAL}';"


def trigger_statement(
    trigger: str, *, timing: str, event: str, table: str, mode: str, body: str
) -> str:
    """Return what creates a trigger; also the text of one that is there, to compare."""
    return (
        f"SET STATEMENT sql_mode='{mode}' FOR CREATE OR REPLACE TRIGGER {name(trigger)} "
        f"{timing} {event} ON {name(table)} FOR EACH ROW {body}"
    )


def capture(shape: Shape, catalog: Catalog) -> CaptureDdl:
    """Return the triggers of a table."""
    bodies = {"insert": _insert(shape), "update": _update(shape, catalog), "delete": _delete(shape)}
    walk = delete_walk(shape.table, catalog)
    if walk:
        bodies["cascade"] = f"BEGIN {DECLARE_TX} {walk} END"
    texts = {
        _trigger_name(shape, what): trigger_statement(
            _trigger_name(shape, what),
            timing="BEFORE" if what == "cascade" else "AFTER",
            event="DELETE" if what == "cascade" else what.upper(),
            table=shape.table.name.name,
            mode=TRIGGER_MODE,
            body=body,
        )
        for what, body in bodies.items()
    }
    drops = tuple(
        f"DROP TRIGGER IF EXISTS {name(_trigger_name(shape, what))}"
        for what in ("insert", "update", "delete", "cascade")
    )
    return CaptureDdl(
        create=tuple(texts.values()) if walk else (*texts.values(), drops[-1]),
        drop=drops,
        silent="; ".join(
            (_TRUNCATE, *long_silent(shape.table), *cascades_silent(shape.table, catalog))
        ),
        refused="; ".join((*_refused(shape), *cascades_refused(shape.table, catalog))),
        triggers=tuple(
            TriggerState(table=shape.table.name, name=trigger, text=text)
            for trigger, text in texts.items()
        ),
    )


def _trigger_name(shape: Shape, what: str) -> str:
    return f"shipworthy_audit_{shape.table_id}_{what}"


def _insert(shape: Shape) -> str:
    write = _entry(shape, "I", _key(shape.table, "NEW"), new=full_image(_fields(shape, "NEW")))
    personal = "".join(_personal(shape, "n", "NEW"))
    return f"BEGIN {DECLARE_TX} {context_sql()} {write} {personal} END"


def _delete(shape: Shape) -> str:
    write = _entry(shape, "D", _key(shape.table, "OLD"), old=full_image(_fields(shape, "OLD")))
    personal = "".join(_personal(shape, "o", "OLD"))
    return f"BEGIN {DECLARE_TX} {context_sql()} {write} {personal} END"


def _update(shape: Shape, catalog: Catalog) -> str:
    unchanged = {
        it.name: same(f"OLD.{name(it.name)}", f"NEW.{name(it.name)}", it.type)
        for it in shape.table.columns
    }
    fields = {row: _fields(shape, row) for row in ("OLD", "NEW")}
    if shape.table.primary_key:
        declared = f"{DECLARE_TX} {DECLARE_GATHERED}"
        gathered = " ".join(
            gather_sql(column, unchanged[column], fields["OLD"][column], fields["NEW"][column])
            for column in unchanged
        )
        old, new = closed(GATHERED_OLD), closed(GATHERED_NEW)
        # Not <>: NULL, where an image is longer than the server lets a text be, is a change too.
        changed = f"NOT ({GATHERED_OLD}<=>'')"
    else:
        declared, gathered = DECLARE_TX, ""
        old, new = full_image(fields["OLD"]), full_image(fields["NEW"])
        changed = f"NOT ({' AND '.join(unchanged.values())})"
    write = " ".join(
        (
            context_sql(),
            _entry(shape, "U", _key(shape.table, "OLD"), old=old, new=new),
            *_personal(shape, "o", "OLD", unchanged),
            *_personal(shape, "n", "NEW", unchanged),
            update_walk(shape.table, catalog),
        )
    )
    return f"BEGIN {declared} {gathered} IF {changed} THEN {write} END IF; END"


def _fields(shape: Shape, row: str) -> dict[str, str]:
    limits = limits_of(shape.table)
    return {
        it.name: value_json(
            f"{row}.{name(it.name)}",
            it.type,
            personal=it.name in shape.personal,
            limit=limits.get(it.name, ""),
        )
        for it in shape.table.columns
    }


def _entry(shape: Shape, op: str, key: str, *, old: str = "NULL", new: str = "NULL") -> str:
    return entry_sql(
        EntrySql(
            table_id=str(shape.table_id),
            shape_id=str(shape.id),
            op=op,
            key=key,
            old=old,
            new=new,
        )
    )


def _key(table: CatalogTable, row: str) -> str:
    columns = [it for part in table.primary_key if (it := table.column(part)) is not None]
    return as_key(columns, row) if columns else "NULL"


def _personal(
    shape: Shape, side: str, row: str, unchanged: Mapping[str, str] | None = None
) -> Iterator[str]:
    whole = unchanged is None or not shape.table.primary_key
    limits = limits_of(shape.table)
    for column in shape.table.columns:
        about = shape.personal.get(column.name)
        if about is None:
            continue
        yield personal_sql(
            PersonalSql(
                side=side,
                column=column.name,
                subject=subject(shape.table, about, row),
                value=value_beside(
                    f"{row}.{name(column.name)}", column.type, limits.get(column.name, "")
                ),
            ),
            condition="TRUE" if whole else f"NOT ({(unchanged or {})[column.name]})",
        )


def _refused(shape: Shape) -> Iterator[str]:
    table = shape.table
    engine = table.traits.get("engine", "InnoDB")
    if engine.lower() != "innodb":
        yield (
            f"its engine {engine} has no transactions, so a rollback takes back the entry and not "
            f"the write; ALTER TABLE {name(table.name.name)} ENGINE=InnoDB"
        )
    for column in table.columns:
        if not is_known(column.type):
            yield (
                f"the type {base_type(column.type)} of column '{column.name}' is not known here, "
                f"so its text may not be exact"
            )
    letters = sum(_letters(table, part) + 3 for part in table.primary_key) + 1
    if letters > _KEY_CHARACTERS:
        yield (
            f"its primary key may take {letters} characters and the log has {_KEY_CHARACTERS} for "
            f"it; a write with a longer key fails"
        )
    if shape.personal and "no_random_bytes" in table.traits:
        yield "personal values need RANDOM_BYTES, which MariaDB has since 10.10"


def _letters(table: CatalogTable, part: str) -> int:
    column = table.column(part)
    if column is None or "(" not in column.type:
        return 40
    digits = column.type.partition("(")[2].partition(")")[0]
    length = int(digits) if digits.isdigit() else 40
    return length * 2 if "binary" in column.type else length


def _guard(event: str, what: str, condition: str) -> tuple[str, str]:
    trigger = f"shipworthy_audit_guard_{what}_{event.lower()}"
    return trigger, trigger_statement(
        trigger,
        timing="BEFORE",
        event=event,
        table=f"shipworthy_audit_{what}",
        mode=TRIGGER_MODE,
        body=f"BEGIN IF {condition} THEN {_REFUSE} END IF; END",
    )


_NOT_RETENTION: Final = f"{RETENTION} IS NULL"
_GUARDS: Final = dict(
    (
        _guard("UPDATE", "entries", _NOT_RETENTION),
        _guard("DELETE", "entries", _NOT_RETENTION),
        _guard("UPDATE", "contexts", f"NOT (OLD.{UNTOLD}) AND {_NOT_RETENTION}"),
        _guard("DELETE", "contexts", _NOT_RETENTION),
    )
)


def guards() -> tuple[str, ...]:
    """Return the triggers by which rows of the log stay as they were written."""
    return tuple(_GUARDS.values())


def guards_drop() -> tuple[str, ...]:
    """Return what takes the guards away."""
    return tuple(f"DROP TRIGGER IF EXISTS {name(guard)}" for guard in _GUARDS)
