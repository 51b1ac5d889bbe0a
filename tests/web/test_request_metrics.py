import asyncio

import pytest

from shipworthy.clock import ManualClock
from shipworthy.telemetry import Registry
from shipworthy.web import (
    Access,
    Correlation,
    DrainGate,
    InFlight,
    Line,
    Problems,
    RequestMetrics,
)
from shipworthy.web.request_metrics import DURATION

pytestmark = pytest.mark.anyio

ROUTE = "/items/{id}"


class Setup:
    """A line with nothing but what counting needs, and a clock that stands still."""

    def __init__(self, app):
        self.clock = ManualClock()
        self.registry = Registry()
        in_flight = InFlight(now=self.clock.now)
        metrics = RequestMetrics(self.registry, in_flight.calls)
        access = Access(metrics, None, meant=lambda scope: ROUTE, now=self.clock.now)
        self.line = Line(
            app,
            (Correlation(), access, DrainGate(in_flight, draining=lambda: False)),
            answers=Problems(
                mode="enforce", development=False, leaving=lambda: False, failed=metrics.failed
            ),
            route_of=lambda scope: ROUTE,
            now=self.clock.now,
        )

    def sets(self, name):
        """The numbers of each label set; of a histogram how many were observed, and their sum."""
        series = self.registry.snapshot()[name]
        return {
            tuple(labels): (sum(numbers[:-1]), numbers[-1])
            if series["kind"] == "histogram"
            else numbers[0]
            for labels, numbers in series["sets"]
        }


async def answer(send, *parts, status=200):
    await send({"type": "http.response.start", "status": status, "headers": []})
    for part in parts:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def fine(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"fine"})


async def test_a_request_is_observed_by_method_route_and_status(ask):
    """One histogram says how many there were and how long they took, to the last byte."""
    setup = Setup(None)

    async def slow(scope, receive, send):
        await send({"type": "http.response.start", "status": 201, "headers": []})
        setup.clock.advance(0.25)
        await send({"type": "http.response.body", "body": b"abc"})
        setup.clock.advance(3600)  # what a background task takes is not the answer's time

    setup.line.app = slow
    await ask(setup.line, method="POST")
    await ask(setup.line, method="POST")

    assert setup.sets("http_server_request_duration_seconds") == {
        ("POST", ROUTE, "201"): (2.0, 0.5)
    }


async def test_a_recorded_trace_is_the_example_of_its_bucket(ask):
    """It leads from a slow bucket to a request that was slow; one that is not recorded does not."""
    setup = Setup(fine)
    for trace_id, flags in (("a" * 32, "00"), ("b" * 32, "01"), ("c" * 32, "00")):
        parent = f"00-{trace_id}-{'d' * 16}-{flags}".encode()
        await ask(setup.line, headers=[(b"traceparent", parent)])

    (example,) = setup.registry.snapshot()[DURATION.name]["exemplars"]
    assert example[2] == "b" * 32
    assert setup.sets(DURATION.name) == {("GET", ROUTE, "200"): (3, 0)}


def test_the_buckets_are_those_of_opentelemetry():
    """What measures the same service by OpenTelemetry can be laid beside it."""
    assert DURATION.buckets == (
        0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10,
    )  # fmt: skip


async def test_bodies_are_counted_as_they_pass_and_not_as_their_headers_claim(ask):
    """In parts or in one; where there was no body, nothing is observed."""

    async def app(scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        await answer(send, b"12345", b"", b"678")

    setup = Setup(app)

    await ask(setup.line, method="POST", body=(b"a" * 1000, b"b" * 500))
    await ask(setup.line)

    assert setup.sets("http_server_request_body_size_bytes") == {(ROUTE,): (1.0, 1500.0)}
    assert setup.sets("http_server_response_body_size_bytes") == {(ROUTE,): (2.0, 16.0)}


async def test_the_body_of_an_answer_to_head_is_not_counted(ask):
    """The server takes it off: nothing of it reaches the client."""
    setup = Setup(fine)

    await ask(setup.line, method="HEAD")

    assert setup.sets("http_server_response_body_size_bytes") == {}
    assert setup.sets("http_server_request_duration_seconds") == {("HEAD", ROUTE, "200"): (1, 0)}


async def test_the_first_byte_is_timed_where_an_answer_comes_in_parts(ask):
    """The first that has any bytes; of an answer in one piece the duration says it all."""
    setup = Setup(None)

    async def streamed(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        setup.clock.advance(2)
        for _ in range(2):
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            setup.clock.advance(5)
        await send({"type": "http.response.body", "body": b""})

    setup.line.app = fine
    await ask(setup.line)
    assert setup.sets("shipworthy_http_time_to_first_byte_seconds") == {}

    setup.line.app = streamed
    await ask(setup.line)
    assert setup.sets("shipworthy_http_time_to_first_byte_seconds") == {(ROUTE,): (1.0, 2.0)}


async def test_an_exception_is_counted_by_its_class(ask):
    """Whatever it says, and also where the answer had begun."""

    async def app(scope, receive, send):
        if scope["method"] == "POST":
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise LookupError("hunter2")

    setup = Setup(app)

    await ask(setup.line)
    await ask(setup.line, method="POST")

    assert setup.sets("shipworthy_http_exceptions_total") == {(ROUTE, "LookupError"): 2.0}


async def test_a_client_that_leaves_is_counted_once_and_only_before_its_answer_is_over(ask):
    """It is a 499 where nothing was answered, and keeps the status of what had begun."""

    async def app(scope, receive, send):
        await receive()
        if scope["method"] == "POST":
            await answer(send)
        await receive()

    setup = Setup(app)

    await ask(setup.line, leaves=True)
    await ask(setup.line, leaves=True, method="POST")

    assert setup.sets("shipworthy_http_client_disconnects_total") == {(ROUTE,): 1.0}
    assert set(setup.sets("http_server_request_duration_seconds")) == {
        ("GET", ROUTE, "499"),
        ("POST", ROUTE, "200"),
    }


async def test_what_is_in_flight_is_told_by_method_and_by_what_it_still_does(ask):
    """An answer that is not over is active, one with background tasks is in the background."""
    setup = Setup(None)
    seen = []

    def look():
        seen.append(
            (
                setup.sets("http_server_active_requests"),
                setup.sets("shipworthy_http_background_requests"),
            )
        )

    async def app(scope, receive, send):
        look()
        await fine(scope, receive, send)
        look()

    setup.line.app = app
    await ask(setup.line, method="BREW")
    await ask(setup.line)
    look()

    assert seen == [
        ({("_other",): 1.0}, {(): 0.0}),
        ({("_other",): 0.0}, {(): 1.0}),
        ({("_other",): 0.0, ("GET",): 1.0}, {(): 0.0}),
        ({("_other",): 0.0, ("GET",): 0.0}, {(): 1.0}),
        ({("_other",): 0.0, ("GET",): 0.0}, {(): 0.0}),
    ]


async def talk(line, *, incoming, **scope):
    """Hold a websocket conversation; returns what the application sent."""
    messages = [{"type": "websocket.connect"}, *incoming]
    messages.append({"type": "websocket.disconnect", "code": 1000})
    sent = []

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    await line(
        {"type": "websocket", "path": "/", "headers": [], "client": None, **scope}, receive, send
    )
    return sent


async def test_a_websocket_is_counted_while_it_lasts_and_so_are_its_messages(ask):
    """Its handshake at once, not at its end; how long it lasted is no duration of a request."""
    setup = Setup(None)
    open_ = []

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": "a"})
            await send({"type": "websocket.send", "text": "b"})
        open_.append(setup.sets("shipworthy_websocket_connections"))
        open_.append(setup.sets("shipworthy_websocket_handshakes_total"))
        open_.append(setup.sets("http_server_active_requests"))

    setup.line.app = app
    await talk(setup.line, incoming=[{"type": "websocket.receive", "text": "x"}] * 3)

    assert open_ == [{(ROUTE,): 1.0}, {(ROUTE, "101"): 1.0}, {}]
    assert setup.sets("shipworthy_websocket_connections") == {(ROUTE,): 0.0}
    assert setup.sets("shipworthy_websocket_handshakes_total") == {(ROUTE, "101"): 1.0}
    assert setup.sets("shipworthy_websocket_messages_total") == {
        (ROUTE, "received"): 3.0,
        (ROUTE, "sent"): 6.0,
    }
    assert setup.sets("http_server_request_duration_seconds") == {}


async def test_a_websocket_that_was_refused_is_a_handshake_with_another_status(ask):
    """A close before the handshake is a 403."""

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.close"})

    setup = Setup(app)

    await talk(setup.line, incoming=[])

    assert setup.sets("shipworthy_websocket_handshakes_total") == {(ROUTE, "403"): 1.0}
    assert setup.sets("shipworthy_websocket_messages_total") == {}


async def test_many_requests_at_once_are_each_counted(ask):
    """The gauge knows all of them while they wait, and none when they are over."""
    setup = Setup(None)
    go_on = asyncio.Event()

    async def app(scope, receive, send):
        await go_on.wait()
        await fine(scope, receive, send)

    setup.line.app = app
    asking = [asyncio.create_task(ask(setup.line)) for _ in range(20)]
    await asyncio.sleep(0)
    active = setup.sets("http_server_active_requests")
    go_on.set()
    await asyncio.gather(*asking)

    assert active == {("GET",): 20.0}
    assert setup.sets("http_server_active_requests") == {("GET",): 0.0}
    assert setup.sets("http_server_request_duration_seconds")["GET", ROUTE, "200"][0] == 20.0
