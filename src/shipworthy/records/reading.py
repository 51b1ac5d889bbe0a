"""What a transaction deleted, and what of it belongs together. Pure.

The entries of one transaction are told in the order of the log, each looked at once and then let
go: a hundred thousand rows need memory for their keys alone, not for their images.

A deletion is a connected part of the rows that went: connected by the foreign keys that the tables
had at the time. What was deleted and inserted again with the same key is not deleted; what was
inserted and deleted again was never there.
"""

from collections.abc import Mapping, Sequence
from typing import final

from shipworthy.audit import (
    CatalogForeignKey,
    CatalogTable,
    Cell,
    Entry,
    Image,
    LogRowUnreadable,
    Shape,
    TableName,
    read_image,
    read_key,
    write_key,
)
from shipworthy.records.links import DisjointRows, RowLinks, cells_of
from shipworthy.records.model import DeletedRow, Group, Relink

_Identity = tuple[int, str]


@final
class TransactionReading:
    """Told the entries of one transaction in order, it says which deletions they make."""

    def __init__(self, shapes: Mapping[int, Shape]) -> None:
        self._shapes = shapes
        self._referenced: dict[TableName, set[tuple[str, ...]]] = {}
        for shape in shapes.values():
            for key in shape.table.foreign_keys:
                self._referenced.setdefault(key.target, set()).add(key.target_columns)
        self._links = RowLinks()
        self._rows: dict[int, DeletedRow] = {}
        self._gone: dict[_Identity, int] = {}
        self._gone_without_key: dict[tuple[int, str], list[int]] = {}
        self._replaced: set[int] = set()
        self._born: set[_Identity] = set()
        # An engine may empty each link of a row by an update of its own.
        self._relinks: dict[_Identity, list[Relink]] = {}
        self._unlinked: dict[int, tuple[tuple[int, ...], Mapping[str, Cell]]] = {}

    def add(self, entry: Entry) -> None:
        """Take the next entry; raises `LogRowUnreadable` for one that makes no sense."""
        shape = self._shapes.get(entry.shape_id)
        if shape is None:
            raise LogRowUnreadable(entry.seq, f"there is no shape {entry.shape_id}")
        # Not `naming_entry`: of a hundred thousand entries each, it would take a tenth of a second.
        try:
            match entry.op:
                case "D":
                    self._deleted(entry, shape.table)
                case "I":
                    self._inserted(entry)
                case "U" if entry.key is not None:
                    self._updated(entry, entry.key, shape.table)
                case _:
                    pass
        except (ValueError, TypeError, AttributeError, LookupError) as error:
            raise LogRowUnreadable(entry.seq, str(error)) from error

    def groups(self) -> list[Group]:
        """Return the deletions, in the order of their first rows."""
        sets = DisjointRows()
        followers: set[int] = set()
        relinks = {relink.seq: relink for of_row in self._relinks.values() for relink in of_row}
        lost: set[int] = set()
        for child, parent, _ in self._links.match()[0]:
            if child == parent:
                continue
            if child in relinks:
                # Told as a row of its own: it joins what took its link, and is no row of it.
                lost.add(child)
            elif parent not in self._replaced:
                followers.add(child)
            sets.join(child, parent)
        return self._collected(sets, followers, [relinks[seq] for seq in sorted(lost)])

    def _collected(
        self, sets: DisjointRows, followers: set[int], relinks: list[Relink]
    ) -> list[Group]:
        rows: dict[int, list[DeletedRow]] = {}
        replaced: dict[int, list[DeletedRow]] = {}
        lost: dict[int, list[Relink]] = {}
        for seq, row in self._rows.items():
            (replaced if seq in self._replaced else rows).setdefault(sets.find(seq), []).append(row)
        for relink in relinks:
            lost.setdefault(sets.find(relink.seq), []).append(relink)
        return [
            Group(
                rows=tuple(members),
                relinks=tuple(lost.get(root, ())),
                roots=tuple(row.seq for row in members if row.seq not in followers)
                or (members[0].seq,),
                unlinked={
                    row.seq: self._unlinked[row.seq][1]
                    for row in members
                    if row.seq in self._unlinked
                },
                unlinked_by=tuple(
                    seq
                    for row in members
                    if row.seq in self._unlinked
                    for seq in self._unlinked[row.seq][0]
                ),
                replaced=tuple(replaced.get(root, ())),
            )
            for root, members in sorted(rows.items(), key=lambda item: item[1][0].seq)
        ]

    def _deleted(self, entry: Entry, table: CatalogTable) -> None:
        image = read_image(entry.old)
        if not image:
            raise LogRowUnreadable(entry.seq, "it has no image of the deleted row")
        identity = None if entry.key is None else (entry.table_id, entry.key)
        if identity is not None:
            if identity in self._born:
                self._born.discard(identity)
                self._replaced.discard(self._gone.get(identity, 0))
                return
            before = self._relinks.pop(identity, ())
            if before:
                image = self._linked_again(entry.seq, image, before)
            self._gone[identity] = entry.seq
        else:
            self._gone_without_key.setdefault((entry.table_id, entry.old or ""), []).append(
                entry.seq
            )
        self._rows[entry.seq] = DeletedRow(
            seq=entry.seq, table_id=entry.table_id, shape_id=entry.shape_id, key=entry.key
        )
        for columns in self._referenced.get(table.name, ()):
            if (cells := cells_of(image, columns)) is not None:
                self._links.offer(entry.seq, table.name, columns, cells)
        for key in table.foreign_keys:
            if (cells := cells_of(image, key.columns)) is not None:
                self._links.wish(entry.seq, key.target, key.target_columns, cells)

    def _inserted(self, entry: Entry) -> None:
        if entry.key is None:
            if gone := self._gone_without_key.get((entry.table_id, entry.new or "")):
                self._replaced.add(gone.pop())
            return
        identity = (entry.table_id, entry.key)
        self._born.add(identity)
        if identity in self._gone:
            self._replaced.add(self._gone[identity])

    def _updated(self, entry: Entry, key: str, table: CatalogTable) -> None:
        old, new = read_image(entry.old), read_image(entry.new)
        identity = (entry.table_id, key)
        if identity in self._born:
            if any(column in new for column in table.primary_key):
                self._born.discard(identity)
                self._born.add((entry.table_id, _moved(key, table, new)))
            return
        columns: dict[str, tuple[Cell, Cell]] = {}
        known = {name for relink in self._relinks.get(identity, ()) for name in relink.columns}
        for foreign in table.foreign_keys:
            if lost := _lost_link(foreign, old, new):
                columns.update(lost)
                cells = cells_of({**_key_image(key, table), **old}, foreign.columns)
                if cells is not None:
                    self._links.wish(entry.seq, foreign.target, foreign.target_columns, cells)
        # What a column had at first is what it gets back.
        columns = {name: change for name, change in columns.items() if name not in known}
        if columns:
            self._relinks.setdefault(identity, []).append(
                Relink(
                    seq=entry.seq,
                    table_id=entry.table_id,
                    shape_id=entry.shape_id,
                    key=key,
                    columns=columns,
                )
            )

    def _linked_again(self, seq: int, image: Image, before: Sequence[Relink]) -> dict[str, Cell]:
        links = {
            column: old
            for relink in before
            for column, (old, new) in relink.columns.items()
            if image.get(column) == new
        }
        self._unlinked[seq] = (tuple(relink.seq for relink in before), links)
        return {**image, **links}


def _lost_link(key: CatalogForeignKey, old: Image, new: Image) -> dict[str, tuple[Cell, Cell]]:
    """Return the columns through which an update gave up a reference, to nothing or a default."""
    changed = {column: (old[column], new[column]) for column in key.columns if column in new}
    if not changed or any(before is None for before, _ in changed.values()):
        return {}
    if key.on_delete == "set default" or any(after is None for _, after in changed.values()):
        return changed
    return {}


def _key_image(key: str, table: CatalogTable) -> dict[str, Cell]:
    return dict(zip(table.primary_key, read_key(key) or (), strict=True))


def _moved(key: str, table: CatalogTable, new: Image) -> str:
    image = _key_image(key, table)
    return write_key([new.get(column, image[column]) for column in table.primary_key])
