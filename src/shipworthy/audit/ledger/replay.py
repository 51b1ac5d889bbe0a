"""What the log says a row is: its entries one after the other, forward.

Pure. Of a row that was there before the log only the columns that were written since are known.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from shipworthy.audit.cells import read_image, read_key, write_key
from shipworthy.audit.model import Cell


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SeenCell:
    """A cell as an entry has it: which entry, and in which shape the table was then."""

    cell: Cell
    seq: int
    shape_id: int


# In place of cells: the log has the row deleted, or moved to another key.
GONE: Final[Mapping[str, SeenCell]] = {"": SeenCell(cell=None, seq=0, shape_id=0)}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RowState:
    """What the log knows of a row: its cells, or `GONE`.

    `older`: a row of this key was there before the log, whose first word of it is no insert.
    """

    cells: Mapping[str, SeenCell]
    older: bool = False


def replayed(rows: Iterable[Sequence[Any]], primary_key: Sequence[str]) -> dict[str, RowState]:
    """Return what each key is after entries in their order: seq, shape, op, key and new image."""
    states: dict[str, RowState] = {}
    for seq, shape_id, op, key, new in rows:
        if key is None or op == "T":
            continue
        before = states.get(key)
        older = op != "I" if before is None else before.older
        if op == "D":
            states[key] = RowState(cells=GONE, older=older)
            continue
        image = read_image(new)
        cells = {
            name: SeenCell(cell=cell, seq=seq, shape_id=shape_id) for name, cell in image.items()
        }
        if op == "I":
            states[key] = RowState(cells=cells, older=older)
            continue
        known = {} if before is None or before.cells is GONE else before.cells
        to = _key_after(key, image, primary_key)
        if to != key:
            states[key] = RowState(cells=GONE, older=older)
            # What was there before under that key is another row's matter.
            older = to in states and states[to].older
        states[to] = RowState(cells={**known, **cells}, older=older)
    return states


def _key_after(key: str, image: Mapping[str, Cell], primary_key: Sequence[str]) -> str:
    if not any(name in image for name in primary_key):
        return key
    cells = zip(primary_key, read_key(key) or (), strict=True)
    return write_key([image.get(name, cell) for name, cell in cells])
