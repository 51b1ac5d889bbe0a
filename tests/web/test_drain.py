import asyncio

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from shipworthy.clock import SYSTEM_CLOCK, ManualClock
from shipworthy.context import RequestRecord
from shipworthy.lifecycle import Phase
from shipworthy.web import Call, InFlight, Line, Problems

pytestmark = pytest.mark.anyio


async def fine(scope, receive, send):
    headers = [(b"Connection", b"keep-alive")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"fine"})


async def accept(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})


async def test_answers_end_their_connection_while_the_process_leaves(hull, ask):
    """Requests are still served, and HTTP/1.1 clients are sent elsewhere with the answer."""
    app = hull(fine)

    before = await ask(app)
    app.lifecycle.begin_drain()
    after = await ask(app)

    assert before.all(b"connection") == [b"keep-alive"]
    assert (after.status, after.body, after.all(b"connection")) == (200, b"fine", [b"close"])


async def test_http_2_has_no_connection_header(hull, ask):
    """It is forbidden there (RFC 9113, 8.2.2); the server sends GOAWAY."""
    app = hull(fine)
    app.lifecycle.begin_drain()

    told = await ask(app, http_version="2")

    assert told.all(b"connection") == [b"keep-alive"]


async def test_new_websockets_are_served_as_long_as_new_clients_are_let_in(hull, ask):
    """A lame duck fails nobody; its clients have not heard yet that it leaves."""
    app = hull(accept, SHIPWORTHY_LIFECYCLE__LAME_DUCK="5s")
    app.lifecycle.started()
    app.lifecycle.begin_drain()
    phase = app.lifecycle.phase

    told = await ask(app, type="websocket")
    app.lifecycle.drain._enter(Phase.DRAINING, SYSTEM_CLOCK.now())
    late = await ask(app, type="websocket", extensions={"websocket.http.response": {}})

    assert (phase, told.sent[0]["type"]) == (Phase.LAME_DUCK, "websocket.accept")
    assert late.status == 503


async def test_new_websockets_are_refused_while_the_process_drains(hull, ask):
    """They would outlive the drain: 503, and when to come back."""
    app = hull(accept)
    extension = {"websocket.http.response": {}}

    before = await ask(app, type="websocket")
    app.lifecycle.begin_drain()
    after = await ask(app, type="websocket", extensions=extension)

    assert before.sent[0]["type"] == "websocket.accept"
    assert after.status == 503
    assert after.one(b"retry-after") == b"1"
    assert after.one(b"x-request-id")
    assert after.all(b"connection") == []
    assert len(app.in_flight) == 0


async def test_a_call_is_in_flight_until_its_background_tasks_end(hull, ask):
    """A drain must not stop what a request has left to do."""
    seen = {}

    async def later():
        seen["background"] = len(app.in_flight)

    async def endpoint(request):
        seen["handler"] = app.in_flight.describe()
        return PlainTextResponse("fine", background=BackgroundTask(later))

    app = hull(Starlette(routes=[Route("/items/{id}", endpoint)]))
    told = await ask(app, "/items/7")

    assert seen["background"] == 1
    assert len(app.in_flight) == 0
    (call,) = seen["handler"]
    assert call.pop("age_seconds") >= 0
    assert "in " in call.pop("task")
    assert call == {
        "method": "GET",
        "route": "/items/{id}",
        "path": "/items/7",
        "request_id": told.one(b"x-request-id").decode(),
        "status": 0,
    }


async def test_the_oldest_call_comes_first(hull, ask):
    """Whoever looks for what holds a drain finds it at the top."""
    go = asyncio.Event()

    async def wait(scope, receive, send):
        await go.wait()
        await fine(scope, receive, send)

    app = hull(wait)
    tasks = []
    for path in ("/first", "/second"):
        tasks.append(asyncio.create_task(ask(app, path)))
        await asyncio.sleep(0)

    assert [call["path"] for call in app.in_flight.describe()] == ["/first", "/second"]
    go.set()
    await asyncio.gather(*tasks)


def test_a_registry_without_calls_cancels_nothing():
    """The number of cancelled calls is told."""
    assert InFlight(now=ManualClock().now).cancel_all() == 0


def test_a_description_is_bounded_whatever_clients_send():
    """The 1,000 oldest calls, and of each path 256 characters: it has to fit through a pipe."""
    clock = ManualClock()
    line = Line(
        fine,
        (),
        answers=Problems(mode="enforce", development=False, leaving=lambda: False),
        route_of=lambda scope: "",
        now=clock.now,
    )
    in_flight = InFlight(now=clock.now)
    for number in range(1100):
        call = Call(line, {"type": "http", "headers": []}, None, None)
        call.record = RequestRecord(str(number), "c", "t", "s", path="/" + "x" * 60_000)
        in_flight.calls.add(call)
        clock.advance(0.001)

    described = in_flight.describe()

    assert [call["request_id"] for call in described] == [str(n) for n in range(1000)]
    assert {len(call["path"]) for call in described} == {256}
