"""MariaDB: the statements by which a trigger writes the log; pure.

Not here: when they are written (`mariadb_triggers`, `mariadb_cascades`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

from shipworthy.audit.dialects.mariadb_cells import as_json, cell, literal, name
from shipworthy.audit.dialects.mariadb_long import too_long
from shipworthy.audit.model import CatalogTable

CONTEXT: Final = "@shipworthy_context"
# Which context has been noted by which statement.
NOTED: Final = "@shipworthy_noted"
# A local variable of the triggers: which context its entries name.
TX: Final = "shipworthy_tx"
DECLARE_TX: Final = f"DECLARE {TX} CHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;"
# What changed, column by column; '' as long as nothing did.
GATHERED_OLD: Final = "shipworthy_old"
GATHERED_NEW: Final = "shipworthy_new"
DECLARE_GATHERED: Final = (
    f"DECLARE {GATHERED_OLD},{GATHERED_NEW} "
    f"LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin DEFAULT '';"
)
# The session's clock may be set (`SET timestamp`) and its zone may be any: this is the time now.
_NOW: Final = (
    "TIMESTAMPDIFF(MICROSECOND,'1970-01-01',UTC_TIMESTAMP(6))"
    "+TIMESTAMPDIFF(MICROSECOND,NOW(6),SYSDATE(6))"
)
# `cells.write_context` begins with {"tx":" and 32 characters; reading JSON costs ten times more.
_GIVEN_TX: Final = f"SUBSTR({CONTEXT},8,32)"
# NOW is when the statement began, so another client's statement is one transaction here.
_FOREIGN_TX: Final = "MD5(CONCAT(CONNECTION_ID(),' ',NOW(6)))"
_GIVEN: Final = {
    "actor": 200,
    "actor_kind": 16,
    "on_behalf_of": 200,
    "correlation_id": 128,
    "trace_id": 32,
    "route": 200,
    "address": 64,
    "application": 128,
    "note": 1000,
    "continues": 32,
}
_FOREIGN: Final = {"actor_kind": "'database'", "address": "LEFT(SUBSTRING_INDEX(USER(),'@',-1),64)"}


def _given(column: str, length: int) -> str:
    foreign = _FOREIGN.get(column, "''")
    return (
        f"IF({CONTEXT} IS NULL,{foreign},"
        f"LEFT(IFNULL(JSON_VALUE({CONTEXT},'$.{column}'),''),{length}))"
    )


# A context that is claimed and not yet told; the guard of contexts lets it be told, once.
UNTOLD: Final = "`db_user`=''"


def context_sql() -> str:
    """Return what finds the context of this transaction, and notes it where it is missing.

    It is asked in every statement, because a savepoint or a statement that was rolled back has
    taken the note away. Asked by claiming it: to look into the table would lock the gap that the
    contexts of others are inserted into, and writers who have nothing in common would run into
    deadlocks. What the context says is read from its JSON only once.
    """
    told = ",".join(f"{name(it)}={_given(it, length)}" for it, length in _GIVEN.items())
    return (
        f"SET {TX}=IF({CONTEXT} IS NULL,{_FOREIGN_TX},{_GIVEN_TX}); "
        f"IF NOT ({NOTED} <=> CONCAT({TX},NOW(6))) THEN "
        # 1062: it is there; the block is left.
        f"BEGIN DECLARE EXIT HANDLER FOR 1062 BEGIN END; "
        f"INSERT INTO `shipworthy_audit_contexts` (`tx`,`at_microseconds`) VALUES ({TX},{_NOW}); "
        f"UPDATE `shipworthy_audit_contexts` SET {told},"
        f"`at_microseconds`=IFNULL(JSON_VALUE({CONTEXT},'$.at_microseconds'),`at_microseconds`),"
        f"`db_user`=LEFT(USER(),128) WHERE `tx`={TX}; END; "
        f"SET {NOTED}=CONCAT({TX},NOW(6)); END IF;"
    )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class EntrySql:
    """One entry, each of its facts as the SQL that gives it."""

    table_id: str
    shape_id: str
    op: str
    key: str = "NULL"
    old: str = "NULL"
    new: str = "NULL"


def entry_sql(entry: EntrySql) -> str:
    """Return the statement that writes an entry."""
    return (
        "INSERT INTO `shipworthy_audit_entries` "
        "(`position`,`at_microseconds`,`tx`,`table_id`,`shape_id`,`op`,`key`,`old`,`new`) VALUES "
        f"(0,{_NOW},{TX},{entry.table_id},{entry.shape_id},'{entry.op}',{entry.key},"
        f"{entry.old},{entry.new});"
    )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalSql:
    """A value that lies beside the log: its name, and the SQL of whose it is and what it is."""

    side: str
    column: str
    subject: str
    value: str


def personal_sql(value: PersonalSql, *, condition: str = "TRUE") -> str:
    """Return the statement that puts a value beside the entry written last; NULL needs no row."""
    return (
        f"IF {condition} AND {value.value} IS NOT NULL THEN "
        "INSERT INTO `shipworthy_audit_personal` "
        "(`seq`,`side`,`name`,`subject`,`salt`,`value`) VALUES "
        f"(LAST_INSERT_ID(),'{value.side}',{literal(value.column)},"
        f"IFNULL(LEFT({value.subject},200),''),LOWER(HEX(RANDOM_BYTES(16))),{value.value}); END IF;"
    )


def subject(table: CatalogTable, column: str, row: str) -> str:
    """Return the SQL of whom a personal value is about; `column` names the subject's column."""
    found = table.column(column)
    return "''" if found is None else cell(f"{row}.{name(column)}", found.type)


def value_json(reference: str, column_type: str, *, personal: bool, limit: str = "") -> str:
    """Return the SQL of one value in an image: `true` where it is personal.

    It is `false` where it takes more octets than `limit`, the SQL of `mariadb_long.limits_of`.
    """
    if personal:
        value = f"IF({reference} IS NULL,'null','true')"
    else:
        value = as_json(reference, column_type)
    return f"IF({too_long(reference, column_type, limit)},'false',{value})" if limit else value


def value_beside(reference: str, column_type: str, limit: str = "") -> str:
    """Return the SQL of a cell that is to lie beside the log; NULL where it is too long."""
    value = cell(reference, column_type)
    return f"IF({too_long(reference, column_type, limit)},NULL,{value})" if limit else value


def full_image(fields: Mapping[str, str]) -> str:
    """Return the SQL of an image; `fields` gives the SQL of each column's value as JSON."""
    parts: list[str] = []
    for place, (column, value) in enumerate(fields.items()):
        parts += [literal(("," if place else "{") + json.dumps(column, ensure_ascii=False) + ":")]
        parts += [value]
    return f"CONCAT({','.join(parts)},'}}')" if parts else "'{}'"


def partial_image(fields: Mapping[str, str], unchanged: Mapping[str, str]) -> str:
    """Return the SQL of an image of the columns of which `unchanged` is not true."""
    parts = [
        f"IF({unchanged[column]},'',CONCAT({_named(column)},{value}))"
        for column, value in fields.items()
    ]
    return closed(f"CONCAT({','.join(parts)})")


def closed(fields: str) -> str:
    """Return the SQL of an image from that of its fields, each with a comma before it."""
    return f"CONCAT('{{',SUBSTR({fields},2),'}}')"


def gather_sql(column: str, unchanged: str, old: str, new: str) -> str:
    """Return what adds a column that changed to both images, `GATHERED_OLD` and `GATHERED_NEW`.

    A step for each column, and not one expression as in `partial_image`: a trigger readies all of
    an expression for each row, also what it will not need, and most columns do not change.
    """
    return (
        f"IF NOT ({unchanged}) THEN SET "
        f"{GATHERED_OLD}=CONCAT({GATHERED_OLD},{_named(column)},{old}),"
        f"{GATHERED_NEW}=CONCAT({GATHERED_NEW},{_named(column)},{new}); END IF;"
    )


def _named(column: str) -> str:
    return literal("," + json.dumps(column, ensure_ascii=False) + ":")
