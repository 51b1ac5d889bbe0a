"""The door as a guard: requests wait outside as coroutines, in turn, and not for ever."""

import asyncio
import json
import sys
import threading
import time

import pytest
import sqlalchemy  # noqa: F401 - the door looks whether the service has it

from lateness import Lateness
from shipworthy.clock import SYSTEM_CLOCK
from shipworthy.context import current_request, deadline_scope
from shipworthy.db import door as door_module
from shipworthy.telemetry import Registry
from shipworthy.web import Correlation, DoorCrowded, DoorGuard, Line, Problems, door as guard_module

pytestmark = pytest.mark.anyio

GUARD_SECONDS = 20.0


class Pool:
    """A pool of one connection, or more, that knows whom it serves."""

    def __init__(self, capacity=1):
        self.capacity = capacity
        self.serving = set()

    def serves(self, request):
        return request in self.serving


class Handler:
    """An application whose requests keep a connection of `pool` until they may go."""

    def __init__(self, pool):
        self.pool = pool
        self.go = asyncio.Event()
        self.inside = []
        self.served = []
        self.most = 0

    async def __call__(self, scope, receive, send):
        record = current_request()
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            return
        self.inside.append(scope["path"])
        self.most = max(self.most, len(self.inside))
        self.pool.serving.add(record)
        record.connections.asks(self.pool)
        await self.go.wait()
        record.connections.kept()
        await self.answer(record, send)
        self.inside.remove(scope["path"])
        self.served.append(scope["path"])

    async def answer(self, record, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        self.pool.serving.discard(record)
        await send({"type": "http.response.body", "body": b"fine"})


class Probing:
    """A guard that says that a call is a probe, as `Probes` does for its own paths."""

    def enter(self, call):
        call.probe = call.scope["path"] == "/livez"


def behind(app, **options):
    """The application behind a door, and the door."""
    settled = {"mode": "enforce", "wait_seconds": GUARD_SECONDS, "now": SYSTEM_CLOCK.now}
    door = DoorGuard(options.pop("registry", None) or Registry(), **{**settled, **options})
    line = Line(
        app,
        (Correlation(), Probing(), door),
        answers=Problems(mode="enforce", development=True, leaving=lambda: False),
        route_of=lambda scope: "",
        now=SYSTEM_CLOCK.now,
    )
    return line, door


async def until(condition):
    async with asyncio.timeout(GUARD_SECONDS):
        while not condition():
            await asyncio.sleep(0)


async def taught(line, handler, ask):
    """Let the door learn that /items keeps a connection."""
    handler.go.set()
    await ask(line, "/items/0")
    handler.go.clear()
    handler.served.clear()


async def test_no_more_come_in_than_there_are_connections_and_each_in_its_turn(ask):
    """Those who wait have no answer yet, and are served in the order they came."""
    handler = Handler(Pool(2))
    line, door = behind(handler)
    await taught(line, handler, ask)

    tasks = []
    for index in range(1, 8):
        tasks.append(asyncio.create_task(ask(line, f"/items/{index}")))
        await asyncio.sleep(0)
    await until(lambda: len(handler.inside) == 2)
    waiting = door.statistics().waiting
    handler.go.set()
    answers = await asyncio.gather(*tasks)

    assert waiting == 5
    assert handler.most == 2
    assert [told.status for told in answers] == [200] * 7
    assert handler.served == [f"/items/{index}" for index in range(1, 8)]
    assert door.statistics().inside == 0


async def test_who_waited_in_vain_is_told_to_come_again(ask, heard):
    """503 with Retry-After, in words that name nothing of our inside; said once for a burst."""
    handler = Handler(Pool())
    line, door = behind(handler, wait_seconds=0.05)
    await taught(line, handler, ask)
    holder = asyncio.create_task(ask(line, "/items/1"))
    await until(lambda: handler.inside)

    answers = await asyncio.gather(*[ask(line, "/items/2") for _ in range(3)])
    handler.go.set()
    served = await holder
    again = await ask(line, "/items/3")

    assert (served.status, again.status) == (200, 200)
    assert [told.status for told in answers] == [503] * 3
    assert answers[0].one(b"retry-after") == b"1"
    problem = json.loads(answers[0].body)
    assert problem["type"] == "urn:shipworthy:problem:doorclosed"
    assert "connection" not in problem["detail"]
    crowded = [fact for fact in heard if isinstance(fact, DoorCrowded)]
    assert [(fact.mode, fact.limit, fact.inside) for fact in crowded] == [("enforce", 1, 1)]
    assert door.statistics().refused_total == 3
    because = next(fact.because for fact in heard if type(fact).__name__ == "CallRefused")
    assert "1 requests that may keep a database connection are inside, of 1" in because


async def test_a_second_burst_is_said_again(ask, heard):
    """Once nobody waits any more, the next refusal is news."""
    handler = Handler(Pool())
    line, _ = behind(handler, wait_seconds=0.02)
    await taught(line, handler, ask)

    for _ in range(2):
        holder = asyncio.create_task(ask(line, "/items/1"))
        await until(lambda: handler.inside)
        await ask(line, "/items/2")
        handler.go.set()
        await holder
        handler.go.clear()

    assert sum(isinstance(fact, DoorCrowded) for fact in heard) == 2


async def test_nobody_waits_past_the_deadline_of_the_request(ask):
    """The earlier of the two instants counts, and it is kept."""
    handler = Handler(Pool())
    line, _ = behind(handler)
    await taught(line, handler, ask)
    holder = asyncio.create_task(ask(line, "/items/1"))
    await until(lambda: handler.inside)

    with Lateness() as late:
        began = time.monotonic()
        with deadline_scope(began + 0.1):
            told = await ask(line, "/items/2")
        waited = time.monotonic() - began
    handler.go.set()
    await holder

    assert told.status == 503
    assert 0.09 <= waited <= 0.1 + late.allowed_seconds


async def test_a_door_without_a_time_waits_as_long_as_it_takes(ask):
    """`db.checkout = 0` is no limit of ours."""
    handler = Handler(Pool())
    line, door = behind(handler, wait_seconds=0.0)
    await taught(line, handler, ask)
    tasks = [asyncio.create_task(ask(line, "/items/1")) for _ in range(2)]
    await until(lambda: door.statistics().waiting)

    handler.go.set()

    assert [told.status for told in await asyncio.gather(*tasks)] == [200, 200]


async def test_in_a_hurry_nobody_waits_longer_than_that(ask):
    """Who came before waits as long as ever; afterwards everybody does again."""
    handler = Handler(Pool())
    line, door = behind(handler)
    await taught(line, handler, ask)
    holder = asyncio.create_task(ask(line, "/items/1"))
    await until(lambda: handler.inside)
    patient = asyncio.create_task(ask(line, "/items/2"))
    await until(lambda: door.statistics().waiting)

    door.hurry(0.02)
    hurried = await ask(line, "/items/3")
    door.hurry(float("inf"))
    again = asyncio.create_task(ask(line, "/items/4"))
    await until(lambda: door.statistics().waiting == 2)
    since = door.waits_since()
    handler.go.set()

    assert hurried.status == 503
    assert since <= time.monotonic()
    assert [(await task).status for task in (holder, patient, again)] == [200, 200, 200]
    assert door.wait_seconds == GUARD_SECONDS


async def test_in_report_everybody_comes_in_and_it_is_said_who_would_have_waited(ask, heard):
    """What enforcing would do, without doing it."""
    handler = Handler(Pool())
    line, door = behind(handler, mode="report", wait_seconds=0.01)
    await taught(line, handler, ask)

    tasks = [asyncio.create_task(ask(line, f"/items/{index}")) for index in range(4)]
    await until(lambda: len(handler.inside) == 4)
    tasks.pop().cancel()  # while there are too many inside, one more is no news
    await until(lambda: door.statistics().inside == 3)
    tasks.append(asyncio.create_task(ask(line, "/items/4")))
    await until(lambda: door.statistics().inside == 4)
    handler.go.set()
    answers = await asyncio.gather(*tasks)

    assert [told.status for told in answers] == [200] * 4
    assert sum(isinstance(fact, DoorCrowded) for fact in heard) == 1
    assert (door.statistics().waited_total, door.statistics().refused_total) == (4, 0)


async def test_probes_websockets_and_free_routes_pass_a_full_door(ask):
    """They take no place, and do not wait for one."""
    handler = Handler(Pool())
    line, door = behind(handler)
    plain = []

    async def without(scope, receive, send):
        if scope["path"].startswith("/items"):
            await handler(scope, receive, send)
            return
        plain.append(type(current_request().connections).__name__)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"plain"})

    line.app = without
    await taught(line, handler, ask)
    for _ in range(3):
        await ask(line, "/plain")
    holder = asyncio.create_task(ask(line, "/items/1"))
    await until(lambda: handler.inside)
    waiter = asyncio.create_task(ask(line, "/items/2"))
    await until(lambda: door.statistics().waiting)

    async with asyncio.timeout(1.0):
        assert (await ask(line, "/livez")).status == 200
        assert (await ask(line, "/plain")).status == 200
        line.app = handler
        assert (await ask(line, type="websocket")).sent[0]["type"] == "websocket.accept"
    handler.go.set()
    await asyncio.gather(holder, waiter)

    assert plain == ["Visit", "Visit", "Visit", "NoneType", "RouteMemory"]
    assert door.statistics().waited_total == 1


async def test_a_stream_without_a_connection_has_no_place(ask):
    """Its client may listen for hours, and others come in."""
    handler = Handler(Pool())
    line, door = behind(handler)
    await taught(line, handler, ask)
    over = asyncio.Event()

    async def stream(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"event", "more_body": True})
        await over.wait()
        await send({"type": "http.response.body", "body": b""})

    line.app = stream
    streams = [asyncio.create_task(ask(line, "/items/1")) for _ in range(3)]
    await asyncio.sleep(0)
    inside = door.statistics().inside
    line.app = handler
    handler.go.set()
    async with asyncio.timeout(1.0):
        told = await ask(line, "/items/2")
    over.set()
    await asyncio.gather(*streams)

    assert inside == 0
    assert told.status == 200


async def test_who_is_cancelled_while_it_waits_leaves_the_queue(ask):
    """Its place goes to the next, also when it was given in the same moment."""
    handler = Handler(Pool())
    line, door = behind(handler)
    await taught(line, handler, ask)
    holder = asyncio.create_task(ask(line, "/items/1"))
    await until(lambda: handler.inside)
    gone, granted, last = [asyncio.create_task(ask(line, f"/items/{i}")) for i in (2, 3, 4)]
    await until(lambda: door.statistics().waiting == 3)

    gone.cancel()
    await until(lambda: door.statistics().waiting == 2)
    handler.go.set()
    await holder  # whose place is given on as it ends
    granted.cancel()
    told = await last

    assert told.status == 200
    assert (door.statistics().inside, door.statistics().waiting) == (0, 0)


async def test_one_more_than_may_wait_is_refused_at_once(ask, monkeypatch):
    """Who waits costs memory, so their number has a bound."""
    monkeypatch.setattr(door_module, "WAITING", 1)
    handler = Handler(Pool())
    line, _ = behind(handler)
    await taught(line, handler, ask)
    holder = asyncio.create_task(ask(line, "/items/1"))
    await until(lambda: handler.inside)
    waiter = asyncio.create_task(ask(line, "/items/2"))
    await asyncio.sleep(0)

    told = await ask(line, "/items/3")
    handler.go.set()
    answers = await asyncio.gather(holder, waiter)

    assert told.status == 503
    assert [other.status for other in answers] == [200, 200]


async def test_an_open_door_hears_of_connections_itself(ask):
    """After so many requests that kept nothing it counts nothing, until one keeps a connection."""
    heard_by = []

    async def plain(scope, receive, send):
        heard_by.append(current_request().connections)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    line, door = behind(plain)
    for index in range(door_module.OPEN_AFTER + 1):
        await ask(line, f"/{'abcdefghij'[index % 10]}{'abcdefghijk'[index // 10]}")

    assert heard_by[-1] is door._door
    heard_by[-1].kept()
    await ask(line, "/aa")
    assert heard_by[-1] is not door._door


async def test_a_service_without_sqlalchemy_has_no_door(ask, monkeypatch):
    """There is no pool of ours to wait for, so nothing is guessed or counted."""
    monkeypatch.delitem(sys.modules, "sqlalchemy")
    seen = []

    async def plain(scope, receive, send):
        seen.append(current_request().connections)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    line, door = behind(plain)
    await asyncio.gather(*[ask(line) for _ in range(30)])

    assert seen == [None] * 30
    assert door.statistics().waited_total == 0


async def test_a_request_that_is_over_is_not_kept_by_its_visit(ask):
    """What comes back late is still told to the door."""
    records = []

    async def plain(scope, receive, send):
        records.append((current_request(), current_request().connections))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    line, door = behind(plain)
    await ask(line)

    ((record, visit),) = records
    assert visit.request is record
    assert record.connections is door._door


async def test_the_numbers_are_read_as_metrics(ask):
    """Each with its kind; they need no label, for there is one door to a service."""
    handler = Handler(Pool())
    registry = Registry()
    line, door = behind(handler, registry=registry)
    await taught(line, handler, ask)
    tasks = [asyncio.create_task(ask(line, "/items/1")) for _ in range(3)]
    await until(lambda: door.statistics().waiting == 2)

    read = registry.snapshot()
    handler.go.set()
    await asyncio.gather(*tasks)

    numbers = {
        name: (series["kind"], series["sets"][0][1])
        for name, series in read.items()
        if name.startswith("shipworthy_door")
    }
    assert numbers == {
        "shipworthy_door_inside": ("gauge", [1]),
        "shipworthy_door_waiting": ("gauge", [2]),
        "shipworthy_door_waited_total": ("counter", [2]),
        "shipworthy_door_refused_total": ("counter", [0]),
    }


def test_who_waits_in_another_event_loop_is_woken_there(ask):
    """Test clients have a loop for each request, and several may run."""
    handler = Handler(Pool())
    line, door = behind(handler)
    inside, answers = threading.Event(), []

    async def hold():
        await taught(line, handler, ask)
        holder = asyncio.create_task(ask(line, "/items/1"))
        await until(lambda: handler.inside)
        inside.set()
        await until(lambda: door.statistics().waiting)
        handler.go.set()
        answers.append(await holder)

    async def wait():
        answers.append(await ask(line, "/items/2"))

    holding = threading.Thread(target=lambda: asyncio.run(hold()))
    # In debug a loop raises for what another thread does to it.
    waiting = threading.Thread(target=lambda: asyncio.run(wait(), debug=True))
    holding.start()
    assert inside.wait(GUARD_SECONDS)
    waiting.start()
    for thread in (holding, waiting):
        thread.join(GUARD_SECONDS)

    assert [told.status for told in answers] == [200, 200]


def test_a_loop_that_is_closed_wakes_nobody_and_fails_nobody():
    """Whoever leaves wakes the next, and must not meet the end of another's loop."""
    loop = asyncio.new_event_loop()
    bell = loop.create_future()
    loop.close()

    guard_module._ringer(loop, bell)()

    assert not bell.done()


async def test_to_be_woken_twice_is_once():
    """A place may be given in the moment in which the time is over."""
    loop = asyncio.get_running_loop()
    wrong = []
    loop.set_exception_handler(lambda _, context: wrong.append(context))
    bell = loop.create_future()
    wake = guard_module._ringer(loop, bell)

    wake()
    wake()
    await bell
    await asyncio.sleep(0)
    loop.set_exception_handler(None)

    assert wrong == []
