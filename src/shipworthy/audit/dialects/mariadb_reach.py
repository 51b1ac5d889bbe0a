"""MariaDB: which rows the foreign keys take along or change, as SQL that only reads; pure.

The rows of a table that will be gone are a set with a name, `gone0` and so on: its key, and the
columns that other tables point to. Sets are built from the row of the trigger, OLD, by the links.

Not here: what is written of those rows (`mariadb_cascades`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, final

from shipworthy.audit.dialects.mariadb_cells import name
from shipworthy.audit.model import Catalog, CatalogForeignKey, CatalogTable, TableName

# A plain read would see the transaction's snapshot, and the engine deletes what is there now.
LOCK: Final = "LOCK IN SHARE MODE"
# The name that a row of the table in question has.
ROW: Final = "t"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CascadeLink:
    """A foreign key by which a row of `parent` takes along or changes rows of `child`."""

    child: CatalogTable
    key: CatalogForeignKey
    parent: TableName

    def joins(self, parent: str) -> str:
        """Return the SQL that says that a row points to one of `parent`, a name there."""
        return equal(ROW, self.key.columns, parent, self.key.target_columns)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CascadeReach:
    """What deleting a row of `root` may touch: tables that lose rows, links that do it."""

    root: CatalogTable
    deleted: tuple[CatalogTable, ...]
    taking: tuple[CascadeLink, ...]
    nulling: tuple[CascadeLink, ...]

    @property
    def touched(self) -> tuple[CascadeLink, ...]:
        """Every link that does something."""
        return (*self.taking, *self.nulling)

    @property
    def unlinked(self) -> tuple[CatalogTable, ...]:
        """The tables whose rows may lose a link."""
        return tuple({link.child.name: link.child for link in self.nulling}.values())

    def is_deleted(self, table: TableName) -> bool:
        """May the table lose rows beside the root's own?"""
        return any(it.name == table for it in self.deleted)

    def gone(self, table: TableName) -> str:
        """Return the name of the set of lost rows of a table."""
        return f"gone{self._place(table)}"

    def hit(self, link: CascadeLink) -> str:
        """Return the SQL that says whether `link` of a row points to one that will be gone."""
        ways = []
        if link.parent == self.root.name:
            ways.append(f"({link.joins('OLD')})")
        if self.is_deleted(link.parent):
            own = ",".join(f"{ROW}.{name(column)}" for column in link.key.columns)
            lost = ",".join(map(name, link.key.target_columns))
            ways.append(f"({own}) IN (SELECT {lost} FROM {self.gone(link.parent)})")
        # Of a link that is NULL each way is NULL: it points nowhere.
        return f"IFNULL({' OR '.join(ways)},FALSE)"

    def sets(self, tables: Sequence[TableName]) -> str:
        """Return the `WITH` that names the lost rows of those tables, '' for none."""
        needed = {it for table in tables for it in self._sources(table)}
        made: list[str] = []
        done: set[TableName] = set()
        for table in self.deleted:
            if table.name not in needed or table.name in done:
                continue
            ring = self._ring(table.name)
            done |= {it.name for it in ring}
            made += self._simple(table) if len(ring) == 1 else self._loop(ring)
        return f"WITH RECURSIVE {', '.join(made)} " if made else ""

    def _place(self, table: TableName) -> int:
        return [it.name for it in self.deleted].index(table)

    def _sources(self, table: TableName) -> set[TableName]:
        """Return the tables whose lost rows decide which rows of `table` are lost, with it."""
        found: set[TableName] = set()
        ahead = [table]
        while ahead:
            one = ahead.pop()
            if one not in found and self.is_deleted(one):
                found.add(one)
                ahead += [link.parent for link in self.taking if link.child.name == one]
        return found

    def _ring(self, table: TableName) -> list[CatalogTable]:
        """Return the tables that lose rows by each other, this one first."""
        around = [
            it
            for it in self.deleted
            if it.name in self._sources(table) and table in self._sources(it.name)
        ]
        return sorted(around, key=lambda it: it.name != table)

    def _kept(self, table: CatalogTable) -> list[str]:
        """Return the columns that a set has of its rows."""
        wanted = {*table.primary_key}
        for link in self.touched:
            if link.parent == table.name:
                wanted |= {*link.key.target_columns}
        every = [it.name for it in table.columns]
        return [it for it in every if it in wanted] or every

    def _simple(self, table: CatalogTable) -> list[str]:
        """Return the set of a table that loses rows by others, or by itself."""
        listed = ",".join(f"{ROW}.{name(it)}" for it in self._kept(table))
        selects = [*self._begins(table, listed, ring=[])]
        selects += [
            _select(table, listed, link, self.gone(table.name))
            for link in self._into(table)
            if link.parent == table.name
        ]
        return [f"{self.gone(table.name)} AS ({' UNION '.join(selects)})"]

    def _loop(self, ring: Sequence[CatalogTable]) -> list[str]:
        """Return the sets of tables that take each other along.

        MariaDB refuses most sets that refer to each other, so it is one, whose rows say of which
        table they are and have columns for each of them.
        """
        places = {it.name: self._place(it.name) for it in ring}
        loop = f"loop{places[ring[0].name]}"
        columns = [(it, column) for it in ring for column in self._kept(it)]
        begins, steps = [], []
        for table in ring:
            listed = f"{places[table.name]} AS which," + ",".join(
                f"{f'{ROW}.{name(column)}' if owner is table else 'NULL'} "
                f"AS {name(f'{places[owner.name]}_{column}')}"
                for owner, column in columns
            )
            # One that selects nothing gives its columns their types.
            begins.append(f"(SELECT {listed} FROM {name(table.name.name)} {ROW} WHERE FALSE)")
            begins += self._begins(table, listed, ring=[it.name for it in ring])
            for link in self._into(table):
                if link.parent in places:
                    place = places[link.parent]
                    targets = [f"{place}_{it}" for it in link.key.target_columns]
                    steps.append(
                        f"(SELECT {listed} FROM {loop} JOIN {name(table.name.name)} {ROW} ON "
                        f"{loop}.which={place} AND {equal(ROW, link.key.columns, loop, targets)} "
                        f"{LOCK})"
                    )
        made = [f"{loop} AS ({' UNION '.join((*begins, *steps))})"]
        for table in ring:
            place = places[table.name]
            listed = ",".join(
                f"{name(f'{place}_{column}')} AS {name(column)}" for column in self._kept(table)
            )
            made.append(
                f"gone{place} AS (SELECT DISTINCT {listed} FROM {loop} WHERE which={place})"
            )
        return made

    def _begins(self, table: CatalogTable, listed: str, ring: Sequence[TableName]) -> Iterator[str]:
        """Return what is lost by the row of the trigger, and by tables outside of the ring."""
        for link in self._into(table):
            if link.parent == self.root.name:
                yield (
                    f"(SELECT {listed} FROM {name(table.name.name)} {ROW} "
                    f"WHERE {link.joins('OLD')} {LOCK})"
                )
        for link in self._into(table):
            if self.is_deleted(link.parent) and link.parent not in (table.name, *ring):
                yield _select(table, listed, link, self.gone(link.parent))

    def _into(self, table: CatalogTable) -> list[CascadeLink]:
        return [link for link in self.taking if link.child.name == table.name]


def reach_of(root: CatalogTable, catalog: Catalog) -> CascadeReach:
    """Return what deleting a row of `root` may touch. Tables come after those they lose rows by."""
    taking: list[CascadeLink] = []
    nulling: list[CascadeLink] = []
    found: dict[TableName, CatalogTable] = {}
    ahead, seen = [root], set[TableName]()
    while ahead:
        parent = ahead.pop(0)
        if parent.name in seen:
            continue
        seen.add(parent.name)
        for child, key in catalog.references_to(parent.name):
            link = CascadeLink(child=child, key=key, parent=parent.name)
            if key.on_delete == "cascade":
                taking.append(link)
                found[child.name] = child
                ahead.append(child)
            elif key.on_delete == "set null":
                nulling.append(link)
    reach = CascadeReach(
        root=root, deleted=tuple(found.values()), taking=tuple(taking), nulling=tuple(nulling)
    )
    # Who loses rows by more tables comes later; around a ring all lose them by the same.
    ordered = sorted(reach.deleted, key=lambda it: len(reach._sources(it.name)))  # noqa: SLF001
    return CascadeReach(
        root=root, deleted=tuple(ordered), taking=reach.taking, nulling=reach.nulling
    )


def key_paths(table: CatalogTable, catalog: Catalog) -> list[tuple[CascadeLink, ...]]:
    """Return every way a change of the table's key goes by ON UPDATE CASCADE.

    InnoDB never comes to the same table twice: it refuses the update.
    """
    found: list[tuple[CascadeLink, ...]] = []
    ahead: list[tuple[tuple[CascadeLink, ...], frozenset[str] | None]] = [((), None)]
    while ahead:
        path, changed = ahead.pop(0)
        last = path[-1].child if path else table
        seen = {table.name, *(link.child.name for link in path)}
        for child, key in catalog.references_to(last.name):
            touched = changed is None or changed & set(key.target_columns)
            if key.on_update != "cascade" or child.name in seen or not touched:
                continue
            further = (*path, CascadeLink(child=child, key=key, parent=last.name))
            columns = frozenset(
                column
                for column, target in zip(key.columns, key.target_columns, strict=True)
                if changed is None or target in changed
            )
            found.append(further)
            ahead.append((further, columns))
    return found


def equal(left: str, columns: Sequence[str], right: str, targets: Sequence[str]) -> str:
    """Return the SQL that says that columns of two rows are equal, as their type compares."""
    return " AND ".join(
        f"{left}.{name(column)}={right}.{name(target)}"
        for column, target in zip(columns, targets, strict=True)
    )


def _select(table: CatalogTable, listed: str, link: CascadeLink, gone: str) -> str:
    return (
        f"(SELECT {listed} FROM {gone} JOIN {name(table.name.name)} {ROW} "
        f"ON {link.joins(gone)} {LOCK})"
    )
