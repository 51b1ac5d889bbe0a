"""The triggers of one PostgreSQL table, and how to know them again. Pure."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, final

from shipworthy.audit.dialects import CaptureDdl, TriggerState
from shipworthy.audit.dialects.postgresql_base import owner_only
from shipworthy.audit.dialects.postgresql_capture import row_body, truncate_body
from shipworthy.audit.dialects.postgresql_names import (
    PARTITIONED,
    PARTITIONS,
    TRIGGERS,
    dollar_quoted,
    log_schema_of,
    quoted,
    relation_of,
)
from shipworthy.audit.model import Shape
from shipworthy.audit.tables import PREFIX

# `pg_trigger.tgtype` by event: AFTER for each row, and BEFORE for each statement.
_ROW_KINDS: Final = {"insert": 1 + 4, "update": 1 + 16, "delete": 1 + 8}
_TRUNCATE_KIND: Final = 2 + 32
# An UPDATE that changes nothing calls no function; bytes are compared, for some types have no
# equality, and that of others is coarser than their text. And how PostgreSQL says it back.
_CHANGED: Final = "OLD.* OPERATOR(pg_catalog.*<>) NEW.*"
_CHANGED_SAID: Final = "((old.* *<> new.*))"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerFacts:
    """What a trigger of ours does, by the facts of the catalog that say it."""

    kind: int
    when: str
    function: str
    definer: bool
    settings: str
    body: str

    def text(self) -> str:
        """Return all of it as one text: equal for what was generated and what is there."""
        rights = "definer" if self.definer else "invoker"
        return f"{self.kind} {self.when} {self.function} {rights} {self.settings}\n{self.body}"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Trigger:
    name: str
    relation: str  # as SQL has it
    created: str  # when it fires, as CREATE TRIGGER has it
    known_as: str
    facts: TriggerFacts

    def create(self) -> list[str]:
        # To drop one would wait for readers too, and they behind it. ALWAYS: also where a session
        # says that it only repeats what happened elsewhere.
        return [
            (
                f"CREATE OR REPLACE TRIGGER {quoted(self.name)} {self.created}"
                f" EXECUTE FUNCTION {self.facts.function}"
            ),
            f"ALTER TABLE {self.relation} ENABLE ALWAYS TRIGGER {quoted(self.name)}",
        ]

    def drop(self) -> str:
        return f"DROP TRIGGER IF EXISTS {quoted(self.name)} ON {self.relation}"


def capture_of(shape: Shape) -> CaptureDdl:
    """Return what captures a table, in the schema that its traits name."""
    log = quoted(log_schema_of(shape.table))
    functions = {
        f"{log}.{PREFIX}audit_{shape.table_id}_rows()": row_body(shape),
        f"{log}.{PREFIX}audit_{shape.table_id}_truncate()": truncate_body(shape),
    }
    create = []
    for function, body in functions.items():
        create.append(
            f"CREATE OR REPLACE FUNCTION {function} RETURNS pg_catalog.trigger"
            f" LANGUAGE plpgsql SECURITY DEFINER AS {dollar_quoted(body)}"
        )
        create.append(owner_only(function))
    triggers = [*_row_triggers(shape, *functions), *_truncate_triggers(shape, *functions)]
    states = []
    for trigger in triggers:
        create += trigger.create()
        states.append(
            TriggerState(table=shape.table.name, name=trigger.known_as, text=trigger.facts.text())
        )
    drops = [trigger.drop() for trigger in triggers]
    return CaptureDdl(
        create=tuple(create),
        drop=(*drops, *(f"DROP FUNCTION IF EXISTS {function}" for function in functions)),
        refused=_refused(shape),
        triggers=tuple(states),
    )


def known_as(name: str, relation: str, table: str) -> str:
    """Return what a trigger's state is called: one that stands on a partition names it."""
    return name if relation == table else f"{name} on {relation}"


def _row_triggers(shape: Shape, rows: str, _: str) -> Iterator[_Trigger]:
    """Those on a partitioned table are cloned to its partitions, also to those yet to come."""
    for event, kind in _ROW_KINDS.items():
        changed = event == "update"
        name = f"{TRIGGERS}{shape.table_id}_{event}"
        yield _Trigger(
            name=name,
            relation=relation_of(shape.table),
            created=f"AFTER {event.upper()} ON {relation_of(shape.table)} FOR EACH ROW"
            + (f" WHEN ({_CHANGED})" if changed else ""),
            known_as=name,
            facts=TriggerFacts(
                kind=kind,
                when=_CHANGED_SAID if changed else "",
                function=rows,
                definer=True,
                settings="",
                body=row_body(shape),
            ),
        )


def _truncate_triggers(shape: Shape, _: str, truncate: str) -> Iterator[_Trigger]:
    """A TRUNCATE of a partitioned table is one of each partition, where the triggers must stand."""
    table = shape.table
    relations = {table.name.name: relation_of(table)}
    if table.traits.get(PARTITIONED):
        leaves = json.loads(table.traits.get(PARTITIONS, "[]"))
        relations = {name: f"{quoted(schema)}.{quoted(name)}" for schema, name in leaves}
    name = f"{TRIGGERS}{shape.table_id}_truncate"
    for leaf, relation in relations.items():
        yield _Trigger(
            name=name,
            relation=relation,
            created=f"BEFORE TRUNCATE ON {relation} FOR EACH STATEMENT",
            known_as=known_as(name, leaf, table.name.name),
            facts=TriggerFacts(
                kind=_TRUNCATE_KIND,
                when="",
                function=truncate,
                definer=True,
                settings="",
                body=truncate_body(shape),
            ),
        )


def _refused(shape: Shape) -> str:
    """Say what cannot be kept apart: entries are found by their key."""
    named = [name for name in shape.table.primary_key if name in shape.personal]
    if not named:
        return ""
    return (
        f"{', '.join(named)} is personal and part of the primary key, which stands in every entry:"
        " erasure will not reach it there"
    )
