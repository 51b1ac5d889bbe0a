"""The log folded backward: what a row was, from what it is now and what was written since.

Pure. The state at a time is the live row, overlaid with the old values of all that was written
after that time, the newest first. So no copy of a table has to be taken at any time, and a row
nobody touched since costs nothing.

A column goes by the name it had at the time asked for; `names` translates those of other shapes.

Not here: where entries and live rows come from (`past`), what their cells mean (`dialects`).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, final

from shipworthy.audit.cells import read_image, read_key, write_key
from shipworthy.audit.model import CatalogTable, Cell, Entry, Image

Side = Literal["", "o", "n"]
# Of each shape, by its id: the name a column has there -> the name it had at the time asked for.
Names = Mapping[int, Mapping[str, str]]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A cell, and where it was read: `seq` and `side` of an image; 0 and '' of the live row.

    `shape_id` and `column` say of which type it is: the column as it was called there.
    """

    cell: Cell
    shape_id: int
    column: str
    seq: int = 0
    side: Side = ""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRow:
    """A row as the table has it now, and the shape that the table has now."""

    shape_id: int
    image: Image


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """An update after which a row is called `key`; before it was called `left`."""

    seq: int
    left: str
    key: str


def arrival(entry: Entry, primary_key: Sequence[str]) -> Arrival | None:
    """Return how an update changed the row's primary key; None where it did not."""
    if entry.op != "U" or not entry.key:
        return None
    new = read_image(entry.new)
    before = read_key(entry.key) or ()
    after = [new.get(name, cell) for name, cell in zip(primary_key, before, strict=True)]
    key = write_key(after)
    return None if key == entry.key else Arrival(seq=entry.seq, left=entry.key, key=key)


def row_before(
    key: str,
    *,
    entries: Callable[[str, int], Iterable[Entry]],
    arrived: Sequence[int],
    live: Callable[[str], LiveRow | None],
    primary_key: Callable[[int], Sequence[str]],
    names: Names,
) -> dict[str, Source] | None:
    """Return the row that was called `key` before everything in `entries`; None where none was.

    `entries(key, seq)` gives what was written to the row called `key` after the time and after
    `seq`, oldest first; `arrived` are the numbers of the updates that gave a row this key after the
    time. A column that nothing tells of is missing.
    """
    first = next(iter(entries(key, 0)), None)
    if first is None:
        if arrived or live(key) is None:
            return None
    elif first.op == "I" or (arrived and arrived[0] < first.seq):
        return None
    found: dict[str, Source] = {}
    written, called = _written(key, entries, primary_key)
    for entry in written:
        _overlay(found, entry, names)
    row = None if called is None else live(called)
    if row is not None:
        known = names.get(row.shape_id, {})
        for column, cell in row.image.items():
            name = known.get(column)
            if name is not None:
                source = Source(cell=cell, shape_id=row.shape_id, column=column)
                found.setdefault(name, source)
    return found


def _written(
    key: str,
    entries: Callable[[str, int], Iterable[Entry]],
    primary_key: Callable[[int], Sequence[str]],
) -> tuple[list[Entry], str | None]:
    """Return what was written to a row, oldest first, and its key now; None where it ended."""
    written: list[Entry] = []
    called, after = key, 0
    while True:
        moved = None
        for entry in entries(called, after):
            if entry.op == "I":
                # The row ended where no trigger saw it: this one is another.
                return written, None
            written.append(entry)
            if entry.op == "D":
                return written, None
            moved = arrival(entry, primary_key(entry.shape_id))
            if moved is not None:
                break
        if moved is None:
            return written, called
        called, after = moved.key, moved.seq


def _overlay(found: dict[str, Source], entry: Entry, names: Names) -> None:
    """Add the old values of an entry where no earlier entry has said the value already."""
    known = names.get(entry.shape_id, {})
    for column, cell in read_image(entry.old).items():
        name = known.get(column)
        if name is not None and name not in found:
            found[name] = Source(
                cell=cell, shape_id=entry.shape_id, column=column, seq=entry.seq, side="o"
            )


def last_written(
    entries: Iterable[Entry], wanted: Iterable[str], names: Names
) -> dict[str, Source]:
    """Return the last values written to `wanted` columns; `entries` of one row, newest first.

    For columns dropped since: neither the live row nor what was written since knows them. It stops
    at the row's insert.
    """
    missing = set(wanted)
    found: dict[str, Source] = {}
    for entry in entries:
        if entry.op == "D" or not missing:
            break
        known = names.get(entry.shape_id, {})
        for column, cell in read_image(entry.new).items():
            name = known.get(column)
            if name in missing:
                missing.discard(name)
                found[name] = Source(
                    cell=cell, shape_id=entry.shape_id, column=column, seq=entry.seq, side="n"
                )
        if entry.op == "I":
            break
    return found


Bare = tuple[tuple[str, Cell], ...]


def bare(image: Image) -> Bare:
    """Return an image as something that equals another one with the same cells."""
    return tuple(sorted(image.items()))


def rows_before(live: Iterable[Image], entries: Iterable[Entry]) -> Iterator[Image]:
    """Give the rows a table without a primary key had before `entries`, in any order.

    Its rows are told apart by nothing but their cells, so they are counted.
    """
    more: Counter[Bare] = Counter()
    for entry in entries:
        if entry.op in {"I", "U"}:
            more[bare(read_image(entry.new))] -= 1
        if entry.op in {"D", "U"}:
            more[bare(read_image(entry.old))] += 1
    for image in live:
        cells = bare(image)
        if more[cells] < 0:
            more[cells] += 1
        else:
            yield image
    for cells, count in more.items():
        for _ in range(count):
            yield dict(cells)


def names_at(
    tables: Mapping[int, CatalogTable], then: int, *, numbers_stay: bool
) -> dict[int, dict[str, str]]:
    """Return, for each shape of a table, the names its columns had at the shape `then`.

    `tables` are the shapes in their order; a column is followed from each to the next, so one that
    was renamed twice is found, and one that took the name of a dropped column is not mistaken.
    """
    order = list(tables)
    place = order.index(then)
    found = {then: {column.name: column.name for column in tables[then].columns}}
    for older, newer in pairwise(order[place:]):
        same = _same_columns(tables[older], tables[newer], numbers_stay=numbers_stay)
        known = found[older]
        found[newer] = {new: known[old] for old, new in same.items() if old in known}
    for newer, older in pairwise(reversed(order[: place + 1])):
        same = _same_columns(tables[older], tables[newer], numbers_stay=numbers_stay)
        known = found[newer]
        found[older] = {old: known[new] for old, new in same.items() if new in known}
    return found


def _same_columns(
    older: CatalogTable, newer: CatalogTable, *, numbers_stay: bool
) -> dict[str, str]:
    """Map the columns of one shape to those of the next, where they are the same column.

    Where a column keeps its number, the number says so, even of two columns of one name. Elsewhere
    the name does; and where a name is only here and another only there, at the same place and of
    the same type, while nothing else has moved, it is the same column renamed.
    """
    if numbers_stay:
        by_number = {column.number: column.name for column in newer.columns}
        return {
            column.name: by_number[column.number]
            for column in older.columns
            if column.number in by_number
        }
    found: dict[str, str] = {}
    moved = False
    for column in older.columns:
        same = newer.column(column.name)
        if same is not None:
            found[column.name] = same.name
            moved = moved or same.number != column.number
    for column in older.columns if not moved else ():
        for other in newer.columns:
            at_its_place = other.number == column.number and other.type == column.type
            if at_its_place and column.name not in found and older.column(other.name) is None:
                found[column.name] = other.name
    return found
