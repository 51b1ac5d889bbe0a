"""What brings a table under flag mode, as steps with their SQL, decided before anything is done.

Pure: it takes what was found and what is wanted. No step holds a lock for as long as a table is
large: columns are a change of the catalog, indexes are built beside the traffic, checks are proven
after they are in force. What is there is not made again, guards and views excepted, which are
replaced by the same; so an interrupted adoption goes on where it was.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, final

from shipworthy.audit import CatalogForeignKey, CatalogTable, CatalogUnique, TableName
from shipworthy.records.flag.dialects import (
    FlagDialect,
    FlaggedCatalogTable,
    FlagStatement,
    own_name,
)
from shipworthy.records.flag.marks import ID_COLUMN
from shipworthy.records.flag.upserts import Upsert

_OURS: Final = "shipworthy_"
_NO_VIEWS: Final = (
    "views for raw SQL are made on PostgreSQL alone: elsewhere no view can stand in the place of "
    "its table"
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptStep:
    """One step; `backfill` is the one that gives ids to rows that were flagged before."""

    what: str
    statements: tuple[FlagStatement, ...] = ()
    backfill: bool = False


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptPlan:
    """What is to be done. `problems` are why nothing will be; `notes` what stays as it is."""

    table: TableName
    steps: tuple[AdoptStep, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptSurvey:
    """What was found: the table, who refers to it, and what stands in the source.

    `constraints` are the names of its constraints, `indexes` those of its indexes. `parents` are
    the flagged tables that it refers to, `children` the tables that refer to it. `flagged_rows` is
    how many are flagged, `unnamed_rows` how many of them have no id.
    """

    flagged: FlaggedCatalogTable
    constraints: frozenset[str] = frozenset()
    indexes: frozenset[str] = frozenset()
    parents: Sequence[tuple[CatalogForeignKey, FlaggedCatalogTable]] = ()
    children: Sequence[tuple[CatalogTable, CatalogForeignKey]] = ()
    under_flags: Mapping[TableName, FlaggedCatalogTable] = field(default_factory=dict)
    upserts: Sequence[Upsert] = ()
    flagged_rows: int = 0
    unnamed_rows: int = 0


def plan_adopt(
    found: AdoptSurvey,
    dialect: FlagDialect,
    *,
    free_unique: bool = False,
    shadow: bool = False,
    role: str = "",
) -> AdoptPlan:
    """Return the steps after which the table is under flag mode.

    With `free_unique` a deleted row frees its unique values; without, indexes stay as they are and
    a deleted row keeps them taken. With `shadow` raw SQL reads a view, that of `role` by itself.
    """
    flagged = found.flagged
    table = flagged.table
    problems: list[str] = []
    if not table.primary_key:
        problems.append(f"{table.name.name} has no primary key, by which a row could be flagged")
    steps: list[AdoptStep] = []
    missing = [it for it in (flagged.column, ID_COLUMN) if table.column(it) is None]
    if missing:
        adding = dialect.add_columns(table, missing, flagged.column)
        steps.append(AdoptStep(what=f"columns {', '.join(missing)}", statements=tuple(adding)))
    if own_name("id", table.name.name) not in found.indexes:
        steps.append(_step(f"index on {ID_COLUMN}", dialect.index_ids(table)))
    steps += _pair(found, dialect)
    steps += [
        _step(
            f"guard of {table.name.name} under {parent.name.name}",
            dialect.guard(table, key, parent),
        )
        for key, parent in found.parents
    ]
    steps += [
        _step(
            f"guard of {child.name.name} under {table.name.name}",
            dialect.guard(child, key, flagged),
        )
        for child, key in found.children
    ]
    if free_unique:
        freed, refused = _free_unique(found, dialect)
        steps += freed
        problems += refused
    if shadow:
        views = dialect.shadow(flagged, _along(found))
        if views:
            steps.append(_step("view for raw SQL", views + dialect.shadow_role(role) * bool(role)))
        else:
            problems.append(_NO_VIEWS)
    notes = [*_notes(found, free_unique=free_unique)]
    return AdoptPlan(
        table=table.name,
        steps=() if problems else tuple(it for it in steps if it.statements or it.backfill),
        problems=tuple(problems),
        notes=tuple(notes),
    )


def plan_release(
    found: AdoptSurvey, dialect: FlagDialect, replaced: Iterable[CatalogUnique]
) -> AdoptPlan:
    """Return the steps after which nothing of ours is at the table but its two columns.

    Refused while rows are flagged: they would be alive again. `replaced` are the unique indexes
    whose place one of live rows has taken, as they were.
    """
    flagged = found.flagged
    table = flagged.table
    if found.flagged_rows:
        return AdoptPlan(
            table=table.name,
            steps=(),
            problems=(_still_flagged(table, found.flagged_rows),),
        )
    undone: list[AdoptStep] = []
    views = dialect.shadow(flagged, ())
    undone.append(_back("view for raw SQL", views))
    undone += [
        _back(f"unique index {it.name}", dialect.live_unique(flagged, it, constraint=False))
        for it in replaced
    ]
    undone += [
        _back(f"guard under {parent.name.name}", dialect.guard(table, key, parent))
        for key, parent in found.parents
    ]
    undone += [
        _back(f"guard of {child.name.name}", dialect.guard(child, key, flagged))
        for child, key in found.children
    ]
    undone += [
        _back("pair of columns", dialect.pair(flagged)),
        _back(f"index on {ID_COLUMN}", dialect.index_ids(table)),
    ]
    return AdoptPlan(
        table=table.name,
        steps=tuple(it for it in undone if it.statements),
        notes=(_columns_stay(flagged),),
    )


def _still_flagged(table: CatalogTable, rows: int) -> str:
    return (
        f"{rows:,} rows of {table.name.name} are flagged, and would be alive again; restore them, "
        "or delete them really, before it is released"
    )


def _columns_stay(flagged: FlaggedCatalogTable) -> str:
    return (
        f"the columns {flagged.column} and {ID_COLUMN} stay; drop them in a migration when no "
        "model has them"
    )


def _pair(found: AdoptSurvey, dialect: FlagDialect) -> Iterator[AdoptStep]:
    """Yield what makes every flagged row have an id: first of new ones, then of those there are."""
    name = own_name("pair", found.flagged.name.name)
    checks = dialect.pair(found.flagged)
    if checks and name not in found.constraints:
        yield _step("check that time and id come together", checks)
    if found.unnamed_rows:
        yield AdoptStep(what=f"ids for {found.unnamed_rows:,} flagged rows", backfill=True)
    proof = dialect.prove_pair(found.flagged)
    if proof and name not in found.constraints:
        yield _step("proof of that check", proof)


def _free_unique(found: AdoptSurvey, dialect: FlagDialect) -> tuple[list[AdoptStep], list[str]]:
    steps: list[AdoptStep] = []
    problems: list[str] = []
    for unique in _whole_uniques(found.flagged.table):
        because = _needed_whole(found, unique, names_index=dialect.upserts_name_the_index)
        if because:
            problems.append(because)
            continue
        constraint = unique.name in found.constraints
        made = dialect.live_unique(found.flagged, unique, constraint=constraint)
        steps.append(_step(f"unique index {unique.name} of live rows alone", made))
    return steps, problems


def _whole_uniques(table: CatalogTable) -> list[CatalogUnique]:
    return [
        it
        for it in table.uniques
        if it.columns
        and not it.predicate
        and not it.name.startswith(_OURS)
        and set(it.columns) != set(table.primary_key)
    ]


def _needed_whole(found: AdoptSurvey, unique: CatalogUnique, *, names_index: bool) -> str:
    """Say who needs the index as it is, '' where nobody does."""
    table = found.flagged.table
    columns = ", ".join(unique.columns)
    for child, key in found.children:
        if set(key.target_columns) == set(unique.columns):
            return (
                f"unique index {unique.name} ({columns}) stays: foreign key {key.name} of "
                f"{child.name.name} refers to these columns, and a foreign key needs all rows to "
                "be unique, the deleted ones too"
            )
    if names_index:
        for upsert in found.upserts:
            if upsert.names(unique.columns):
                return (
                    f"unique index {unique.name} ({columns}) stays: an upsert in {upsert.file}, "
                    f"line {upsert.line}, names its columns, and would fail with an index of live "
                    "rows alone; have it name the index's condition too, or adopt without "
                    "--free-unique"
                )
    if unique.name.startswith("sqlite_autoindex"):
        return (
            f"unique constraint ({columns}) of {table.name.name} is part of its CREATE TABLE, and "
            "comes off only with a new table; adopt without --free-unique"
        )
    return ""


def _cascading(found: AdoptSurvey) -> list[tuple[CatalogTable, CatalogForeignKey]]:
    return [(child, key) for child, key in found.children if key.on_delete == "cascade"]


def _along(found: AdoptSurvey) -> list[tuple[FlaggedCatalogTable, CatalogForeignKey]]:
    """Return the flagged tables whose rows go with a deleted one: others, and the table itself."""
    under = found.under_flags
    others = [
        (under[it.name], key)
        for it, key in _cascading(found)
        if it.name in under and _has_columns(under[it.name])
    ]
    own = [
        (found.flagged, key)
        for key, parent in found.parents
        if parent.name == found.flagged.name and key.on_delete == "cascade"
    ]
    return others + own


def _has_columns(flagged: FlaggedCatalogTable) -> bool:
    return all(flagged.table.column(it) is not None for it in (flagged.column, ID_COLUMN))


def _notes(found: AdoptSurvey, *, free_unique: bool) -> Iterator[str]:
    table = found.flagged.table
    if not free_unique:
        for unique in _whole_uniques(table):
            yield (
                f"unique index {unique.name} counts deleted rows too: their values stay taken; "
                "--free-unique makes it count live ones alone"
            )
    for child, key in _cascading(found):
        if child.name not in found.under_flags:
            yield (
                f"rows of {child.name.name} would go with a row of {table.name.name} (foreign key "
                f"{key.name}); it is not under flag mode, so they stay, under a parent that nobody "
                "sees"
            )
        elif not _has_columns(found.under_flags[child.name]):
            yield (
                f"adopt {child.name.name}, then {table.name.name} again: rows of it go along with "
                "a row that a view deletes only then"
            )
    yield f"run `shipworthy audit install` afterwards: {table.name.name} has changed its shape"


def _step(what: str, statements: Sequence[FlagStatement]) -> AdoptStep:
    return AdoptStep(what=what, statements=tuple(statements))


def _back(what: str, statements: Sequence[FlagStatement]) -> AdoptStep:
    """Return what undoes them, the last first."""
    return AdoptStep(
        what=what,
        statements=tuple(
            FlagStatement(sql=it.undo, alone=it.alone) for it in reversed(statements) if it.undo
        ),
    )
