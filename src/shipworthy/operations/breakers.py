"""Breakers and databases on the operations port: how they stand, and a breaker set by hand."""

from typing import Any

from starlette.responses import Response

from shipworthy.errors import Misuse
from shipworthy.events import emit
from shipworthy.operations.endpoint import Asked, Endpoint, Reply, schema_of, told
from shipworthy.operations.facts import BreakersFacts, DatabasesFacts, Operated
from shipworthy.operations.occurrences import OperatorCommanded
from shipworthy.redact import printable, redact

# It stands in every refusal, in the log and on pages: a sentence, not a report.
REASON_CHARACTERS = 200
BY_HAND = "by hand"
_REASON = {
    "type": "object",
    "properties": {"because": {"type": "string", "minLength": 1, "maxLength": REASON_CHARACTERS}},
    "additionalProperties": False,
}


def breaker_endpoints(service: Operated) -> tuple[Endpoint, ...]:
    """Return the endpoints about what `service` depends on."""

    async def breakers(_: Asked) -> Response:
        return told(await service.breakers())

    async def databases(_: Asked) -> Response:
        return told(await service.databases())

    async def isolate(asked: Asked) -> Response:
        name, because = asked.request.path_params["name"], _reason(await asked.json(optional=True))
        stands = await service.isolate_breaker(name, because)
        emit(
            OperatorCommanded,
            command="isolate",
            by=asked.by,
            client=asked.client,
            outcome=f"breaker '{name}' is isolated: {because}",
        )
        return told(stands)

    async def close(asked: Asked) -> Response:
        name = asked.request.path_params["name"]
        stands = await service.close_breaker(name)
        emit(
            OperatorCommanded,
            command="close",
            by=asked.by,
            client=asked.client,
            outcome=f"breaker '{name}' is {_state(stands)}",
        )
        return told(stands)

    stand = Reply(says="How it stands now.", schema=schema_of(BreakersFacts))
    return (
        Endpoint(
            path="/api/breakers",
            summary="Every breaker: its state, why, and what its window holds",
            replies=(Reply(says="The breakers.", schema=schema_of(BreakersFacts)),),
            answer=breakers,
        ),
        Endpoint(
            path="/api/breakers/{name:path}/isolate",
            method="POST",
            summary="Hold a breaker open, in workers to come too, until it is closed",
            request=_REASON,
            request_optional=True,
            replies=(stand,),
            answer=isolate,
        ),
        Endpoint(
            path="/api/breakers/{name:path}/close",
            method="POST",
            summary="Close a breaker at once, and forget what it counted",
            replies=(stand,),
            answer=close,
        ),
        Endpoint(
            path="/api/databases",
            summary="Every database: its pool, its breaker, and who holds connections",
            replies=(Reply(says="The databases.", schema=schema_of(DatabasesFacts)),),
            answer=databases,
        ),
    )


def _state(stands: BreakersFacts) -> str:
    # Of a breaker that no worker has yet there was only the order to hold it open.
    return stands.breakers[0].state if stands.breakers else "not held open any more"


def _reason(body: Any) -> str:
    if body is None:
        return BY_HAND
    because = body.get("because", BY_HAND) if isinstance(body, dict) else None
    unknown = set(body) - {"because"} if isinstance(body, dict) else None
    if unknown or not isinstance(because, str) or not 0 < len(because) <= REASON_CHARACTERS:
        raise Misuse(
            f'the body is {{"because": "..."}} with 1 to {REASON_CHARACTERS} characters, or nothing'
        )
    return printable(redact(because))
