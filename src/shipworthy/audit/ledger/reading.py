"""The log read in the order of sealing, a page at a time, and the leaf of each entry.

One place for the sealer, verify and prove, so that all three hash the same bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import sqlalchemy as sa

from shipworthy.audit.cells import (
    CONTEXT_FIELDS,
    ENTRY_FIELDS,
    canonical_of,
    commitment,
    hexadecimal,
)
from shipworthy.audit.dialects import AuditDialect, dialect_for
from shipworthy.audit.ledger.batch import Place
from shipworthy.audit.ledger.merkle import leaf_hash
from shipworthy.audit.tables import CONTEXTS, ENTRIES, PERSONAL

# A parameter each; every database takes so many.
_AT_ONCE: Final = 500
_ENTRY: Final = len(ENTRY_FIELDS)
_PERSONAL_MARK: Final = ":true"
_SELECT: Final = sa.select(*(ENTRIES.c[name] for name in ENTRY_FIELDS))
_CONTEXT: Final = sa.select(CONTEXTS.c.tx, *(CONTEXTS.c[name] for name in CONTEXT_FIELDS))
_NO_CONTEXT: Final = (None,) * len(CONTEXT_FIELDS)

Row = Sequence[Any]
"""An entry in the order of `ENTRY_FIELDS`, then its context in that of `CONTEXT_FIELDS`."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalCell:
    """A personal value that lies beside the log; `salt` and `value` are None once erased."""

    seq: int
    side: str
    name: str
    salt: str | None
    value: str | None
    commitment: str | None

    @property
    def opening(self) -> str | None:
        """The commitment that its salt and value give; None where they are gone."""
        if self.salt is None or self.value is None:
            return None
        return commitment(self.salt, self.value)

    @property
    def odd(self) -> bool:
        """Whether it is as neither a trigger nor an erasure leaves it.

        Half of it is gone, or its salt is none: where a value has a colon, what stands before it
        could be moved into the salt, and the commitment would be the same.
        """
        return (self.salt is None) != (self.value is None) or not hexadecimal(self.salt or "")

    @property
    def covered(self) -> str:
        """What stands for it in the leaf; '' where nothing does any more."""
        return self.commitment or self.opening or ""


@final
class SealReader:
    """Reads the entries of one kind of database; pure but for the connection it is given."""

    def __init__(self, dialect: AuditDialect) -> None:
        self.dialect = dialect
        # Where the database cannot tell the position cheaply, the number is the position.
        self.by_seq = dialect.position_column == "seq"
        self._position = ENTRIES.c.seq if self.by_seq else ENTRIES.c.position
        self._order = (ENTRIES.c.seq,) if self.by_seq else (ENTRIES.c.position, ENTRIES.c.seq)

    def place(self, row: Row) -> Place:
        """Return where an entry stands in the order of sealing."""
        return (row[0], row[0]) if self.by_seq else (row[1], row[0])

    def after(self, place: Place) -> sa.ColumnElement[bool]:
        """Return the condition of standing after `place`."""
        if self.by_seq:
            return ENTRIES.c.seq > place[1]
        return (self._position >= place[0]) & (
            (self._position > place[0]) | (ENTRIES.c.seq > place[1])
        )

    def up_to(self, place: Place) -> sa.ColumnElement[bool]:
        """Return the condition of standing at `place` or before it."""
        if self.by_seq:
            return ENTRIES.c.seq <= place[1]
        return (self._position <= place[0]) & (
            (self._position < place[0]) | (ENTRIES.c.seq <= place[1])
        )

    def page(
        self,
        connection: sa.Connection,
        after: Place,
        *,
        limit: int,
        below: int | None = None,
        up_to: Place | None = None,
    ) -> Sequence[Row]:
        """Return at most `limit` entries after a place, in order."""
        query = _SELECT.where(self.after(after)).order_by(*self._order).limit(limit)
        if below is not None:
            query = query.where(self._position < below)
        if up_to is not None:
            query = query.where(self.up_to(up_to))
        return _with_contexts(connection, connection.execute(query).all())

    def in_runs(
        self, connection: sa.Connection, runs: Sequence[tuple[int, int]], *, up_to: Place
    ) -> list[Row]:
        """Return the entries whose numbers are in `runs` and that stand at `up_to` or before."""
        found: list[Row] = []
        for at in range(0, len(runs), _AT_ONCE):
            some = sa.or_(*(ENTRIES.c.seq.between(*run) for run in runs[at : at + _AT_ONCE]))
            query = _SELECT.where(some, self.up_to(up_to)).order_by(ENTRIES.c.seq)
            found += connection.execute(query).all()
        return _with_contexts(connection, found)

    def by_numbers(self, connection: sa.Connection, seqs: Sequence[int]) -> list[Row]:
        """Return the entries that have these numbers, in no order."""
        found: list[Row] = []
        for at in range(0, len(seqs), _AT_ONCE):
            query = _SELECT.where(ENTRIES.c.seq.in_(seqs[at : at + _AT_ONCE]))
            found += connection.execute(query).all()
        return _with_contexts(connection, found)


def _with_contexts(connection: sa.Connection, rows: Sequence[Row]) -> list[Row]:
    """Return the entries with their contexts; not by a join, which reads each again and again."""
    names = list({row[3] for row in rows})
    contexts: dict[str, tuple[Any, ...]] = {}
    for at in range(0, len(names), _AT_ONCE):
        query = _CONTEXT.where(CONTEXTS.c.tx.in_(names[at : at + _AT_ONCE]))
        contexts.update((row[0], tuple(row[1:])) for row in connection.execute(query))
    return [(*row, *contexts.get(row[3], _NO_CONTEXT)) for row in rows]


def reader_for(connection: sa.Connection | sa.Engine) -> SealReader:
    """Return the reader for the connected database; raises `Misuse` for one without a trail."""
    return SealReader(dialect_for(connection.dialect.name))


def personal_cells(
    connection: sa.Connection, rows: Sequence[Row]
) -> Mapping[int, Sequence[PersonalCell]]:
    """Return the personal values of entries that have any, by the entry's number."""
    marked = [
        row[0]
        for row in rows
        if _PERSONAL_MARK in (row[8] or "") or _PERSONAL_MARK in (row[9] or "")
    ]
    found: dict[int, list[PersonalCell]] = {}
    for at in range(0, len(marked), _AT_ONCE):
        query = sa.select(
            PERSONAL.c.seq,
            PERSONAL.c.side,
            PERSONAL.c.name,
            PERSONAL.c.salt,
            PERSONAL.c.value,
            PERSONAL.c.commitment,
        ).where(PERSONAL.c.seq.in_(marked[at : at + _AT_ONCE]))
        for row in connection.execute(query).mappings():
            found.setdefault(row["seq"], []).append(PersonalCell(**row))
    return found


def preimage(row: Row, personal: Sequence[PersonalCell] = ()) -> bytes:
    """Return the bytes that the leaf of an entry is the hash of."""
    context = row[_ENTRY:] if row[_ENTRY] is not None else None
    openings = {f"{cell.side}:{cell.name}": cell.covered for cell in personal}
    return canonical_of(row[:_ENTRY], context, openings)


def leaf_of(row: Row, personal: Sequence[PersonalCell] = ()) -> bytes:
    """Return the hash of an entry's leaf."""
    return leaf_hash(preimage(row, personal))


def bytes_of(row: Row) -> int:
    """Return about how large an entry is in memory."""
    return 500 + len(row[8] or "") + len(row[9] or "")
