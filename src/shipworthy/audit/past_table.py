"""One table folded back to a point of the log: its rows in pages, or one of them.

Not here: which point that is (`moment`), and how rows are shown (`past`).
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Final, final

import sqlalchemy as sa

from shipworthy.audit.cells import read_key, write_key
from shipworthy.audit.fold import (
    Arrival,
    LiveRow,
    Names,
    Source,
    arrival,
    last_written,
    names_at,
    row_before,
    rows_before,
)
from shipworthy.audit.model import CatalogTable, Cell, Entry, Image, Shape
from shipworthy.audit.moment import Moment, PastUnknown, time_of
from shipworthy.audit.reading import TOO_LONG, UNKNOWN, NoValue, TrailReader
from shipworthy.audit.tables import ENTRIES
from shipworthy.errors import Misuse

_PAGE_ROWS: Final = 500
# Live rows have a shape of their own: the catalog's, whether the triggers know it already or not.
_LIVE: Final = 0


@final
class PastTable:
    """One table as it was at one point of the log."""

    def __init__(self, reader: TrailReader, point: Moment, table_id: int) -> None:
        self._reader = reader
        self._point = point
        self._id = table_id
        self._live_table = reader.live_table(table_id)
        shapes = reader.shapes_of(table_id)
        before = [one for one in shapes if reader.noted_at(one) <= point.at_microseconds]
        if not before:
            raise PastUnknown(
                f"what was in {shapes[0].table.name} at {point.at.isoformat()} is not known: its "
                f"trail begins at {time_of(reader.noted_at(shapes[0])).isoformat()}"
            )
        self._shapes: dict[int, CatalogTable] = {shape.id: shape.table for shape in shapes}
        if self._live_table is not None:
            self._shapes[_LIVE] = self._live_table
        self.shape: Shape = before[-1]
        self._names: Names = names_at(
            self._shapes, self.shape.id, numbers_stay=reader.past.numbers_stay
        )
        self._since = {shape.id for shape in shapes if shape.id >= self.shape.id}
        self._check_key()

    def rows(self) -> Iterator[dict[str, Source]]:
        """Give the rows: those nobody touched since, then those somebody did."""
        if not self.shape.table.primary_key:
            yield from self._rows_without_key()
            return
        for page in self._live_pages():
            touched = self._touched([key for key, _ in page])
            for key, image in page:
                if key not in touched and key not in self._arrived:
                    yield self._filled(key, self._live_sources(image))
        for keys in self._touched_pages():
            live = self._live(keys)
            entries = self._entries(keys)
            for key in keys:
                found = self._before(key, entries, live)
                if found is not None:
                    yield self._filled(key, found)

    def row(self, values: Sequence[Any]) -> dict[str, Source] | None:
        """Return the row with that key."""
        table = self.shape.table
        if len(values) != len(table.primary_key):
            raise Misuse(
                f"the primary key of {table.name} is ({', '.join(table.primary_key)}); "
                f"{len(values)} values were given"
            )
        key = write_key(self._reader.past.key_cells(self._reader.connection, table, values))
        # The live row first: what is written to it meanwhile is then among the entries.
        live = self._live([key])
        found = self._before(key, self._entries([key]), live)
        return None if found is None else self._filled(key, found)

    def resolved(self, found: Mapping[str, Source]) -> dict[str, Cell | NoValue]:
        """Return the cells of a row in the order of its columns, personal ones from beside."""
        seqs = {source.seq for source in found.values() if source.cell is True}
        personal = self._reader.personal(sorted(seqs)) if seqs else {}
        cells: dict[str, Cell | NoValue] = {}
        for column in self.shape.table.columns:
            source = found.get(column.name)
            if source is None:
                cells[column.name] = UNKNOWN
            elif source.cell is True:
                cells[column.name] = personal.get((source.seq, source.side, source.column), UNKNOWN)
            else:
                cells[column.name] = TOO_LONG if source.cell is False else source.cell
        return cells

    def value(self, source: Source | None, cell: Cell | NoValue) -> Any:
        """Return a cell as a value, by the type the column had where the cell was read."""
        if source is None or isinstance(cell, NoValue):
            return cell
        return self._reader.value(cell, self._shapes[source.shape_id], source.column)

    def _check_key(self) -> None:
        key = self.shape.table.primary_key
        for number, table in self._shapes.items():
            if number != _LIVE and number not in self._since:
                continue
            names = self._names[number]
            if tuple(names.get(column, column) for column in table.primary_key) != key:
                raise PastUnknown(
                    f"the primary key of {table.name} was ({', '.join(key)}) and is "
                    f"({', '.join(table.primary_key)}) since: its rows cannot be followed further "
                    "back than that change"
                )
        if not key:
            self._check_countable()

    def _check_countable(self) -> None:
        """Without a key a row is found again by its cells alone, so they must be of one kind."""
        columns = {column.name for column in self.shape.table.columns}
        for number, table in self._shapes.items():
            if number != _LIVE and number not in self._since:
                continue
            shape = self._reader.shapes.get(number)
            if {column.name for column in table.columns} != columns or (shape and shape.personal):
                raise PastUnknown(
                    f"{table.name} has no primary key, so its rows are told apart by their cells: "
                    "it cannot be read back further than a change of its columns, nor with "
                    "personal ones; give it a primary key"
                )

    def _before(
        self, key: str, entries: Mapping[str, Sequence[Entry]], live: Mapping[str, LiveRow]
    ) -> dict[str, Source] | None:
        def written(called: str, seq: int) -> Sequence[Entry]:
            known = entries[called] if called in entries else self._entries([called])[called]
            return [entry for entry in known if entry.seq > seq]

        def there(called: str) -> LiveRow | None:
            known = live if called in entries else self._live([called])
            return known.get(called)

        return row_before(
            key,
            entries=written,
            arrived=self._arrived.get(key, ()),
            live=there,
            primary_key=lambda shape_id: self._shapes[shape_id].primary_key,
            names=self._names,
        )

    def _filled(self, key: str, found: dict[str, Source]) -> dict[str, Source]:
        """Add what only older entries know: columns that have been dropped since."""
        missing = [one.name for one in self.shape.table.columns if one.name not in found]
        if missing:
            older = self._reader.entries(
                ENTRIES.c.table_id == self._id,
                ENTRIES.c.key == key,
                sa.not_(self._point.after()),
                newest_first=True,
            )
            found |= last_written(older, missing, self._names)
        return found

    @cached_property
    def _arrived(self) -> dict[str, list[int]]:
        """Keys that rows were given after the point, with the numbers of the updates."""
        found: dict[str, list[int]] = {}
        for move in self._arrivals():
            found.setdefault(move.key, []).append(move.seq)
        return found

    def _arrivals(self) -> Iterator[Arrival]:
        columns = {column for number in self._since for column in self._shapes[number].primary_key}
        if not columns:
            return
        names_key = sa.or_(
            *(ENTRIES.c.new.contains(write_key([name])[1:-1], autoescape=True) for name in columns)
        )
        of_table = (ENTRIES.c.table_id == self._id, ENTRIES.c.op == "U", self._point.after())
        for entry in self._reader.entries(*of_table, names_key):
            move = arrival(entry, self._shapes[entry.shape_id].primary_key)
            if move is not None:
                yield move

    def _entries(self, keys: Sequence[str]) -> dict[str, list[Entry]]:
        """Return what was written to rows after the point, oldest first, by key."""
        found: dict[str, list[Entry]] = {key: [] for key in keys}
        for entry in self._reader.entries(
            ENTRIES.c.table_id == self._id, ENTRIES.c.key.in_(keys), self._point.after()
        ):
            if entry.key is not None:
                found[entry.key].append(entry)
        return found

    def _touched(self, keys: Sequence[str]) -> set[str]:
        return set(
            self._reader.connection.execute(
                sa.select(ENTRIES.c.key)
                .where(ENTRIES.c.table_id == self._id, ENTRIES.c.key.in_(keys), self._point.after())
                .distinct()
            ).scalars()
        )

    def _touched_pages(self) -> Iterator[list[str]]:
        last: str | None = None
        while True:
            more = ENTRIES.c.key > last if last is not None else ENTRIES.c.key.is_not(None)
            keys = list(
                self._reader.connection.execute(
                    sa.select(ENTRIES.c.key)
                    .where(ENTRIES.c.table_id == self._id, more, self._point.after())
                    .distinct()
                    .order_by(ENTRIES.c.key)
                    .limit(_PAGE_ROWS)
                ).scalars()
            )
            if keys:
                yield keys
            if len(keys) < _PAGE_ROWS:
                return
            last = keys[-1]

    def _live(self, keys: Sequence[str]) -> dict[str, LiveRow]:
        table = self._live_table
        if table is None or not keys:
            return {}
        images = self._reader.audit.select_rows(
            self._reader.connection, table, table.primary_key, [read_key(key) or () for key in keys]
        )
        return {self._key_of(image): LiveRow(shape_id=_LIVE, image=image) for image in images}

    def _live_pages(self) -> Iterator[list[tuple[str, Image]]]:
        for images in self._live_images():
            yield [(self._key_of(image), image) for image in images]

    def _live_images(self) -> Iterator[list[dict[str, Cell]]]:
        going_on: Any = None
        while self._live_table is not None:
            images, going_on = self._reader.past.live_page(
                self._reader.connection, self._live_table, going_on, _PAGE_ROWS
            )
            if images:
                yield images
            if going_on is None:
                return

    def _key_of(self, image: Image) -> str:
        table = self._live_table
        return write_key([image[name] for name in (table.primary_key if table else ())])

    def _live_sources(self, image: Image) -> dict[str, Source]:
        names = self._names[_LIVE]
        return {
            names[column]: Source(cell=cell, shape_id=_LIVE, column=column)
            for column, cell in image.items()
            if column in names
        }

    def _rows_without_key(self) -> Iterator[dict[str, Source]]:
        live = (image for page in self._live_images() for image in page)
        entries = self._reader.entries(ENTRIES.c.table_id == self._id, self._point.after())
        number = self.shape.id if self._live_table is None else _LIVE
        for image in rows_before(live, entries):
            yield {
                column: Source(cell=cell, shape_id=number, column=column)
                for column, cell in image.items()
            }
