"""The arms of the peers' environment: what teams glue together, each part as its manual shows it.

Two stacks: the one that does what our guards do today (ids, metrics, one structured line for each
request), and the whole of it, with rate limit, security headers and CSRF cookie besides.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import secure
import structlog
from asgi_correlation_id import CorrelationIdMiddleware, correlation_id
from fastapi import FastAPI, Request, Response
from prometheus_client import CollectorRegistry
from prometheus_fastapi_instrumentator import Instrumentator
from rounds import bare
from slowapi import Limiter
from slowapi.middleware import SlowAPIMiddleware
from slowapi.util import get_remote_address
from starlette_csrf import CSRFMiddleware

CallNext = Callable[[Request], Awaitable[Response]]


def arms() -> dict[str, Callable[..., Any]]:
    """Return the applications to compare."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.BytesLoggerFactory(),
        cache_logger_on_first_use=True,
    )
    same, whole = bare(), bare()
    add_whole(whole)
    add_same(same)
    add_same(whole)
    return {"bare FastAPI": bare(), "same duties": same, "whole stack": whole}


def add_same(app: FastAPI) -> None:
    """Ids, metrics and a line: asgi-correlation-id, instrumentator, structlog."""
    Instrumentator(registry=CollectorRegistry()).instrument(app)
    log = structlog.get_logger("access")

    @app.middleware("http")
    async def line(request: Request, call_next: CallNext) -> Response:
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=correlation_id.get())
        began = time.perf_counter()
        response = await call_next(request)
        log.info(
            "request",
            method=request.method,
            path=request.url.path,
            status=response.status_code,
            duration_ms=(time.perf_counter() - began) * 1000,
            client=request.client.host if request.client else "",
        )
        return response

    app.add_middleware(CorrelationIdMiddleware)


def add_whole(app: FastAPI) -> None:
    """Rate limit, headers and CSRF: slowapi, secure, starlette-csrf."""
    app.state.limiter = Limiter(key_func=get_remote_address, default_limits=["1000000000/minute"])
    app.add_middleware(SlowAPIMiddleware)
    headers = secure.Secure.with_default_headers()

    @app.middleware("http")
    async def secured(request: Request, call_next: CallNext) -> Response:
        response = await call_next(request)
        await headers.set_headers_async(response)
        return response

    app.add_middleware(CSRFMiddleware, secret="for the benchmark only")
