"""Which tables and columns the settings mean. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import final

from shipworthy.audit.model import Catalog, TableName
from shipworthy.audit.settings import AuditSettings, personal_columns

_WILD = frozenset("*?[")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedTables:
    """What of a catalog is to be captured; `problems` has a sentence for each name that misses."""

    tables: frozenset[TableName]
    personal: Mapping[TableName, Mapping[str, str]]
    problems: tuple[str, ...]


def select(catalog: Catalog, settings: AuditSettings) -> SelectedTables:
    """Return what `settings` mean in a database whose tables are those of `catalog`."""
    problems = [
        f"audit.tables names '{pattern}', and there is no such table; correct it, or take it out"
        for pattern in settings.tables
        if not _WILD.intersection(pattern) and not any(_is(pattern, it) for it in catalog.tables)
    ]
    personal: dict[TableName, Mapping[str, str]] = {}
    for written, columns in personal_columns(settings.personal).items():
        table = next((it for name, it in catalog.tables.items() if _is(written, name)), None)
        if table is None:
            problems.append(f"audit.personal names '{written}', and there is no such table")
            continue
        wrong = sorted({*columns, *columns.values()} - {column.name for column in table.columns})
        keys = sorted(set(columns) & set(table.primary_key))
        problems += [
            f"audit.personal: the table '{table.name}' has no column '{name}'; without it the "
            f"value could not be erased later"
            for name in wrong
        ]
        problems += [
            f"audit.personal: '{table.name}.{name}' is in the primary key, by which entries are "
            f"found, so it cannot be erased; leave it out"
            for name in keys
        ]
        if not wrong and not keys:
            personal[table.name] = columns
    return SelectedTables(
        tables=frozenset(
            name
            for name in catalog.tables
            if any(_is(pattern, name) for pattern in settings.tables)
            and not any(_is(pattern, name) for pattern in settings.exclude)
        ),
        personal=personal,
        problems=tuple(problems),
    )


def _is(pattern: str, name: TableName) -> bool:
    return fnmatchcase(name.name, pattern) or fnmatchcase(str(name), pattern)
