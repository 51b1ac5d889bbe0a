"""Put rows back, in the transaction of the caller; say of each what the database made of it.

The rows go in as the engine's own text, parents first, in parts. A part that the database refuses
is taken back and halved until the row it refuses is known. Whoever calls decides whether the rest
may stay: the proof goes on, so that it finds all of them, and a restore of everything does not.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, final

import sqlalchemy as sa

from shipworthy.audit import AuditDialect, CatalogTable, Image, read_key
from shipworthy.db import classify
from shipworthy.records.dialects import RestoreDialect, restore_dialect
from shipworthy.records.links import cells_of
from shipworthy.records.log import PART, dialect_of, in_chunks, last_number, recorded_alike
from shipworthy.records.order import RowLink, insert_order
from shipworthy.records.plan import Obstacle, ObstacleKind, TableMapping, judge_relink
from shipworthy.records.survey import RestoreSurvey, empty_first

# A failure of these means that the row is wrong; any other is no answer about the row.
_OF_THE_ROW: Final = frozenset({"permanent", "unknown"})


@final
@dataclass(slots=True, kw_only=True)
class Carried:
    """What went in, which links were set again, and what the database had against the others."""

    rows: set[int] = field(default_factory=set)
    relinks: int = 0
    obstacles: list[Obstacle] = field(default_factory=list)


def carry_out(connection: sa.Connection, survey: RestoreSurvey, chosen: Iterable[int]) -> Carried:
    """Insert `chosen` rows and set `chosen` links again; those that need a refused one stay out.

    Raises what the database raises when it is not about a row: a lock that did not come, a lost
    connection.
    """
    wanted = set(chosen)
    obstacles: list[Obstacle] = []
    while True:
        with connection.begin_nested() as savepoint:
            carrying = _Carrying(connection, survey, wanted)
            done = carrying.all()
            # Of a circle one row goes in before what it refers to, which may be refused then.
            if not done.rows & carrying.refused:
                carrying.finish()
                done.obstacles = [*obstacles, *done.obstacles]
                return done
            savepoint.rollback()
        obstacles += [one for one in done.obstacles if one.seq in carrying.refused]
        wanted -= carrying.refused


@final
class _Carrying:
    def __init__(
        self, connection: sa.Connection, survey: RestoreSurvey, chosen: Iterable[int]
    ) -> None:
        self._connection = connection
        self._survey = survey
        self._dialect: AuditDialect = dialect_of(connection)
        self._restoring: RestoreDialect = restore_dialect(connection.dialect.name)
        wanted = set(chosen)
        self._rows = [seq for seq in survey.rows if seq in wanted]
        self._relinks = [seq for seq in survey.relinks if seq in wanted]
        self._done = Carried()
        self._began_after = last_number(connection)
        self.refused: set[int] = set()
        self._later: dict[int, list[RowLink]] = {}
        self._is_circular = False
        self._children: dict[int, list[int]] = {}
        for link in survey.links:
            if link.child in wanted:
                self._children.setdefault(link.parent, []).append(link.child)

    def all(self) -> Carried:
        """Rows first, then the links between them, then those of the rows that stayed."""
        order = insert_order(self._rows, self._survey.links)
        for link in order.later:
            self._later.setdefault(link.child, []).append(link)
        if order.circular:
            self._restoring.check_later(self._connection)
        for wave in order.waves:
            for shape_id, rows in self._by_shape(wave).items():
                now = self._survey.mappings[shape_id].now
                if now is not None:
                    for part in in_chunks(rows, PART):
                        self._insert(part, shape_id, now)
        self._is_circular = order.circular
        self._set_links()
        self._compare_all()
        return self._done

    def _set_links(self) -> None:
        for child in self._later:
            if child in self._done.rows and child not in self.refused:
                self._link(child)
        for seq in self._relinks:
            if seq not in self.refused:
                self._relink(seq)

    def finish(self) -> None:
        """Check what was put off, and see to the numbers that are given next."""
        if self._is_circular:
            self._restoring.check_now(self._connection)
        touched = {self._survey.rows[seq].shape_id for seq in self._done.rows}
        tables = {
            now.name: now
            for shape_id in touched
            if (now := self._survey.mappings[shape_id].now) is not None
        }
        for table in tables.values():
            self._restoring.move_sequences(self._connection, table)

    def _by_shape(self, wave: Sequence[int]) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for seq in wave:
            if seq not in self.refused:
                found.setdefault(self._survey.rows[seq].shape_id, []).append(seq)
        return found

    def _insert(self, rows: Sequence[int], shape_id: int, now: CatalogTable) -> None:
        mapping = self._survey.mappings[shape_id]
        found = self._survey.images(self._connection, rows)
        images = (
            {seq: image for seq, image, _ in found}
            if mapping.is_same
            else {seq: mapping.translate(image) for seq, image, _ in found}
        )
        for seq in rows:
            for link in self._later.get(seq, ()):
                images[seq].update(dict.fromkeys(empty_first(now, link.name)))
        self._insert_or_halve(images, now, tuple(mapping.columns.values()))

    def _insert_or_halve(
        self, images: Mapping[int, Image], now: CatalogTable, columns: Sequence[str]
    ) -> None:
        ahead = [dict(images)]
        while ahead:
            part = ahead.pop()
            refusal = self._try(partial(self._insert_part, part, now, columns))
            if refusal is None:
                self._done.rows.update(part)
            elif len(part) == 1:
                self._refuse(next(iter(part)), refusal)
            else:
                items = list(part.items())
                middle = len(items) // 2
                ahead += [dict(items[middle:]), dict(items[:middle])]

    def _insert_part(
        self, part: Mapping[int, Image], now: CatalogTable, columns: Sequence[str]
    ) -> None:
        self._dialect.insert_rows(self._connection, now, columns, list(part.values()))

    def _try(self, act: Callable[[], object]) -> str | None:
        """Do it in a savepoint; return what the database has against it, None for nothing."""
        try:
            with self._connection.begin_nested():
                act()
        except sa.exc.DBAPIError as error:
            if classify(error).outcome not in _OF_THE_ROW:
                raise
            return self._restoring.refusal(error)
        return None

    def _compare_all(self) -> None:
        """Note what the database made other than it was told, and keeps so: a trigger, a type."""
        changed = self._changed()
        for seq, column in self._set_back(changed) if changed else ():
            self._obstacle(seq, ObstacleKind.CHANGED, column)

    def _set_back(self, changed: Sequence[tuple[int, str]]) -> Sequence[tuple[int, str]]:
        """Set the changed rows to what they were, once; return what is still other than it was.

        A trigger that counts children has counted them again then, and is right when all are in.
        One that answers to this too, and changes what was as it should be, has it all taken back.
        Each row is a statement: where so many are changed that a plan would take minutes, none is.
        """
        rows = {seq for seq, _ in changed}
        if len(rows) > PART:
            return changed
        savepoint = self._connection.begin_nested()
        refusal = self._try(lambda: self._update_whole(rows))
        left = self._changed() if refusal is None else changed
        if refusal is not None or set(left) - set(changed):
            savepoint.rollback()
            return changed
        savepoint.commit()
        return left

    def _update_whole(self, rows: Iterable[int]) -> None:
        for seq in sorted(rows):
            row = self._survey.rows[seq]
            self._update_row(seq, self._survey.mappings[row.shape_id])

    def _changed(self) -> list[tuple[int, str]]:
        """Return the rows and columns that are other than they were.

        When all are in: a trigger of the application may change a row when a later one goes in.
        What the log has as inserted, and as it was, is not read again.
        """
        found: list[tuple[int, str]] = []
        for shape_id, rows in self._by_shape(sorted(self._done.rows)).items():
            mapping = self._survey.mappings[shape_id]
            now = mapping.now
            if now is None or not now.primary_key:
                continue
            for part in in_chunks(rows, PART):
                # A personal value stands beside the log, so the log cannot tell.
                alike = (
                    frozenset[int]()
                    if mapping.shape.personal
                    else recorded_alike(self._connection, part, after=self._began_after)
                )
                if unsure := [seq for seq in part if seq not in alike]:
                    found += self._compare(unsure, mapping, now)
        return found

    def _compare(
        self, rows: Sequence[int], mapping: TableMapping, now: CatalogTable
    ) -> Iterator[tuple[int, str]]:
        images = {
            seq: mapping.translate(image)
            for seq, image, _ in self._survey.images(self._connection, rows)
        }
        keys = {
            cells: seq
            for seq, image in images.items()
            if (cells := cells_of(image, now.primary_key)) is not None
        }
        if not keys:
            return
        for live in self._dialect.select_rows(self._connection, now, now.primary_key, list(keys)):
            seq = keys.get(cells_of(live, now.primary_key) or ())
            if seq is None:
                continue
            for column, cell in images[seq].items():
                if live.get(column) != cell:
                    yield seq, column

    def _link(self, child: int) -> None:
        """Set the links of a row that were left out at first."""
        mapping = self._survey.mappings[self._survey.rows[child].shape_id]
        refusal = self._try(lambda: self._update_row(child, mapping))
        if refusal is not None:
            self._refuse(child, refusal)

    def _update_row(self, seq: int, mapping: TableMapping) -> None:
        """Set a row that is in to what it was.

        All of it, also what it is already: MariaDB gives a column with ON UPDATE another time where
        it is not set.
        """
        now = mapping.now
        if now is None:
            return
        ((_, old, _),) = self._survey.images(self._connection, [seq])
        image = mapping.translate(old)
        cells = {
            column.name: image[column.name]
            for column in now.columns
            if column.name in image and not column.identity and column.name not in now.primary_key
        }
        key = [image[column] for column in now.primary_key]
        self._dialect.update_row(self._connection, now, key, cells)

    def _relink(self, seq: int) -> None:
        relink = self._survey.relinks[seq]
        mapping = self._survey.mappings[relink.shape_id]
        now = mapping.now
        if now is None:
            return
        key = read_key(relink.key) or ()
        changes = {
            mapping.columns[name]: change
            for name, change in relink.columns.items()
            if name in mapping.columns
        }
        # Somebody may have set it, or be about to, since it was looked at.
        live = self._dialect.select_rows(self._connection, now, now.primary_key, [key], lock=True)
        table, shown = self._survey.named(seq)
        if newer := judge_relink(seq, table, shown or "", changes, next(iter(live), None)):
            self._done.obstacles += newer
            return
        links = {name: before for name, (before, _) in changes.items()}
        refusal = self._try(lambda: self._dialect.update_row(self._connection, now, key, links))
        if refusal is None:
            self._done.relinks += 1
        else:
            self._refuse(seq, refusal)

    def _refuse(self, seq: int, because: str) -> None:
        self._obstacle(seq, ObstacleKind.REJECTED, because)
        self.refused.add(seq)
        ahead = [seq]
        while ahead:
            parent = ahead.pop()
            for child in self._children.get(parent, ()):
                if child not in self.refused:
                    self.refused.add(child)
                    self._obstacle(child, ObstacleKind.DEPENDS, self._name(parent))
                    ahead.append(child)

    def _name(self, seq: int) -> str:
        return " ".join(part for part in self._survey.named(seq) if part)

    def _obstacle(self, seq: int, kind: ObstacleKind, what: str) -> None:
        table, key = self._survey.named(seq)
        self._done.obstacles.append(Obstacle(kind=kind, seq=seq, table=table, key=key, what=what))
