"""Who else counts the requests of an application: found in its stack, and only told, never undone.

Two who count the same requests make panels show twice of what there was, and only our own labels
are bounded by us.
"""

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from shipworthy.events import Event, Severity, event
from shipworthy.web.frameworks import innermost, made_with, within

# The package and class of a middleware, the distribution it comes in, and what it counts.
_MIDDLEWARES = {
    ("prometheus_fastapi_instrumentator", "PrometheusInstrumentatorMiddleware"): (
        "prometheus-fastapi-instrumentator",
        "http_requests_total, http_request_duration_seconds",
    ),
    ("starlette_exporter", "PrometheusMiddleware"): (
        "starlette-exporter",
        "starlette_requests_total, starlette_request_duration_seconds",
    ),
    ("starlette_prometheus", "PrometheusMiddleware"): (
        "starlette-prometheus",
        "starlette_requests_total, starlette_requests_processing_time_seconds",
    ),
    ("litestar", "PrometheusMiddleware"): (
        "litestar",
        "litestar_requests_total, litestar_request_duration_seconds",
    ),
    ("opentelemetry", "OpenTelemetryMiddleware"): (
        "opentelemetry-instrumentation-asgi",
        "http.server.duration or http.server.request.duration",
    ),
    ("django_prometheus", "PrometheusBeforeMiddleware"): (
        "django-prometheus",
        "django_http_requests_total_by_method_total and others",
    ),
    ("opentelemetry", "_DjangoMiddleware"): (
        "opentelemetry-instrumentation-django",
        "http.server.duration or http.server.request.duration",
    ),
}
# What the instrumentations of OpenTelemetry leave on the applications they have changed.
_MARK = "_is_instrumented_by_opentelemetry"
_DURATION = "http.server.duration or http.server.request.duration"


@event(severity=Severity.WARNING)
class CountedTwice(Event):
    """Somebody else counts the requests of this application too."""

    what: str


@event(severity=Severity.WARNING)
class TracedTwice(Event):
    """Somebody else makes spans for the requests of this application too."""

    what: str


def makes_spans() -> bool:
    """Say whether somebody in this process has set OpenTelemetry up to make spans."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return False
    provider = type(trace.get_tracer_provider()).__name__
    return provider not in ("ProxyTracerProvider", "NoOpTracerProvider")


def traced_twice(app: Any) -> tuple[str, ...]:
    """Say, a sentence each, who makes a span of each request of `app` beside ours."""
    return tuple(
        f"{name} makes a span of each request, below ours: a trace has both; take its "
        f"instrumentation of requests away, or leave traces.endpoint empty"
        for name in dict.fromkeys(_span_makers(app))
    )


def _span_makers(app: Any) -> Iterator[str]:
    inner = innermost(app)
    for package, name in _middlewares(app, inner):
        known = _MIDDLEWARES.get((package.partition(".")[0], name))
        if known is not None and package.startswith("opentelemetry"):
            yield known[0]
    made = made_with(inner)
    framework = made[0] if made is not None else ""
    if getattr(inner, _MARK, False):
        yield f"opentelemetry-instrumentation-{framework.lower()}"
    config = getattr(inner, "_telemetry", None)
    if framework == "FastAPI" and config is not None and config.get("tracing", True):
        yield "fastapi"


def counted_twice(app: Any) -> tuple[str, ...]:
    """Say, a sentence each, who counts the requests of `app` beside us; ask when it has started."""
    return tuple(dict.fromkeys(_counters(app)))


def _counters(app: Any) -> Iterator[str]:
    inner = innermost(app)
    for package, name in _middlewares(app, inner):
        known = _MIDDLEWARES.get((package.partition(".")[0], name))
        if known is not None:
            yield _sentence(*known)
    made = made_with(inner)
    framework = made[0] if made is not None else ""
    if getattr(inner, _MARK, False):
        yield _sentence(f"opentelemetry-instrumentation-{framework.lower()}", _DURATION)
    if framework == "FastAPI" and _counts_by_itself(inner):
        yield _sentence("fastapi", "http.server.request.duration, to the global MeterProvider")


def _middlewares(app: Any, inner: Any) -> Iterator[tuple[str, str]]:
    """Yield the module and the name of the class of each middleware that can be seen."""
    for layer in within(app):
        yield type(layer).__module__, type(layer).__name__
    for added in getattr(inner, "user_middleware", None) or ():
        yield _name_of(added.cls)
    made = made_with(inner)
    if made is None:
        return
    if made[0] == "Litestar":
        for added in inner.middleware:
            yield _name_of(getattr(added, "middleware", added))
    elif made[0] == "Django":
        from django.conf import settings

        for path in settings.MIDDLEWARE:
            module, _, name = path.rpartition(".")
            yield module, name


def _name_of(cls: Any) -> tuple[str, str]:
    return getattr(cls, "__module__", ""), getattr(cls, "__name__", "")


def _counts_by_itself(inner: Any) -> bool:
    """Whether FastAPI's own telemetry (0.142 and later) has somebody to tell its numbers to."""
    config = getattr(inner, "_telemetry", None)
    metrics = sys.modules.get("opentelemetry.metrics")
    if config is None or metrics is None or not config.get("metrics", True):
        return False
    provider = type(config.get("meter_provider") or metrics.get_meter_provider()).__name__
    return provider not in ("_ProxyMeterProvider", "ProxyMeterProvider", "NoOpMeterProvider")


def _sentence(distribution: str, metrics: str) -> str:
    try:
        name = f"{distribution} {version(distribution)}"
    except PackageNotFoundError:
        name = distribution
    return (
        f"{name} counts the same requests ({metrics}): what sums both has them twice, and no cap "
        f"of ours bounds its labels; take one of the two away"
    )
