"""Look at the present around a deletion: what has its place, which parents are there.

Reads only. The rows are looked at in parts, so that a hundred thousand of them need memory for what
is found, not for their images. The verdicts themselves are `plan`'s.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final, final

import sqlalchemy as sa

from shipworthy.audit import (
    AuditDialect,
    Catalog,
    CatalogForeignKey,
    CatalogTable,
    Cell,
    Image,
    Shape,
    TableName,
    naming_entry,
    read_image,
    read_key,
    read_shapes,
    write_key,
)
from shipworthy.records.dialects import restore_dialect
from shipworthy.records.keys import shown_key
from shipworthy.records.links import Cells, MissedLink, RowLinks, cells_of, fold_cells
from shipworthy.records.listing import deletion_with, deletions_with, left_out, members_of
from shipworthy.records.log import PART, dialect_of, images_of, in_chunks, parts_of, updates_of
from shipworthy.records.model import DeletedRow, Deletion, Group, Relink
from shipworthy.records.order import RowLink
from shipworthy.records.plan import (
    SETTLED,
    Obstacle,
    Surroundings,
    TableMapping,
    drop_out,
    judge_parent,
    judge_relink,
    judge_row,
    map_table,
)

# Updates of the same transaction that are looked at, to be told beside the plan.
ALSO_TOLD: Final = 100


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreSurvey:
    """What would be put back, how it fits into the present, and what stands in its way.

    `rows` and `relinks` are by their entry; `unlinked` are links that were emptied just before, and
    come back as they were; `mappings` are by shape; `links` are between rows of the deletion, and
    from its relinks to them. `also_changed` names rows that the transaction changed besides.
    """

    dialect: AuditDialect
    deletion: Deletion
    rows: Mapping[int, DeletedRow]
    relinks: Mapping[int, Relink]
    unlinked: Mapping[int, Image]
    mappings: Mapping[int, TableMapping]
    links: tuple[RowLink, ...]
    obstacles: tuple[Obstacle, ...]
    also_changed: tuple[str, ...] = ()

    def named(self, seq: int) -> tuple[str, str | None]:
        """Return the table and the key of a row or relink, as people read them."""
        row = self.rows.get(seq) or self.relinks[seq]
        table = self.mappings[row.shape_id].shape.table
        with naming_entry(seq):
            return str(table.name), shown_key(self.dialect, table, row.key)

    def images(
        self, connection: sa.Connection, rows: Sequence[int]
    ) -> Iterator[tuple[int, dict[str, Cell], frozenset[str]]]:
        """Yield the images of `rows` as they come back, old names, and what of each was erased."""
        images, erased = images_of(connection, rows)
        for seq in rows:
            image = images[seq]
            if seq in self.unlinked:
                image.update(self.unlinked[seq])
            yield seq, image, erased.get(seq, frozenset())


def survey_deletion(connection: sa.Connection, deletion: Deletion) -> RestoreSurvey:
    """Return what stands around a deletion; raises `DeletionHalfVisible` for half of one."""
    shapes = read_shapes(connection)
    group = members_of(connection, deletion, shapes)
    left = left_out(connection, deletion)
    rows = {row.seq: row for row in group.rows if left is None or row.seq in left}
    # What a restore of some rows did not link again stays as it is.
    relinks = {} if left is not None else {relink.seq: relink for relink in group.relinks}
    survey = survey_rows(connection, deletion, group, shapes, rows=rows, relinks=relinks)
    told = {relink.seq for relink in group.relinks} | set(group.unlinked_by)
    changed = []
    for entry in updates_of(connection, parts_of(connection, deletion.tx), limit=ALSO_TOLD):
        if entry.seq in told or entry.key is None:
            continue
        with naming_entry(entry.seq):
            table = shapes[entry.shape_id].table
            key, names = shown_key(survey.dialect, table, entry.key), read_image(entry.new)
            changed.append(f"{table.name} {key}: {', '.join(names)}")
    return replace(survey, also_changed=tuple(changed))


@contextmanager
def naming_damage(connection: sa.Connection, deletion: Deletion) -> Iterator[None]:
    """Let a cell that the block cannot read be a `LogRowUnreadable` of its entry.

    Cells are read many at once, so which it was is looked for only when there is one; what was not
    of a cell is raised as it is.
    """
    try:
        yield
    except (ValueError, TypeError, LookupError):
        shapes, dialect = read_shapes(connection), dialect_of(connection)
        rows = members_of(connection, deletion, shapes).rows
        for part in in_chunks(rows, PART):
            images, _ = images_of(connection, [row.seq for row in part])
            for row in part:
                table = shapes[row.shape_id].table
                with naming_entry(row.seq):
                    shown_key(dialect, table, row.key)
                    for name, cell in images[row.seq].items():
                        column = table.column(name)
                        dialect.value(cell, column.type if column else "")
        raise


def survey_rows(
    connection: sa.Connection,
    deletion: Deletion,
    group: Group,
    shapes: Mapping[int, Shape],
    *,
    rows: Mapping[int, DeletedRow],
    relinks: Mapping[int, Relink],
) -> RestoreSurvey:
    """Return what stands around some rows and relinks of a deletion."""
    return _Looking(connection, deletion, shapes, rows, relinks, group.unlinked).all()


def key_label(key: CatalogForeignKey) -> str:
    """Return how a foreign key is told, such as "client_id -> clients"; not all have names."""
    return f"{', '.join(key.columns)} -> {key.target}"


@final
class _Looking:
    def __init__(  # noqa: PLR0917 - the facts of one survey
        self,
        connection: sa.Connection,
        deletion: Deletion,
        shapes: Mapping[int, Shape],
        rows: Mapping[int, DeletedRow],
        relinks: Mapping[int, Relink],
        unlinked: Mapping[int, Image],
    ) -> None:
        self._connection = connection
        self._dialect: AuditDialect = dialect_of(connection)
        self._catalog: Catalog = self._dialect.read_catalog(connection)
        self._names, self._ids = _names_now(shapes)
        stable = restore_dialect(connection.dialect.name).stable_numbers
        used = {row.shape_id for row in rows.values()}
        used |= {relink.shape_id for relink in relinks.values()}
        self._survey = RestoreSurvey(
            dialect=self._dialect,
            deletion=deletion,
            rows=rows,
            relinks=relinks,
            unlinked=unlinked,
            mappings={
                shape_id: map_table(
                    shapes[shape_id],
                    self._names[shapes[shape_id].table_id],
                    self._catalog,
                    stable_numbers=stable,
                )
                for shape_id in used
            },
            links=(),
            obstacles=(),
        )
        self._referenced = _referenced(self._catalog)
        self._links = RowLinks()
        self._optional: dict[tuple[int, str], bool] = {}
        self._obstacles: list[Obstacle] = []
        self._settled: set[int] = set()

    def all(self) -> RestoreSurvey:
        """Look at everything, a part at a time."""
        survey = self._survey
        for shape_id, rows in _by_shape(survey.rows.values()).items():
            mapping = survey.mappings[shape_id]
            if mapping.now is None:
                for row in rows:
                    self._judged(judge_row(mapping, row.seq, row.key, {}, Surroundings()))
                continue
            for part in in_chunks(rows, PART):
                self._look_at(part, mapping, mapping.now)
        for relink in survey.relinks.values():
            self._look_at_relink(relink, survey.mappings[relink.shape_id])
        edges, missed = self._links.match()
        self._look_for_parents([miss for miss in missed if miss.row not in self._settled])
        links = tuple(
            RowLink(child=child, parent=parent, name=name, optional=self._is_optional(child, name))
            for child, parent, name in edges
        )
        obstacles = self._obstacles
        if obstacles:
            obstacles = [*obstacles, *drop_out(obstacles, links, survey.named)]
        return replace(survey, links=links, obstacles=tuple(obstacles))

    def _judged(self, obstacles: Sequence[Obstacle]) -> None:
        for one in obstacles:
            key = self._survey.named(one.seq)[1]
            self._obstacles.append(replace(one, key=key, holder=self._shown_holder(one)))
        self._settled.update(one.seq for one in obstacles if one.kind in SETTLED)

    def _shown_holder(self, one: Obstacle) -> str:
        row = self._survey.rows.get(one.seq)
        now = None if row is None else self._survey.mappings[row.shape_id].now
        if now is None or not one.holder:
            return one.holder
        return shown_key(self._dialect, now, one.holder) or ""

    def _look_at(
        self, rows: Sequence[DeletedRow], mapping: TableMapping, now: CatalogTable
    ) -> None:
        found = list(self._survey.images(self._connection, [row.seq for row in rows]))
        # Most tables are as they were: then nothing is copied.
        images: dict[int, Image] = (
            {seq: image for seq, image, _ in found}
            if mapping.is_same
            else {seq: mapping.translate(image) for seq, image, _ in found}
        )
        self._tell_links(now, images)
        same = self._live(now, now.primary_key, images)
        holders: dict[int, dict[str, str]] = {}
        for unique in now.uniques:
            if not unique.columns or unique.predicate or unique.columns == now.primary_key:
                continue
            for seq, live in self._live(now, unique.columns, images).items():
                holder = write_key([live.get(column) for column in now.primary_key])
                holders.setdefault(seq, {})[unique.name] = holder
        for row, (seq, image, erased) in zip(rows, found, strict=True):
            lacks = erased or False in image.values()
            if mapping.is_plain and seq not in same and seq not in holders and not lacks:
                continue
            around = Surroundings(
                same_key=same.get(seq), holders=holders.get(seq, {}), erased=erased
            )
            self._judged(judge_row(mapping, seq, row.key, image, around))

    def _tell_links(self, now: CatalogTable, images: Mapping[int, Image]) -> None:
        for columns in self._referenced.get(now.name, ()):
            for seq, image in images.items():
                if (cells := cells_of(image, columns)) is not None:
                    self._links.offer(seq, now.name, columns, cells)
        for key in now.foreign_keys:
            name = key_label(key)
            for seq, image in images.items():
                if (cells := cells_of(image, key.columns)) is not None:
                    self._links.wish(seq, key.target, key.target_columns, cells, name)

    def _look_at_relink(self, relink: Relink, mapping: TableMapping) -> None:
        table = str(mapping.shape.table.name)
        now = mapping.now
        live: Image | None = None
        columns = {
            mapping.columns[name]: change
            for name, change in relink.columns.items()
            if name in mapping.columns
        }
        if now is not None:
            key = [read_key(relink.key) or ()]
            live = next(
                iter(self._dialect.select_rows(self._connection, now, now.primary_key, key)), None
            )
        obstacles = judge_relink(relink.seq, table, relink.key, columns, live)
        self._judged(obstacles)
        if now is None or live is None or obstacles:
            return
        before = {**live, **{name: old for name, (old, _) in columns.items()}}
        for foreign in now.foreign_keys:
            cells = cells_of(before, foreign.columns)
            if cells is not None and set(foreign.columns) & set(columns):
                name = key_label(foreign)
                self._links.wish(relink.seq, foreign.target, foreign.target_columns, cells, name)

    def _look_for_parents(self, missed: Sequence[MissedLink]) -> None:
        places: dict[tuple[TableName, tuple[str, ...]], dict[Cells, list[MissedLink]]] = {}
        for miss in missed:
            wanted = places.setdefault((miss.table, miss.columns), {})
            wanted.setdefault(miss.cells, []).append(miss)
        for (name, columns), wanted in places.items():
            target = self._catalog.tables.get(name)
            if target is None:
                continue
            gone: list[Cells] = []
            for part in in_chunks(wanted):
                live = self._select(target, columns, part)
                gone += [one for one in part if not (one in live or fold_cells(one) in live)]
            having = self._deletions_having(target, columns, gone)
            for cells in gone:
                self._parent_missing(having.get(cells), wanted[cells])

    def _deletions_having(
        self, target: CatalogTable, columns: tuple[str, ...], gone: Sequence[Cells]
    ) -> Mapping[Cells, Deletion]:
        """Return the open deletions that have rows which are referred to and missing."""
        table_id = self._ids.get(target.name)
        if table_id is None or not gone:
            return {}
        if columns != target.primary_key:
            return deletions_with(self._connection, table_id, columns, gone)
        return {
            cells: found
            for cells in gone
            if (found := deletion_with(self._connection, table_id, write_key(cells))) is not None
        }

    def _parent_missing(self, having: Deletion | None, missed: Sequence[MissedLink]) -> None:
        has_it = 0 if having is None or having.id == self._survey.deletion.id else having.id
        for miss in missed:
            table, key = self._survey.named(miss.row)
            self._judged([judge_parent(miss.row, table, key, miss.name, has_it)])

    def _live(
        self, table: CatalogTable, columns: tuple[str, ...], images: Mapping[int, Image]
    ) -> dict[int, Image]:
        """Return the live rows that have the same cells there, by the row they stand in for."""
        wanted = {
            seq: cells
            for seq, image in images.items()
            if columns and (cells := cells_of(image, columns)) is not None
        }
        live = self._select(table, columns, list(dict.fromkeys(wanted.values())))
        return {
            seq: found
            for seq, cells in wanted.items()
            if (found := live.get(cells) or live.get(fold_cells(cells))) is not None
        }

    def _select(
        self, table: CatalogTable, columns: tuple[str, ...], cells: Sequence[Cells]
    ) -> dict[Cells, Image]:
        if not cells:
            return {}
        found: dict[Cells, Image] = {}
        for live in self._dialect.select_rows(self._connection, table, columns, cells):
            has = cells_of(live, columns)
            if has is not None:
                found[has] = live
                found.setdefault(fold_cells(has), live)
        return found

    def _is_optional(self, child: int, name: str) -> bool:
        row = self._survey.rows.get(child)
        if row is None:
            return True
        at = (row.shape_id, name)
        if at not in self._optional:
            now = self._survey.mappings[row.shape_id].now
            self._optional[at] = now is not None and bool(empty_first(now, name))
        return self._optional[at]


def empty_first(table: CatalogTable, name: str) -> tuple[str, ...]:
    """Return the columns of the key that may be NULL at first, so that the row can go in alone."""
    return tuple(
        column
        for key in table.foreign_keys
        if key_label(key) == name
        for column in key.columns
        if column not in table.primary_key
        and (found := table.column(column)) is not None
        and found.nullable
    )


def _names_now(shapes: Mapping[int, Shape]) -> tuple[dict[int, TableName], dict[TableName, int]]:
    names: dict[int, TableName] = {}
    for shape in sorted(shapes.values(), key=lambda shape: shape.id):
        names[shape.table_id] = shape.table.name
    return names, {name: table_id for table_id, name in names.items()}


def _referenced(catalog: Catalog) -> dict[TableName, set[tuple[str, ...]]]:
    found: dict[TableName, set[tuple[str, ...]]] = {}
    for table in catalog.tables.values():
        for key in table.foreign_keys:
            found.setdefault(key.target, set()).add(key.target_columns)
    return found


def _by_shape(rows: Iterable[DeletedRow]) -> dict[int, list[DeletedRow]]:
    found: dict[int, list[DeletedRow]] = {}
    for row in rows:
        found.setdefault(row.shape_id, []).append(row)
    return found
