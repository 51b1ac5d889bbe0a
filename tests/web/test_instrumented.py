"""Who else counts the requests is found, with the real packages, and is told once."""

import pytest
from django.test import override_settings
from fastapi import FastAPI
from litestar import Litestar
from litestar.plugins.prometheus import PrometheusConfig
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry
from prometheus_fastapi_instrumentator import Instrumentator
from starlette.applications import Starlette
from starlette.testclient import TestClient
from starlette_exporter import PrometheusMiddleware

from shipworthy.assembly import NO_PROTOCOL_GUARD
from shipworthy.web import CountedTwice, counted_twice, makes_spans, traced_twice


def by_instrumentator():
    app = FastAPI()
    Instrumentator(registry=CollectorRegistry()).instrument(app)
    return app


def by_starlette_exporter():
    app = Starlette()
    app.add_middleware(PrometheusMiddleware)
    return app


def by_contrib_fastapi():
    app = FastAPI()
    FastAPIInstrumentor.instrument_app(app)
    return app


def by_contrib_asgi():
    return OpenTelemetryMiddleware(Starlette())


def by_fastapi_itself():
    return FastAPI(telemetry={"meter_provider": MeterProvider()})


def by_litestar_s_plugin():
    return Litestar(middleware=[PrometheusConfig().middleware])


COUNTED = {
    "prometheus-fastapi-instrumentator": (by_instrumentator, "http_requests_total"),
    "starlette-exporter": (by_starlette_exporter, "starlette_requests_total"),
    "opentelemetry-instrumentation-fastapi": (by_contrib_fastapi, "http.server.request.duration"),
    "opentelemetry-instrumentation-asgi": (by_contrib_asgi, "http.server.request.duration"),
    "fastapi": (by_fastapi_itself, "to the global MeterProvider"),
    "litestar": (by_litestar_s_plugin, "litestar_requests_total"),
}


@pytest.mark.parametrize("name", COUNTED)
def test_who_counts_too_is_named_with_its_version_and_its_metrics(name):
    """One sentence, which says what comes of it and what to do."""
    make, metric = COUNTED[name]

    (sentence,) = counted_twice(make())

    assert sentence.startswith(f"{name} ")
    assert sentence.split()[1][0].isdigit()
    assert metric in sentence
    assert sentence.endswith("take one of the two away")


def test_middlewares_of_django_are_found_in_its_settings(django_urls):
    """By their paths, whether or not they are installed here."""
    from django.core.asgi import get_asgi_application

    found = [
        "django.middleware.common.CommonMiddleware",
        "django_prometheus.middleware.PrometheusBeforeMiddleware",
        "opentelemetry.instrumentation.django.middleware.otel_middleware._DjangoMiddleware",
    ]
    app = get_asgi_application()
    with override_settings(MIDDLEWARE=found):
        sentences = counted_twice(app)

    assert [sentence.split()[0] for sentence in sentences] == [
        "django-prometheus",
        "opentelemetry-instrumentation-django",
    ]
    assert counted_twice(app) == ()


@pytest.mark.parametrize("make", [FastAPI, Starlette, Litestar, lambda: FastAPI(telemetry={})])
def test_an_application_that_nobody_else_counts_is_nothing_to_talk_of(make):
    """FastAPI's own telemetry counts nothing while nobody set a provider."""
    assert counted_twice(make()) == ()


def test_fastapi_that_is_told_to_count_nothing_does_not():
    """`telemetry={"metrics": False}` is the way out that the sentence asks for."""
    app = FastAPI(telemetry={"metrics": False, "meter_provider": MeterProvider()})

    assert counted_twice(app) == ()


def test_it_is_said_once_when_the_application_has_started(hull, heard):
    """A middleware may be added until then; the next life of the process says nothing new."""
    app = by_starlette_exporter()
    hardened = hull(app)
    assert hardened.remarks == (NO_PROTOCOL_GUARD,)

    for _ in range(2):
        with TestClient(hardened):
            pass

    said = [fact.what for fact in heard if isinstance(fact, CountedTwice)]
    assert [*said, NO_PROTOCOL_GUARD] == list(hardened.remarks)
    assert len(said) == 1


@pytest.mark.parametrize(
    ("make", "who"),
    [
        (by_contrib_fastapi, ["opentelemetry-instrumentation-fastapi", "fastapi"]),
        (by_contrib_asgi, ["opentelemetry-instrumentation-asgi"]),
        (by_fastapi_itself, ["fastapi"]),
        (by_instrumentator, ["fastapi"]),
        (by_starlette_exporter, []),
        (Starlette, []),
    ],
)
def test_who_makes_a_span_of_each_request_is_named(make, who):
    """Where somebody has set a provider; those who only count are not among them."""
    assert [sentence.split(" makes ")[0] for sentence in traced_twice(make())] == who


def test_fastapi_that_is_told_to_trace_nothing_does_not():
    """Its own switch is heard."""
    assert traced_twice(FastAPI(telemetry={"tracing": False})) == ()


def test_nobody_makes_spans_until_a_provider_is_set(monkeypatch):
    """The one that the API has by itself makes none."""
    assert not makes_spans()

    monkeypatch.setattr("opentelemetry.trace.get_tracer_provider", TracerProvider)

    assert makes_spans()
