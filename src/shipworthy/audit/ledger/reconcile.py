"""Compare the log with the tables: find writes that were made past the triggers.

The ledger shows that the log was not changed; it cannot show that the log has everything. Here each
table is read in pages and compared with what the log says its rows are, by primary key. Rows that
were there before the trail, and were not written since, are unknown to the log and no finding; but
there can never be more of them than there were.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, final

import sqlalchemy as sa

from shipworthy.audit.cells import read_image, read_key, write_key
from shipworthy.audit.dialects import AuditDialect, dialect_for
from shipworthy.audit.dialects.past import PastDialect, past_dialect
from shipworthy.audit.ledger.findings import SHOWN_FINDINGS
from shipworthy.audit.ledger.replay import GONE, RowState, SeenCell, replayed
from shipworthy.audit.model import CatalogTable, Cell, Shape
from shipworthy.audit.reading import naming_entry
from shipworthy.audit.shapes import read_shapes
from shipworthy.audit.tables import ARCHIVES, ENTRIES, META, PERSONAL
from shipworthy.errors import Misuse

_PAGE_ROWS: Final = 500
_BASELINE: Final = "ledger.rows_before."

Divergence = Literal["row changed", "row inserted", "row removed", "rows inserted", "table gone"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RowFinding:
    """A row that is not as the log has it; `key` is written as in the log, '' for a whole table."""

    kind: Divergence
    table: str
    key: str
    because: str


@final
@dataclass(slots=True, kw_only=True)
class ReconcileReport:
    """What was compared: `rows` that the log knows, `unknown` ones that are older than it."""

    tables: int = 0
    rows: int = 0
    unknown: int = 0
    found: int = 0
    findings: list[RowFinding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every table is as the log has it."""
        return not self.found

    def add(self, kind: Divergence, table: str, key: str, because: str) -> None:
        """Note a finding; the first 1,000 are kept, all are counted."""
        self.found += 1
        if len(self.findings) < SHOWN_FINDINGS:
            self.findings.append(RowFinding(kind=kind, table=table, key=key, because=because))

    def facts(self) -> dict[str, Any]:
        """Return it as `audit reconcile --json` prints it."""
        return {
            "ok": self.ok,
            "tables": self.tables,
            "rows": self.rows,
            "unknown": self.unknown,
            "found": self.found,
            "findings": [
                {"kind": it.kind, "table": it.table, "key": it.key, "because": it.because}
                for it in self.findings
            ],
            "notes": self.notes,
        }


def reconcile(
    engine: sa.Engine, tables: Sequence[str] = (), *, remember: bool = True
) -> ReconcileReport:
    """Compare the tables of these names, all captured ones where none is named, with the log.

    All is read in one transaction that sees one state, so others may write meanwhile. With
    `remember` the number of rows that are older than the log is noted the first time, so that
    later more of them are found.

    Raises `Misuse` for a table that is not in the log, `LogRowUnreadable` for an entry that was
    damaged, and what the database raises.
    """
    name = engine.dialect.name
    dialect, past = dialect_for(name), past_dialect(name)
    report, counted = ReconcileReport(), dict[int, int]()
    with engine.connect() as connection:
        past.begin_snapshot(connection)
        refused = past.no_snapshot(connection)
        if refused:
            raise Misuse(refused)
        shapes = read_shapes(connection)
        live = {str(it.name): it for it in dialect.read_catalog(connection).tables.values()}
        pruned = bool(connection.scalar(sa.select(sa.func.count()).select_from(ARCHIVES)))
        for shape in _wanted(shapes, tables):
            table = live.get(str(shape.table.name))
            if table is None:
                because = "it is in the log and not in the database: dropped or renamed"
                report.add("table gone", str(shape.table.name), "", because)
                continue
            run = _Table(
                connection,
                dialect=dialect,
                past=past,
                report=report,
                shapes=shapes,
                shape=shape,
                table=table,
            )
            if run.compare() and not pruned:
                counted[shape.table_id] = run.older
        _baselines(connection, report, counted, shapes)
        connection.rollback()
    if remember:
        _remember(engine, counted)
    return report


def _wanted(shapes: Mapping[int, Shape], names: Sequence[str]) -> list[Shape]:
    latest: dict[int, Shape] = {}
    for number in sorted(shapes):
        latest[shapes[number].table_id] = shapes[number]
    found = [it for it in latest.values() if not names or str(it.table.name) in names]
    missing = set(names) - {str(it.table.name) for it in found}
    if missing:
        known = ", ".join(sorted(str(it.table.name) for it in latest.values())) or "none"
        raise Misuse(f"not in the log: {', '.join(sorted(missing))}; there is {known}")
    return sorted(found, key=lambda it: str(it.table.name))


@final
class _Table:
    """One table while it is compared."""

    def __init__(
        self,
        connection: sa.Connection,
        *,
        dialect: AuditDialect,
        past: PastDialect,
        report: ReconcileReport,
        shapes: Mapping[int, Shape],
        shape: Shape,
        table: CatalogTable,
    ) -> None:
        self._connection = connection
        self._dialect = dialect
        self._past = past
        self._report = report
        self._shapes = shapes
        self._table_id = shape.table_id
        self._table = table
        self._name = str(table.name)
        # Rows that were there before the log: those it does not know, and those it saw changed or
        # deleted before it saw them inserted.
        self.older = 0
        self._moves: dict[str, list[str]] = {}

    def compare(self) -> bool:
        """Compare all rows; False for a table whose rows have no key to be found by."""
        report = self._report
        if not self._table.primary_key:
            report.notes.append(f"{self._name} has no primary key, so its rows are not compared")
            return False
        report.tables += 1
        self._moves = self._moved()
        after: Any = None
        while True:
            rows, after = self._past.live_page(self._connection, self._table, after, _PAGE_ROWS)
            self._compare_page({self._key(row): row for row in rows})
            if after is None:
                break
        for keys in self._logged_keys():
            self._look_for(keys)
        return True

    def _compare_page(self, rows: Mapping[str, Mapping[str, Cell]]) -> None:
        states = self._states(rows)
        report = self._report
        wanted: list[tuple[str, str, SeenCell, Cell]] = []
        for key, row in rows.items():
            state = states.get(key)
            if state is None:
                report.unknown += 1
                self.older += 1
                continue
            report.rows += 1
            if state.cells is GONE:
                because = "it is there, and the log has it deleted: it was put in past the triggers"
                report.add("row inserted", self._name, key, because)
                continue
            other = []
            for name, seen in state.cells.items():
                # Of a value that was too long for the log nothing is known.
                if seen.cell is False or name not in row or not self._comparable(name, seen):
                    continue
                if seen.cell is True:
                    wanted.append((key, name, seen, row[name]))
                elif seen.cell != row[name]:
                    other.append(name)
            if other:
                self._changed(key, other)
        self._compare_personal(wanted)

    def _compare_personal(self, wanted: Sequence[tuple[str, str, SeenCell, Cell]]) -> None:
        """Compare values that lie beside the log; of one that was erased nothing is known."""
        if not wanted:
            return
        seqs = sorted({seen.seq for _, _, seen, _ in wanted})
        values: dict[tuple[int, str], str | None] = {}
        for at in range(0, len(seqs), _PAGE_ROWS):
            rows = self._connection.execute(
                sa.select(PERSONAL.c.seq, PERSONAL.c.name, PERSONAL.c.value).where(
                    PERSONAL.c.seq.in_(seqs[at : at + _PAGE_ROWS]), PERSONAL.c.side == "n"
                )
            )
            values.update({(seq, name): value for seq, name, value in rows})
        for key, name, seen, cell in wanted:
            value = values.get((seen.seq, name))
            if value is not None and value != cell:
                self._changed(key, [name])

    def _changed(self, key: str, names: Sequence[str]) -> None:
        because = f"{', '.join(names)}: not what the log has: it was changed past the triggers"
        self._report.add("row changed", self._name, key, because)

    def _comparable(self, name: str, seen: SeenCell) -> bool:
        """Say whether the column is still the one whose value the log has."""
        now, shape = self._table.column(name), self._shapes.get(seen.shape_id)
        then = None if shape is None else shape.table.column(name)
        return (
            now is not None
            and then is not None
            and not now.generated
            and (now.type, now.number) == (then.type, then.number)
        )

    def _look_for(self, keys: Sequence[str]) -> None:
        """Name rows that the log has and the table has not; count those older than the log."""
        states = self._states(keys)
        self.older += sum(1 for key in keys if key in states and states[key].older)
        alive = [key for key in keys if key in states and states[key].cells is not GONE]
        cells = [read_key(key) or () for key in alive]
        if not cells:
            return
        found = {
            self._key(row)
            for row in self._dialect.select_rows(
                self._connection, self._table, self._table.primary_key, cells
            )
        }
        for key in alive:
            if key not in found:
                because = "it is not there, and the log has it: it was removed past the triggers"
                self._report.add("row removed", self._name, key, because)

    def _states(self, keys: Mapping[str, Any] | Sequence[str]) -> dict[str, RowState]:
        """Return what the log says of these rows; those it does not know are left out."""
        wanted, ahead = set[str](), list(keys)
        while ahead:
            key = ahead.pop()
            if key not in wanted:
                wanted.add(key)
                ahead += self._moves.get(key, ())
        listed, rows = sorted(wanted), list[Any]()
        for at in range(0, len(listed), _PAGE_ROWS):
            rows += self._connection.execute(
                sa.select(
                    ENTRIES.c.seq,
                    ENTRIES.c.shape_id,
                    ENTRIES.c.op,
                    ENTRIES.c.key,
                    ENTRIES.c.new,
                ).where(
                    ENTRIES.c.table_id == self._table_id,
                    ENTRIES.c.key.in_(listed[at : at + _PAGE_ROWS]),
                )
            ).all()
        rows.sort()
        try:
            return replayed(rows, self._table.primary_key)
        except (ValueError, TypeError, AttributeError, LookupError):
            for row in rows:
                with naming_entry(row[0]):
                    replayed([row], self._table.primary_key)
            raise

    def _moved(self) -> dict[str, list[str]]:
        """Return each key that a row was given by an update, with the keys it had before."""
        found: dict[str, list[str]] = {}
        seq, names = 0, self._table.primary_key
        while True:
            rows = self._connection.execute(
                sa.select(ENTRIES.c.seq, ENTRIES.c.key, ENTRIES.c.new)
                .where(
                    ENTRIES.c.table_id == self._table_id, ENTRIES.c.op == "U", ENTRIES.c.seq > seq
                )
                .order_by(ENTRIES.c.seq)
                .limit(_PAGE_ROWS)
            ).all()
            for seq, key, new in rows:
                with naming_entry(seq):
                    image = read_image(new)
                    if key is not None and any(name in image for name in names):
                        cells = zip(names, read_key(key) or (), strict=True)
                        to = write_key([image.get(name, cell) for name, cell in cells])
                        found.setdefault(to, []).append(key)
            if len(rows) < _PAGE_ROWS:
                return found

    def _logged_keys(self) -> Iterator[list[str]]:
        """Yield the keys that the log knows, in pages; each once."""
        last: str | None = None
        while True:
            query = (
                sa.select(ENTRIES.c.key)
                .where(ENTRIES.c.table_id == self._table_id, ENTRIES.c.key.is_not(None))
                .group_by(ENTRIES.c.key)
                .order_by(ENTRIES.c.key)
                .limit(_PAGE_ROWS)
            )
            if last is not None:
                query = query.where(ENTRIES.c.key > last)
            keys = [str(key) for key in self._connection.scalars(query)]
            if keys:
                yield keys
                last = keys[-1]
            if len(keys) < _PAGE_ROWS:
                break
        # Given to a row by an update, and not written since under it.
        only = [key for key in self._moves if not self._has_entries(key)]
        for at in range(0, len(only), _PAGE_ROWS):
            yield only[at : at + _PAGE_ROWS]

    def _has_entries(self, key: str) -> bool:
        query = sa.select(ENTRIES.c.seq).where(
            ENTRIES.c.table_id == self._table_id, ENTRIES.c.key == key
        )
        return self._connection.execute(query.limit(1)).first() is not None

    def _key(self, row: Mapping[str, Cell]) -> str:
        return write_key([row[name] for name in self._table.primary_key])


def _baselines(
    connection: sa.Connection,
    report: ReconcileReport,
    counted: Mapping[int, int],
    shapes: Mapping[int, Shape],
) -> None:
    names = {shape.table_id: str(shape.table.name) for shape in shapes.values()}
    for table_id, older in counted.items():
        before = connection.scalar(
            sa.select(META.c.value).where(META.c.name == f"{_BASELINE}{table_id}")
        )
        if before is None:
            if older:
                report.notes.append(
                    f"{names[table_id]}: {older} rows are older than the log, or were put in past "
                    f"it; this is the first time, so it cannot be told apart"
                )
        elif older > int(before):
            report.add(
                "rows inserted",
                names[table_id],
                "",
                f"{older - int(before)} rows are there of which the log knows nothing, beside the "
                f"{before} that are older than it: they were put in past the triggers",
            )


def _remember(engine: sa.Engine, counted: Mapping[int, int]) -> None:
    with engine.begin() as connection:
        known = set(
            connection.scalars(sa.select(META.c.name).where(META.c.name.like(f"{_BASELINE}%")))
        )
        new = [
            {"name": f"{_BASELINE}{table_id}", "value": str(older)}
            for table_id, older in counted.items()
            if f"{_BASELINE}{table_id}" not in known
        ]
        if new:
            connection.execute(sa.insert(META), new)
