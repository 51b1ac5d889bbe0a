"""Personal values and their erasure, which leaves every proof valid.

A personal value lies beside the log, with a salt; the log's proofs cover only a commitment to both.
Erasing takes the salt and the value away, and the commitment stays: it says that there was a value,
and without the salt nobody can try which one.

The application's own tables are the application's: erase there first, since what is written there
is captured again, as an old value of the same person.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import sqlalchemy as sa

from shipworthy.audit.archive import archived_openings
from shipworthy.audit.cells import commitment
from shipworthy.audit.deeds import ERASED_SUBJECT, record
from shipworthy.audit.holds import LegalHold, held_entries, list_holds, of_subject
from shipworthy.audit.reading import TrailReader
from shipworthy.audit.subjects import SUBJECT_CHARACTERS, subject_digest
from shipworthy.audit.tables import ENTRIES, PERSONAL
from shipworthy.errors import Misuse, ShipworthyError

INFO: Final = "shipworthy_subject"
_AT_ONCE: Final = 500
# A statement that takes the person from many rows may meet new ones; so often it is asked again.
_ROUNDS: Final = 10_000


@final
class SubjectHeld(ShipworthyError):
    """A legal hold forbids the erasure; nothing was erased."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """What an erasure did. `remains` says in sentences what it could not reach."""

    subject_digest: str
    values: int
    entries: int
    archived_values: int
    remains: tuple[str, ...]


def personal_info(subject: str) -> dict[str, Any]:
    """Return the `info` that marks a column as personal, `subject` being the column with whose.

        email: Mapped[str] = mapped_column(info=personal_info("id"))

    `personal_of(Base.metadata)` gives what `audit install` is told of it.
    """
    return {INFO: subject}


def personal_of(metadata: sa.MetaData) -> tuple[str, ...]:
    """Return the marked columns of an application as the setting `audit.personal` has them."""
    return tuple(
        f"{table.fullname}.{column.name} = {column.info[INFO]}"
        for table in metadata.sorted_tables
        for column in table.columns
        if INFO in column.info
    )


def erase(
    connection: sa.Connection,
    subject: str,
    *,
    reason: str,
    by: str,
    archives: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> Erasure:
    """Erase all personal values of a person from the log, in this transaction.

    Raises `SubjectHeld` where a hold is on them. That it was done is recorded, without values. What
    `archives` have of the person is counted; files know no transaction, so the caller takes it away
    with `erase_archived` once this one is committed: then a run that archives meanwhile either sees
    that the values are gone, or has written what is taken away. Doing it again does no harm.
    """
    if not subject:
        raise Misuse("whose values? give the text that the subject column has")
    if not reason.strip():
        raise Misuse("an erasure is recorded with its reason; give one")
    reader = TrailReader(connection)
    _check_held(connection, subject)
    note = reader.past.forget_freed(connection)
    values, entries = 0, set[int]()
    for rows in _rows(connection, subject):
        for row in rows:
            _erase_row(connection, row)
            entries.add(row.seq)
        values += len(rows)
        if progress is not None:
            progress(values)
    archived = sum(1 for _ in archived_openings(archives, subject)) if archives else 0
    digest = subject_digest(subject)
    facts = {
        "subject": digest,
        "reason": reason.strip()[:1000],
        "values": values,
        "entries": len(entries),
        "archived_values": archived,
    }
    record(connection, reader.past, ERASED_SUBJECT, facts, by=by)
    remains = [*_not_reached(reader), *([note] if note and values else [])]
    return Erasure(
        subject_digest=digest,
        values=values,
        entries=len(entries),
        archived_values=archived,
        remains=tuple(remains),
    )


def _rows(connection: sa.Connection, subject: str) -> Iterator[Sequence[Any]]:
    """Give the person's rows in pieces, until there are none: each was given another name."""
    for _ in range(_ROUNDS):
        rows = connection.execute(
            sa.select(PERSONAL).where(of_subject(subject)).limit(_AT_ONCE)
        ).all()
        if not rows:
            return
        yield rows


def _erase_row(connection: sa.Connection, row: Any) -> None:
    """Take the salt, the value and the name away; write the commitment where none was sealed."""
    made = row.commitment
    if made is None and row.salt is not None and row.value is not None:
        made = commitment(row.salt, row.value)
    connection.execute(
        PERSONAL.update()
        .where(PERSONAL.c.seq == row.seq, PERSONAL.c.side == row.side, PERSONAL.c.name == row.name)
        .values(salt=None, value=None, subject="", commitment=made)
    )


def _check_held(connection: sa.Connection, subject: str) -> None:
    holds = list_holds(connection)
    name = subject[:SUBJECT_CHARACTERS]
    of_person = [hold for hold in holds if hold.kind == "subject" and hold.name == name]
    for hold in of_person or [hold for hold in holds if _touches(connection, hold, subject)]:
        raise SubjectHeld(
            f"nothing was erased: hold {hold.id} on the {hold.kind} it belongs to is in force "
            f"since {hold.at.date().isoformat()} ({hold.reason}); `shipworthy audit hold remove "
            f"{hold.id}` lifts it"
        )


def _touches(connection: sa.Connection, hold: LegalHold, subject: str) -> bool:
    held = held_entries(connection, [hold])
    if held is None or hold.kind == "subject":
        return False
    of_person = sa.select(PERSONAL.c.seq).where(of_subject(subject))
    found = sa.select(ENTRIES.c.seq).where(ENTRIES.c.seq.in_(of_person), held).limit(1)
    return connection.execute(found).first() is not None


def _not_reached(reader: TrailReader) -> Iterator[str]:
    """Say which values no erasure finds: of nobody, or of columns made personal only later."""
    nobodys = reader.connection.execute(
        sa.select(sa.func.count())
        .select_from(PERSONAL)
        .where(PERSONAL.c.subject == "", PERSONAL.c.salt.is_not(None))
    ).scalar_one()
    if nobodys:
        yield (
            f"{nobodys} personal values in the log are of nobody: the column that names the "
            "person was NULL or empty when they were written, so no erasure finds them"
        )
    newest: dict[int, Mapping[str, str]] = {}
    for _, shape in sorted(reader.shapes.items()):
        newest[shape.table_id] = shape.personal
    for number, shape in sorted(reader.shapes.items()):
        names = [
            name
            for name in newest[shape.table_id]
            if name not in shape.personal and shape.table.column(name) is not None
        ]
        if not names:
            continue
        count = reader.connection.execute(
            sa.select(sa.func.count()).select_from(ENTRIES).where(ENTRIES.c.shape_id == number)
        ).scalar_one()
        if count:
            yield (
                f"{count} entries of {shape.table.name} were written before {', '.join(names)} "
                "became personal: the values are in the log itself, and cannot be erased there"
            )
