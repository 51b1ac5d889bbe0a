"""The arms of the peers' environment: each instrumentation as its manual shows it, by routes.

Numbers go to registries and readers in memory, spans to nobody, so what leaves the process costs
nothing here.
"""

import os
from collections.abc import Callable
from typing import Any

from rounds import MANY, bare_of

os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "http"

from fastapi import FastAPI
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import NoOpTracerProvider
from prometheus_client import CollectorRegistry
from prometheus_fastapi_instrumentator import Instrumentator
from starlette_exporter import PrometheusMiddleware


def arms() -> dict[str, Callable[..., Any]]:
    """Return the applications to compare."""
    found: dict[str, Callable[..., Any]] = {}
    for routes in (1, MANY):
        name = f"{routes} route{'s' if routes > 1 else ''}"
        found[f"bare FastAPI, {name}"] = bare_of(routes)
        instrumented = bare_of(routes)
        Instrumentator(registry=CollectorRegistry()).instrument(instrumented)
        found[f"prometheus-fastapi-instrumentator, {name}"] = instrumented
        exported = bare_of(routes)
        exported.add_middleware(PrometheusMiddleware, prefix=f"of_{routes}")
        found[f"starlette_exporter, {name}"] = exported
        found[f"OTel ASGI, metrics, {name}"] = OpenTelemetryMiddleware(
            bare_of(routes), meter_provider=meter(), tracer_provider=NoOpTracerProvider()
        )
        found[f"OTel ASGI, metrics and 1 % of traces, {name}"] = OpenTelemetryMiddleware(
            bare_of(routes), meter_provider=meter(), tracer_provider=tracer()
        )
        found[f"FastAPI's own, metrics, {name}"] = native(
            routes, {"meter_provider": meter(), "tracing": False, "logs": False}
        )
        found[f"FastAPI's own, metrics and 1 % of traces, {name}"] = native(
            routes, {"meter_provider": meter(), "tracer_provider": tracer(), "logs": False}
        )
    return found


def native(routes: int, telemetry: dict[str, Any]) -> FastAPI:
    """Return the bare application with FastAPI's own telemetry."""
    return bare_of(routes, telemetry=telemetry)


def meter() -> MeterProvider:
    """Return a provider that keeps its numbers in memory."""
    return MeterProvider(metric_readers=[InMemoryMetricReader()])


def tracer() -> TracerProvider:
    """Return a provider that samples one trace in a hundred and exports none."""
    return TracerProvider(sampler=TraceIdRatioBased(0.01))
