"""The bodies of the two functions that capture one PostgreSQL table.

Pure. They run with the rights of their owner under whatever `search_path` the writer chose, so each
name in them stands with its schema. They have no SET clause: that alone would double what a write
costs. Instead they look whether the few settings that the table's types depend on are as they
should be, and set them for a moment where they are not.
"""

import json
from collections.abc import Mapping
from typing import Final

from shipworthy.audit.dialects.postgresql_names import ENTER, WHOLE, literal, log_schema_of, quoted
from shipworthy.audit.dialects.postgresql_text import (
    TextFact,
    as_image,
    as_json,
    as_key,
    as_text,
    current,
    differs,
    joined,
    settings_needed,
    text_array,
    texts_of,
)
from shipworthy.audit.model import Shape
from shipworthy.audit.tables import CONTEXTS, ENTRIES, PERSONAL

_MICROSECONDS: Final = (
    "(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())"
    " OPERATOR(pg_catalog.*) 1000000::pg_catalog.float8)::pg_catalog.int8"
)
# The context that this transaction wrote itself: at the place that was noted then, by the name that
# it was told. Not found by its name; see `postgresql_base`.
_OURS: Final = (
    "c.ctid OPERATOR(pg_catalog.=) CASE"
    " WHEN pg_catalog.current_setting('shipworthy.place', true) OPERATOR(pg_catalog.<>) ''"
    " THEN pg_catalog.current_setting('shipworthy.place', true)::pg_catalog.tid END"
    " AND c.tx OPERATOR(pg_catalog.=) pg_catalog.substr("
    "pg_catalog.current_setting('shipworthy.context', true), 8, 32)"
    ' AND c."position" OPERATOR(pg_catalog.=)'
)
_SALT: Final = (
    "pg_catalog.replace(pg_catalog.concat(pg_catalog.gen_random_uuid(),"
    " pg_catalog.gen_random_uuid()), '-', '')"
)
_ENTRY: Final = '"position", at_microseconds, tx, table_id, shape_id, op, "key", "old", "new"'

_VALUE: Final = 'seq, side, "name", subject, salt, "value"'


def row_body(shape: Shape) -> str:
    """Return the body of the function that logs one row that was inserted, changed or deleted."""
    log = quoted(log_schema_of(shape.table))
    facts = texts_of(shape.table)
    set_needed, put_back = _settings(facts)
    personal = _personal(shape, facts, log)
    lines = [
        "DECLARE",
        "  v_key pg_catalog.text;",
        "  v_old pg_catalog.text;",
        "  v_new pg_catalog.text;",
        "  v_seq pg_catalog.int8;",
        "  v_position pg_catalog.int8 := pg_catalog.txid_current();",
        "  v_kept pg_catalog.text[];",
        "  v_row pg_catalog.text[];",
        "BEGIN",
        *set_needed,
        "  BEGIN",
        "  IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN",
        *_changes(shape, facts),
        "  ELSIF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN",
        f"    v_key := {_key(shape, facts, 'NEW')};",
        f"    v_new := {_image(shape, facts, 'NEW')};",
        "  ELSE",
        f"    v_key := {_key(shape, facts, 'OLD')};",
        f"    v_old := {_image(shape, facts, 'OLD')};",
        "  END IF;",
        *_changed_since(shape, log),
        "  END;",
        # The WHEN of the trigger compares bytes; the same text may be stored in two ways.
        "  WHILE v_seq IS NULL AND COALESCE(v_old, v_new) IS NOT NULL LOOP",
        f"    INSERT INTO {log}.{ENTRIES.name} ({_ENTRY})",
        f"    SELECT v_position, {_MICROSECONDS}, c.tx, {shape.table_id}, {shape.id},",
        "      pg_catalog.left(TG_OP, 1), v_key, v_old, v_new",
        f"    FROM {log}.{CONTEXTS.name} c WHERE {_OURS} v_position",
        "    RETURNING seq INTO v_seq;",
        "    IF v_seq IS NULL THEN",
        f"      PERFORM {log}.{ENTER}();",
        "    END IF;",
        "  END LOOP;",
        *(["  IF v_row IS NULL THEN", *personal, "  END IF;"] if personal else []),
        *put_back,
        "  RETURN NULL;",
        "END",
    ]
    return "\n" + "\n".join(lines) + "\n"


def truncate_body(shape: Shape) -> str:
    """Return the body of the function that logs every row that a TRUNCATE takes, and a marker."""
    if shape.blocks_truncate:
        return (
            "\nBEGIN\n  RAISE EXCEPTION 'the audit trail of % refuses TRUNCATE', TG_TABLE_NAME\n"
            "    USING ERRCODE = 'insufficient_privilege', HINT = 'use DELETE';\nEND\n"
        )
    log = quoted(log_schema_of(shape.table))
    set_needed, put_back = _settings(texts_of(shape.table))
    entry = f"pg_catalog.txid_current(), {_MICROSECONDS}, v_tx, {shape.table_id}, {shape.id}"
    lines = [
        "DECLARE",
        "  v_tx pg_catalog.text;",
        "  v_kept pg_catalog.text[];",
        "BEGIN",
        "  WHILE v_tx IS NULL LOOP",
        f"    SELECT c.tx INTO v_tx FROM {log}.{CONTEXTS.name} c",
        f"    WHERE {_OURS} pg_catalog.txid_current();",
        "    IF v_tx IS NULL THEN",
        f"      PERFORM {log}.{ENTER}();",
        "    END IF;",
        "  END LOOP;",
        *set_needed,
        # Of a partitioned table the trigger stands on each partition.
        f"  EXECUTE pg_catalog.format({literal(_truncated_rows(shape, log))},",
        "    TG_TABLE_SCHEMA, TG_TABLE_NAME) USING v_tx;",
        *put_back,
        f"  INSERT INTO {log}.{ENTRIES.name} ({_ENTRY})",
        f"  VALUES ({entry}, 'T', NULL, NULL, NULL);",
        "  RETURN NULL;",
        "END",
    ]
    return "\n" + "\n".join(lines) + "\n"


def _truncated_rows(shape: Shape, log: str) -> str:
    """Return the statement, for format(), that logs all rows of one table and what is personal."""
    facts = texts_of(shape.table)
    number = f"pg_catalog.nextval(pg_catalog.pg_get_serial_sequence('{log}.{ENTRIES.name}', 'seq'))"
    cells = [
        f"{text} AS v{place}, COALESCE({about}, '') AS s{place}"
        for place, (text, about) in enumerate(
            (as_text(facts[name], f"r.{quoted(name)}"), as_text(facts[of], f"r.{quoted(of)}"))
            for name, of in shape.personal.items()
        )
    ]
    rows = ", ".join(
        [
            f"{number} AS seq",
            f"{_key(shape, facts, 'r')} AS k",
            f"{_image(shape, facts, 'r')} AS i",
            *cells,
        ]
    )
    entries = (
        f"INSERT INTO {log}.{ENTRIES.name} (seq, {_ENTRY}) SELECT gone.seq,"
        f" pg_catalog.txid_current(), {_MICROSECONDS}, $1, {shape.table_id}, {shape.id}, 'D',"
        " gone.k, gone.i, NULL FROM gone"
    )
    values = [
        f"SELECT gone.seq, 'o', {literal(name)}, pg_catalog.left(gone.s{place}, 200), {_SALT},"
        f" gone.v{place} FROM gone WHERE gone.v{place} IS NOT NULL"
        for place, name in enumerate(shape.personal)
    ]
    head = f"WITH gone AS MATERIALIZED (SELECT {rows} FROM ONLY ".replace("%", "%%")
    tail = f" r) {entries}"
    if values:
        tail = (
            f" r), logged AS ({entries}) INSERT INTO {log}.{PERSONAL.name}"
            f" ({_VALUE}) {' UNION ALL '.join(values)}"
        )
    return f"{head}%I.%I{tail.replace('%', '%%')}"


def _changed_since(shape: Shape, log: str) -> list[str]:
    """Return what is done where the table is no longer what this was generated for.

    Nothing is written in the block that is left, so it costs no number of a subtransaction. Of what
    is personal, or may be by now, no value is written at all.
    """
    known = [it for it in shape.table.columns if it.name not in shape.personal]
    shown = text_array(f"{it.number} {it.name}" for it in known) if shape.personal else "NULL"
    rest = f"{text_array(shape.table.primary_key)}, {shown}"
    return [
        "  EXCEPTION WHEN undefined_column OR datatype_mismatch OR undefined_function THEN",
        "    v_key := NULL; v_old := NULL; v_new := NULL;",
        "    IF TG_OP OPERATOR(pg_catalog.<>) 'DELETE' THEN",
        f"      v_row := {log}.{WHOLE}(NEW, {rest});",
        "      v_key := v_row[1]; v_new := v_row[2];",
        "    END IF;",
        "    IF TG_OP OPERATOR(pg_catalog.<>) 'INSERT' THEN",
        f"      v_row := {log}.{WHOLE}(OLD, {rest});",
        "      v_key := v_row[1]; v_old := v_row[2];",
        "    END IF;",
    ]


def _changes(shape: Shape, facts: Mapping[str, TextFact]) -> list[str]:
    """Return what finds the columns that changed; all of a row that has no key to be found by."""
    whole = not shape.table.primary_key
    found = []
    for name, fact in facts.items():
        label = literal("," + json.dumps(name, ensure_ascii=False) + ":")
        found.append(f"    IF {_changed(name, fact)} THEN")
        if whole:
            found.append("      v_old := '';")
        else:
            found += [
                f"      {side} := {joined([side, label, _cell(shape, fact, name, row)])};"
                for side, row in (("v_old", "OLD"), ("v_new", "NEW"))
            ]
        found.append("    END IF;")
    found.append("    IF v_old IS NOT NULL THEN")
    if whole:
        found += [
            f"      v_old := {_image(shape, facts, 'OLD')};",
            f"      v_new := {_image(shape, facts, 'NEW')};",
        ]
    else:
        found.append(f"      v_key := {_key(shape, facts, 'OLD')};")
        found += [
            f"      {side} := pg_catalog.concat('{{', pg_catalog.substr({side}, 2), '}}');"
            for side in ("v_old", "v_new")
        ]
    found.append("    END IF;")
    return found


def _changed(name: str, fact: TextFact) -> str:
    return differs(fact, f"OLD.{quoted(name)}", f"NEW.{quoted(name)}")


def _personal(shape: Shape, facts: Mapping[str, TextFact], log: str) -> list[str]:
    """Return what puts personal values beside the log, each with a salt that erasure takes away."""
    lines = []
    for name, subject in shape.personal.items():
        for side, row, without in (("o", "OLD", "INSERT"), ("n", "NEW", "DELETE")):
            value = as_text(facts[name], f"{row}.{quoted(name)}")
            about = as_text(facts[subject], f"{row}.{quoted(subject)}")
            asked = f"  IF TG_OP OPERATOR(pg_catalog.<>) '{without}' AND {value} IS NOT NULL"
            if shape.table.primary_key:
                changed = f"TG_OP OPERATOR(pg_catalog.<>) 'UPDATE' OR {_changed(name, facts[name])}"
                asked += f" AND ({changed})"
            lines += [
                f"{asked} AND v_seq IS NOT NULL THEN",
                f"    INSERT INTO {log}.{PERSONAL.name} ({_VALUE})",
                f"    VALUES (v_seq, '{side}', {literal(name)},",
                f"      COALESCE(pg_catalog.left({about}, 200), ''), {_SALT}, {value});",
                "  END IF;",
            ]
    return lines


def _settings(facts: Mapping[str, TextFact]) -> tuple[list[str], list[str]]:
    """Return what sets what the table's types depend on, where need be, and what puts it back."""
    needed = settings_needed(facts.values())
    if not needed:
        return [], []
    holds = " AND ".join(setting.holds() for setting in needed)
    kept = ", ".join(current(setting.name) for setting in needed)
    wanted = [
        f"    PERFORM pg_catalog.set_config({literal(one.name)}, {literal(one.wanted)}, true);"
        for one in needed
    ]
    back = [
        f"    PERFORM pg_catalog.set_config({literal(one.name)}, v_kept[{place}], true);"
        for place, one in enumerate(needed, 1)
    ]
    return (
        [f"  IF NOT ({holds}) THEN", f"    v_kept := ARRAY[{kept}];", *wanted, "  END IF;"],
        ["  IF v_kept IS NOT NULL THEN", *back, "  END IF;"],
    )


def _key(shape: Shape, facts: Mapping[str, TextFact], row: str) -> str:
    key = shape.table.primary_key
    return as_key(facts, key, row) if key else "NULL::pg_catalog.text"


def _image(shape: Shape, facts: Mapping[str, TextFact], row: str) -> str:
    return as_image({name: _cell(shape, fact, name, row) for name, fact in facts.items()})


def _cell(shape: Shape, fact: TextFact, name: str, row: str) -> str:
    value = f"{row}.{quoted(name)}"
    if name in shape.personal:
        return f"CASE WHEN {as_text(fact, value)} IS NULL THEN 'null' ELSE 'true' END"
    return as_json(fact, value)
