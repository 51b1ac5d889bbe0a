"""Legal holds: what is neither erased nor let out of the log until somebody lifts the hold.

A hold is on a person (the text of the subject column), on a table, or on a transaction. It is held
against everybody who asks us; somebody with a database shell it does not stop.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Final, Literal, final, get_args

import sqlalchemy as sa

from shipworthy.audit.deeds import HELD, record
from shipworthy.audit.model import TableName
from shipworthy.audit.moment import time_of
from shipworthy.audit.reading import TrailReader
from shipworthy.audit.subjects import SUBJECT_CHARACTERS, subject_digest
from shipworthy.audit.tables import CONTEXTS, ENTRIES, HOLDS, PERSONAL
from shipworthy.errors import Misuse

HoldKind = Literal["subject", "table", "transaction"]
_KINDS: Final[Sequence[str]] = get_args(HoldKind)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LegalHold:
    """A hold that is in force: what it is on, why, who put it there and when."""

    id: str
    kind: str
    name: str
    reason: str
    held_by: str
    at: dt.datetime


def add_hold(
    connection: sa.Connection, kind: HoldKind, name: str, *, reason: str, by: str
) -> LegalHold:
    """Put a hold on something, in this transaction; that it was done is recorded in the log."""
    if kind not in _KINDS:
        raise Misuse(f"a hold is on a {', '.join(_KINDS)}, not on a '{kind}'")
    if not name or not reason.strip():
        raise Misuse("a hold needs what it is on and why: a reason that somebody can judge later")
    reader = TrailReader(connection)
    if kind == "table":
        reader.table_id(_table_name(name))
    at = reader.past.now_microseconds(connection)
    found = LegalHold(
        id=token_hex(6),
        kind=kind,
        name=name[:SUBJECT_CHARACTERS],
        reason=reason.strip()[:1000],
        held_by=by[:200],
        at=time_of(at),
    )
    connection.execute(
        HOLDS.insert().values(
            id=found.id,
            kind=found.kind,
            name=found.name,
            reason=found.reason,
            held_by=found.held_by,
            at_microseconds=at,
        )
    )
    record(connection, reader.past, HELD, {"hold": _facts(found)}, by=by)
    return found


def lift_hold(connection: sa.Connection, id: str, *, reason: str, by: str) -> LegalHold:  # noqa: A002 - as the column is named
    """Lift a hold, in this transaction; that it was done is recorded in the log."""
    found = next((one for one in list_holds(connection) if one.id == id), None)
    if found is None:
        raise Misuse(
            f"there is no hold '{id}'; `shipworthy audit hold list` prints those there are"
        )
    if not reason.strip():
        raise Misuse("why is the hold lifted? it was put there for a reason")
    connection.execute(HOLDS.delete().where(HOLDS.c.id == id))
    reader = TrailReader(connection)
    facts = {"lifted": _facts(found), "reason": reason.strip()[:1000]}
    record(connection, reader.past, HELD, facts, by=by)
    return found


def list_holds(connection: sa.Connection) -> list[LegalHold]:
    """Return the holds in force, oldest first."""
    rows = connection.execute(sa.select(HOLDS).order_by(HOLDS.c.at_microseconds, HOLDS.c.id))
    return [
        LegalHold(
            id=row.id,
            kind=row.kind,
            name=row.name,
            reason=row.reason,
            held_by=row.held_by,
            at=time_of(row.at_microseconds),
        )
        for row in rows
    ]


def of_subject(subject: str) -> sa.ColumnElement[bool]:
    """Return what is true of a person's values, in SQL: by the first 200 characters of the name."""
    if len(subject) < SUBJECT_CHARACTERS:
        return PERSONAL.c.subject == subject
    kept = sa.func.substr(PERSONAL.c.subject, 1, SUBJECT_CHARACTERS)
    return kept == subject[:SUBJECT_CHARACTERS]


def held_entries(
    connection: sa.Connection, holds: Sequence[LegalHold]
) -> sa.ColumnElement[bool] | None:
    """Return what is true of the entries that are held, in SQL; None where none can be."""
    reader = TrailReader(connection)
    parts: list[sa.ColumnElement[bool]] = []
    for hold in holds:
        match hold.kind:
            case "table":
                parts.append(ENTRIES.c.table_id == reader.table_id(_table_name(hold.name)))
            case "transaction":
                whole = sa.select(CONTEXTS.c.tx).where(
                    sa.or_(CONTEXTS.c.tx == hold.name, CONTEXTS.c.continues == hold.name)
                )
                parts.append(sa.or_(ENTRIES.c.tx == hold.name, ENTRIES.c.tx.in_(whole)))
            case _:
                of_person = sa.select(PERSONAL.c.seq).where(of_subject(hold.name))
                parts.append(ENTRIES.c.seq.in_(of_person))
    return sa.or_(*parts) if parts else None


def _table_name(text: str) -> TableName:
    schema, _, name = text.rpartition(".")
    return TableName(schema=schema, name=name)


def _facts(hold: LegalHold) -> dict[str, str]:
    """Return what the log says of a hold; of a person only what shows it to who knows the name."""
    name = subject_digest(hold.name) if hold.kind == "subject" else hold.name
    return {"id": hold.id, "kind": hold.kind, "name": name, "reason": hold.reason}
