"""Which rows of a set refer to which others of it, by the cells of their foreign keys. Pure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, final

from shipworthy.audit import Cell, TableName

Cells = tuple[str, ...]
_Place = tuple[TableName, tuple[str, ...]]


def cells_of(image: Mapping[str, Cell], columns: Sequence[str]) -> Cells | None:
    """Return what the columns of an image refer to; None where one is NULL, hidden or not there.

    A reference with a NULL in it refers to nothing.
    """
    found: list[str] = []
    for column in columns:
        cell = image.get(column)
        if not isinstance(cell, str):
            return None
        found.append(cell)
    return tuple(found)


@final
class RowLinks:
    """Offers and wishes of rows, told one by one; `match` brings them together at the end."""

    __slots__ = ("_offers", "_wishes")

    def __init__(self) -> None:
        self._offers: dict[_Place, dict[Cells, int]] = {}
        self._wishes: dict[_Place, list[tuple[int, Cells, str]]] = {}

    def offer(self, row: int, table: TableName, columns: tuple[str, ...], cells: Cells) -> None:
        """Say that `row` can be referred to by these cells; the first to say so is the one."""
        self._offers.setdefault((table, columns), {}).setdefault(cells, row)

    def wish(
        self, row: int, table: TableName, columns: tuple[str, ...], cells: Cells, name: str = ""
    ) -> None:
        """Say that `row` refers to whoever offers these cells, through the key `name`."""
        self._wishes.setdefault((table, columns), []).append((row, cells, name))

    def match(self) -> tuple[list[tuple[int, int, str]], list["MissedLink"]]:
        """Return who refers to whom through which key, and what no row of the set offers.

        Cells that differ in case alone are taken for equal where none is equal: collations may.
        """
        edges: list[tuple[int, int, str]] = []
        missed: list[MissedLink] = []
        for place, wishes in self._wishes.items():
            offers = self._offers.get(place, {})
            folded: dict[Cells, int] | None = None
            for row, cells, name in wishes:
                parent = offers.get(cells)
                if (
                    parent is None
                    and offers
                    and any(cell.lower() != cell.upper() for cell in cells)
                ):
                    if folded is None:
                        folded = {fold_cells(offered): found for offered, found in offers.items()}
                    parent = folded.get(fold_cells(cells))
                if parent is None:
                    missed.append(MissedLink(row, *place, cells, name))
                else:
                    edges.append((row, parent, name))
        return edges, missed


@final
class MissedLink(NamedTuple):
    """A row refers to cells of a table that no row of the set offers; `name` is the key's."""

    row: int
    table: TableName
    columns: tuple[str, ...]
    cells: Cells
    name: str


@final
class DisjointRows:
    """Rows in disjoint sets (union-find), so that connected ones have one representative."""

    __slots__ = ("_parents",)

    def __init__(self) -> None:
        self._parents: dict[int, int] = {}

    def find(self, row: int) -> int:
        """Return the representative of the row's set: the smallest number in it."""
        parents = self._parents
        root = row
        while (above := parents.get(root, root)) != root:
            root = above
        while row != root:
            parents[row], row = root, parents.get(row, row)
        return root

    def join(self, one: int, other: int) -> None:
        """Put both into one set."""
        first, second = sorted((self.find(one), self.find(other)))
        self._parents[second] = first


def fold_cells(cells: Cells) -> Cells:
    """Return cells as they are compared where case does not count."""
    return tuple(cell.casefold() for cell in cells)
