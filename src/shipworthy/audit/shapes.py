"""Shapes as the log keeps them: a table's facts as JSON, so that old entries can still be read.

Writing and comparing is pure; `read_shapes` asks the database.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, final

import sqlalchemy as sa

from shipworthy.audit.model import (
    CatalogColumn,
    CatalogForeignKey,
    CatalogTable,
    CatalogUnique,
    Shape,
    TableName,
)
from shipworthy.audit.tables import SHAPES


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class NotedShape:
    """A shape as the log has it; `digest` covers it and the triggers that were made for it."""

    shape: Shape
    digest: str


def dump_shape(shape: Shape) -> str:
    """Return the facts of a shape as the column `facts` has them; equal facts give equal text."""
    table = asdict(shape.table)
    # Of the moment, not of the table.
    del table["estimated_rows"]
    facts = {
        "table": table,
        "personal": dict(shape.personal),
        "blocks_truncate": shape.blocks_truncate,
    }
    return json.dumps(facts, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def load_shape(text: str, *, id: int, table_id: int) -> Shape:  # noqa: A002 - as the field is named
    """Return the shape that `dump_shape` wrote, also where a later version wrote more into it."""
    facts: dict[str, Any] = json.loads(text)
    table = facts["table"]
    return Shape(
        id=id,
        table_id=table_id,
        table=CatalogTable(
            name=_name(table["name"]),
            columns=tuple(CatalogColumn(**_known(CatalogColumn, it)) for it in table["columns"]),
            primary_key=tuple(table["primary_key"]),
            foreign_keys=tuple(_foreign_key(it) for it in table["foreign_keys"]),
            uniques=tuple(_unique(it) for it in table["uniques"]),
            triggers=tuple(table["triggers"]),
            traits=table["traits"],
        ),
        personal=facts["personal"],
        blocks_truncate=facts["blocks_truncate"],
    )


def shape_digest(shape: Shape, create: Sequence[str]) -> str:
    """Return a digest of what capture depends on: another one means that it must be made anew.

    `create` are the statements that make its triggers. An index, a default or a trigger of the
    application changes nothing of what is captured, and nothing here.
    """
    table = shape.table
    facts = [
        [table.name.schema, table.name.name],
        [[it.name, it.type, it.nullable, it.generated, it.identity] for it in table.columns],
        table.primary_key,
        [
            [it.name, it.columns, str(it.target), it.target_columns, it.on_delete, it.on_update]
            for it in sorted(table.foreign_keys, key=lambda it: (it.name, it.columns))
        ],
        sorted(table.traits.items()),
        sorted(shape.personal.items()),
        shape.blocks_truncate,
        list(create),
    ]
    text = json.dumps(facts, ensure_ascii=False, separators=(",", ":"))
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def latest_shapes(noted: Iterable[NotedShape]) -> dict[int, NotedShape]:
    """Return the newest shape of each table, by the table's id."""
    found: dict[int, NotedShape] = {}
    for one in sorted(noted, key=lambda it: it.shape.id):
        found[one.shape.table_id] = one
    return found


def read_noted(connection: sa.Connection) -> list[NotedShape]:
    """Return every shape that the log has, in the order in which they were noted."""
    rows = connection.execute(
        sa.select(SHAPES.c.id, SHAPES.c.table_id, SHAPES.c.facts, SHAPES.c.digest).order_by(
            SHAPES.c.id
        )
    )
    return [
        NotedShape(
            shape=load_shape(row.facts, id=row.id, table_id=row.table_id),
            digest=row.digest,
        )
        for row in rows
    ]


def read_shapes(connection: sa.Connection) -> Mapping[int, Shape]:
    """Return every shape that entries may name, by its id."""
    return {one.shape.id: one.shape for one in read_noted(connection)}


def _name(facts: Mapping[str, str]) -> TableName:
    return TableName(schema=facts["schema"], name=facts["name"])


def _foreign_key(facts: Mapping[str, Any]) -> CatalogForeignKey:
    known = _known(CatalogForeignKey, facts)
    known |= {
        "columns": tuple(facts["columns"]),
        "target": _name(facts["target"]),
        "target_columns": tuple(facts["target_columns"]),
    }
    return CatalogForeignKey(**known)


def _unique(facts: Mapping[str, Any]) -> CatalogUnique:
    return CatalogUnique(**_known(CatalogUnique, facts) | {"columns": tuple(facts["columns"])})


def _known(kind: type[Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if name in kind.__dataclass_fields__}
