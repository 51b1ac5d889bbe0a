import asyncio

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from shipworthy.clock import SYSTEM_CLOCK, ManualClock
from shipworthy.context import RequestRecord
from shipworthy.lifecycle import Phase, commit_fence, work_scope
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


async def test_a_call_whose_client_is_given_up_is_cancelled_outside_its_commits(hull, ask):
    """While a COMMIT is under way it is asked for again; one that is not ours is just cancelled."""
    began, goes_on = asyncio.Event(), asyncio.Event()

    async def commits(scope, receive, send):
        with commit_fence():
            began.set()
            await goes_on.wait()
        await asyncio.Event().wait()

    app = hull(commits)
    asking = asyncio.ensure_future(ask(app))
    await began.wait()
    (call,) = app.in_flight.calls
    stranger = asyncio.ensure_future(asyncio.Event().wait())

    inside = app.in_flight.give_up(call.task)
    goes_on.set()
    while not app.in_flight.give_up(call.task):
        await asyncio.sleep(0.01)

    assert not inside
    assert app.in_flight.give_up(stranger)
    with pytest.raises(asyncio.CancelledError):
        await asking
    with pytest.raises(asyncio.CancelledError):
        await stranger


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


async def test_a_call_inside_a_commit_is_cancelled_when_that_is_over(hull, ask):
    """L07: each once, at the first look after it; and the last word is a 503."""
    inside, answered = asyncio.Event(), asyncio.Event()
    ends = []

    async def commits(scope, receive, send):
        try:
            # Background work: a request that has just committed has a moment more to answer.
            with work_scope("unit"), commit_fence():
                inside.set()
                await answered.wait()
                ends.append("answered")
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    app = hull(commits)
    told = []

    async def keep(scope, receive, send):
        async def sent(message):
            told.append(message)

        await app(scope, receive, sent)

    task = asyncio.create_task(ask(keep))
    await inside.wait()
    app.lifecycle.begin_drain()
    broken_off = [app.in_flight.cancel() for _ in range(3)]
    (spared,) = app.in_flight.spared()
    answered.set()
    async with asyncio.timeout(5):
        while not (late := app.in_flight.cancel()):
            await asyncio.sleep(0.001)
    await asyncio.wait({task})
    app.in_flight.forget()

    assert broken_off == [[], [], []]
    assert [call.record.request_id for call in late] == [spared]
    assert app.in_flight.spared() == []
    assert ends == ["answered", "cancelled"]
    assert told[0]["status"] == 503


async def test_a_call_that_swallows_its_cancellation_is_answered_in_its_place(hull, ask):
    """L11: its client need not wait; what the application says afterwards reaches nobody."""
    go = asyncio.Event()
    met = []

    async def swallows(scope, receive, send):
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                met.append("cancelled")
        met.append((await receive())["type"])
        try:
            await fine(scope, receive, send)
        except OSError as error:
            met.append(str(error))

    app = hull(swallows, SHIPWORTHY_LIFECYCLE__DRAIN="0s", SHIPWORTHY_LIFECYCLE__IDLE_GRACE="0s")
    task = asyncio.create_task(ask(app))
    while not len(app.in_flight):
        await asyncio.sleep(0)
    early = len(app.in_flight)
    await app.break_off()  # it was not cancelled, so its time is not over
    app.lifecycle.started()
    app.lifecycle.begin_drain()
    app.lifecycle.drain._enter(Phase.CANCELLING, SYSTEM_CLOCK.now())
    app.follow(Phase.CANCELLING)
    await asyncio.sleep(0)
    await app.break_off()
    go.set()
    told = await task

    assert early == 1
    assert told.status == 503
    assert told.one(b"retry-after") == b"1"
    assert told.one(b"connection") == b"close"
    assert len(told.sent) == 2
    assert met == ["cancelled", "http.disconnect", "the answer was ended: this process is leaving"]


async def test_under_a_server_of_others_time_alone_drives_the_phases(hull):
    """It may go on serving until it says shutdown, so that nothing is in flight says nothing."""
    app = hull(
        fine,
        SHIPWORTHY_LIFECYCLE__DRAIN="60ms",
        SHIPWORTHY_LIFECYCLE__IDLE_GRACE="0s",
        SHIPWORTHY_LIFECYCLE__CANCEL="20ms",
    )
    app.lifecycle.started()
    began = SYSTEM_CLOCK.now()
    app._hull._begin_to_leave()
    app._hull._begin_to_leave()
    await asyncio.wait_for(app._hull._leaving, 5)
    took = SYSTEM_CLOCK.now() - began
    phases = [phase for phase, _ in app.lifecycle.drain.transitions[2:]]

    assert phases == [Phase.DRAINING, Phase.CANCELLING, Phase.STOPPING]
    assert took >= 0.08
