"""What derives from an endpoint's declaration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator, ValidationError

from shipworthy.lifecycle import Answer
from shipworthy.operations import Endpoint
from shipworthy.operations.endpoint import schema_of, told


class Tide(StrEnum):
    """A few words."""

    EBB = "ebb"
    FLOOD = "flood"


@dataclass(frozen=True, slots=True, kw_only=True)
class Berth:
    """Every type facts are made of."""

    name: str
    number: int
    metres: float
    free: bool
    answer: Answer
    ships: tuple[str, ...]
    bills: Sequence[Mapping[str, int]]
    extra: Mapping[str, Any]
    depth: int | None
    tide: Tide


BERTH = Berth(
    name="north",
    number=1,
    metres=12.5,
    free=True,
    answer=Answer(ok=False, because="a ship is there"),
    ships=("Ark",),
    bills=[{"euro": 12}],
    extra={"note": None},
    depth=None,
    tide=Tide.EBB,
)


def test_a_schema_accepts_what_its_dataclass_becomes():
    """What is told of a dataclass is valid under the schema made of it."""
    written = orjson.loads(told(BERTH).body)

    Draft202012Validator(schema_of(Berth)).validate(written)
    assert written["answer"] == {"ok": False, "because": "a ship is there"}


@pytest.mark.parametrize("depth", [None, 4])
def test_a_union_accepts_each_of_its_types(depth):
    """A number that may not be there is null."""
    written = orjson.loads(told(BERTH).body) | {"depth": depth}

    Draft202012Validator(schema_of(Berth)).validate(written)


@pytest.mark.parametrize(
    "change",
    [
        {"name": 1},
        {"number": 1.5},
        {"metres": "12"},
        {"free": 0},
        {"answer": {"ok": True}},
        {"ships": [1]},
        {"bills": [{"euro": "12"}]},
        {"extra": []},
        {"depth": "deep"},
        {"unheard_of": 1},
    ],
)
def test_a_schema_refuses_everything_else(change):
    """A wrong type, a missing field and a field too many are each invalid."""
    written = orjson.loads(told(BERTH).body) | change

    with pytest.raises(ValidationError):
        Draft202012Validator(schema_of(Berth)).validate(written)


def test_a_type_without_a_schema_is_a_fault_of_the_declaration():
    """A field type that is not known stops at the declaration, not in a document that lies."""
    with pytest.raises(TypeError, match="no JSON Schema is known for"):
        schema_of(complex)


def test_the_parameters_of_a_path_are_in_its_template():
    """OpenAPI's form of the path has the names, without Starlette's convertors."""

    async def answer(_): ...

    endpoint = Endpoint(path="/api/a/{key}/b/{rest:path}", summary="", replies=(), answer=answer)

    assert endpoint.parameters == ("key", "rest")
    assert endpoint.public_path == "/api/a/{key}/b/{rest}"
