"""The OpenAPI document and the routes cannot disagree."""

import re

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from starlette.routing import Route

from shipworthy.operations import Audience, Endpoint, OperationsSettings, Reply, operations_app
from shipworthy.operations.openapi import openapi_document

pytestmark = pytest.mark.anyio


async def nothing(_): ...


WITH_BODY = Endpoint(
    path="/api/flags/{key}",
    method="PUT",
    summary="Change a flag",
    request={"type": "object", "required": ["on"]},
    replies=(Reply(says="Changed.", schema={"type": "object"}),),
    answer=nothing,
)


async def document_of(connect, **options):
    """The document as it is served."""
    async with connect(signed=True, **options) as client:
        return (await client.get("/api/openapi.json")).json()


async def test_the_document_is_valid_openapi(connect):
    """openapi-spec-validator finds nothing to say, also with a body and a path parameter."""
    document = await document_of(connect, endpoints=[WITH_BODY])

    validate(document)


async def test_every_route_is_in_the_document_and_nothing_else(connect, service):
    """The paths and methods Starlette serves are those described, later rooms' among them."""
    app = operations_app(
        service, token="", settings=OperationsSettings(), values=(), endpoints=[WITH_BODY]
    )
    served = {
        (re.sub(r":\w+}", "}", route.path), method)
        for route in app.routes
        if isinstance(route, Route)
        for method in route.methods - {"HEAD"}
    }

    document = await document_of(connect, endpoints=[WITH_BODY])

    described = {
        (path, method.upper())
        for path, operations in document["paths"].items()
        for method in operations
    }
    assert len(app.routes) == len({path for path, _ in served})
    assert described == served


async def test_every_answer_is_as_described(connect):
    """Each GET answers with a described status and type, and a body that fits its schema."""
    document = await document_of(connect)

    async with connect(signed=True) as client:
        for path, operations in document["paths"].items():
            if "get" not in operations:
                continue
            answer = await client.get(path)

            said = operations["get"]["responses"][str(answer.status_code)]["content"]
            media = answer.headers["content-type"].partition(";")[0]
            body = answer.json() if media.endswith("json") else answer.text
            Draft202012Validator(said[media]["schema"]).validate(body)


async def test_the_answer_to_a_command_is_as_described(connect):
    """The drain answers with the status, type and body that are described."""
    document = await document_of(connect)

    async with connect(signed=True) as client:
        answer = await client.post("/api/drain")

    said = document["paths"]["/api/drain"]["post"]["responses"][str(answer.status_code)]
    Draft202012Validator(said["content"]["application/json"]["schema"]).validate(answer.json())


async def test_what_a_restart_is_refused_with_is_as_described(connect):
    """A draining service starts nobody; who wrote a client by the document must expect it."""
    document = await document_of(connect)

    async with connect(signed=True) as client:
        await client.post("/api/drain")
        answer = await client.post("/api/restart")

    said = document["paths"]["/api/restart"]["post"]["responses"]["409"]["content"]
    validate(document)
    assert answer.status_code == 409
    assert said == {
        answer.headers["content-type"]: {"schema": {"$ref": "#/components/schemas/Problem"}}
    }
    Draft202012Validator(document["components"]["schemas"]["Problem"]).validate(answer.json())


async def test_a_failing_health_is_as_described(connect, service):
    """The 503 of the probes and of /health is described too."""
    document = await document_of(connect)
    async with connect(signed=True) as client:
        await client.post("/api/drain")
        answers = {path: await client.get(path) for path in ("/readyz", "/health")}

    for path, answer in answers.items():
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "503" in document["paths"][path]["get"]["responses"]


@pytest.mark.parametrize(
    ("audience", "expected"),
    [
        (Audience.PROBE, [{}, {"token": []}]),
        (Audience.STATUS, [{}, {"token": []}]),
        (Audience.SCRAPE, [{}, {"token": []}]),
        (Audience.TOKEN, [{"token": []}]),
    ],
)
def test_the_document_says_where_a_token_is_needed(audience, expected):
    """Only what always needs the token is described as needing it."""
    endpoint = Endpoint(
        path="/a/{b}.json", summary="", audience=audience, replies=(), answer=nothing
    )

    document = openapi_document([endpoint], version="1")

    operation = document["paths"]["/a/{b}.json"]["get"]
    assert operation["security"] == expected
    assert operation["operationId"] == "get_a_b_json"
