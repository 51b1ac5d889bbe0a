"""Entries handed out as a file; that they were is itself recorded.

Not here: what happened to one row (`versions`), the latest entries for a look (`recent`).
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TextIO, final

import sqlalchemy as sa

from shipworthy.audit.deeds import ACCESSED, record
from shipworthy.audit.model import TableName
from shipworthy.audit.moment import time_of
from shipworthy.audit.reading import NoValue, TrailReader, entry_of
from shipworthy.audit.tables import ENTRIES
from shipworthy.audit.versions import RowVersion, told

_PAGE_ROWS: Final = 1000
_FIELDS: Final = (
    "seq",
    "at",
    "actor",
    "actor_kind",
    "on_behalf_of",
    "op",
    "table",
    "key",
    "old",
    "new",
    "correlation_id",
    "transaction",
    "notes",
)
_HIDDEN: Final = NoValue("personal")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFilter:
    """Which entries are handed out; what is empty filters nothing. Times in microseconds.

    Personal values are left out unless `personal` asks for them.
    """

    table: str = ""
    since_microseconds: int = 0
    until_microseconds: int = 0
    personal: bool = False


def export(
    engine: sa.Engine,
    wanted: ExportFilter,
    file: TextIO,
    *,
    form: Literal["ndjson", "csv"] = "ndjson",
    by: str,
) -> int:
    """Write entries to `file`, oldest first, and return how many; by whom is recorded before.

    What is recorded is what was asked for: an export that ends early was begun all the same.
    """
    with engine.begin() as connection:
        reader = TrailReader(connection)
        last = connection.scalar(sa.select(sa.func.max(ENTRIES.c.seq))) or 0
        if wanted.table:
            reader.table_id(_table(wanted.table))
        facts: dict[str, Any] = {"export": form, "table": wanted.table, "personal": wanted.personal}
        for name, at in (
            ("since", wanted.since_microseconds),
            ("until", wanted.until_microseconds),
        ):
            if at:
                facts[name] = time_of(at).isoformat()
        record(connection, reader.past, ACCESSED, {**facts, "up_to_entry": last}, by=by)
    write = _csv(file) if form == "csv" else _ndjson(file)
    count = 0
    with engine.connect() as connection:
        for version in _versions(connection, wanted, int(last)):
            write(version_facts(version, personal=wanted.personal))
            count += 1
    return count


def version_facts(version: RowVersion, *, personal: bool) -> dict[str, Any]:
    """Return a version as JSON has it; the names of these facts are stable.

    Without `personal` the values that can be erased are hidden.
    """

    def values(of: Mapping[str, Any]) -> dict[str, Any]:
        hidden = frozenset[str]() if personal else version.personal
        return {name: _told(_HIDDEN if name in hidden else value) for name, value in of.items()}

    return {
        "seq": version.seq,
        "at": version.at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "actor": version.actor,
        "actor_kind": version.context.actor_kind,
        "on_behalf_of": version.context.on_behalf_of,
        "op": version.op,
        "table": version.table,
        "key": list(map(_told, version.key)),
        "old": values(version.old),
        "new": values(version.new),
        "correlation_id": version.correlation_id,
        "transaction": version.context.transaction,
        "notes": list(version.notes),
    }


def _versions(connection: sa.Connection, wanted: ExportFilter, last: int) -> Iterator[RowVersion]:
    reader = TrailReader(connection)
    where = [ENTRIES.c.seq <= last, ENTRIES.c.table_id != 0]
    if wanted.table:
        where.append(ENTRIES.c.table_id == reader.table_id(_table(wanted.table)))
    if wanted.since_microseconds:
        where.append(ENTRIES.c.at_microseconds >= wanted.since_microseconds)
    if wanted.until_microseconds:
        where.append(ENTRIES.c.at_microseconds < wanted.until_microseconds)
    seq = 0
    while True:
        rows = connection.execute(
            sa.select(ENTRIES)
            .where(*where, ENTRIES.c.seq > seq)
            .order_by(ENTRIES.c.seq)
            .limit(_PAGE_ROWS)
        ).all()
        yield from told(reader, [entry_of(row) for row in rows])
        if len(rows) < _PAGE_ROWS:
            return
        seq = rows[-1].seq


def _ndjson(file: TextIO) -> Callable[[Mapping[str, Any]], object]:
    return lambda facts: file.write(json.dumps(facts, ensure_ascii=False) + "\n")


def _csv(file: TextIO) -> Callable[[Mapping[str, Any]], object]:
    writer = csv.DictWriter(file, _FIELDS)
    writer.writeheader()
    return lambda facts: writer.writerow(
        {
            name: json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
            for name, value in facts.items()
        }
    )


def _table(text: str) -> TableName:
    schema, _, name = text.rpartition(".")
    return TableName(schema=schema, name=name)


def _told(value: Any) -> Any:
    return str(value) if isinstance(value, NoValue) else value
