"""Which requests leave a trace, and what is in it: decided at the head, and when all is over."""

import asyncio
from collections.abc import Iterator
from contextlib import asynccontextmanager

import pytest
from opentelemetry import trace as otel
from opentelemetry.sdk.trace import TracerProvider

from otlp_receiver import Collector, collector
from shipworthy.context import STEPS_MAX, current_request, steps_here
from shipworthy.events import Event, Severity, emit, event
from web.conftest import Boom

pytestmark = pytest.mark.anyio

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


@event(severity=Severity.WARNING)
class Smoke(Event):
    """There is smoke."""

    where: str


@event(severity=Severity.INFO)
class Steam(Event):
    """There is steam."""


@pytest.fixture
def there() -> Iterator[Collector]:
    with collector() as found:
        yield found


@pytest.fixture
def traced(hull, there):
    """Harden an application whose traces go to a collector; none is kept for its id."""
    made = []

    def make(app, **environ):
        settings = {"ENDPOINT": there.url, "SAMPLE_RATIO": "0", **environ}
        made.append(hull(app, **{f"SHIPWORTHY_TRACES__{key}": it for key, it in settings.items()}))
        return made[-1]

    def close():
        for one in made:
            assert one._hull._export.close(10)

    make.close = close
    return make


def parent(flags: str = "01", trace: str = TRACE) -> list[tuple[bytes, bytes]]:
    return [(b"traceparent", f"00-{trace}-{SPAN}-{flags}".encode())]


async def answers(scope, receive, send):
    """Do as the path says."""
    path = scope["path"]
    if path == "/boom":
        raise Boom("no")
    if path == "/slow":
        await asyncio.sleep(0.06)
    if path == "/smoke":
        emit(Smoke, where="here")
    if path == "/steam":
        emit(Steam)
    status = int(path[1:]) if path[1:].isdigit() else 200
    await send({"type": "http.response.start", "status": status, "headers": []})
    if path == "/stream":
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await asyncio.sleep(0.06)
    await send({"type": "http.response.body", "body": b"b"})
    if path == "/late":
        raise Boom("after the answer")


@pytest.mark.parametrize(
    ("path", "because"),
    [
        ("/500", "failed"),
        ("/503", "failed"),
        ("/boom", "failed"),
        ("/late", "failed"),
        ("/slow", "slow"),
        ("/smoke", "warned"),
        ("/200", None),
        ("/404", None),
        ("/steam", None),
        ("/stream", None),
    ],
)
async def test_what_failed_was_slow_or_warned_is_kept(traced, there, ask, path, because):
    """Though no trace would be for its id; a stream is as slow as its first part."""
    app = traced(answers, SLOW="50ms")

    told = await ask(app, path)
    traced.close()

    kept = [(span.facts["url.path"], span.facts["shipworthy.kept_because"]) for span in there.spans]
    assert kept == ([] if because is None else [(path, because)])
    if because:
        assert there.spans[0].trace_id == told.one(b"x-request-id").decode()


async def test_an_id_below_the_ratio_is_kept_and_everybody_is_told_so(traced, there, ask):
    """At 1 every trace is, and its span is the parent in what goes on from here."""
    onward = []

    async def app(scope, receive, send):
        onward.append(current_request().traceparent)
        await answers(scope, receive, send)

    await ask(traced(app, SAMPLE_RATIO="1"), "/200")
    traced.close()

    (span,) = there.spans
    assert onward == [f"00-{span.trace_id}-{span.span_id}-03"]
    assert (span.parent, span.facts["shipworthy.kept_because"]) == ("", "sampled")


async def test_the_decision_of_a_caller_holds(traced, there, ask):
    """Kept there, kept here, below its span; not kept there, not here, whatever the ratio."""
    await ask(traced(answers), "/200", headers=parent("01"))
    await ask(traced(answers, SAMPLE_RATIO="1"), "/200", headers=parent("00"))
    traced.close()

    (span,) = there.spans
    assert (span.trace_id, span.parent) == (TRACE, SPAN)


async def test_strangers_cannot_have_all_they_send_kept(traced, there, ask):
    """No more than the allowance; and none for their sake where they are not trusted."""
    few = traced(answers, ASKED_PER_SECOND="2", SAMPLE_RATIO="1e-9")
    none = traced(answers, TRUST_PARENT="false", SAMPLE_RATIO="1e-9")
    # An id that would be kept at any ratio, were it for ids that strangers choose.
    chosen = parent("01", "a" * 16 + "0" * 15 + "1")
    for _ in range(20):
        await ask(few, "/200", headers=chosen)
        await ask(none, "/200", headers=chosen)
    traced.close()

    assert 2 <= len(there.spans) <= 4


@pytest.mark.parametrize("value", [b"", b"00", b"ff-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01",
    b"00-" + b"0" * 32 + b"-" + b"b" * 16 + b"-01", b"00-" + b"a" * 100_000, b"\xff" * 55,
    b"00-" + TRACE.upper().encode() + b"-" + SPAN.encode() + b"-01"])  # fmt: skip
async def test_a_hostile_parent_begins_a_trace_of_our_own(traced, there, ask, value):
    """And hostile state and baggage beside it change nothing."""
    app = traced(answers)
    junk = [(b"tracestate", b"\xff\x00=" * 999), (b"baggage", b"a=b," * 20_000)]

    told = await ask(app, "/500", headers=[(b"traceparent", value), *junk])
    traced.close()

    (span,) = there.spans
    assert (span.trace_id, span.parent) == (told.one(b"x-request-id").decode(), "")


async def test_probes_leave_no_trace(traced, there, ask):
    """They are nobody's requests, also where every request is kept."""
    app = traced(answers, SAMPLE_RATIO="1")

    await ask(app, "/livez")
    traced.close()

    assert there.spans == []


async def test_a_websocket_is_one_span_and_never_slow(traced, there, ask):
    """From its handshake to its end."""

    async def talk(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await asyncio.sleep(0.06)
        await send({"type": "websocket.close"})

    await ask(traced(talk, SLOW="50ms"), "/talk", type="websocket")
    await ask(traced(talk, SAMPLE_RATIO="1"), "/talk", type="websocket")
    traced.close()

    (span,) = there.spans
    assert (span.name, span.facts["http.response.status_code"]) == ("GET", 101)
    assert span.ended - span.began >= 50_000_000


async def test_the_span_lasts_as_long_as_the_answer(traced, there, ask):
    """A stream's is over with its last part, and what it did in the background is below it."""
    await ask(traced(answers, SAMPLE_RATIO="1"), "/stream")
    traced.close()

    (span,) = there.spans
    assert span.ended - span.began >= 50_000_000


async def test_no_more_than_a_bound_is_noted(traced, there, ask):
    """A request that does a hundred thousand things keeps a hundred of them."""

    async def app(scope, receive, send):
        for _ in range(STEPS_MAX * 10):
            emit(Steam)
        assert len(current_request().steps) == STEPS_MAX
        assert steps_here() is None
        await answers(scope, receive, send)

    await ask(traced(app, SAMPLE_RATIO="1"), "/200")
    traced.close()

    (span,) = there.spans
    assert len(span.events) == STEPS_MAX
    assert span.facts["shipworthy.steps_cut"] is True


async def test_without_an_endpoint_nothing_is_noted(hull, ask):
    """The list is not even made."""
    seen = []

    async def app(scope, receive, send):
        seen.append(current_request().steps)
        await answers(scope, receive, send)

    hardened = hull(app)
    await ask(hardened, "/200")

    assert seen == [None]
    assert "shipworthy_spans_total" not in hardened.registry.names()


async def test_the_example_of_a_bucket_is_a_trace_that_is_kept(traced, there, ask):
    """Whoever follows it from a chart finds something."""
    app = traced(answers)
    for path in ("/200", "/500", "/200"):
        await ask(app, path)
    traced.close()

    series = app.registry.snapshot()["http_server_request_duration_seconds"]
    assert [one[2] for one in series["exemplars"]] == [span.trace_id for span in there.spans]


async def test_a_server_that_is_not_ours_loses_none_at_its_end(traced, there, ask):
    """The last traces are sent before its lifespan is over; and the next lifespan's too."""
    app = traced(living)

    for times in (1, 2):
        async with lived(app):
            await ask(app, "/500")
        assert len(there.spans) == times


async def living(scope, receive, send):
    """The same with a lifespan."""
    if scope["type"] == "lifespan":
        for kind in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{kind}.complete"})
    else:
        await answers(scope, receive, send)


@asynccontextmanager
async def lived(app):
    """Live through a lifespan as a server does."""
    orders, said = asyncio.Queue(), asyncio.Queue()
    task = asyncio.create_task(app({"type": "lifespan", "state": {}}, orders.get, said.put))
    for kind in ("startup", "shutdown"):
        await orders.put({"type": f"lifespan.{kind}"})
        message = await asyncio.wait_for(said.get(), 20)
        assert message["type"] == f"lifespan.{kind}.complete"
        if kind == "startup":
            yield
    await asyncio.wait({task})


@pytest.fixture
def provider(monkeypatch):
    """The application has set OpenTelemetry up."""
    monkeypatch.setattr(otel, "get_tracer_provider", TracerProvider)


async def test_spans_of_the_application_are_children_of_ours(traced, there, ask, provider, heard):
    """Its headers name our span; who makes a span of each request beside us is told."""
    seen = []

    async def app(scope, receive, send):
        headers = scope.get("headers", ())
        seen.extend(value for name, value in headers if name == b"traceparent")
        await living(scope, receive, send)

    hardened = traced(app, SAMPLE_RATIO="1")
    async with lived(hardened):
        await ask(hardened, "/200", headers=parent("01"))

    (span,) = there.servers()
    assert seen == [f"00-{TRACE}-{span.span_id}-01".encode()]
    assert (span.trace_id, span.parent) == (TRACE, SPAN)
