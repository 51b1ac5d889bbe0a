"""Is everything captured that is to be? Judged from what a database has, table by table. Pure.

Not here: asking the database (`survey`), and what makes it right again (`steps`).
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Literal, final

from shipworthy.audit.changes import table_changes
from shipworthy.audit.dialects import AuditDialect, CaptureDdl, TriggerState
from shipworthy.audit.model import Catalog, CatalogTable, Shape, TableName
from shipworthy.audit.selection import SelectedTables, select
from shipworthy.audit.settings import AuditSettings
from shipworthy.audit.shapes import NotedShape, latest_shapes, shape_digest
from shipworthy.audit.tables import PREFIX, VERSION

# In the name of a trigger, or in that of the function it calls.
_TABLE_ID = re.compile(r"shipworthy_audit_(?:[a-z]+_)?([0-9]+)(?![0-9])")

_MADE = re.compile(r"\bCREATE (?:OR REPLACE )?TRIGGER (?:IF NOT EXISTS )?[`\"]?(\w+)")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TrailSurvey:
    """What a database has of a trail. `version` is None where none is installed.

    `missing` are our tables, and columns of them, that this version needs and that are not there;
    `base` is the digest of what was made once beside them, `settings` what was to be captured.
    """

    version: int | None
    missing: tuple[str, ...]
    base: str
    catalog: Catalog
    noted: tuple[NotedShape, ...] = ()
    triggers: tuple[TriggerState, ...] = ()
    settings: str = ""


# Of a table: captured as it is; the rest says why it is not, or not yet.
TableState = Literal["captured", "new", "changed", "drifted", "released", "left out"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TableJudgement:
    """How one table stands. `shape` is what it is to have, with an id of 0 where it needs a new
    one; `before` is what it had at last.
    """

    table: CatalogTable
    state: TableState
    because: str
    before: NotedShape | None = None
    shape: Shape | None = None
    ddl: CaptureDdl | None = None
    drift: tuple[str, ...] = ()
    # Triggers of ours that are on it now.
    found: tuple[TriggerState, ...] = field(default=())

    @property
    def renamed(self) -> bool:
        """Is it known under another name from before?"""
        return self.before is not None and self.before.shape.table.name != self.table.name


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TrailJudgement:
    """How all of it stands. `gone` are tables that were captured and are no longer there.

    `unusable` has a sentence for each setting that misses, `guards` for each guard of the log that
    does not do what it should.
    """

    survey: TrailSurvey
    tables: tuple[TableJudgement, ...]
    gone: tuple[NotedShape, ...]
    unusable: tuple[str, ...]
    guards: tuple[str, ...]
    base_is_current: bool


def judge_trail(
    survey: TrailSurvey, settings: AuditSettings, dialect: AuditDialect
) -> TrailJudgement:
    """Compare what a database has with what `settings` want and `dialect` would make now."""
    chosen = select(survey.catalog, settings)
    latest = latest_shapes(survey.noted)
    ids = _table_ids(survey, latest)
    on: dict[TableName, list[TriggerState]] = {}
    for trigger in survey.triggers:
        on.setdefault(trigger.table, []).append(trigger)
    judged = tuple(
        _judge_table(
            table,
            before=latest.get(ids.get(name, 0)),
            found=tuple(on.get(name, ())),
            chosen=chosen,
            settings=settings,
            catalog=replace(survey.catalog, personal=chosen.personal),
            dialect=dialect,
        )
        for name, table in sorted(survey.catalog.tables.items(), key=lambda it: _small_first(it[1]))
    )
    return TrailJudgement(
        survey=survey,
        tables=judged,
        gone=tuple(one for number, one in latest.items() if number not in set(ids.values())),
        unusable=chosen.problems,
        guards=tuple(_guards_off(survey, dialect)),
        base_is_current=survey.version == VERSION
        and not survey.missing
        and survey.base == base_digest(dialect.base_ddl()),
    )


def base_digest(statements: Sequence[str]) -> str:
    """Return a digest of what is made once beside our tables."""
    return sha256("\n".join(statements).encode()).hexdigest()


def table_id_of(trigger: TriggerState) -> int:
    """Return the id of the table that a trigger of ours was made for, 0 for one without."""
    found = _TABLE_ID.search(trigger.name) or _TABLE_ID.search(trigger.text)
    return int(found[1]) if found else 0


def _small_first(table: CatalogTable) -> tuple[int, str]:
    return max(0, table.estimated_rows), str(table.name)


def _table_ids(survey: TrailSurvey, latest: Mapping[int, NotedShape]) -> dict[TableName, int]:
    """Return which table is which: triggers stay with a table that is renamed, names do not.

    A table has one number and a number one table, also where triggers of one stand on two: those of
    a partition stay on it, in part, when it is detached, and its own when it is attached. Then it
    belongs to the table that has the noted name, else to where most of the triggers are.
    """
    claims = Counter(
        (trigger.table, number)
        for trigger in survey.triggers
        if (number := table_id_of(trigger)) in latest and trigger.table in survey.catalog.tables
    )

    def last(claim: tuple[TableName, int]) -> tuple[bool, int, int]:
        name, number = claim
        return latest[number].shape.table.name != name, -claims[claim], number

    found: dict[TableName, int] = {}
    taken: set[int] = set()
    for name, number in sorted(claims, key=last):
        if name not in found and number not in taken:
            found[name] = number
            taken.add(number)
    for number, one in latest.items():
        name = one.shape.table.name
        if number not in taken and name in survey.catalog.tables:
            found.setdefault(name, number)
    return found


def _judge_table(
    table: CatalogTable,
    *,
    before: NotedShape | None,
    found: tuple[TriggerState, ...],
    chosen: SelectedTables,
    settings: AuditSettings,
    catalog: Catalog,
    dialect: AuditDialect,
) -> TableJudgement:
    if table.name not in chosen.tables:
        return TableJudgement(
            table=table,
            state="released" if found else "left out",
            because="the settings leave it out",
            before=before,
            found=found,
        )
    shape = Shape(
        id=0 if before is None else before.shape.id,
        table_id=0 if before is None else before.shape.table_id,
        table=table,
        personal=chosen.personal.get(table.name, {}),
        blocks_truncate=settings.truncate == "block",
    )
    ddl = dialect.capture(shape, catalog)
    if before is None:
        return TableJudgement(
            table=table,
            state="new",
            because="it is not captured yet",
            shape=shape,
            ddl=ddl,
            found=found,
        )
    drift = tuple(trigger_drift(ddl, found))
    if before.digest == shape_digest(shape, ddl.create):
        return TableJudgement(
            table=table,
            state="drifted" if drift else "captured",
            because="; ".join(drift) if drift else "",
            before=before,
            shape=shape,
            ddl=ddl,
            drift=drift,
            found=found,
        )
    because = "; ".join(_reasons(before.shape, shape))
    # Which triggers it has to have, only what made them could say: whether it has any is seen.
    lost = () if found else ("its triggers are gone",)
    return TableJudgement(
        table=table,
        state="changed",
        because="; ".join([because, *lost]),
        before=before,
        shape=shape,
        ddl=ddl,
        drift=(*lost, *(f"trigger {it.name} is switched off" for it in found if not it.enabled)),
        found=found,
    )


def _reasons(old: Shape, new: Shape) -> list[str]:
    found = table_changes(old.table, new.table)
    if dict(old.personal) != dict(new.personal):
        found.append("other columns are personal")
    if old.blocks_truncate != new.blocks_truncate:
        found.append(f"TRUNCATE is to be {'refused' if new.blocks_truncate else 'captured'}")
    return found or ["its triggers are generated otherwise now"]


def trigger_drift(ddl: CaptureDdl, found: Iterable[TriggerState]) -> list[str]:
    """Return a sentence for each trigger that is missing, switched off, changed or not ours."""
    there = {trigger.name: trigger for trigger in found}
    expected = {trigger.name: trigger for trigger in ddl.triggers}
    sentences = []
    for name, trigger in expected.items():
        actual = there.get(name)
        if actual is None:
            sentences.append(f"trigger {name} is missing")
        elif not actual.enabled:
            sentences.append(f"trigger {name} is switched off")
        elif _flat(actual.text) != _flat(trigger.text):
            sentences.append(f"trigger {name} does something else than was generated")
    sentences += [
        f"trigger {name} has a name of ours and is none of ours"
        for name in there
        if name not in expected
    ]
    return sentences


def _guards_off(survey: TrailSurvey, dialect: AuditDialect) -> list[str]:
    """Name the guards of the log itself that are missing, switched off or changed."""
    if survey.version is None:
        return []
    made = "\n".join(dialect.base_ddl())
    on_log = [it for it in survey.triggers if it.table.name.startswith(PREFIX)]
    # On some engines each table of the log has one of the same name.
    lost = Counter(_MADE.findall(made)) - Counter(it.name for it in on_log)
    sentences = [f"{count} guards {name} of the log are missing" for name, count in lost.items()]
    sentences += [
        f"the guard {it.name} of {it.table} "
        f"{'does something else than was generated' if it.enabled else 'is switched off'}"
        for it in on_log
        if not it.enabled or _flat(it.text) not in _flat(made)
    ]
    return sentences


def _flat(text: str) -> str:
    return "".join(text.split())


# What is captured of a table that is to be captured.
CaptureState = Literal["captured", "partly", "not captured", "left out"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TableCoverage:
    """Whether a table is captured. `because` says why not all of it, `note` what else to know."""

    table: str
    capture: CaptureState
    because: str = ""
    note: str = ""
    drift: tuple[str, ...] = ()
    estimated_rows: int = -1


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What the trail covers. `problems` concern all of it, such as a version that is not ours."""

    installed: int | None
    tables: tuple[TableCoverage, ...]
    problems: tuple[str, ...]
    gone: tuple[str, ...] = ()

    @property
    def uncovered(self) -> tuple[TableCoverage, ...]:
        """The tables of which not everything is captured that is to be."""
        return tuple(it for it in self.tables if it.capture in ("partly", "not captured"))

    @property
    def is_whole(self) -> bool:
        """Is everything captured that is to be, and nothing else wrong?"""
        return self.installed is not None and not self.uncovered and not self.problems


def coverage_of(judged: TrailJudgement) -> Coverage:
    """Return what is captured, as people and health checks want to know it."""
    survey = judged.survey
    problems = [*judged.unusable, *judged.guards]
    if survey.version is None:
        problems.append("no trail is installed; run `shipworthy audit install`")
    elif survey.version > VERSION:
        problems.append(newer_trail(survey.version))
    elif not judged.base_is_current:
        problems.append(
            "the tables and functions of the trail are of another version of Shipworthy; run "
            "`shipworthy audit install`"
        )
    return Coverage(
        installed=survey.version,
        tables=tuple(_table_coverage(one) for one in judged.tables),
        problems=tuple(problems),
        gone=tuple(str(one.shape.table.name) for one in judged.gone),
    )


def newer_trail(version: int) -> str:
    """Return the sentence for a trail that a later version of ours has made."""
    return (
        f"the trail here is of version {version}, and this Shipworthy knows {VERSION}; it is left "
        f"alone, take the Shipworthy that installed it, or a later one"
    )


def _table_coverage(one: TableJudgement) -> TableCoverage:
    refused = "" if one.ddl is None else one.ddl.refused
    capture: CaptureState = "captured"
    because = one.because
    if one.state in ("left out", "released"):
        capture = "left out"
    elif one.state == "new" or not any(trigger.enabled for trigger in one.found):
        capture = "not captured"
    elif one.state != "captured" or refused:
        capture = "partly"
        because = "; ".join(part for part in (because, refused) if part)
    notes: list[str] = []
    if capture != "left out":
        if not one.table.primary_key:
            notes.append("it has no primary key, so its rows are known by all their values")
        if one.ddl is not None and one.ddl.silent:
            notes.append(one.ddl.silent)
    return TableCoverage(
        table=str(one.table.name),
        capture=capture,
        because=because,
        note="; ".join(notes),
        drift=one.drift,
        estimated_rows=one.table.estimated_rows,
    )
