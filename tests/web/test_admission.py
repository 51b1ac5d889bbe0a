"""Admission as a guard, in a simulated loop: who is served in an overload, and nobody is shed else.

What computes lets the simulated time pass, so these runs are exact, and the same each time.
"""

import asyncio
import json
from math import inf

import pytest
import sqlalchemy  # noqa: F401 - the door looks whether the service has it

from admission.simulated import Handlers, Service, SimulatedLoop, answer
from shipworthy.context import current_request, deadline_scope
from shipworthy.events import listen
from shipworthy.settings import load
from shipworthy.telemetry import Registry
from shipworthy.web import (
    AdmissionGuard,
    AdmissionSettings,
    Blocked,
    Correlation,
    DoorGuard,
    EventStreams,
    Line,
    Problems,
    RequestBlocked,
    ServiceOverloaded,
    ServiceRecovered,
)

pytestmark = pytest.mark.slow

CAPACITY = 40  # of requests that compute for 25 ms, in a second


class Probing:
    """A guard that says that a call is a probe, as `Probes` does for its own paths."""

    def enter(self, call):
        call.probe = call.scope["path"] == "/livez"


@pytest.fixture
def stated():
    """Every event of this guard, in its order."""
    facts = []
    kinds = (ServiceOverloaded, ServiceRecovered, RequestBlocked)
    stop = listen(lambda fact: facts.append(fact) if isinstance(fact, kinds) else None)
    yield facts
    stop()


@pytest.fixture
def simulated():
    """A new loop in a time of its own."""
    loop = SimulatedLoop()
    asyncio.set_event_loop(loop)
    yield loop
    asyncio.set_event_loop(None)
    loop.close()


def settled(**options):
    return AdmissionSettings(
        **{"mode": "enforce", "critical": ("/critical*",), "sheddable": ("/work-shed",), **options}
    )


def guarded(loop, app, *, settings=None, door=None, registry=None):
    """The application behind the guard, and the guard."""
    registry = registry or Registry()
    guard = AdmissionGuard(
        registry,
        settings or settled(),
        blocked=Blocked(registry, now=loop.time),
        now=loop.time,
        door=door,
    )
    line = Line(
        app,
        (Correlation(), Probing(), guard, EventStreams(set()), *((door,) if door else ())),
        answers=Problems(mode="enforce", development=True, leaving=lambda: False),
        route_of=lambda scope: scope["path"],
        now=loop.time,
    )
    return line, guard


def service(loop, *, deadline_seconds=1.0, rounds=2, handlers=None, **options):
    line, guard = guarded(loop, handlers or Handlers(loop), **options)
    return Service(loop, line, deadline_seconds=deadline_seconds, rounds=rounds), guard


def shares(outcome):
    return outcome.good, outcome.shed, outcome.late


@pytest.mark.parametrize("rounds", [2, 5])
def test_ten_times_overload_is_served_as_much_as_can_be(simulated, stated, rounds):
    """Goodput stays at 90 % of the capacity, the critical are all served, and the rest is told.

    That with servers that need two rounds of the loop to begin a request, or five.
    """
    served, guard = service(simulated, rounds=rounds)
    served.offer("/work", 10, since=0, seconds=2)
    served.offer("/work", 380, since=2, seconds=10)
    served.offer("/critical", 20, since=2, seconds=10)
    served.offer("/work", 20, since=12, seconds=6)
    served.run(20)

    work, critical = served.outcomes["/work"], served.outcomes["/critical"]
    assert shares(critical) == (200, 0, 0)
    in_overload = sum(
        found.by_second[second] for found in (work, critical) for second in range(2, 12)
    )
    assert in_overload >= 0.9 * CAPACITY * 10
    assert work.late <= 0.01 * work.all
    # Recovered within two seconds: all that came then were served.
    assert [work.by_second[second] for second in range(13, 18)] == [20] * 5
    kinds = [type(fact).__name__ for fact in stated if not isinstance(fact, RequestBlocked)]
    assert kinds == ["ServiceOverloaded", "ServiceRecovered"]
    assert stated[0].why == "loop"
    recovered = stated[-1]
    # Some of them were told when they had given up by themselves.
    assert work.shed <= recovered.shed <= work.shed + work.late
    assert 11 < recovered.overloaded_seconds < 15
    assert guard.limit == 0


def test_the_same_service_without_the_guard_serves_nobody(simulated):
    """Which is what makes the test above one that can fail."""
    app = Handlers(simulated)
    line = Line(
        app,
        (Correlation(),),
        answers=Problems(mode="enforce", development=True, leaving=lambda: False),
        route_of=lambda scope: scope["path"],
        now=simulated.time,
    )
    bare = Service(simulated, line)
    bare.offer("/work", 400, since=0, seconds=10)
    bare.run(10)
    assert sum(bare.outcomes["/work"].by_second[second] for second in range(2, 10)) == 0


@pytest.mark.parametrize("rate", [10, 30, 38])
def test_below_the_knee_nothing_is_different(simulated, stated, rate):
    """Up to 95 % of the capacity nobody waits for a turn, and nobody is turned away."""
    served, _ = service(simulated)
    served.offer("/work", rate, since=0, seconds=10)
    served.run(11)
    work = served.outcomes["/work"]
    assert shares(work) == (rate * 10, 0, 0)
    assert max(work.took) <= 0.03
    assert stated == []


@pytest.mark.parametrize("own_seconds", [0.0002, 0.002])
def test_a_burst_of_those_who_only_wait_is_served(simulated, stated, own_seconds):
    """500 at once that await for a second: no overload, on a slow machine neither."""
    handlers = Handlers(simulated, own_seconds=own_seconds)
    served, _ = service(simulated, handlers=handlers, deadline_seconds=5)
    served.offer("/rest", 500, since=0, seconds=1, together=500)
    served.run(4)
    assert shares(served.outcomes["/rest"]) == (500, 0, 0)
    assert handlers.most == 500
    assert stated == []


def test_a_service_whose_handlers_wait_long_is_never_shed(simulated, stated):
    """Long polls of half a minute, two hundred at a time, for two minutes."""
    handlers = Handlers(simulated, rest_seconds=30)
    served, _ = service(simulated, handlers=handlers, deadline_seconds=60)
    served.offer("/rest", 7, since=0, seconds=120)
    served.run(152)
    assert shares(served.outcomes["/rest"]) == (840, 0, 0)
    assert stated == []


def test_a_handler_that_blocks_once_turns_nobody_away(simulated, stated):
    """Those who came meanwhile are served after it."""

    async def blocking(scope, receive, send):
        simulated.compute(3.0 if scope["path"] == "/block" else 0.001)
        await answer(send)

    served, _ = service(simulated, handlers=blocking, deadline_seconds=10)
    served.offer("/block", 1, since=0.5, seconds=1)
    served.offer("/quick", 50, since=0, seconds=5)
    served.run(12)
    assert shares(served.outcomes["/quick"]) == (250, 0, 0)
    assert stated == []


def test_who_waits_for_something_is_not_shed_for_what_others_compute(simulated):
    """The limit leaves those their places who only wait, as many as the CPU can serve of them."""
    served, _ = service(simulated, deadline_seconds=5)
    served.offer("/rest", 50, since=0, seconds=10)
    served.offer("/work-shed", 100, since=2, seconds=8)
    served.run(16)
    rest = served.outcomes["/rest"]
    assert rest.good >= 0.97 * rest.all
    assert served.outcomes["/work-shed"].shed > 300


def test_who_is_turned_away_is_told_when_to_come_again(simulated, stated):
    """503, in seconds that differ, so that not all come at once; in words that tell no inside."""
    answers = []

    async def asked(app, path):
        sent = []

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": path, "headers": []}
        await app(scope, None, send)
        answers.append(sent)

    line, _ = guarded(simulated, Handlers(simulated))
    served = Service(simulated, line)
    served.offer("/work", 400, since=0, seconds=4)

    async def more():
        await asyncio.sleep(3)
        await asyncio.gather(*[asked(line, "/work") for _ in range(50)])

    task = simulated.create_task(more())
    served.run(5)
    assert task.done()

    shed = [sent for sent in answers if sent[0]["status"] == 503]
    assert len(shed) > 30
    after = {dict(sent[0]["headers"])[b"retry-after"] for sent in shed}
    assert after == {b"1", b"2", b"3"}
    problem = json.loads(shed[0][1]["body"])
    assert problem["type"] == "urn:shipworthy:problem:requestshed"
    assert "limit" not in problem["detail"]
    blocked = [fact for fact in stated if isinstance(fact, RequestBlocked)]
    assert {fact.guard for fact in blocked} == {"admission"}
    assert "wait" in blocked[0].because


def test_the_ranks_are_served_in_their_order(simulated):
    """Critical before default before sheddable, and the first is not made to pay for the others."""
    served, _ = service(simulated)
    for path, rate in (("/critical", 15), ("/work", 100), ("/work-shed", 100)):
        served.offer(path, rate, since=0, seconds=8)
    served.run(10)
    good = {path: found.good / found.all for path, found in served.outcomes.items()}
    assert good["/critical"] == 1.0
    assert good["/work"] > 0.2
    assert good["/work-shed"] < 0.1


def test_probes_always_pass(simulated):
    """They are answered at once, and are not counted."""
    served, guard = service(simulated)
    served.offer("/work", 400, since=0, seconds=6)
    served.offer("/livez", 2, since=2, seconds=3)
    served.run(8)
    assert shares(served.outcomes["/livez"]) == (6, 0, 0)
    assert not guard._inside


def test_in_report_all_are_served_and_it_is_told_who_would_not_be(simulated, stated):
    """What would be is counted with the mode, and no request waits here."""
    registry = Registry()
    served, _ = service(
        simulated, settings=settled(mode="report"), registry=registry, deadline_seconds=60
    )
    served.offer("/work", 200, since=0, seconds=4)
    served.run(25)
    assert shares(served.outcomes["/work"]) == (800, 0, 0)
    blocked = [fact for fact in stated if isinstance(fact, RequestBlocked)]
    assert {(fact.mode, fact.rule) for fact in blocked} == {("report", "waited")}
    assert stated[0].mode == "report"
    sets = registry.snapshot()["shipworthy_admission_shed_total"]["sets"]
    counts = {tuple(labels): numbers[0] for labels, numbers in sets}
    assert counts["default", "waited"] > 100
    assert counts["critical", "waited"] == 0


def test_in_report_a_limit_that_is_met_is_told_too(simulated, stated):
    """As many inside as the limit allows: the next would have waited."""
    line, _ = guarded(simulated, Handlers(simulated), settings=settled(mode="report"))
    served = Service(simulated, line, deadline_seconds=60)
    served.offer("/work", 200, since=0, seconds=3)
    served.offer("/rest", 100, since=1, seconds=2)
    served.run(30)
    rules = {fact.rule for fact in stated if isinstance(fact, RequestBlocked)}
    assert "crowded" in rules


def test_who_left_while_waiting_is_not_begun(simulated):
    """The server knows it; its handler does not run."""
    handlers = Handlers(simulated)
    line, _ = guarded(simulated, handlers)

    class Connection:
        """A server's side of a request, whose client has left."""

        disconnected = False

        async def send(self, message):
            self.sent = message

    gone = Connection()
    served = Service(simulated, line)
    served.offer("/work", 400, since=0, seconds=3)

    async def leaves():
        await asyncio.sleep(2.0)
        scope = {"type": "http", "method": "GET", "path": "/critical-left", "headers": []}
        asking = simulated.create_task(line(scope, None, gone.send))
        await asyncio.sleep(0)
        gone.disconnected = True
        await asking

    seen = []
    work = handlers.work

    async def noted(path):
        seen.append(path)
        await work(path)

    handlers.work = noted
    task = simulated.create_task(leaves())
    served.run(4)
    assert task.done()
    assert "/critical-left" not in seen
    assert gone.sent


def test_who_is_cancelled_while_waiting_does_not_wait_any_more(simulated):
    """A server that is told to end what is left, for one."""
    line, guard = guarded(simulated, Handlers(simulated))
    served = Service(simulated, line)
    served.offer("/work", 400, since=0, seconds=3)

    async def cancelled():
        await asyncio.sleep(2.0)
        scope = {"type": "http", "method": "GET", "path": "/critical", "headers": []}
        asking = simulated.create_task(line(scope, None, _ignore))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait({asking})
        ended.append((asking.cancelled(), len(guard._turns._lines["critical"])))

    ended = []
    task = simulated.create_task(cancelled())
    served.run(4)
    assert task.done()
    assert ended == [(True, 0)]


def test_nobody_waits_past_the_deadline_of_the_request(simulated):
    """The earlier of the two ends the wait."""
    # They are let in in turn after a fifth of that, and nobody is turned away before.
    line, _ = guarded(simulated, Handlers(simulated), settings=settled(after_seconds=10))
    served = Service(simulated, line)
    served.offer("/work", 200, since=0, seconds=4)
    took = []

    async def hurried():
        await asyncio.sleep(4)
        began = simulated.now
        scope = {"type": "http", "method": "GET", "path": "/work", "headers": []}
        with deadline_scope(began + 0.2):
            await line(scope, None, _ignore)
        took.append(simulated.now - began)

    task = simulated.create_task(hurried())
    served.run(6)
    assert task.done()
    assert 0.2 <= took[0] < 0.35


async def _ignore(message):
    """A server that hears and forgets."""


def websocket(loop, line, *, hold_seconds):
    """Open a websocket, hold it, and return the task."""

    async def talk():
        sent = []

        async def send(message):
            sent.append(message)

        scope = {"type": "websocket", "path": "/ws", "headers": [], "extensions": {}}
        await line(scope, None, send)
        return sent

    return loop.create_task(talk())


class Talking:
    """An application that accepts websockets, and sends event streams and downloads in parts."""

    def __init__(self, loop, seconds):
        self.loop = loop
        self.seconds = seconds

    async def __call__(self, scope, receive, send):
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            await asyncio.sleep(self.seconds)
            await send({"type": "websocket.close"})
            return
        if scope["path"] == "/work":
            self.loop.compute(0.025)
            await answer(send)
            return
        kind = b"text/event-stream" if scope["path"] == "/events" else b"text/csv"
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]}
        )
        for _ in range(4):
            await send({"type": "http.response.body", "body": b"data\n\n", "more_body": True})
            await asyncio.sleep(self.seconds / 4)
        await send({"type": "http.response.body", "body": b""})


def test_websockets_and_event_streams_are_counted_apart(simulated):
    """They are no requests that are being served, and how long they last is learned of nothing."""
    line, guard = guarded(simulated, Talking(simulated, 10.0))
    registry_read = lambda: (len(guard._inside), len(guard._streams))  # noqa: E731
    served = Service(simulated, line, deadline_seconds=60)
    served.offer("/events", 3, since=0, seconds=1)
    served.offer("/download", 2, since=0, seconds=1)
    websocket(simulated, line, hold_seconds=10)
    seen = []
    simulated.call_later(3, lambda: seen.append(registry_read()))
    served.run(15)
    assert seen == [(2, 4)]
    assert registry_read() == (0, 0)
    # What is learned of a download is when it began: how fast its client reads is not known.
    assert guard._limit.own_seconds("/download") < 0.1
    assert guard._limit.own_seconds("/events") == 0.0


def test_in_an_overload_what_lasts_long_by_itself_takes_no_place(simulated):
    """A download that has been coming for two seconds, and a poll of a route that takes that."""
    handlers = Handlers(simulated, rest_seconds=6.0)
    line, guard = guarded(simulated, handlers)
    served = Service(simulated, line, deadline_seconds=60)
    served.offer("/rest", 20, since=0, seconds=10)
    served.offer("/work", 200, since=8, seconds=8)
    seen = []
    simulated.call_later(13, lambda: seen.append((len(guard._inside), len(guard._streams))))
    served.run(25)
    inside, streams = seen[0]
    assert streams > 10
    assert inside < 60
    assert not guard._streams

    loop_two = simulated
    line, guard = guarded(loop_two, Talking(loop_two, 12.0))
    served = Service(loop_two, line, deadline_seconds=60)
    served.offer("/download", 5, since=0, seconds=1)
    served.offer("/work", 200, since=1.5, seconds=8)
    seen = []
    loop_two.call_later(6, lambda: seen.append(len(guard._streams)))
    served.run(20)
    assert seen == [5]


@pytest.mark.parametrize(("mode", "refused"), [("enforce", 1), ("report", 0)])
def test_streams_have_a_bound_of_their_own(simulated, stated, mode, refused):
    """`admission.streams`: the next websocket is told 503, and so is whoever asks for events."""
    line, _ = guarded(simulated, Talking(simulated, 5.0), settings=settled(streams=2, mode=mode))
    served = Service(simulated, line)
    tasks = [websocket(simulated, line, hold_seconds=5) for _ in range(2)]
    late = []
    asked = []

    async def another():
        await asyncio.sleep(1)
        late.append(await websocket(simulated, line, hold_seconds=5))
        scope = {
            "type": "http", "method": "GET", "path": "/work",
            "headers": [(b"accept", b"text/event-stream")],
        }  # fmt: skip

        async def send(message):
            asked.append(message)

        tasks.append(websocket(simulated, line, hold_seconds=5))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        tasks.append(websocket(simulated, line, hold_seconds=5))
        await asyncio.sleep(0.1)
        await line(scope, None, send)

    task = simulated.create_task(another())
    served.run(12)
    assert task.done()
    task.result()
    assert (late[0][0]["type"] == "websocket.close") == bool(refused)
    rules = {fact.rule for fact in stated if isinstance(fact, RequestBlocked)}
    assert rules == {"streams"}
    # No overload: nothing of the kind is said.
    assert not [fact for fact in stated if not isinstance(fact, RequestBlocked)]


def test_it_guards_one_loop_at_a_time_and_the_next_when_that_is_closed():
    """A test client lives in loops of its own, one after the other, or two at once."""
    first, second = SimulatedLoop(), SimulatedLoop()
    line, guard = guarded(first, Handlers(first))
    for loop, counted in ((first, True), (second, False)):
        served = Service(loop, line)
        served.offer("/rest", 5, since=0, seconds=1)
        seen = []
        loop.call_later(0.9, lambda seen=seen: seen.append(len(guard._inside)))
        served.run(0.95)
        assert bool(seen[0]) is counted
        assert not guard._inside
    first.close()
    served = Service(second, line)
    served.offer("/rest", 5, since=0, seconds=1)
    served.run(3)
    assert guard._loop is second
    second.close()


def test_an_idle_service_is_not_looked_at(simulated):
    """The looks end a second after the last request, and begin with the next."""
    served, guard = service(simulated)
    served.offer("/work", 10, since=0, seconds=1)
    served.run(1.5)
    assert guard._timer is not None
    served.run(4)
    assert guard._timer is None
    served.offer("/work", 10, since=5, seconds=1)
    served.run(5.5)
    assert guard._timer is not None


class Pool:
    """A pool of two connections, that knows whom it serves."""

    capacity = 2

    def __init__(self):
        self.serving = set()

    def serves(self, request):
        return request in self.serving


class Holding:
    """An application whose requests to /hold keep a connection of a pool for a second."""

    def __init__(self):
        self.pool = Pool()

    async def __call__(self, scope, receive, send):
        if scope["path"] == "/hold":
            record = current_request()
            self.pool.serving.add(record)
            record.connections.asks(self.pool)
            await asyncio.sleep(1.0)
            record.connections.kept()
            self.pool.serving.discard(record)
        await answer(send)


@pytest.mark.parametrize("mode", ["enforce", "report"])
def test_where_they_wait_at_the_door_for_too_long_they_wait_no_longer_than_others(
    simulated, stated, mode
):
    """Once somebody has waited there for as long as one may, without a break.

    From then on they are told in half a second, and those who are served are served in time; who
    needs no connection notices nothing. In report it is told, and the door is as it was.
    """
    registry = Registry()
    door = DoorGuard(registry, mode="enforce", wait_seconds=5.0, now=simulated.time)
    line, _ = guarded(
        simulated, Holding(), settings=settled(mode=mode), door=door, registry=registry
    )
    served = Service(simulated, line, deadline_seconds=1.7)
    served.offer("/hold", 10, since=0, seconds=15)
    served.offer("/free", 10, since=0, seconds=20)
    served.run(35)

    hold = served.outcomes["/hold"]
    in_time = sum(hold.by_second[second] for second in range(8, 15))
    if mode == "enforce":
        assert in_time >= 8
        assert hold.shed > 50
    else:
        assert in_time == 0
    assert shares(served.outcomes["/free"]) == (200, 0, 0)
    assert [type(fact).__name__ for fact in stated] == ["ServiceOverloaded", "ServiceRecovered"]
    assert [(fact.why, getattr(fact, "mode", mode)) for fact in stated] == [("pool", mode)] * 2
    # Some seconds with little to do, and they may wait as long as ever.
    assert door._hurry_seconds == inf
    assert door.waits_since() == inf


def test_readiness_is_left_alone_but_where_it_is_asked_for(simulated):
    """`unready_after`: it fails when an overload has lasted for so long, and passes after it."""
    assert guarded(simulated, Handlers(simulated))[1].checks() == ()
    line, guard = guarded(
        simulated, Handlers(simulated), settings=settled(unready_after_seconds=2.0)
    )
    (check,) = guard.checks()
    served = Service(simulated, line)
    served.offer("/work", 400, since=0, seconds=6)
    heard = []

    async def ask():
        for _ in range(14):
            await asyncio.sleep(1)
            heard.append(await check.ask())

    task = simulated.create_task(ask())
    served.run(15)
    assert task.done()
    assert heard[0] is heard[1] is heard[-1] is None
    assert heard[4].startswith("it has been overloaded for ")


def test_names_of_no_request_are_refused_with_the_settings(tmp_path):
    """With their place, before anything is served."""
    said = {"SHIPWORTHY_ADMISSION__CRITICAL": "/pay, pay"}
    (told,) = load(environ=said, directory=tmp_path).refusals()
    assert told.startswith("admission.critical: 'pay' has no path; write one that begins with a")
