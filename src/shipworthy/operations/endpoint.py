"""One endpoint of the operations port, as data: routes and OpenAPI document derive from it."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from shipworthy.operations.access import Audience

Schema = Mapping[str, Any]  # JSON Schema 2020-12, as OpenAPI 3.1 uses it

JSON = "application/json"
PROBLEM = "application/problem+json"

# A command with its reason is a few hundred bytes; a whole flag document is well below this.
BODY_LIMIT_BYTES = 256 * 1024

_SCALARS: Mapping[object, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    NoneType: {"type": "null"},
    Any: {},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer an endpoint may give, besides problems, which every endpoint may give."""

    status: int = 200
    says: str
    media: str = JSON
    schema: Schema


def refusal(status: int, says: str) -> Reply:
    """Return the reply that an endpoint gives as a problem, where callers must expect it."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return Reply(status=status, says=says, media=PROBLEM, schema=schema)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One admitted call, as the endpoint's `answer` gets it."""

    request: Request
    detailed: bool  # whether names, numbers and reasons may be in the answer
    endpoints: tuple["Endpoint", ...]  # everything the port serves
    by: str = ""  # the name of the token that was sent

    @property
    def client(self) -> str:
        """The address the call came from; empty where there is none."""
        return self.request.client.host if self.request.client else ""

    async def json(self, *, optional: bool = False) -> Any:
        """Read the body as JSON, at most 256 KiB of it; what it means, the caller must judge.

        None where it is `optional` and nothing was sent.
        """
        headers = self.request.headers
        nothing = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
        if optional and nothing:
            return None
        if headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
            raise HTTPException(415, f"the body must be {JSON}")
        body = bytearray()
        async for chunk in self.request.stream():
            body += chunk
            if len(body) > BODY_LIMIT_BYTES:
                raise HTTPException(413, f"the body is longer than {BODY_LIMIT_BYTES} bytes")
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise HTTPException(400, f"the body is not JSON: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A path and method with everything said about it. `path` is a Starlette path template."""

    path: str
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    summary: str
    audience: Audience = Audience.TOKEN
    request: Schema | None = None
    request_optional: bool = False
    replies: tuple[Reply, ...]
    answer: Callable[[Asked], Awaitable[Response]]

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names in the path template."""
        return tuple(re.findall(r"{(\w+)(?::\w+)?}", self.path))

    @property
    def public_path(self) -> str:
        """The path template without Starlette's convertors, as OpenAPI writes it."""
        return re.sub(r"{(\w+):\w+}", r"{\1}", self.path)


def told(facts: object, *, status: int = 200, media: str = JSON) -> Response:
    """Answer with facts as JSON; dataclasses are written field by field."""
    return Response(orjson.dumps(facts), status, media_type=media)


def schema_of(kind: Any) -> Schema:
    """Return the JSON Schema of a dataclass, so that what is said of an answer is what it has.

    Knows the types facts are made of: scalars, texts of a few, sequences and mappings of one type,
    and unions. Raises `TypeError` for others.
    """
    if kind in _SCALARS:
        return _SCALARS[kind]
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        names = [field.name for field in fields(kind)]
        return {
            "type": "object",
            "title": kind.__name__,
            "properties": {name: schema_of(hints[name]) for name in names},
            "required": names,
            "additionalProperties": False,
        }
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return {"enum": [member.value for member in kind]}
    origin, arguments = get_origin(kind), get_args(kind)
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return {"type": "array", "items": schema_of(arguments[0])}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": schema_of(arguments[1])}
    if origin is UnionType:
        return {"anyOf": [schema_of(one) for one in arguments]}
    raise TypeError(f"no JSON Schema is known for {kind!r}; add it to operations.endpoint")
