"""What happened to one row: `history(session, Order, 7)`, newest first.

A row is followed where its primary key changed, to what it was called before and is called since.
Its values come from the log alone; each is read with the shape the table had when it was written.

Not here: what a row was at a time (`past`), deletions as units (`records`).
"""

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session

from shipworthy.audit.cells import read_image, read_key, write_key
from shipworthy.audit.fold import Arrival, arrival
from shipworthy.audit.model import OPERATIONS, CatalogTable, Cell, Context, Entry
from shipworthy.audit.moment import time_of
from shipworthy.audit.reading import (
    ERASED,
    UNKNOWN,
    NoValue,
    TrailReader,
    batched,
    connection_of,
    naming_entry,
    target_of,
)
from shipworthy.audit.tables import CONTEXTS, ENTRIES
from shipworthy.errors import Misuse

_CONTEXT: Final = tuple(field.name for field in fields(Context))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RowVersion:
    """One write to a row: who made it, and what it changed.

    `old` and `new` have the columns that changed, by the names they had then: all of an insert in
    `new`, all of a delete in `old`. Values are as people and JSON have them; `old_cells` and
    `new_cells` are exactly what was stored. `key` is the primary key before the write.
    """

    seq: int
    at: dt.datetime
    op: str
    table: str
    key: tuple[Any, ...]
    old: Mapping[str, Any]
    new: Mapping[str, Any]
    context: Context
    old_cells: Mapping[str, Cell | NoValue]
    new_cells: Mapping[str, Cell | NoValue]
    # Which of them lie beside the log, and can be erased.
    personal: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    @property
    def actor(self) -> str:
        """Who it was done by; the database's user where no application said who."""
        return self.context.actor or self.context.db_user

    @property
    def correlation_id(self) -> str:
        """The request or job that it was done in."""
        return self.context.correlation_id


def history(
    source: sa.Connection | Session, what: Any, key: Any = None, *, limit: int | None = None
) -> list[RowVersion]:
    """Return the writes to a row, newest first; `what` is a mapped object, or a class and its key.

    A key may have been of several rows, one after the other: all of them are told.
    """
    reader = TrailReader(connection_of(source))
    target = target_of(what, key)
    if target.key is None:
        raise Misuse(f"which row of {target.name}? give its primary key")
    table_id = reader.table_id(target.name)
    table = reader.shapes_of(table_id)[-1].table
    if len(target.key) != len(table.primary_key):
        raise Misuse(
            f"the primary key of {table.name} is ({', '.join(table.primary_key)}); "
            f"{len(target.key)} values were given"
        )
    text = write_key(reader.past.key_cells(reader.connection, table, target.key))
    entries = sorted(_RowTrail(reader, table_id).of(text), key=lambda entry: -entry.seq)
    return list(told(reader, entries[:limit], target.attributes))


async def history_async(
    source: AsyncConnection | AsyncSession, what: Any, key: Any = None, *, limit: int | None = None
) -> list[RowVersion]:
    """Return what `history` returns."""

    def read(source: sa.Connection | Session) -> list[RowVersion]:
        return history(source, what, key, limit=limit)

    return await source.run_sync(read)


def told(
    reader: TrailReader, entries: Sequence[Entry], attributes: Mapping[str, str] | None = None
) -> Iterator[RowVersion]:
    """Give entries as people read them, with who made them and the values beside the log.

    Raises `LogRowUnreadable` for one that somebody has damaged.
    """
    for batch in batched(entries, 500):
        contexts = contexts_of(reader.connection, {entry.tx for entry in batch})
        beside = [entry.seq for entry in batch if _has_personal(entry)]
        personal = reader.personal(beside) if beside else {}
        for entry in batch:
            with naming_entry(entry.seq):
                version = _version(reader, entry, contexts[entry.tx], personal, attributes or {})
            yield version


def contexts_of(connection: sa.Connection, names: set[str]) -> dict[str, Context]:
    """Return the contexts of transactions; of one that no client of ours made, an unknown one."""
    rows = connection.execute(sa.select(CONTEXTS).where(CONTEXTS.c.tx.in_(sorted(names))))
    found = {row.tx: Context(**{name: getattr(row, name) for name in _CONTEXT}) for row in rows}
    return {
        name: found.get(name) or Context(tx=name, at_microseconds=0, actor_kind="database")
        for name in names
    }


def _version(
    reader: TrailReader,
    entry: Entry,
    context: Context,
    personal: Mapping[tuple[int, str, str], Cell | NoValue],
    attributes: Mapping[str, str],
) -> RowVersion:
    shape = reader.shapes.get(entry.shape_id)
    if shape is None:
        raise Misuse(
            f"entry {entry.seq} names shape {entry.shape_id}, which the log does not have; "
            "`shipworthy audit verify` tells what else was changed"
        )
    table = shape.table
    old = _cells(entry, "o", personal)
    new = _cells(entry, "n", personal)
    key = dict(zip(table.primary_key, read_key(entry.key) or (), strict=False))

    def values(cells: Mapping[str, Cell | NoValue]) -> dict[str, Any]:
        return {
            attributes.get(column, column): reader.value(cell, table, column)
            for column, cell in cells.items()
        }

    return RowVersion(
        seq=entry.seq,
        at=time_of(entry.at_microseconds),
        op=OPERATIONS.get(entry.op, entry.op),
        table=str(table.name),
        key=tuple(values(key).values()),
        old=values(old),
        new=values(new),
        context=context,
        old_cells=old,
        new_cells=new,
        personal=frozenset(
            attributes.get(column, column)
            for image in (entry.old, entry.new)
            for column, cell in read_image(image).items()
            if cell is True
        ),
        notes=tuple(_notes(entry, table, context, [*old.values(), *new.values()])),
    )


def _notes(
    entry: Entry, table: CatalogTable, context: Context, cells: Sequence[Cell | NoValue]
) -> Iterator[str]:
    restored = _restored(context.note)
    if restored is not None:
        yield f"put back deletion {restored}"
    move = arrival(entry, table.primary_key)
    if move is not None:
        yield f"changed the key from {move.left} to {move.key}"
    if ERASED in cells:
        yield "personal values of it were erased since"


def _restored(note: str) -> int | None:
    try:
        facts = json.loads(note) if note else {}
    except ValueError:
        return None
    found = facts.get("restores") if isinstance(facts, dict) else None
    return found if isinstance(found, int) else None


def _has_personal(entry: Entry) -> bool:
    return any(text is not None and ":true" in text for text in (entry.old, entry.new))


def _cells(
    entry: Entry, side: str, personal: Mapping[tuple[int, str, str], Cell | NoValue]
) -> dict[str, Cell | NoValue]:
    image = read_image(entry.old if side == "o" else entry.new)
    return {
        column: personal.get((entry.seq, side, column), UNKNOWN) if cell is True else cell
        for column, cell in image.items()
    }


class _RowTrail:
    """Finds the entries of a row under all its keys."""

    def __init__(self, reader: TrailReader, table_id: int) -> None:
        self._reader = reader
        self._id = table_id

    def of(self, key: str) -> list[Entry]:
        own = self._entries(key)
        found = {entry.seq: entry for entry in own}
        for entry in own:
            self._forward(entry, found)
        if self._began_unseen(key, own):
            for moving in self._arrivals(key):
                found[moving.seq] = moving
                self._backward(moving, found)
        return list(found.values())

    def _forward(self, entry: Entry, found: dict[int, Entry]) -> None:
        """Add what happened to the row after an update that gave it another key."""
        move = self._move(entry)
        while move is not None:
            called, after, move = move.key, move.seq, None
            for later in self._entries(called, ENTRIES.c.seq > after):
                if later.op == "I" or later.seq in found:
                    return
                found[later.seq] = later
                move = self._move(later)
                if move is not None or later.op == "D":
                    break

    def _backward(self, moving: Entry, found: dict[int, Entry]) -> None:
        """Add what happened to the row before an update that gave it another key."""
        reached: Entry | None = moving
        while reached is not None and reached.key is not None:
            called, before, reached = reached.key, reached.seq, None
            began = before
            for earlier in reversed(self._entries(called, ENTRIES.c.seq < before)):
                if earlier.op == "D" or self._move(earlier) is not None:
                    break
                began = earlier.seq
                found[earlier.seq] = earlier
                if earlier.op == "I":
                    return
            came = [one for one in self._arrivals(called) if one.seq < began]
            if came and came[-1].seq not in found:
                reached = came[-1]
                found[reached.seq] = reached

    def _began_unseen(self, key: str, own: Sequence[Entry]) -> bool:
        """Return whether a row came to have this key other than by an insert that was captured."""
        there = False
        for entry in own:
            if not there and entry.op != "I":
                return True
            there = entry.op != "D" and self._move(entry) is None
        return not there and self._is_live(key)

    def _is_live(self, key: str) -> bool:
        table = self._reader.live_table(self._id)
        if table is None:
            return False
        cells = [read_key(key) or ()]
        return bool(
            self._reader.audit.select_rows(self._reader.connection, table, table.primary_key, cells)
        )

    def _move(self, entry: Entry) -> Arrival | None:
        with naming_entry(entry.seq):
            return arrival(entry, self._reader.shapes[entry.shape_id].table.primary_key)

    def _entries(self, key: str, *more: sa.ColumnElement[bool]) -> list[Entry]:
        of_row = (ENTRIES.c.table_id == self._id, ENTRIES.c.key == key)
        return self._reader.entries(*of_row, *more)

    def _arrivals(self, key: str) -> list[Entry]:
        """Return the updates that gave a row this key; no index finds them."""
        columns = {
            column
            for shape in self._reader.shapes_of(self._id)
            for column in shape.table.primary_key
        }
        named = [
            ENTRIES.c.new.contains(write_key([column])[1:-1], autoescape=True) for column in columns
        ]
        entries = self._reader.entries(
            ENTRIES.c.table_id == self._id, ENTRIES.c.op == "U", sa.or_(*named)
        )
        moves = ((entry, self._move(entry)) for entry in entries)
        return [entry for entry, move in moves if move is not None and move.key == key]
