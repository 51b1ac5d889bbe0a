"""The OpenAPI 3.1 document of the operations port, derived from its endpoints."""

from collections.abc import Sequence
from typing import Any

from shipworthy.operations.access import Audience
from shipworthy.operations.endpoint import JSON, PROBLEM, Endpoint

PROBLEM_SCHEMA = {
    "type": "object",
    "title": "Problem",
    "description": "What went wrong, as RFC 9457 writes it.",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "request_id": {"type": "string"},
    },
    "required": ["type", "title", "status", "detail", "instance", "request_id"],
}


def openapi_document(endpoints: Sequence[Endpoint], *, version: str) -> dict[str, Any]:
    """Return the document; `version` is Shipworthy's. `HEAD` goes wherever `GET` does."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.public_path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Shipworthy operations port",
            "version": version,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": {"Problem": PROBLEM_SCHEMA},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    words = endpoint.public_path.replace("{", "").replace("}", "").replace(".", "_").split("/")
    needs_token: dict[str, list[str]] = {"token": []}
    operation: dict[str, Any] = {
        "operationId": "_".join([endpoint.method.lower(), *filter(None, words)]),
        "summary": endpoint.summary,
        "security": [needs_token] if endpoint.audience is Audience.TOKEN else [{}, needs_token],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in endpoint.parameters
        ],
        "responses": {
            str(reply.status): {
                "description": reply.says,
                "content": {reply.media: {"schema": reply.schema}},
            }
            for reply in endpoint.replies
        }
        | {
            "default": {
                "description": "What went wrong.",
                "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            }
        },
    }
    if endpoint.request is not None:
        operation["requestBody"] = {
            "required": not endpoint.request_optional,
            "content": {JSON: {"schema": endpoint.request}},
        }
    return operation
