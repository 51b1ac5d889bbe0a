"""In which order rows go in, so that each finds what it refers to. Pure.

Parents first. Where rows refer to each other in a circle, a link that may be NULL is left out at
first and set when all are in; where none may, the order within the circle is any, and the database
must be told to check at the end.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final


@final
class RowLink(NamedTuple):
    """`child` refers to `parent` through the key `name`; `optional` says that it may be NULL."""

    child: int
    parent: int
    name: str
    optional: bool = False


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class InsertOrder:
    """`waves` are rows that go in together, each after what it needs.

    `later` are the links that are set when all rows are in; `circular` says that some rows need
    each other and none can go first.
    """

    waves: tuple[tuple[int, ...], ...]
    later: tuple[RowLink, ...] = ()
    circular: bool = False


def insert_order(rows: Sequence[int], links: Iterable[RowLink]) -> InsertOrder:
    """Return the order for `rows`; links to themselves, and from or to other rows, do not count."""
    known = set(rows)
    needs: dict[int, list[RowLink]] = {}
    children: dict[int, list[RowLink]] = {}
    for link in links:
        if link.child != link.parent and link.child in known and link.parent in known:
            needs.setdefault(link.child, []).append(link)
            children.setdefault(link.parent, []).append(link)
    waiting = {child: len(found) for child, found in needs.items()}
    ready = deque([row for row in rows if row not in waiting])
    waves: list[tuple[int, ...]] = []
    later: list[RowLink] = []
    cut: set[int] = set()
    circular = False
    while ready or waiting:
        if not ready:
            link = _link_to_cut(next(iter(waiting)), needs, waiting, cut)
            cut.add(id(link))
            if link.optional:
                later.append(link)
            else:
                circular = True
            _settle(link.child, waiting, ready)
            continue
        wave = tuple(ready)
        ready.clear()
        waves.append(wave)
        for row in wave:
            for link in children.get(row, ()):
                if id(link) not in cut:
                    _settle(link.child, waiting, ready)
    return InsertOrder(waves=tuple(waves), later=tuple(later), circular=circular)


def dependents(rows: Iterable[int], links: Iterable[RowLink]) -> frozenset[int]:
    """Return the rows that need one of `rows`, directly or through others; without `rows`."""
    children: dict[int, list[int]] = {}
    for link in links:
        children.setdefault(link.parent, []).append(link.child)
    first = set(rows)
    found: set[int] = set()
    ahead = deque(first)
    while ahead:
        for child in children.get(ahead.popleft(), ()):
            if child not in first and child not in found:
                found.add(child)
                ahead.append(child)
    return frozenset(found)


def _settle(row: int, waiting: dict[int, int], ready: deque[int]) -> None:
    waiting[row] -= 1
    if not waiting[row]:
        del waiting[row]
        ready.append(row)


def _link_to_cut(
    start: int, needs: Mapping[int, list[RowLink]], waiting: Mapping[int, int], cut: set[int]
) -> RowLink:
    """Return a link of a circle that `start` is in, or waits for; one that may be NULL if any."""
    path: list[RowLink] = []
    seen: dict[int, int] = {}
    row = start
    while row not in seen:
        seen[row] = len(path)
        # Whoever waits has a link to one that waits too: those that went in are settled.
        link = next(link for link in needs[row] if link.parent in waiting and id(link) not in cut)
        path.append(link)
        row = link.parent
    circle = path[seen[row] :]
    return next((link for link in circle if link.optional), circle[0])
