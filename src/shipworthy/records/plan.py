"""What a restore would do, and what stands in its way. Pure: facts in, verdicts out.

The present is told as facts (`Surroundings`); who reads them is `present`. What only the database
can know, its checks and the application's triggers, is found by the proof (`prove`).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, final

from shipworthy.audit import Catalog, CatalogTable, Cell, Image, Shape, TableName
from shipworthy.records.order import RowLink, dependents


class ObstacleKind(StrEnum):
    """What can stand in the way of a row."""

    PARENT_GONE = "parent gone"
    PARENT_DELETED = "parent deleted"
    KEY_TAKEN = "primary key taken"
    UNIQUE_TAKEN = "unique slot taken"
    TABLE_GONE = "table gone"
    COLUMN_REQUIRED = "new required column"
    ERASED = "erased value"
    TOO_LONG = "value too long to be kept"
    REJECTED = "rejected by the database"
    DEPENDS = "depends on another row"
    # The row comes back, but not all of it.
    COLUMN_DROPPED = "column dropped"
    ERASED_OPTIONAL = "erased value, left empty"
    CHANGED = "changed by the database"
    LINK_KEPT = "newer link kept"
    LINK_ROW_GONE = "row of the link gone"
    # To be known; it costs nothing.
    TYPE_CHANGED = "type changed"
    ALREADY_BACK = "already back"


_LOSSES: Final = frozenset(
    {
        ObstacleKind.COLUMN_DROPPED,
        ObstacleKind.ERASED_OPTIONAL,
        ObstacleKind.CHANGED,
    }
)
_NOTES: Final = frozenset(
    {
        ObstacleKind.TYPE_CHANGED,
        ObstacleKind.ALREADY_BACK,
        ObstacleKind.LINK_KEPT,
        ObstacleKind.LINK_ROW_GONE,
    }
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """What stands in the way of the row `seq`, or what it comes back without.

    `what` names the column, the constraint or the key; `holder` the key of the row that has the
    place; `deletion` the deletion that has the parent.
    """

    kind: ObstacleKind
    seq: int
    table: str
    key: str | None
    what: str = ""
    holder: str = ""
    deletion: int = 0

    @property
    def blocks(self) -> bool:
        """Whether the row cannot come back."""
        return self.kind not in _LOSSES and self.kind not in _NOTES

    @property
    def loses(self) -> bool:
        """Whether the row comes back other than it was."""
        return self.kind in _LOSSES


# A row that meets one of these is not asked for its parents any more.
SETTLED: Final = frozenset(
    {ObstacleKind.TABLE_GONE, ObstacleKind.KEY_TAKEN, ObstacleKind.ALREADY_BACK}
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TableMapping:
    """How the rows of an old shape go into the table as it is now; `now` is None where it is gone.

    `columns` maps old names to new ones, generated ones left out; `dropped` are old names without
    a place; `required` are new columns that nothing fills; `retyped` maps a new name to both types.
    """

    shape: Shape
    now: CatalogTable | None
    columns: Mapping[str, str] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    retyped: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def is_same(self) -> bool:
        """Whether every column has the place that it had."""
        return len(self.columns) == len(self.shape.table.columns) and all(
            old == new for old, new in self.columns.items()
        )

    @property
    def is_plain(self) -> bool:
        """Whether the table stands in no row's way, and has a place for all of it."""
        return not (self.now is None or self.dropped or self.required or self.retyped)

    def translate(self, image: Image) -> dict[str, Cell]:
        """Return an old image under the new names, as far as it has a place."""
        return {new: image[old] for old, new in self.columns.items() if old in image}


def map_table(
    shape: Shape, name: TableName, catalog: Catalog, *, stable_numbers: bool
) -> TableMapping:
    """Return how rows of `shape` go into the table `name` of today.

    A column that was renamed is found by its number, where the engine gives one for life.
    """
    now = catalog.tables.get(name)
    if now is None:
        return TableMapping(shape=shape, now=None)
    old_names = {column.name for column in shape.table.columns}
    by_number = (
        {column.number: column.name for column in now.columns if column.name not in old_names}
        if stable_numbers
        else {}
    )
    columns: dict[str, str] = {}
    dropped: list[str] = []
    retyped: dict[str, tuple[str, str]] = {}
    for old in shape.table.columns:
        column = now.column(old.name) or now.column(by_number.get(old.number, ""))
        if old.generated:
            continue
        if column is None or column.generated:
            dropped.append(old.name)
            continue
        columns[old.name] = column.name
        if column.type != old.type:
            retyped[column.name] = (old.type, column.type)
    filled = set(columns.values())
    return TableMapping(
        shape=shape,
        now=now,
        columns=columns,
        dropped=tuple(dropped),
        required=tuple(
            column.name
            for column in now.columns
            if column.name not in filled
            and not column.nullable
            and column.default is None
            and not column.generated
            and not column.identity
        ),
        retyped=retyped,
    )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the present has in the place of one row.

    `same_key` is the live row with its primary key. `holders` maps a unique constraint to the key
    of the row that has the place. `erased` are columns whose personal value was erased.
    """

    same_key: Image | None = None
    holders: Mapping[str, str] = field(default_factory=dict)
    erased: frozenset[str] = frozenset()


def judge_row(
    mapping: TableMapping, seq: int, key: str | None, image: Image, around: Surroundings
) -> list[Obstacle]:
    """Return what stands in the way of one row, the gravest first; nothing where it can come back.

    `image` has the old names, its personal values in place and erased ones as None.
    """
    table = str(mapping.shape.table.name)

    def obstacle(
        kind: ObstacleKind, what: str = "", *, holder: str = "", deletion: int = 0
    ) -> Obstacle:
        return Obstacle(
            kind=kind, seq=seq, table=table, key=key, what=what, holder=holder, deletion=deletion
        )

    if mapping.now is None:
        return [obstacle(ObstacleKind.TABLE_GONE, table)]
    if around.same_key is not None:
        if _same(mapping.translate(image), around.same_key):
            return [obstacle(ObstacleKind.ALREADY_BACK)]
        return [
            obstacle(ObstacleKind.KEY_TAKEN, ", ".join(mapping.now.primary_key), holder=key or "")
        ]
    found = [
        obstacle(ObstacleKind.UNIQUE_TAKEN, name, holder=holder)
        for name, holder in around.holders.items()
    ]
    found += [obstacle(ObstacleKind.COLUMN_REQUIRED, name) for name in mapping.required]
    for name in sorted(around.erased):
        column = mapping.now.column(mapping.columns.get(name, ""))
        optional = column is None or column.nullable
        found.append(
            obstacle(ObstacleKind.ERASED_OPTIONAL if optional else ObstacleKind.ERASED, name)
        )
    found += [
        obstacle(ObstacleKind.TOO_LONG, name)
        for name, cell in sorted(image.items())
        if cell is False and name not in mapping.dropped
    ]
    found += [
        obstacle(ObstacleKind.COLUMN_DROPPED, name)
        for name in mapping.dropped
        if image.get(name) is not None
    ]
    found += [
        obstacle(ObstacleKind.TYPE_CHANGED, f"{name}: {before} -> {after}")
        for name, (before, after) in mapping.retyped.items()
    ]
    return found


def judge_parent(seq: int, table: str, key: str | None, key_name: str, deletion: int) -> Obstacle:
    """Return what a missing parent means; `deletion` is the open one that has it, 0 for none."""
    kind = ObstacleKind.PARENT_DELETED if deletion else ObstacleKind.PARENT_GONE
    return Obstacle(kind=kind, seq=seq, table=table, key=key, what=key_name, deletion=deletion)


def judge_relink(
    seq: int, table: str, key: str, columns: Mapping[str, tuple[Cell, Cell]], live: Image | None
) -> list[Obstacle]:
    """Return why a lost link is not set again; nothing where it is.

    It is set where the row still has what the deletion left in it. What somebody has set since
    stays.
    """
    names = ", ".join(columns)
    if live is None:
        kind = ObstacleKind.LINK_ROW_GONE
    elif all(live.get(column) == before for column, (before, _) in columns.items()):
        kind = ObstacleKind.ALREADY_BACK
    elif any(live.get(column) != after for column, (_, after) in columns.items()):
        kind = ObstacleKind.LINK_KEPT
    else:
        return []
    return [Obstacle(kind=kind, seq=seq, table=table, key=key, what=names)]


def drop_out(
    obstacles: Collection[Obstacle],
    links: Sequence[RowLink],
    named: Callable[[int], tuple[str, str | None]],
) -> list[Obstacle]:
    """Return the obstacles of rows that have none of their own, but need a row that has one.

    A row that is back already needs none. `named` gives the table and the key of a row.
    """
    blocked = {obstacle.seq for obstacle in obstacles if obstacle.blocks}
    back = {one.seq for one in obstacles if one.kind is ObstacleKind.ALREADY_BACK}
    needs = [link for link in links if link.child not in back]
    dragged = dependents(blocked, needs)
    lost = blocked | dragged
    parents = {link.child: link.parent for link in needs if link.parent in lost}
    found = []
    for seq in sorted(dragged):
        table, key = named(seq)
        above = named(parents[seq])
        found.append(
            Obstacle(
                kind=ObstacleKind.DEPENDS,
                seq=seq,
                table=table,
                key=key,
                what=f"{above[0]} {above[1] or ''}".strip(),
            )
        )
    return found


def _same(image: Image, live: Image) -> bool:
    return all(column in live and live[column] == cell for column, cell in image.items())
