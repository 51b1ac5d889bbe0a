"""The latest entries of the log, as people and programs read them.

Not here: the state of a row or a table at a time (`past`), and deletions as units (`records`).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from typing import Any, Final, final

import sqlalchemy as sa

from shipworthy.audit.cells import read_image, read_key, write_key
from shipworthy.audit.dialects import AuditDialect, dialect_for
from shipworthy.audit.model import OPERATIONS, CatalogTable, Cell, Shape, TableName
from shipworthy.audit.reading import TOO_LONG, LogRowUnreadable, naming_entry
from shipworthy.audit.shapes import read_shapes
from shipworthy.audit.survey import is_installed
from shipworthy.audit.tables import CONTEXTS, ENTRIES, PERSONAL
from shipworthy.errors import Misuse

PERSONAL_HIDDEN: Final = "(personal)"
PERSONAL_ERASED: Final = "(erased)"
# Beyond that a key is searched by its parts as texts only.
_MOST_KEYS: Final = 64
# Of what was done with the trail itself, which has no table (`deeds`).
_NO_TABLE: Final = Shape(
    id=0,
    table_id=0,
    table=CatalogTable(name=TableName(schema="", name=""), columns=(), primary_key=()),
)
_WHOLE: Final = re.compile(r"0|-?[1-9][0-9]{0,18}")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilter:
    """Which entries to show; what is empty filters nothing. `key` has the parts as texts."""

    table: str = ""
    key: tuple[str, ...] = ()
    actor: str = ""
    since_microseconds: int = 0
    limit: int = 50
    # Whether values that can be erased are shown.
    personal: bool = False


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEntry:
    """An entry with the context it was made in; values are as people read them.

    `unreadable` says why the rest of it is empty: somebody has damaged what the log has of it.
    """

    seq: int
    at: str
    actor: str
    actor_kind: str
    on_behalf_of: str
    op: str
    table: str
    key: list[Any] | None
    old: Mapping[str, Any] | None
    new: Mapping[str, Any] | None
    correlation_id: str
    transaction: str
    database_user: str
    unreadable: str = ""


def recent_entries(connection: sa.Connection, wanted: LogFilter) -> list[LoggedEntry]:
    """Return the latest entries, the newest first, at most `wanted.limit`.

    One that somebody has damaged stands among them and says so. Raises `Misuse` where there is no
    trail, or no table of that name was ever captured.
    """
    dialect = dialect_for(connection.dialect.name)
    if not is_installed(connection):
        raise Misuse("no trail is installed here; run `shipworthy audit install`")
    shapes = read_shapes(connection)
    rows = connection.execute(_statement(wanted, shapes, dialect)).all()
    openings = _openings(connection, [row.seq for row in rows]) if wanted.personal else None
    found = []
    for row in rows:
        try:
            with naming_entry(row.seq):
                shape = shapes[row.shape_id] if row.shape_id else _NO_TABLE
                found.append(_entry(row, shape, dialect, openings))
        except LogRowUnreadable as error:
            # In its place: a list that ended here would hide what nobody has touched.
            found.append(_unread(row, str(error)))
    return found


def _statement(
    wanted: LogFilter, shapes: Mapping[int, Shape], dialect: AuditDialect
) -> sa.Select[Any]:
    statement = (
        sa.select(
            ENTRIES,
            CONTEXTS.c.actor,
            CONTEXTS.c.actor_kind,
            CONTEXTS.c.on_behalf_of,
            CONTEXTS.c.correlation_id,
            CONTEXTS.c.db_user,
            CONTEXTS.c.continues,
        )
        .select_from(ENTRIES.outerjoin(CONTEXTS, CONTEXTS.c.tx == ENTRIES.c.tx))
        .order_by(ENTRIES.c.seq.desc())
        .limit(wanted.limit)
    )
    if wanted.table:
        found = [
            shape
            for shape in shapes.values()
            if wanted.table in (shape.table.name.name, str(shape.table.name))
        ]
        if not found:
            known = ", ".join(sorted({str(shape.table.name) for shape in shapes.values()}))
            raise Misuse(
                f"no table '{wanted.table}' was ever captured here; there is {known or 'none'}"
            )
        statement = statement.where(ENTRIES.c.table_id.in_({shape.table_id for shape in found}))
        if wanted.key:
            statement = statement.where(ENTRIES.c.key.in_(_keys(wanted.key, found, dialect)))
    elif wanted.key:
        raise Misuse("a key is searched within a table; name it with --table")
    if wanted.actor:
        statement = statement.where(CONTEXTS.c.actor == wanted.actor)
    if wanted.since_microseconds:
        statement = statement.where(ENTRIES.c.at_microseconds >= wanted.since_microseconds)
    return statement


def _keys(parts: Sequence[str], shapes: Sequence[Shape], dialect: AuditDialect) -> list[str]:
    """Return each text that the key may be in the log: `7` may be a number or a text there."""
    found: set[str] = set()
    for shape in shapes:
        names = shape.table.primary_key
        if len(names) != len(parts):
            raise Misuse(
                f"the key of {shape.table.name} is ({', '.join(names) or 'none'}), of {len(names)} "
                f"parts, and {len(parts)} were given; give --key once for each part"
            )
        choices: list[list[Cell]] = []
        for name, part in zip(names, parts, strict=True):
            column = shape.table.column(name)
            kind = column.type if column is not None else ""
            choices.append([dialect.cell(value, kind) for value in _readings(part)])
        found |= {write_key(cells) for cells in list(product(*choices))[:_MOST_KEYS]}
    return sorted(found)


def _readings(part: str) -> list[Any]:
    return [part, int(part)] if _WHOLE.fullmatch(part) else [part]


def _entry(
    row: Any,
    shape: Shape,
    dialect: AuditDialect,
    openings: Mapping[tuple[int, str, str], str | None] | None,
) -> LoggedEntry:
    def values(image: str | None, side: str) -> dict[str, Any] | None:
        if image is None:
            return None
        if shape is _NO_TABLE:
            return dict(read_image(image))
        return {
            name: _value(cell, name, shape, dialect)
            if cell is not True
            else PERSONAL_HIDDEN
            if openings is None
            else _opened(openings.get((row.seq, side, name)), name, shape, dialect)
            for name, cell in read_image(image).items()
        }

    key = read_key(row.key)
    at = datetime.fromtimestamp(row.at_microseconds // 1_000_000, UTC).replace(
        microsecond=row.at_microseconds % 1_000_000
    )
    return replace(
        _unread(row, ""),
        at=at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        op=OPERATIONS[row.op],
        table=str(shape.table.name),
        key=None
        if key is None
        else [
            _value(cell, name, shape, dialect)
            for cell, name in zip(key, shape.table.primary_key, strict=False)
        ],
        old=values(row.old, "o"),
        new=values(row.new, "n"),
    )


def _unread(row: Any, because: str) -> LoggedEntry:
    """Return what is known of an entry without reading it: its context, which stands elsewhere.

    `because` says why it cannot be read, '' where it only was not yet.
    """
    return LoggedEntry(
        seq=row.seq,
        at="",
        actor=row.actor or "",
        # Who writes by another client has no context where the trigger cannot make one.
        actor_kind=row.actor_kind or "database",
        on_behalf_of=row.on_behalf_of or "",
        op="",
        table="",
        key=None,
        old=None,
        new=None,
        correlation_id=row.correlation_id or "",
        transaction=row.continues or row.tx,
        database_user=row.db_user or "",
        unreadable=because,
    )


def _value(cell: Cell, name: str, shape: Shape, dialect: AuditDialect) -> Any:
    if cell is False:
        return str(TOO_LONG)
    column = shape.table.column(name)
    return dialect.value(cell, column.type if column is not None else "")


def _opened(cell: str | None, name: str, shape: Shape, dialect: AuditDialect) -> Any:
    return PERSONAL_ERASED if cell is None else _value(cell, name, shape, dialect)


def _openings(
    connection: sa.Connection, seqs: Sequence[int]
) -> dict[tuple[int, str, str], str | None]:
    rows = connection.execute(
        sa.select(PERSONAL.c.seq, PERSONAL.c.side, PERSONAL.c.name, PERSONAL.c.value).where(
            PERSONAL.c.seq.in_(seqs)
        )
    )
    return {(row.seq, row.side, row.name): row.value for row in rows}
