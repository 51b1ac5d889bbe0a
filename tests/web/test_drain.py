import asyncio

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from shipworthy.clock import ManualClock
from shipworthy.web import InFlight

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


async def test_new_websockets_are_refused_while_the_process_leaves(hull, ask):
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


async def test_the_oldest_call_is_known_and_comes_first(hull, ask):
    """Whoever looks for what holds a drain finds it at the top."""
    go = asyncio.Event()

    async def wait(scope, receive, send):
        await go.wait()
        await fine(scope, receive, send)

    app = hull(wait)
    assert app.in_flight.oldest() is None
    tasks = []
    for path in ("/first", "/second"):
        tasks.append(asyncio.create_task(ask(app, path)))
        await asyncio.sleep(0)
    oldest = app.in_flight.oldest()

    assert oldest is not None
    assert oldest.record.path == "/first"
    assert [call["path"] for call in app.in_flight.describe()] == ["/first", "/second"]
    go.set()
    await asyncio.gather(*tasks)


def test_a_registry_without_calls_cancels_nothing():
    """The number of cancelled calls is told."""
    assert InFlight(now=ManualClock().now).cancel_all() == 0
