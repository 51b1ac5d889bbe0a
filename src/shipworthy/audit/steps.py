"""What an installation has to do, as steps with their SQL, decided before anything is done.

Pure: it takes what was found and what is wanted. Each step is a transaction of its own.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, final

import sqlalchemy as sa

from shipworthy.audit.coverage import (
    TableJudgement,
    TrailJudgement,
    TrailSurvey,
    base_digest,
    newer_trail,
    table_id_of,
)
from shipworthy.audit.dialects import AuditDialect
from shipworthy.audit.model import Catalog, CatalogTable, Shape
from shipworthy.audit.script import drop_tables, make_tables, note_fact, note_shape
from shipworthy.audit.shapes import NotedShape, shape_digest
from shipworthy.audit.tables import BASE_FACT, SETTINGS_FACT, VERSION, VERSION_FACT, our_tables

StepKind = Literal[
    "tables",
    "guards",
    "settings",
    "new",
    "changed",
    "renamed",
    "mended",
    "released",
    "dropped",
]

_LONGEST_FACT: Final = 1000
_ASKED: Final = "it was asked for"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class InstallStep:
    """One transaction. `what` is the table it is about, or says what else it makes.

    `undo` takes back what `statements` do, as far as no entry would be lost by it.
    """

    kind: StepKind
    what: str
    because: str
    statements: tuple[str, ...]
    undo: tuple[str, ...] = ()
    estimated_rows: int = -1


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class InstallPlan:
    """What is to be done. `problems` are why nothing will be; `notes` what stays open after it."""

    steps: tuple[InstallStep, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def plan_install(
    judged: TrailJudgement,
    dialect: AuditDialect,
    sql: sa.Dialect,
    *,
    capture: str,
    at_microseconds: int,
) -> InstallPlan:
    """Return the steps after which everything is captured that is to be; none where it is.

    `capture` is what that is, as `settings.write_capture` has it.
    """
    version = judged.survey.version
    if version is not None and version > VERSION:
        return InstallPlan(steps=(), problems=(newer_trail(version),))
    steps = [*_ours(judged, dialect, sql, capture)]
    shape_id = max((one.shape.id for one in judged.survey.noted), default=0)
    table_id = max((one.shape.table_id for one in judged.survey.noted), default=0)
    for one in judged.tables:
        if one.state in ("new", "changed"):
            shape_id += 1
            table_id += one.before is None
            steps.append(
                _noted_step(
                    one,
                    dialect,
                    sql,
                    catalog=judged.survey.catalog,
                    ids=(shape_id, table_id if one.before is None else one.before.shape.table_id),
                    at_microseconds=at_microseconds,
                )
            )
        elif one.state == "drifted" and one.ddl is not None:
            assert one.shape is not None  # it has what captures it
            create = (*_strays(one, one.shape.table_id), *one.ddl.create)
            steps.append(_step(one, "mended", create, one.ddl.drop))
        elif one.state == "released":
            steps.append(_release(one, dialect, judged.survey))
    return InstallPlan(steps=tuple(steps), problems=judged.unusable, notes=_notes(judged))


def plan_release(
    judged: TrailJudgement, dialect: AuditDialect, tables: Collection[str]
) -> InstallPlan:
    """Return the steps after which none of `tables` has a trigger of ours."""
    there = {str(one.table.name) for one in judged.tables}
    return InstallPlan(
        steps=tuple(
            replace(_release(one, dialect, judged.survey), because=_ASKED)
            for one in judged.tables
            if one.found and str(one.table.name) in tables
        ),
        problems=tuple(f"there is no table '{name}'" for name in tables if name not in there),
    )


def plan_uninstall(
    judged: TrailJudgement, dialect: AuditDialect, sql: sa.Dialect, *, keep_log: bool
) -> InstallPlan:
    """Return the steps after which nothing of ours is there, or with `keep_log` nothing but the
    log.
    """
    survey = judged.survey
    steps = [
        replace(_release(one, dialect, survey), because=_ASKED)
        for one in judged.tables
        if one.found
    ]
    there = [table.name for table in our_tables() if table.name not in survey.missing]
    drops = [*dialect.base_drop()] if there else []
    if not keep_log:
        drops += drop_tables(there, sql)
    elif there:
        drops += note_fact(BASE_FACT, "", sql)
    if drops:
        what = "the guards of the log" if keep_log else "the log, with all that is in it"
        steps.append(
            InstallStep(kind="dropped", what=what, because=_ASKED, statements=tuple(drops))
        )
    return InstallPlan(steps=tuple(steps))


def _ours(
    judged: TrailJudgement, dialect: AuditDialect, sql: sa.Dialect, capture: str
) -> Iterator[InstallStep]:
    survey = judged.survey
    if survey.missing or survey.version is None:
        yield InstallStep(
            kind="tables",
            what="our own tables",
            because=f"{len(survey.missing)} tables or columns of the trail are missing",
            statements=(
                *make_tables(survey.missing, sql),
                *note_fact(VERSION_FACT, str(VERSION), sql),
            ),
        )
    made = dialect.base_ddl()
    if not judged.base_is_current or judged.guards:
        yield InstallStep(
            kind="guards",
            what="the guards of the log",
            because="; ".join(judged.guards) or "they are missing, or of another version",
            statements=(*made, *note_fact(BASE_FACT, base_digest(made), sql)),
            undo=dialect.base_drop(),
        )
    # What is too long to be noted is to be given again each time.
    if survey.settings != capture and len(capture) <= _LONGEST_FACT:
        yield InstallStep(
            kind="settings",
            what="the settings",
            because="so that a check or a migration need not be told what is captured",
            statements=tuple(note_fact(SETTINGS_FACT, capture, sql)),
        )


def _noted_step(
    one: TableJudgement,
    dialect: AuditDialect,
    sql: sa.Dialect,
    *,
    catalog: Catalog,
    ids: tuple[int, int],
    at_microseconds: int,
) -> InstallStep:
    assert one.shape is not None  # it is to be captured
    shape = replace(one.shape, id=ids[0], table_id=ids[1])
    ddl = dialect.capture(shape, catalog)
    noted = NotedShape(shape=shape, digest=shape_digest(shape, ddl.create))
    kind: StepKind = "new" if one.before is None else "renamed" if one.renamed else "changed"
    undo = ddl.drop
    if one.before is not None and _fits(one.before.shape.table, one.table):
        old = one.before.shape
        before = replace(catalog, tables={**catalog.tables, old.table.name: old.table})
        undo = dialect.capture(old, before).create
    # The shape first: an entry must never name one that nobody has noted.
    statements = (
        note_shape(noted, at_microseconds, sql),
        *_strays(one, shape.table_id),
        *ddl.create,
    )
    return _step(one, kind, statements, undo)


def _strays(one: TableJudgement, table_id: int) -> tuple[str, ...]:
    """Return what takes away the triggers on a table that were made for another one.

    A detached partition keeps one, and an attached one all of its own: its rows would go to the log
    under two numbers, or under that of a table which they are no longer in.
    """
    return tuple(it.drop for it in one.found if it.drop and table_id_of(it) not in (0, table_id))


def _fits(old: CatalogTable, new: CatalogTable) -> bool:
    """Would the triggers that were generated for `old` run on `new`? Else writes would fail."""
    return old.name == new.name and all(new.column(column.name) for column in old.columns)


def _step(
    one: TableJudgement, kind: StepKind, statements: Sequence[str], undo: Sequence[str]
) -> InstallStep:
    return InstallStep(
        kind=kind,
        what=str(one.table.name),
        because=one.because,
        statements=tuple(statements),
        undo=tuple(undo),
        estimated_rows=one.table.estimated_rows,
    )


def _release(one: TableJudgement, dialect: AuditDialect, survey: TrailSurvey) -> InstallStep:
    number = 0 if one.before is None else one.before.shape.table_id
    drops = _strays(one, number)
    if number:
        # What its triggers call is dropped with them, so none may be left on another table.
        drops += tuple(it.drop for it in survey.triggers if it.drop and table_id_of(it) == number)
        shape = Shape(id=0, table_id=number, table=one.table)
        drops += dialect.capture(shape, survey.catalog).drop
    return _step(one, "released", drops, ())


def _notes(judged: TrailJudgement) -> tuple[str, ...]:
    notes = [
        f"{one.table.name}: {one.ddl.refused}"
        for one in judged.tables
        if one.ddl is not None and one.ddl.refused
    ]
    notes += [
        f"{one.table.name} has no primary key; it is captured, its rows known by all their values"
        for one in judged.tables
        if one.shape is not None and not one.table.primary_key
    ]
    notes += [f"{one.shape.table.name} is no longer there; its entries stay" for one in judged.gone]
    return tuple(notes)
